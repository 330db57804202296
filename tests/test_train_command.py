"""``cxrbench train`` and ``cxrbench sample``: what they write, what they refuse, and what outlives a kill."""

import csv
import shutil
import signal
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
from PIL import Image

from cxrbench.cache import Cache
from cxrbench.checks import toy_films
from cxrbench.contracts import RunContext
from cxrbench.datasets.resolve import resolve_dataset
from cxrbench.errors import Diverged, UsageError
from cxrbench.models import Fit, code_of, find_model, load_generator, read_model, save_model
from cxrbench.plan import plugin_reference
from cxrbench.registry import GENERATORS
from cxrbench.spec import spec_of_tier
from cxrbench.stages import index_data, load_and_split
from cxrbench.synthesis import fit_generator, fit_key, synthesise
from cxrbench_baselines.generators.classical import Classical
from cxrbench_baselines.generators.dcgan import DCGAN

DATA = "phantom:patients_per_class=8"
SMALL = ["--data", DATA, "--tier", "smoke", "--device", "cpu"]
DEAR = "dcgan:width=4:generator_rate=0.05:decay=0.5"  # so fast that its films are not blank after six steps


@pytest.fixture(scope="module")
def one_cache(tmp_path_factory):
    """Films that were decoded once are decoded: what is tested here comes after that."""
    return tmp_path_factory.mktemp("one-cache")


@pytest.fixture(autouse=True)
def use_one_cache(private_cache, one_cache, monkeypatch):
    monkeypatch.setenv("CXRBENCH_CACHE", str(one_cache))


@pytest.fixture
def train(cli):
    """Runs ``cxrbench train`` and returns its exit code."""
    return lambda out, *arguments, generator="classical": cli(
        "train", *SMALL, "--out", out, "--generator", generator, *arguments
    )


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """The model of a ``classical``, made without the command; tests do not write to it."""
    films, folder = toy_films(16), tmp_path_factory.mktemp("trained")
    plugin = Classical().fit(films, RunContext(0, "cpu", 1, folder))
    fit = Fit(
        key="k" * 64,
        generator=plugin_reference("classical", plugin, "generator", 16),
        code=code_of("classical", plugin),
        made_by="cxrbench 0.0.9",
        classes=films.classes,
        size=16,
        seed=0,
        steps=1,
        data="toys",
        data_hash="d" * 64,
        split_by="patient",
        clean="none",
        train_films=dict.fromkeys(films.classes, 8),
    )
    save_model(plugin, fit, {}, folder / "model")
    return folder


def complaint(capsys):
    """The one line on standard error."""
    lines = capsys.readouterr().err.strip().splitlines()
    complaints = [line for line in lines if line.startswith("cxrbench: ")]
    assert len(complaints) == 1
    assert not any("Traceback" in line for line in lines)
    return complaints[0]


def arrays(path):
    with np.load(path) as stored:
        return {name: stored[name] for name in stored.files}


def test_training_writes_a_model_a_picture_and_what_it_was_made_of(train, tmp_path, capsys):
    assert train(tmp_path / "m", "--seed", "5", "--steps", "7", "--size", "24", generator=DEAR) == 0
    shown = capsys.readouterr()
    assert "training films at 24 px (split by patient, seed 0)" in shown.err
    assert "test films are kept from the generator" in shown.err
    assert f"next: cxrbench sample {tmp_path / 'm'}" in shown.out
    model = read_model(tmp_path / "m" / "model")
    assert (model.generator.name, model.seed, model.steps, model.size) == (DEAR, 5, 7, 24)
    assert model.generator.params["width"] == 4
    assert model.classes == ("COVID", "Normal", "Viral Pneumonia")
    assert model.data == DATA
    assert model.provenance["command"].startswith(f"cxrbench train --data {DATA}")
    assert set(model.provenance) >= {"device", "versions", "threads", "seconds"}
    with Image.open(tmp_path / "m" / "samples.png") as picture:
        assert picture.size[1] == 3 * (96 + 2)  # a row per class, each pixel magnified four times
        assert picture.info["source"] == f"synthetic:{DEAR}"


@dataclass
class Recording(Classical):
    """Notes what it is handed."""

    seen: ClassVar[list] = []

    def fit(self, train, ctx):
        self.seen.append((train, ctx))
        return super().fit(train, ctx)


