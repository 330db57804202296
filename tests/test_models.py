"""The folder of a trained generator: whole, of this plug-in, and said in one line where it is not."""

import contextlib
import json
import resource

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cxrbench.checks import toy_films
from cxrbench.contracts import RunContext
from cxrbench.errors import CxrbenchError, UsageError
from cxrbench.models import (
    FIT,
    MODEL_CARD,
    Fit,
    begin_fit,
    code_of,
    find_model,
    load_generator,
    read_model,
    sample_model,
    save_model,
    training_folder,
)
from cxrbench.references import plugin_reference
from cxrbench.registry import GENERATORS
from cxrbench_baselines.generators.classical import Classical

SIZE = 16


def described(text="classical:flip=0.25", **changes):
    name, plugin = GENERATORS.parse(text)
    films = toy_films(SIZE)
    facts = {
        "key": "k" * 64,
        "generator": plugin_reference(name, plugin, "generator", SIZE),
        "code": code_of(name.partition(":")[0], plugin),
        "made_by": "cxrbench 0.0.9",
        "classes": films.classes,
        "size": SIZE,
        "seed": 3,
        "steps": 5,
        "data": "hospital",
        "data_hash": "d" * 64,
        "split_by": "patient",
        "clean": "none",
        "train_films": {"a": 8, "b": 8, "c": 8},
    }
    return plugin, Fit.model_validate({**facts, **changes})


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """A model, made once: tests that spoil it copy it."""
    folder = tmp_path_factory.mktemp("models") / "model"
    plugin, fit = described()
    plugin.fit(toy_films(SIZE), RunContext(fit.seed, "cpu", fit.steps, folder.parent))
    save_model(plugin, fit, {"command": "cxrbench train", "seconds": 1.5}, folder)
    return folder


@pytest.fixture
def copied(saved, tmp_path):
    """A copy of it, to be spoiled."""
    folder = tmp_path / "copied"
    folder.mkdir()
    for path in saved.iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    return folder


