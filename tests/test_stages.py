"""The stages: computed once, nested pools, quarantine, and nothing of the test set in training."""

from dataclasses import dataclass, replace

import numpy as np
import pytest
from PIL import Image

from cxrbench.cache import Cache
from cxrbench.checks import toy_films
from cxrbench.contracts import Images, RunContext
from cxrbench.datasets.phantom import Phantom
from cxrbench.datasets.radiography import Radiography
from cxrbench.errors import DataError
from cxrbench.spec import spec_of_tier
from cxrbench.stages import (
    extract_features,
    fit_generator,
    index_data,
    load_and_split,
    split_key,
    synthesise,
    train_and_predict,
)
from cxrbench_baselines.generators.classical import Classical

SPEC = spec_of_tier("smoke")


@pytest.fixture
def cache(tmp_path):
    return Cache(tmp_path / "cache")


@pytest.fixture
def index():
    return index_data("phantom", Phantom(patients_per_class=12))


@pytest.fixture
def context(tmp_path):
    return RunContext(0, "cpu", 2, tmp_path)


def test_films_are_decoded_once(index, cache, monkeypatch):
    first = load_and_split(index, SPEC, cache)
    monkeypatch.setattr(Phantom, "read", lambda *args: pytest.fail("decoded again"))
    again = load_and_split(index, SPEC, Cache(cache.root))
    assert np.array_equal(first.images.pixels, again.images.pixels)
    assert np.array_equal(first.split.test, again.split.test)
    assert first.key == again.key


def test_no_group_stands_in_two_parts(index, cache):
    data = load_and_split(index, SPEC, cache)
    parts = [set(part.groups) for part in (data.train, data.val, data.test)]
    assert len(set.union(*parts)) == sum(len(part) for part in parts)
    assert sum(len(part) for part in (data.train, data.val, data.test)) == len(data.images)


def test_a_longer_pool_begins_with_the_shorter_one(index, cache, context):
    data = load_and_split(index, SPEC, cache)
    generator, _ = fit_generator(Classical(), "key", data, context, cache)
    short = synthesise(generator, "key", data, {0: 5, 1: 70, 2: 5}, context, cache)
    long = synthesise(generator, "key", data, {0: 150, 1: 150, 2: 150}, context, cache)
    counts = {0: 5, 1: 70, 2: 5}
    assert np.array_equal(short.images.pixels, long.prefix(counts).pixels)
    assert np.array_equal(short.images.labels, long.prefix(counts).labels)


def test_an_equal_fit_is_loaded_not_trained(index, cache, context, monkeypatch):
    data = load_and_split(index, SPEC, cache)
    fit_generator(Classical(), "key", data, context, cache)
    monkeypatch.setattr(Classical, "fit", lambda *args: pytest.fail("fitted again"))
    fit_generator(Classical(), "key", data, context, Cache(cache.root))


def test_a_pool_is_known_by_the_weights_it_comes_from(index, cache, context):
    data = load_and_split(index, SPEC, cache)
    _, first = fit_generator(Classical(), "key", data, context, cache)
    assert fit_generator(Classical(), "key", data, context, cache)[1] == first
    cache.drop("fit", "key")
    changed = data.images.pixels.copy()
    changed[data.split.train[0]] = 0
    other = replace(data, images=replace(data.images, pixels=changed))
    assert fit_generator(Classical(), "key", other, context, cache)[1] != first


def test_a_generator_that_returns_floats_is_refused(index, cache, context):
    data = load_and_split(index, SPEC, cache)
    generator, _ = fit_generator(Classical(), "key", data, context, cache)
    generator.sample = lambda labels, ctx: np.zeros((len(labels), 1, 32, 32))
    with pytest.raises(ValueError, match="sample must return uint8"):
        synthesise(generator, "other", data, {0: 4}, context, cache)