def test_the_generator_gets_the_train_part_of_the_first_split_of_a_run(train, tmp_path, monkeypatch, one_cache):
    monkeypatch.setitem(GENERATORS._decorated, "recording", Recording)
    monkeypatch.setattr(Recording, "seen", [])
    command = ["--seed", "4", "--save-every", "7", "--labels", "COVID=ill,Viral Pneumonia=ill"]
    assert train(tmp_path / "m", *command, generator="recording") == 0
    spec, (name, dataset) = spec_of_tier("smoke"), resolve_dataset(DATA)
    index = index_data(name, dataset, {"COVID": "ill", "Viral Pneumonia": "ill"})
    data = load_and_split(index, spec, 0, Cache(one_cache))
    [(films, ctx)] = Recording.seen
    assert np.array_equal(films.pixels, data.train.pixels)
    assert films.classes == ("Normal", "ill")
    held_out = {pixels.tobytes() for pixels in data.held_out.pixels}
    assert not held_out & {pixels.tobytes() for pixels in films.pixels}
    assert (ctx.seed, ctx.budget, ctx.save_every) == (4, spec.generator_steps, 7)
    assert ctx.workdir == tmp_path / "m" / "training"
    model = read_model(tmp_path / "m" / "model")
    identity = plugin_reference("recording", Recording(), "generator", spec.image_size).identity
    assert model.key == fit_key(identity, data, 1.0, spec, 4)  # what a run would know this fit by
    assert sum(model.train_films.values()) == len(films)


def test_films_of_a_trained_model_are_those_of_the_runs_pool(train, cli, tmp_path, one_cache):
    assert train(tmp_path / "m") == 0
    assert cli("sample", tmp_path / "m", "--format", "npz", "--count", "70", "--out", tmp_path / "f.npz") == 0
    cache = Cache(tmp_path / "cache")
    data = load_and_split(index_data(*resolve_dataset(DATA)), spec_of_tier("smoke"), 0, Cache(one_cache))
    ctx = RunContext(0, "cpu", 6, tmp_path)
    generator, key = fit_generator(Classical(), "fit", data, 1.0, ctx, cache)
    pool = synthesise(generator, key, data, {0: 70, 1: 80, 2: 70}, ctx, cache).prefix({0: 70, 1: 70, 2: 70})
    films = arrays(tmp_path / "f.npz")
    assert np.array_equal(films["pixels"], pool.pixels)
    assert np.array_equal(films["labels"], pool.labels)


def test_a_complete_fit_is_not_trained_again(train, tmp_path, capsys, monkeypatch):
    assert train(tmp_path / "m") == 0
    before = (tmp_path / "m" / "model" / "model.json").read_bytes()
    (tmp_path / "m" / "samples.png").unlink()
    capsys.readouterr()
    monkeypatch.setattr(Classical, "fit", lambda *args: pytest.fail("fitted again"))
    assert train(tmp_path / "m") == 0
    assert "already trained" in capsys.readouterr().out
    assert (tmp_path / "m" / "model" / "model.json").read_bytes() == before
    assert (tmp_path / "m" / "samples.png").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--seed", "1"], "seed 0, not 1"),
        (["--steps", "7", "--size", "24"], "size 32 px, not 24 px; steps 6, not 7"),
        (["--generator", "classical:flip=0"], "generator classical, not classical:flip=0.0"),
        (["--data", "phantom:patients_per_class=9"], "films phantom:patients_per_class=8"),
    ],
)
def test_another_fit_does_not_go_on_in_the_same_folder(train, tmp_path, capsys, arguments, message):
    assert train(tmp_path / "m", "--quiet") == 0
    assert train(tmp_path / "m", "--quiet", *arguments) == 2
    said = complaint(capsys)
    assert message in said
    assert "choose another --out" in said


