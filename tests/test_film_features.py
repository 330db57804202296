"""Features are extracted once for each film, whatever sets it is in, and a damaged file costs time alone."""

import sqlite3
import threading
from contextlib import closing

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cxrbench.cache import Cache
from cxrbench.contracts import Images
from cxrbench.film_features import STAGE, FilmFeatures, extract_features
from cxrbench.machine import computing_with


class Means:
    """Two means of a film; remembers how many films it was asked for."""

    name, dim, fd_label, kd_label, resize = "means", 2, "FD", "KD", "none"

    def __init__(self, scale=1.0):
        self.scale, self.asked = scale, []

    def weights_sha256(self):
        return str(self.scale)

    def extract(self, pixels, device, progress):
        self.asked.append(len(pixels))
        flat = pixels.reshape(len(pixels), -1).astype(np.float32)
        return self.scale * np.stack([flat.mean(axis=1), flat.std(axis=1)], axis=1)


class Rounding(Means):
    def __init__(self, precision):
        super().__init__()
        self.precision = precision

    def extract(self, pixels, device, progress):
        return super().extract(pixels, device, progress) * 0 + len(self.precision)


class Broken(Means):
    def extract(self, pixels, device, progress):
        return super().extract(pixels, device, progress) * np.nan


@pytest.fixture
def cache(tmp_path):
    return Cache(tmp_path / "cache")


def toy_films(count):
    pixels = np.random.default_rng(0).integers(0, 256, (count, 1, 6, 6), dtype=np.uint8)
    return Images(pixels, np.zeros(count, np.int64), ("a",))


def features_of(films, extractor, cache, device="cpu"):
    return extract_features(films, extractor, device, cache, lambda done, total: None)


def files(cache):
    return sorted((cache.root / STAGE).iterdir())


@settings(deadline=None)  # the first imports torch
@given(order=st.lists(st.integers(0, 11), max_size=30), others=st.lists(st.integers(0, 11), max_size=30))
def test_any_sets_get_the_rows_of_their_films_and_none_is_extracted_twice(tmp_path_factory, order, others):
    cache, means, films = Cache(tmp_path_factory.mktemp("cache")), Means(), toy_films(12)
    wanted = Means().extract(films.pixels, "cpu", None)
    for rows in (order, others):
        found = features_of(films.subset(np.asarray(rows, np.int64)), means, cache)
        assert found.dtype == np.float32
        assert np.array_equal(found, wanted[rows])
    assert sum(means.asked) == len({*order, *others})


def test_films_of_other_shape_and_extractors_of_other_weights_are_others(cache):
    black, means = np.zeros((1, 1, 4, 4), np.uint8), Means()
    for pixels in (black, black.reshape(1, 1, 2, 8), black[:, :, :2]):
        features_of(Images(pixels, np.zeros(1, np.int64), ("a",)), means, cache)
    assert means.asked == [1, 1, 1]
    doubled = Means(scale=2.0)
    assert np.array_equal(features_of(toy_films(3), doubled, cache), 2 * features_of(toy_films(3), means, cache))


def test_features_in_another_precision_on_another_device_or_by_other_threads_are_others(cache):
    exact, half = Rounding("float32"), Rounding("bfloat16")
    for _ in range(2):
        for extractor in (exact, half):
            for device in ("cpu", "cuda"):
                assert (features_of(toy_films(8), extractor, cache, device) == len(extractor.precision)).all()
    assert exact.asked == half.asked == [8, 8]
    for threads in (1, 2, 1):
        with computing_with(threads):
            features_of(toy_films(8), means := Means(), cache)
            assert means.asked in ([], [8])
    assert means.asked == []


def test_features_with_nan_are_refused_and_not_kept(cache):
    broken = Broken()
    for _ in range(2):  # the second time would be served from the cache, were it kept
        with pytest.raises(ValueError, match="with NaN"):
            features_of(toy_films(8), broken, cache)
    assert broken.asked == [8, 8]


@pytest.mark.parametrize("damage", ["header", "torn", "empty", "row", "short row"])
def test_a_damaged_file_is_made_again(cache, damage):
    means, films = Means(), toy_films(40)
    wanted = features_of(films, means, cache)
    (path,) = files(cache)
    held = path.read_bytes()
    if damage in ("row", "short row"):
        value = b"\0" * (8 if damage == "row" else 4)
        with closing(sqlite3.connect(path)) as table, table:
            table.execute("UPDATE films SET row = ? WHERE rowid = 7", (value,))
    else:
        path.write_bytes({"header": b"not sqlite" + held[10:], "torn": held[: len(held) // 2], "empty": b""}[damage])
    again = Means()
    assert np.array_equal(features_of(films, again, cache), wanted)
    assert again.asked == ([1] if "row" in damage else [40])
    assert np.array_equal(features_of(films, again, cache), wanted)
    assert len(again.asked) == 1


def test_a_file_that_is_in_use_is_not_thrown_away(cache, monkeypatch):
    means, films = Means(), toy_films(4)
    features_of(films, means, cache)
    (path,) = files(cache)
    monkeypatch.setattr("cxrbench.film_features.PATIENCE", 0.1)
    with closing(sqlite3.connect(path)) as other:
        other.execute("BEGIN EXCLUSIVE")
        with pytest.raises(sqlite3.OperationalError, match="locked"):
            features_of(films, means, cache)
    features_of(films, means, cache)
    assert means.asked == [4]


def test_writers_side_by_side_lose_nothing(cache, tmp_path):
    films = toy_films(64)
    parts = [films.subset(np.arange(start, start + 32)) for start in (0, 8, 16, 24, 32)]
    threads = [threading.Thread(target=features_of, args=(part, Means(), cache)) for part in parts]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    means = Means()
    assert np.array_equal(features_of(films, means, cache), Means().extract(films.pixels, "cpu", None))
    assert means.asked == []


def test_more_films_than_one_query_asks_for_are_all_found(tmp_path):
    kept = FilmFeatures(tmp_path / "rows.sqlite", 1)
    rows = {number.to_bytes(4, "big"): np.array([number], np.float32) for number in range(1234)}
    kept.add(rows)
    assert {digest: float(row[0]) for digest, row in kept.read(list(rows)).items()} == {
        digest: float(row[0]) for digest, row in rows.items()
    }
