"""``cxrbench sample``: the films it writes, what it refuses, and that nothing is overwritten or left half."""

import csv
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cxrbench.checks import toy_films
from cxrbench.contracts import RunContext
from cxrbench.datasets.resolve import resolve_dataset
from cxrbench.models import Fit, code_of, find_model, load_generator, read_model, save_model
from cxrbench.references import plugin_reference
from cxrbench_baselines.generators.classical import Classical


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


def test_a_grid_shows_the_films_pixel_by_pixel(cli, trained, tmp_path, arrays):
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


def test_a_folder_of_films_is_read_as_a_data_set(cli, trained, tmp_path, arrays):
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
def test_the_first_films_of_a_class_are_the_same_whatever_is_asked_for(cli, trained, tmp_path, count, labels, arrays):
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
def test_bad_input_of_sample_ends_in_one_clear_line(
    cli, trained, tmp_path, capsys, arguments, code, message, complaint
):
    assert cli("sample", trained, "--out", tmp_path / "f", *arguments) == code
    assert message in complaint(capsys)
    assert not list(tmp_path.iterdir())


def test_a_folder_that_is_no_model_is_a_usage_error(cli, tmp_path, capsys, complaint):
    assert cli("sample", tmp_path) == 2
    assert "holds no trained model" in complaint(capsys)


@pytest.mark.parametrize("form", ["grid", "png", "npz"])
def test_nothing_is_overwritten(cli, trained, tmp_path, capsys, form, complaint):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").write_text("x")
    for place in ("mine", "mine/thesis.tex"):
        assert cli("sample", trained, "--format", form, "--out", tmp_path / place) == 2
        assert "is there already and is not overwritten" in complaint(capsys)
    assert [path.name for path in (tmp_path / "mine").iterdir()] == ["thesis.tex"]


def test_a_class_that_no_folder_can_be_named_after_needs_another_format(cli, trained, tmp_path, capsys, complaint):
    model = read_model(find_model(trained))
    fit = {name: getattr(model, name) for name in Fit.model_fields} | {"classes": ("a/b", "b", "c")}
    save_model(load_generator(trained / "model", model), Fit(**fit), {}, tmp_path / "model")
    assert cli("sample", tmp_path, "--format", "png") == 2
    assert "class 'a/b' cannot be the name of a folder; use --format npz" in complaint(capsys)
    assert cli("sample", tmp_path, "--format", "npz", "--count", "1") == 0


@pytest.mark.parametrize("form", ["grid", "png", "npz"])
@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt()])
def test_a_full_disk_or_a_kill_leaves_nothing_half(cli, trained, tmp_path, capsys, monkeypatch, form, error, complaint):
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