@dataclass
class Killed(DCGAN):
    """Gets a signal in its fourth step, once."""

    number: ClassVar[int] = 0
    steps: ClassVar[list[int]] = []

    def training_step(self, step):
        self.steps.append(step)
        if step == 3 and self.number:
            number, type(self).number = self.number, 0
            signal.raise_signal(number)
        return super().training_step(step)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_killed_training_goes_on_with_the_same_command_to_the_same_model(
    train, tmp_path, capsys, monkeypatch, number
):
    monkeypatch.setitem(GENERATORS._decorated, "killed", Killed)
    monkeypatch.setattr(Killed, "steps", [])
    generator = DEAR.replace("dcgan", "killed")
    assert train(tmp_path / "whole", generator=generator) == 0
    monkeypatch.setattr(Killed, "steps", [])
    monkeypatch.setattr(Killed, "number", number)
    capsys.readouterr()
    assert train(tmp_path / "m", generator=generator) == 130
    assert "the same command goes on from the last checkpoint" in complaint(capsys)
    assert not (tmp_path / "m" / "model").exists()
    assert train(tmp_path / "m", generator=generator) == 0
    assert Killed.steps == [0, 1, 2, 3, 4, 5]
    weights = [(tmp_path / name / "model" / "nets.safetensors").read_bytes() for name in ("whole", "m")]
    assert weights[0] == weights[1]


@dataclass
class Failing(Classical):
    """Raises what it is told to."""

    error: ClassVar[BaseException] = ValueError("no")

    def fit(self, train, ctx):
        (ctx.workdir / "checkpoint").mkdir(exist_ok=True)
        raise self.error


@pytest.mark.parametrize(
    ("error", "code", "message"),
    [
        (Diverged("a loss became nan\nat step 3"), 1, "failing diverged: a loss became nan at step 3; the last good"),
        (ValueError("Expected more than 1 value"), 1, "failing failed: ValueError: Expected more than 1 value (see "),
        (UsageError("needs 2 films in every class"), 2, "cxrbench: needs 2 films in every class"),
        (OSError(28, "No space left on device"), 1, "No space left on device"),
    ],
)
def test_a_training_that_fails_ends_in_one_clear_line(train, tmp_path, capsys, monkeypatch, error, code, message):
    monkeypatch.setitem(GENERATORS._decorated, "failing", Failing)
    monkeypatch.setattr(Failing, "error", error)
    assert train(tmp_path / "m", generator="failing") == code
    said = complaint(capsys)
    assert message in said
    assert ("checkpoint is " + str(tmp_path / "m" / "training" / "checkpoint") in said) == isinstance(error, Diverged)
    assert (tmp_path / "m" / "training" / "error.txt").exists() == (code == 1 and not isinstance(error, Diverged))
    assert not (tmp_path / "m" / "model").exists()


def test_an_untrained_net_is_saved_and_said_to_sample_blank_films(train, tmp_path, capsys):
    assert train(tmp_path / "m", "--steps", "1", generator="dcgan:width=4") == 1
    assert "model is complete, but: dcgan:width=4 cannot sample: ValueError: 64 of 64 films" in complaint(capsys)
    assert read_model(tmp_path / "m" / "model").steps == 1


@dataclass
class Ailing(Classical):
    """Has something to say of its fit; stops before its films are drawn, where that is asked for."""

    interrupted: ClassVar[bool] = False

    def diagnosis(self):
        return ["the discriminator is always right"]

    def sample(self, labels, ctx):
        if self.interrupted:
            raise KeyboardInterrupt
        return super().sample(labels, ctx)