def test_features_with_nan_are_refused_and_not_kept(cache):
    class Broken:
        name, dim = "broken", 4

        def weights_sha256(self):
            return "0"

        def extract(self, pixels, device, progress):
            return np.full((len(pixels), 4), np.nan, np.float32)

    for _ in range(2):  # the second time would be served from the cache, were it kept
        with pytest.raises(ValueError, match="with NaN"):
            extract_features(toy_films(8), "films", Broken(), "cpu", cache, lambda done, total: None)


@dataclass
class Spy:
    """Remembers what it was shown."""

    def fit(self, train, val, ctx):
        self.train, self.val = train, val
        return self

    def predict_proba(self, pixels, ctx):
        return np.full((len(pixels), 3), 1 / 3, np.float32)


def test_synthetic_films_are_added_to_training_and_nowhere_else(index, cache, context):
    data = load_and_split(index, SPEC, cache)
    spy = Spy()
    added = toy_films(32, per_class=4)
    sets = [data.test.pixels, data.test.pixels[:4]]
    predicted = train_and_predict(spy, data, Images(added.pixels, added.labels, data.images.classes), sets, context)
    assert [len(probabilities) for probabilities in predicted] == [len(data.test), 4]
    assert len(spy.train) == len(data.train) + len(added)
    assert np.array_equal(spy.val.pixels, data.val.pixels)
    shown = {film.tobytes() for film in spy.train.pixels} | {film.tobytes() for film in spy.val.pixels}
    assert not any(film.tobytes() in shown for film in data.test.pixels)


def test_malformed_probabilities_are_refused_for_every_set(index, cache, context):
    data = load_and_split(index, SPEC, cache)
    spy = Spy()
    spy.predict_proba = lambda pixels, ctx: np.full((len(pixels) if len(pixels) > 4 else 3, 3), 1 / 3, np.float32)
    with pytest.raises(ValueError, match=r"must return float32 \[4, 3\]"):
        train_and_predict(spy, data, None, [data.test.pixels, data.test.pixels[:4]], context)


def test_cleaning_is_part_of_the_identity_of_the_data(index):
    assert replace(index, clean="safe").hash != index.hash
    assert replace(index, removed={"a": "b"}).hash == index.hash  # what is removed is no longer among the films


def test_each_way_to_split_has_its_own_key(index, cache):
    ways = [SPEC.model_copy(update={"split_by": way}) for way in ("auto", "patient", "source")]
    auto, patient, source = (split_key(index, spec) for spec in ways)
    assert auto == patient != source
    data = load_and_split(index, ways[2], cache)
    again = load_and_split(index, ways[2], cache)
    assert data.split.by == again.split.by == "source"
    assert data.split.notes == again.split.notes != ()
    sources = [{data.decoded.films[i].source for i in rows} for rows in data.split.parts().values()]
    assert not sources[2] & (sources[0] | sources[1])


def write_films(root, damaged=()):
    phantom = Phantom(patients_per_class=12, max_films=1)
    for film in phantom.listing().films:
        folder = root / film.file.split("/")[0] / "images"
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(phantom.read(film, 48)).save(folder / f"{film.file.split('/')[1]}.png")
    for name, content in damaged:
        (root / name).write_bytes(content)


def test_damaged_files_are_quarantined_by_name_and_never_become_black(tmp_path, cache):
    write_films(tmp_path / "d", [("COVID/images/00003-0.png", b""), ("Normal/images/zz.png", b"GIF89a")])
    data = load_and_split(index_data("d", Radiography(str(tmp_path / "d"))), SPEC, cache)
    assert set(data.quarantined) == {"COVID/images/00003-0.png", "Normal/images/zz.png"}
    assert "0 bytes" in data.quarantined["COVID/images/00003-0.png"]
    assert len(data.images) == 35
    assert data.images.pixels.reshape(35, -1).max(axis=1).min() > 100


def test_a_class_of_damaged_files_only_is_an_error(tmp_path, cache):
    write_films(tmp_path / "d")
    for path in (tmp_path / "d" / "Normal" / "images").iterdir():
        path.write_bytes(b"")
    with pytest.raises(DataError, match="none of its films could be read"):
        load_and_split(index_data("d", Radiography(str(tmp_path / "d"))), SPEC, cache)