@contextlib.contextmanager
def files_no_larger_than(size):
    """What a full disk does: the bytes beyond are refused, whoever writes them."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_what_is_saved_is_read_and_samples_the_same_films(saved):
    model = read_model(saved)
    assert model.model_dump(include=set(Fit.model_fields)) == described()[1].model_dump()
    assert model.provenance == {"command": "cxrbench train", "seconds": 1.5}
    assert set(model.files) == {path.name for path in saved.iterdir()} - {MODEL_CARD}
    trained, _ = described()
    trained.fit(toy_films(SIZE), RunContext(3, "cpu", 5, saved))
    loaded = load_generator(saved, model)
    films = [list(sample_model(generator, model, {0: 3, 2: 70}, 1, "cpu")) for generator in (trained, loaded)]
    assert [(label, len(chunk)) for label, chunk in films[0]] == [(0, 3), (2, 64), (2, 6)]
    for (_, one), (_, other) in zip(*films, strict=True):
        assert np.array_equal(one, other)


@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_a_flipped_bit_anywhere_is_found(saved, tmp_path_factory, data):
    path = data.draw(st.sampled_from(sorted(saved.iterdir())))
    content = bytearray(path.read_bytes())
    place = data.draw(st.integers(0, len(content) - 1))
    content[place] ^= 1 << data.draw(st.integers(0, 7))
    spoiled = tmp_path_factory.mktemp("spoiled")
    for other in saved.iterdir():
        (spoiled / other.name).write_bytes(bytes(content) if other == path else other.read_bytes())
    if path.name == MODEL_CARD and json.loads(path.read_text()) == _parsed(content):
        return  # white space
    with pytest.raises(UsageError, match=f"{path.name}"):
        read_model(spoiled)


def _parsed(content):
    try:
        return json.loads(bytes(content))
    except ValueError:
        return None


@pytest.mark.parametrize("keep", [0, 1, -1])
def test_a_truncated_file_is_found(copied, keep):
    for path in [copied / name for name in read_model(copied).files] + [copied / MODEL_CARD]:
        whole = path.read_bytes()
        path.write_bytes(whole[:keep])
        with pytest.raises(UsageError, match=path.name):
            read_model(copied)
        path.write_bytes(whole)


def test_a_missing_file_is_named(copied):
    (copied / "films.safetensors").unlink()
    with pytest.raises(UsageError, match=r"films.safetensors, part of a model, cannot be read \(No such file"):
        read_model(copied)


def test_a_card_of_another_schema_is_refused(copied):
    content = json.loads((copied / MODEL_CARD).read_text()) | {"schema_version": 2}
    (copied / MODEL_CARD).write_text(json.dumps(content))
    with pytest.raises(UsageError, match=r"of another version of cxrbench .schema_version: Input should be 1"):
        read_model(copied)


def test_a_model_of_other_source_code_says_who_made_it_and_how_to_mend_that(saved, monkeypatch):
    model = read_model(saved)
    monkeypatch.setattr("cxrbench.hashing.source_hash", lambda module: "edited")
    with pytest.raises(UsageError, match=r"other source code of classical .*install .*cxrbench 0\.0\.9.*train again"):
        load_generator(saved, model)


@pytest.mark.parametrize(
    ("name", "params", "message"),
    [("gone-gan", {}, "unknown generator 'gone-gan'"), ("classical", {"flop": 1}, "no parameter 'flop'")],
)
def test_a_model_whose_plug_in_is_not_here_says_who_made_it(saved, name, params, message):
    model = read_model(saved)
    other = model.generator.model_copy(update={"name": name, "params": params})
    with pytest.raises(UsageError, match=rf"{message}.*install .*cxrbench 0\.0\.9"):
        load_generator(saved, model.model_copy(update={"generator": other}))


def test_a_plug_in_that_cannot_load_is_one_line(saved, monkeypatch):
    model = read_model(saved)
    plugin, _ = described()

    def broken(self, path):
        raise KeyError("weights")

    monkeypatch.setattr(type(plugin), "load", broken)
    with pytest.raises(CxrbenchError, match=r"classical:flip=0.25 cannot load .*: KeyError: 'weights'"):
        load_generator(saved, model)


def test_films_that_are_none_are_refused(saved, monkeypatch):
    model = read_model(saved)
    generator = load_generator(saved, model)
    monkeypatch.setattr(type(generator), "sample", lambda self, labels, ctx: np.zeros((len(labels), 1, SIZE, SIZE)))
    with pytest.raises(CxrbenchError, match=r"classical:flip=0.25 cannot sample: ValueError: sample must return uint8"):
        list(sample_model(generator, model, {0: 1}, 0, "cpu"))


def test_a_model_is_found_in_its_folder_and_by_itself(saved):
    assert find_model(saved) == saved
    assert find_model(saved.parent) == saved


def test_a_folder_without_a_model_says_what_it_is(tmp_path):
    with pytest.raises(UsageError, match="nowhere does not exist"):
        find_model(tmp_path / "nowhere")
    (tmp_path / "file").write_text("x")
    with pytest.raises(UsageError, match="file is no folder"):
        find_model(tmp_path / "file")
    with pytest.raises(UsageError, match="holds no trained model"):
        find_model(tmp_path)
    begin_fit(tmp_path, described()[1])
    with pytest.raises(UsageError, match="did not end; give its `cxrbench train` command again"):
        find_model(tmp_path)


def test_a_full_disk_leaves_no_model_and_no_rest(tmp_path):
    plugin, fit = described()
    plugin.fit(toy_films(SIZE), RunContext(0, "cpu", 1, tmp_path))
    with files_no_larger_than(1000), pytest.raises(UsageError, match=r"could not be saved to .*model .*File too large"):
        save_model(plugin, fit, {}, tmp_path / "model")
    assert not list(tmp_path.iterdir())
    save_model(plugin, fit, {}, tmp_path / "model")
    assert read_model(tmp_path / "model").key == fit.key


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"seed": 4}, r"\(seed 3, not 4\)"),
        ({"steps": 6, "size": 8}, r"\(size 16 px, not 8 px; steps 5, not 6\)"),
        ({"split_by": "source"}, "split by patient, not source"),
        ({"data_hash": "e" * 64}, r"films hospital \(dddddddd\), not hospital \(eeeeeeee\)"),
        ({"data": "moved"}, "the films were dealt out in another way"),
        ({"generator": described("classical")[1].generator}, "generator classical:flip=0.25, not classical"),
    ],
)
def test_another_fit_is_refused_with_what_is_different(tmp_path, changes, message):
    assert begin_fit(tmp_path, described()[1]) is None
    with pytest.raises(UsageError, match=f"{message}.*choose another --out"):
        begin_fit(tmp_path, described(**{"key": "x" * 64, **changes})[1])


def test_a_model_samples_where_what_its_fit_read_is_gone(saved, monkeypatch):
    def gone(plugin, size):
        raise UsageError("the folder it read is not here")

    monkeypatch.setattr(Classical, "preflight", gone, raising=False)
    assert load_generator(saved, read_model(saved)).flip == 0.25


def test_other_source_code_is_another_fit(tmp_path, monkeypatch):
    begin_fit(tmp_path, described()[1])
    monkeypatch.setattr("cxrbench.hashing.source_hash", lambda module: "edited")
    with pytest.raises(UsageError, match="other source code of classical"):
        begin_fit(tmp_path, described(key="x" * 64)[1])


def test_an_equal_fit_whose_films_were_moved_goes_on_and_finds_its_model(saved, tmp_path):
    plugin, fit = described()
    assert begin_fit(tmp_path, fit) is None
    assert begin_fit(tmp_path, described(data="elsewhere")[1]) is None
    save_model(plugin.load(saved), fit, {}, tmp_path / "model")
    model = begin_fit(tmp_path, described(data="elsewhere")[1])
    assert model == read_model(tmp_path / "model")


def test_a_note_that_cannot_be_read_is_one_clear_line(tmp_path):
    (tmp_path / FIT).write_text('{"schema_')
    with pytest.raises(UsageError, match=r"fit.json is damaged"):
        begin_fit(tmp_path, described()[1])


def test_a_folder_is_held_against_a_second_training(tmp_path):
    out = tmp_path / "a" / "b"
    with training_folder(out, publish=True):
        with pytest.raises(UsageError, match="another `cxrbench train` is at work"), training_folder(out, publish=True):
            pass
        assert not (out / ".gitignore").exists()
    with training_folder(out, publish=False):
        assert (out / ".gitignore").read_text() == "*\n"


def test_a_folder_of_something_else_is_left_alone(tmp_path):
    (tmp_path / "thesis.tex").write_text("x")
    with pytest.raises(UsageError, match="holds something else"), training_folder(tmp_path, publish=False):
        pass
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]
    with pytest.raises(UsageError, match="cannot be written"), training_folder(tmp_path / "thesis.tex", publish=True):
        pass