def test_what_a_generator_says_of_its_fit_is_shown(train, tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(GENERATORS._decorated, "ailing", Ailing)
    for _ in range(2):
        assert train(tmp_path / "m", generator="ailing") == 0
        assert "ailing: the discriminator is always right\n" in capsys.readouterr().out
    assert train(tmp_path / "m", "--quiet", generator="ailing") == 0
    assert capsys.readouterr() == ("", "")


def test_an_interrupt_says_how_the_same_command_will_go_on(train, tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(GENERATORS._decorated, "ailing", Ailing)
    monkeypatch.setattr(Ailing, "interrupted", True)
    assert train(tmp_path / "m", generator="ailing") == 130
    assert f"the same command finds {tmp_path / 'm' / 'model'} complete" in complaint(capsys)
    monkeypatch.setattr(Ailing, "fit", Ailing.sample)
    assert train(tmp_path / "n", generator="ailing") == 130
    assert "the same command starts anew: there is no checkpoint yet" in complaint(capsys)


BAD_TRAINING = [
    (["--generator", "dcgn"], 2, "did you mean dcgan"),
    (["--generator", "dcgan:widht=3"], 2, "no parameter 'widht'"),
    (["--generator", "pool:path=/nowhere"], 2, "/nowhere does not exist"),
    (["--generator", "oracle"], 2, "the oracle needs a reserve"),
    (["--generator", "cgan-seed", "--size", "16"], 2, "cgan-seed needs films of at least"),
    (["--tier", "qick"], 2, "did you mean quick"),
    (["--steps", "0"], 2, "Invalid value for '--steps'"),
    (["--size", "0"], 2, "Invalid value for '--size'"),
    (["--seed", "-1"], 2, "Invalid value for '--seed'"),
    (["--save-every", "-1"], 2, "Invalid value for '--save-every'"),
    (["--device", "tpu"], 2, "unknown device"),
    (["--split-by", "hospital"], 2, "unknown --split-by"),
    (["--clean", "spotless"], 2, "--clean spotless"),
    (["--labels", "COVID"], 2, "'COVID' is no OLD=NEW"),
    (["--data", "/nowhere/films"], 2, "does not exist"),
    (["--data", "phantom:patients_per_class=2"], 4, "split needs at least 5"),
    (["--out", "/dev/null/m"], 2, "--out /dev/null/m cannot be written"),
]


@pytest.mark.parametrize(("arguments", "code", "message"), BAD_TRAINING, ids=[" ".join(b[0]) for b in BAD_TRAINING])
def test_bad_input_of_train_ends_in_one_clear_line(train, tmp_path, capsys, arguments, code, message):
    assert train(tmp_path / "m", *arguments) == code
    assert message in complaint(capsys)
    assert not (tmp_path / "m" / "model").exists()


def test_films_are_sampled_without_the_data_at_hand(cli, tmp_path, draw_hospital, capsys):
    hospital = tmp_path / "hospital"
    draw_hospital(hospital, lambda number: {"patient_id": str(number)})
    command = ["--tier", "smoke", "--device", "cpu", "--generator", "classical", "--out", tmp_path / "m"]
    assert cli("train", "--data", hospital, *command) == 0
    assert (tmp_path / "m" / ".gitignore").read_text() == "*\n"  # a hospital's films, which nobody may publish
    shutil.rmtree(hospital)
    capsys.readouterr()
    assert cli("sample", tmp_path / "m", "--device", "cpu") == 0
    assert capsys.readouterr().out.startswith(f"wrote {tmp_path / 'm' / 'films.png'}: 8 films of each of COVID, Normal")


def test_a_grid_shows_the_films_pixel_by_pixel(cli, trained, tmp_path):
    arguments = ["--labels", "c,a", "--count", "3", "--seed", "2", "--out"]
    assert cli("sample", trained, *arguments, tmp_path / "f.png") == 0
    assert cli("sample", trained, "--format", "npz", *arguments, tmp_path / "f.npz") == 0
    with Image.open(tmp_path / "f.png") as picture:
        sheet = np.asarray(picture)
    films = arrays(tmp_path / "f.npz")["pixels"][:, 0]  # 16 px, magnified six times
    assert sheet.shape[0] == 2 * 98
    left = sheet.shape[1] - 3 * 98
    for number, film in enumerate(films):
        row, column = divmod(number, 3)
        shown = sheet[98 * row : 98 * row + 96, left + 98 * column : left + 98 * column + 96]
        assert np.array_equal(shown[::6, ::6], film)
    assert (sheet[:, :left] < 128).any()  # the names


def test_a_folder_of_films_is_read_as_a_data_set(cli, trained, tmp_path):
    for form, out in (("png", "films"), ("npz", "f.npz")):
        assert cli("sample", trained, "--format", form, "--count", "66", "--out", tmp_path / out) == 0
    name, dataset = resolve_dataset(str(tmp_path / "films"))
    listing = dataset.listing()
    assert (name, tuple(dataset.classes())) == ("films", ("a", "b", "c"))
    assert not listing.quarantined
    assert {film.source for film in listing.films} == {"synthetic:classical"}
    kept = arrays(tmp_path / "f.npz")
    assert tuple(kept["classes"]) == ("a", "b", "c")
    assert (kept["pixels"].dtype, kept["labels"].dtype) == (np.uint8, np.int64)
    by_file = {film.file: dataset.read(film, 16) for film in listing.films}
    places = dict.fromkeys("abc", 0)
    for pixels, label in zip(kept["pixels"], kept["labels"], strict=True):
        letter = "abc"[label]
        places[letter] += 1
        assert np.array_equal(by_file[f"{letter}/images/{letter}-{places[letter]}.png"], pixels[0])
    with (tmp_path / "films" / "metadata.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 3 * 66
    assert (rows[0]["label"], rows[0]["model"], rows[0]["seed"]) == ("a", "k" * 64, "0")


@pytest.mark.parametrize(("count", "labels"), [(1, "b"), (5, "c,b"), (64, ""), (65, "b")])
def test_the_first_films_of_a_class_are_the_same_whatever_is_asked_for(cli, trained, tmp_path, count, labels):
    def films_of_b(count, labels, seed=0):
        out = tmp_path / f"{count}{labels}{seed}.npz"
        command = ["--format", "npz", "--count", count, "--labels", labels, "--seed", seed, "--out", out]
        assert cli("sample", trained, *command) == 0
        found = arrays(out)
        return found["pixels"][found["labels"] == 1]

    many, few = films_of_b(70, ""), films_of_b(count, labels)
    assert np.array_equal(many[:count], few)
    assert not np.array_equal(films_of_b(count, labels, seed=1), few)


BAD_SAMPLING = [
    (["--labels", "a,Covid"], 2, "the model has no class 'Covid'; it has 'a', 'b', 'c'"),
    (["--count", "0"], 2, "Invalid value for '--count'"),
    (["--format", "jpg"], 2, "unknown --format 'jpg'; there are grid, png, npz"),
    (["--seed", "-1"], 2, "Invalid value for '--seed'"),
    (["--device", "tpu"], 2, "unknown device"),
    (["--out", "/dev/null/f.png"], 2, "/dev/null/f.png cannot be written"),
]


@pytest.mark.parametrize(("arguments", "code", "message"), BAD_SAMPLING, ids=[" ".join(b[0]) for b in BAD_SAMPLING])
def test_bad_input_of_sample_ends_in_one_clear_line(cli, trained, tmp_path, capsys, arguments, code, message):
    assert cli("sample", trained, "--out", tmp_path / "f", *arguments) == code
    assert message in complaint(capsys)
    assert not list(tmp_path.iterdir())


def test_a_folder_that_is_no_model_is_a_usage_error(cli, tmp_path, capsys):
    assert cli("sample", tmp_path) == 2
    assert "holds no trained model" in complaint(capsys)


@pytest.mark.parametrize("form", ["grid", "png", "npz"])
def test_nothing_is_overwritten(cli, trained, tmp_path, capsys, form):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").write_text("x")
    for place in ("mine", "mine/thesis.tex"):
        assert cli("sample", trained, "--format", form, "--out", tmp_path / place) == 2
        assert "is there already and is not overwritten" in complaint(capsys)
    assert [path.name for path in (tmp_path / "mine").iterdir()] == ["thesis.tex"]


def test_a_class_that_no_folder_can_be_named_after_needs_another_format(cli, trained, tmp_path, capsys):
    model = read_model(find_model(trained))
    fit = {name: getattr(model, name) for name in Fit.model_fields} | {"classes": ("a/b", "b", "c")}
    save_model(load_generator(trained / "model", model), Fit(**fit), {}, tmp_path / "model")
    assert cli("sample", tmp_path, "--format", "png") == 2
    assert "class 'a/b' cannot be the name of a folder; use --format npz" in complaint(capsys)
    assert cli("sample", tmp_path, "--format", "npz", "--count", "1") == 0


@pytest.mark.parametrize("form", ["grid", "png", "npz"])
@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt()])
def test_a_full_disk_or_a_kill_leaves_nothing_half(cli, trained, tmp_path, capsys, monkeypatch, form, error):
    def refuse(*args):
        raise error

    monkeypatch.setattr("cxrbench.cache.os.replace" if form != "png" else "cxrbench.film_files.csv.writer", refuse)
    assert cli("sample", trained, "--format", form, "--out", tmp_path / "f") == (2 if error.args else 130)
    said = complaint(capsys)
    assert ("cannot be written (No space left on device)" in said) == bool(error.args)
    assert not list(tmp_path.iterdir())
    monkeypatch.undo()
    assert cli("sample", trained, "--format", form, "--count", "2", "--out", tmp_path / "f") == 0
    assert [path.name for path in Path(tmp_path).iterdir()] == ["f"]
