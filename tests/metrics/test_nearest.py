"""Nearest films: the appearance in closed form, and agreement with all distances written out."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.distance import cdist

from cxrbench.metrics import nearest as nearest_module
from cxrbench.metrics.nearest import Nearest, appearance, most_suspicious, nearest, nearest_other


def bumps(count, seed, side=40, kinds=14):
    """uint8 films that share a broad shape and differ by smooth bumps."""
    rng = np.random.default_rng(seed)
    axis = (np.arange(side) + 0.5) / side
    centre, width = rng.uniform(0, 1, (2, count, kinds, 1)), rng.uniform(0.05, 0.2, (count, kinds, 1))
    down, across = (np.exp(-(((axis - at) / width) ** 2) / 2) for at in centre)
    films = np.einsum("nky,nkx,nk->nyx", down, across, rng.uniform(-50, 50, (count, kinds)))
    shared = 40 * np.exp(-((axis - 0.5) ** 2) / 0.1)
    return np.clip(films + 90 + shared[:, None], 0, 255).round().astype(np.uint8)[:, None]


def mirror(films):
    return films[..., ::-1]


def features(n, d, seed=0):
    return np.random.default_rng(seed).standard_normal((n, d)).astype(np.float32)


@pytest.mark.parametrize(("height", "width"), [(32, 32), (33, 64), (40, 75), (101, 50), (20, 50), (16, 7)])
def test_appearance_averages_areas_and_has_mean_0_and_length_1(height, width):
    pixels = np.random.default_rng(0).integers(0, 256, (3, 1, height, width), dtype=np.uint8)
    rows, columns = min(height, 32), min(width, 32)
    cut = pixels.repeat(rows, axis=2).repeat(columns, axis=3)  # into parts so small that areas hold whole ones
    expected = cut.reshape(3, rows, height, columns, width).mean(axis=(2, 4)).reshape(3, -1)
    expected -= expected.mean(axis=1, keepdims=True)
    expected /= np.linalg.norm(expected, axis=1, keepdims=True)
    found = appearance(pixels)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_distances_of_appearances_are_the_correlations_of_the_films():
    one, other = bumps(2, seed=3, side=32)
    apart = np.linalg.norm(np.subtract(*appearance(np.stack([one, other])).astype(np.float64)))
    assert apart == pytest.approx(np.sqrt(2 - 2 * np.corrcoef(one.ravel(), other.ravel())[0, 1]), rel=1e-5)


def test_brightness_and_contrast_do_not_change_the_appearance():
    pixels = np.random.default_rng(0).integers(0, 100, (4, 1, 50, 60), dtype=np.uint8)
    np.testing.assert_allclose(appearance(pixels * 2 + 30), appearance(pixels), atol=1e-5)
    np.testing.assert_allclose(appearance(255 - pixels), -appearance(pixels), atol=1e-5)


@pytest.mark.parametrize("side", [1, 20, 32, 45, 299])
def test_even_films_become_zeros(side):
    pixels = np.stack([np.full((1, side, side), grey, np.uint8) for grey in (0, 77, 255)])
    assert not appearance(pixels).any()


def test_the_faintest_contrast_is_still_seen():
    pixels = np.full((1, 1, 64, 64), 100, np.uint8)
    pixels[0, 0, 10, 10] = 101
    assert np.linalg.norm(appearance(pixels)) == pytest.approx(1.0, abs=1e-6)


def test_a_mirrored_film_has_the_mirrored_appearance():
    pixels = bumps(5, seed=1, side=45)
    turned = mirror(appearance(pixels).reshape(5, 32, 32)).reshape(5, -1)
    np.testing.assert_allclose(appearance(mirror(pixels)), turned, atol=1e-6)


def test_films_mapped_from_a_file_are_read_in_chunks(tmp_path, monkeypatch):
    pixels = bumps(11, seed=2)
    np.save(tmp_path / "films.npy", pixels)
    whole = appearance(pixels)
    monkeypatch.setattr(nearest_module, "PIXELS_AT_ONCE", 3 * 40 * 40)
    np.testing.assert_array_equal(appearance(np.load(tmp_path / "films.npy", mmap_mode="r")), whole)
    assert appearance(pixels[:0]).shape == (0, 1024)


@pytest.mark.parametrize(
    "pixels",
    [np.zeros((2, 1, 40, 40)), np.zeros((2, 40, 40), np.uint8), np.zeros((2, 3, 40, 40), np.uint8)],
)
def test_films_of_another_shape_or_type_are_refused(pixels):
    with pytest.raises(ValueError, match="uint8"):
        appearance(pixels)
    with pytest.raises(ValueError, match="uint8"):
        appearance(np.zeros((2, 1, 0, 40), np.uint8))


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 30), st.integers(1, 30), st.integers(1, 20), st.integers(0, 1000))
def test_nearest_equals_all_distances_written_out(n, m, d, seed):
    films, train, mirrored = features(n, d, seed), features(m, d, seed + 1), features(m, d, seed + 2)
    every = np.minimum(cdist(films, train), cdist(films, mirrored))
    found = nearest(films, train, mirrored)
    np.testing.assert_allclose(found.distance, every.min(axis=1), rtol=1e-6)
    np.testing.assert_array_equal(found.index, every.argmin(axis=1))
    assert (found.distance.dtype, found.index.dtype) == (np.float64, np.int64)


def test_nearest_is_the_same_in_chunks(monkeypatch):
    films, train, mirrored = features(20, 5), features(9, 5, 1), features(9, 5, 2)
    whole, among = nearest(films, train, mirrored), nearest_other(train, mirrored)
    monkeypatch.setattr(nearest_module, "ROWS_AT_ONCE", 4)
    np.testing.assert_array_equal(nearest(films, train, mirrored).index, whole.index)
    np.testing.assert_array_equal(nearest_other(train, mirrored).index, among.index)


def test_copies_and_mirrored_copies_lie_at_exactly_0():
    train = bumps(40, seed=0)
    for copies in (train[::-1], mirror(train[::-1])):
        found = nearest(appearance(copies), appearance(train), appearance(mirror(train)))
        assert not found.distance.any()
        np.testing.assert_array_equal(found.index, np.arange(len(train))[::-1])


def test_nearest_other_leaves_out_a_film_and_its_own_mirror_image():
    train, mirrored = features(12, 4), features(12, 4, 1)
    mirrored[5] = train[5]  # a film that is its own mirror image
    every = np.minimum(cdist(train, train), cdist(train, mirrored))
    np.fill_diagonal(every, np.inf)
    found = nearest_other(train, mirrored)
    np.testing.assert_allclose(found.distance, every.min(axis=1), rtol=1e-6)
    np.testing.assert_array_equal(found.index, every.argmin(axis=1))


def test_films_that_cannot_be_compared_are_refused():
    good, broken = features(5, 4), features(5, 4)
    broken[2, 1] = np.nan
    for sets in ((broken, good, good), (good, broken, good), (good, good, broken)):
        with pytest.raises(ValueError, match="NaN or infinity"):
            nearest(*sets)
    for sets in ((good, good, good[:4]), (features(5, 3), good, good), (good[0], good, good)):
        with pytest.raises(ValueError, match="must be"):
            nearest(*sets)
    with pytest.raises(ValueError, match="no training films"):
        nearest(good, good[:0], good[:0])
    with pytest.raises(ValueError, match="at least 2"):
        nearest_other(good[:1], good[:1])


def test_most_suspicious_shows_each_training_film_once_nearest_first():
    found = Nearest(np.array([0.5, 0.1, 0.3, 0.1, 0.2]), np.array([7, 4, 4, 4, 9]))
    assert most_suspicious(found, 10).tolist() == [1, 4, 0]
    assert most_suspicious(found, 2).tolist() == [1, 4]
    assert most_suspicious(found, 0).tolist() == []
    with pytest.raises(ValueError, match="negative"):
        most_suspicious(found, -1)
