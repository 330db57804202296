"""``cxrbench train``: what it writes, what it refuses, and what outlives a kill."""

import re
import signal
import warnings
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import pytest
from PIL import Image

from cxrbench.cache import Cache
from cxrbench.contracts import RunContext
from cxrbench.datasets.resolve import resolve_dataset
from cxrbench.errors import Diverged, UsageError
from cxrbench.models import read_model
from cxrbench.references import plugin_reference
from cxrbench.registry import GENERATORS
from cxrbench.spec import spec_of_tier
from cxrbench.stages import index_data, load_and_split
from cxrbench.synthesis import fit_generator, fit_key, synthesise
from cxrbench_baselines.generators.classical import Classical
from cxrbench_baselines.generators.dcgan import DCGAN

DATA = "phantom:patients_per_class=8"
SMALL = ["--data", DATA, "--tier", "smoke", "--device", "cpu"]
DEAR = "dcgan:width=4:generator_rate=0.05:decay=0.5"  # so fast that its films are not blank after six steps


@pytest.fixture
def train(cli):
    """Runs ``cxrbench train`` and returns its exit code."""
    return lambda out, *arguments, generator="classical": cli(
        "train", *SMALL, "--out", out, "--generator", generator, *arguments
    )


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


def test_films_of_a_trained_model_are_those_of_the_runs_pool(train, cli, tmp_path, one_cache, arrays):
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
def test_another_fit_does_not_go_on_in_the_same_folder(train, tmp_path, capsys, arguments, message, complaint):
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
    train, tmp_path, capsys, monkeypatch, number, complaint
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


def test_a_damaged_checkpoint_is_named_in_one_line_and_the_training_starts_anew(train, tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(GENERATORS._decorated, "killed", Killed)
    monkeypatch.setattr(Killed, "steps", [])
    monkeypatch.setattr(Killed, "number", signal.SIGTERM)
    generator = DEAR.replace("dcgan", "killed")
    assert train(tmp_path / "m", generator=generator) == 130
    [file] = (tmp_path / "m" / "training" / "checkpoint").rglob("parts.pt")
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    capsys.readouterr()
    with pytest.warns(UserWarning, match="damaged|anew") as warned:
        assert train(tmp_path / "m", generator=generator) == 0
    said = [warnings.formatwarning(str(w.message), w.category, w.filename, w.lineno) for w in warned]
    assert re.fullmatch(rf"cxrbench: warning: checkpoint {file.parent} is damaged .* and is not used\n", said[0])
    assert said[1].startswith("cxrbench: warning: no checkpoint in")
    assert said[1].endswith("the fit starts anew\n")
    assert Killed.steps[-6:] == [0, 1, 2, 3, 4, 5]


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
def test_a_training_that_fails_ends_in_one_clear_line(
    train, tmp_path, capsys, monkeypatch, error, code, message, complaint
):
    monkeypatch.setitem(GENERATORS._decorated, "failing", Failing)
    monkeypatch.setattr(Failing, "error", error)
    assert train(tmp_path / "m", generator="failing") == code
    said = complaint(capsys)
    assert message in said
    assert ("checkpoint is " + str(tmp_path / "m" / "training" / "checkpoint") in said) == isinstance(error, Diverged)
    assert (tmp_path / "m" / "training" / "error.txt").exists() == (code == 1 and not isinstance(error, Diverged))
    assert not (tmp_path / "m" / "model").exists()


def test_an_untrained_net_is_saved_and_said_to_sample_blank_films(train, tmp_path, capsys, complaint):
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


def test_an_interrupt_says_how_the_same_command_will_go_on(train, tmp_path, capsys, monkeypatch, complaint):
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
    (["--size", "15"], 2, "greater than or equal to 16"),
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
def test_bad_input_of_train_ends_in_one_clear_line(train, tmp_path, capsys, arguments, code, message, complaint):
    assert train(tmp_path / "m", *arguments) == code
    assert message in complaint(capsys)
    assert not (tmp_path / "m" / "model").exists()
