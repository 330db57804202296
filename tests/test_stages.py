"""The stages: computed once, nested pools, quarantine, and nothing of the test set in training."""

from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from cxrbench.cache import Cache
from cxrbench.datasets.phantom import Phantom
from cxrbench.datasets.radiography import Radiography
from cxrbench.errors import DataError
from cxrbench.spec import spec_of_tier
from cxrbench.stages import index_data, load_and_split, split_key

SPEC = spec_of_tier("smoke")


@pytest.fixture
def cache(tmp_path):
    return Cache(tmp_path / "cache")


@pytest.fixture
def index():
    return index_data("phantom", Phantom(patients_per_class=12))


def test_films_are_decoded_once(index, cache, monkeypatch):
    first = load_and_split(index, SPEC, 0, cache)
    monkeypatch.setattr(Phantom, "read", lambda *args: pytest.fail("decoded again"))
    again = load_and_split(index, SPEC, 0, Cache(cache.root))
    assert np.array_equal(first.images.pixels, again.images.pixels)
    assert np.array_equal(first.split.test, again.split.test)
    assert first.key == again.key


def test_no_group_stands_in_two_parts(index, cache):
    data = load_and_split(index, SPEC, 0, cache)
    parts = [set(part.groups) for part in (data.train, data.val, data.test)]
    assert len(set.union(*parts)) == sum(len(part) for part in parts)
    assert sum(len(part) for part in (data.train, data.val, data.test)) == len(data.images)


def test_a_smaller_share_of_the_training_films_is_part_of_a_larger_one(index, cache):
    data = load_and_split(index, SPEC, 0, cache)
    few, many = data.train_rows(1 / 3), data.train_rows(2 / 3)
    assert set(few) < set(many) < set(data.split.train)
    assert np.array_equal(data.train_rows(), data.split.train)
    train, reserve = data.train_and_reserve(1 / 3)
    assert len(train) + len(reserve) == len(data.split.train)
    assert not set(train.groups) & set(reserve.groups)
    for label in range(3):
        real = (data.train.labels == label).sum()
        assert real / 3 <= (train.labels == label).sum() <= real / 3 + 3  # a patient has up to three films


def test_another_split_seed_is_another_split_of_the_same_films(index, cache):
    one, other = (load_and_split(index, SPEC, seed, cache) for seed in (0, 1))
    assert np.array_equal(one.images.pixels, other.images.pixels)
    assert np.array_equal(one.images.groups, other.images.groups)  # patients keep their names across splits
    assert set(one.split.test) != set(other.split.test)
    assert one.key != other.key


def test_cleaning_is_part_of_the_identity_of_the_data(index):
    assert replace(index, clean="safe").hash != index.hash
    assert replace(index, removed={"a": "b"}).hash == index.hash  # what is removed is no longer among the films


def test_each_way_to_split_has_its_own_key(index, cache):
    ways = [SPEC.model_copy(update={"split_by": way}) for way in ("auto", "patient", "source")]
    auto, patient, source = (split_key(index, spec, 0) for spec in ways)
    assert auto == patient != source
    data = load_and_split(index, ways[2], 0, cache)
    again = load_and_split(index, ways[2], 0, cache)
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
    data = load_and_split(index_data("d", Radiography(str(tmp_path / "d"))), SPEC, 0, cache)
    assert set(data.quarantined) == {"COVID/images/00003-0.png", "Normal/images/zz.png"}
    assert "0 bytes" in data.quarantined["COVID/images/00003-0.png"]
    assert len(data.images) == 35
    assert data.images.pixels.reshape(35, -1).max(axis=1).min() > 100


def test_a_class_of_damaged_files_only_is_an_error(tmp_path, cache):
    write_films(tmp_path / "d")
    for path in (tmp_path / "d" / "Normal" / "images").iterdir():
        path.write_bytes(b"")
    with pytest.raises(DataError, match="none of its films could be read"):
        load_and_split(index_data("d", Radiography(str(tmp_path / "d"))), SPEC, 0, cache)
