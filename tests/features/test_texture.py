"""Texture measures: those of scikit-image, scipy and numpy, closed forms, and what turning a film must not change."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import map_coordinates
from scipy.stats import kurtosis, skew
from skimage.feature import graycomatrix, graycoprops, local_binary_pattern
from skimage.measure import shannon_entropy

from cxrbench.datasets.phantom import Phantom
from cxrbench.features import texture

PHANTOM = Phantom(patients_per_class=1, max_films=1)
FILMS = {
    "phantom": np.stack([PHANTOM.read(film, 48) for film in PHANTOM.listing().films]),
    "noise": np.random.default_rng(0).integers(0, 256, (3, 20, 31), dtype=np.uint8),
    "few greys": np.random.default_rng(1).integers(100, 104, (3, 24, 16), dtype=np.uint8) * np.uint8(2),
}
PARTS = (texture.first_order, texture.co_occurrence, texture.binary_patterns, texture.edges)


def named(names, row):
    return dict(zip(names, row, strict=True))


@pytest.mark.parametrize("films", FILMS.values(), ids=FILMS)
def test_first_order_statistics_are_numpys_and_scipys(films):
    for film, row in zip(films, texture.first_order(films), strict=True):
        got, grey = named(texture.FIRST_ORDER_NAMES, row), film.ravel().astype(float)
        assert got["mean"] == pytest.approx(grey.mean())
        assert got["sd"] == pytest.approx(grey.std())
        assert np.sinh(got["skewness"]) == pytest.approx(skew(grey), abs=1e-9)
        assert np.exp(got["kurtosis"]) == pytest.approx(kurtosis(grey, fisher=False))
        assert got["entropy"] == pytest.approx(shannon_entropy(film >> texture.SHIFT))
        shares = np.bincount(film.ravel() >> texture.SHIFT) / film.size
        assert got["uniformity"] == pytest.approx((shares**2).sum())
        for percent in texture.PERCENTILES:
            assert got[f"percentile/{percent}"] == np.percentile(film, percent, method="inverted_cdf")


@pytest.mark.parametrize("distance", texture.DISTANCES)
@pytest.mark.parametrize("films", FILMS.values(), ids=FILMS)
def test_co_occurrence_is_scikit_images(films, distance):
    own = texture.co_occurrence_matrices(films, distance)
    measured = texture.co_occurrence(films)
    for i, film in enumerate(films):
        # Its diagonal steps are as long as the others; ours move as many rows and columns. Its rows run downwards.
        angles = [(0, 1), (3 * np.pi / 4, 2**0.5), (np.pi / 2, 1), (np.pi / 4, 2**0.5)]
        theirs = [
            graycomatrix(film >> texture.SHIFT, [distance * longer], [angle], levels=texture.LEVELS, symmetric=True)
            for angle, longer in angles
        ]
        for matrices, matrix in zip(own, theirs, strict=True):
            np.testing.assert_array_equal(matrices[i], matrix[:, :, 0, 0])
        got = named(texture.CO_OCCURRENCE_NAMES, measured[i])
        for measure in texture.CO_OCCURRENCE:
            values = np.array([graycoprops(matrix / matrix.sum(), measure).item() for matrix in theirs])
            values = {"contrast": np.log1p(values), "entropy": values / np.log(2)}.get(measure, values)  # it has nats
            assert got[f"{measure}/{distance}/mean"] == pytest.approx(values.mean())
            assert got[f"{measure}/{distance}/range"] == pytest.approx(np.ptp(values), abs=1e-9)


@pytest.mark.parametrize("radius", texture.RADII)
@pytest.mark.parametrize("films", FILMS.values(), ids=FILMS)
def test_binary_patterns_are_scikit_images_where_no_point_equals_its_centre(films, radius):
    shares = texture.binary_patterns(films)
    codes = texture.pattern_codes(films, radius)
    for i, film in enumerate(films):
        inside = np.s_[radius:-radius, radius:-radius]
        rows, columns = np.mgrid[: film.shape[0], : film.shape[1]]
        apart = np.full(film.shape, np.inf)
        for angle in np.arange(texture.POINTS) * np.pi / 4:
            at = [rows - radius * np.sin(angle), columns + radius * np.cos(angle)]
            apart = np.minimum(apart, abs(map_coordinates(film.astype(float), at, order=1) - film))
        clear = apart[inside] > 0.01  # where bilinear values meet the centre's, rounding decides there; not here
        theirs = local_binary_pattern(film, texture.POINTS, radius, "uniform")[inside]
        own = texture._UNIFORM.argmax(axis=1)[codes[i]]
        np.testing.assert_array_equal(own[clear], theirs[clear])
        assert clear.mean() > 0.5 or film.max() < 208
        counted = np.bincount(own.ravel(), minlength=10) / own.size
        np.testing.assert_allclose(shares[i].reshape(2, 10)[radius - 1], counted)


def test_a_point_as_dark_as_its_centre_counts_as_reached():
    flat = np.full((1, 12, 12), 77, np.uint8)
    assert (texture.pattern_codes(flat, 1) == 255).all()
    assert (texture.pattern_codes(flat, 2) == 255).all()
    slope = np.broadcast_to(np.arange(12, dtype=np.uint8)[:, None] * 9, (1, 12, 12))  # darker upwards
    upper_half = 0b00001110  # the points at 45, 90 and 135 degrees
    for radius in texture.RADII:
        assert (texture.pattern_codes(slope, radius) == 255 - upper_half).all()


@pytest.mark.parametrize("grey", [0, 100, 255])
def test_a_constant_film_has_the_measures_of_no_texture(grey):
    film = np.full((1, 16, 16), grey, np.uint8)
    first = named(texture.FIRST_ORDER_NAMES, texture.first_order(film)[0])
    assert {name: first[name] for name in ("mean", "sd", "skewness", "kurtosis", "entropy", "uniformity")} == {
        "mean": grey, "sd": 0, "skewness": 0, "kurtosis": 0, "entropy": 0, "uniformity": 1,
    }  # fmt: skip
    second = named(texture.CO_OCCURRENCE_NAMES, texture.co_occurrence(film)[0])
    for distance in texture.DISTANCES:
        assert [second[f"{measure}/{distance}/mean"] for measure in texture.CO_OCCURRENCE] == [0, 0, 1, 1, 1, 0]
        assert [second[f"{measure}/{distance}/range"] for measure in texture.CO_OCCURRENCE] == [0] * 6
    np.testing.assert_array_equal(texture.edges(film), 0)


def test_edges_of_a_slope_and_of_a_chessboard():
    across = np.broadcast_to(np.arange(24, dtype=np.uint8) * 3, (1, 24, 24))
    got = named(texture.EDGE_NAMES, np.expm1(texture.edges(across))[0])
    for scale in texture.SCALES:
        assert got[f"gradient/{scale}"] == pytest.approx((3 * scale) ** 2)  # blocks lie that much farther apart
        assert got[f"laplacian/{scale}"] == pytest.approx(0)
    board = ((np.indices((24, 24)).sum(axis=0) % 2) * 10).astype(np.uint8)[None]
    got = named(texture.EDGE_NAMES, np.expm1(texture.edges(board))[0])
    assert got["gradient/1"] == pytest.approx(2 * 10**2)
    assert got["laplacian/1"] == pytest.approx((4 * 10) ** 2)
    assert got["gradient/2"] == pytest.approx(0)  # every block is alike


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**32 - 1), st.sampled_from([12, 16, 28]), st.sampled_from([12, 20]), st.integers(2, 256))
def test_turning_or_mirroring_a_film_changes_no_measure(seed, height, width, greys):
    film = np.random.default_rng(seed).integers(0, greys, (1, height, width)).astype(np.uint8)
    for part in PARTS:
        for other in (np.rot90(film, axes=(1, 2)), film[:, ::-1], film[:, :, ::-1]):
            np.testing.assert_allclose(part(np.ascontiguousarray(other)), part(film), atol=1e-9)


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 100))
def test_a_brighter_film_has_the_same_patterns_and_edges(seed, brighter):
    film = np.random.default_rng(seed).integers(0, 156, (1, 16, 16), dtype=np.uint8)
    for part in (texture.binary_patterns, texture.edges):
        np.testing.assert_array_equal(part(film + np.uint8(brighter)), part(film))


def test_the_largest_steps_of_grey_do_not_overflow():
    board = np.kron(np.indices((6, 6)).sum(axis=0) % 2, np.ones((4, 4))) * 255
    got = named(texture.EDGE_NAMES, np.expm1(texture.edges(board.astype(np.uint8)[None]))[0])
    assert got["gradient/4"] == pytest.approx(2 * 255**2)
    assert got["laplacian/4"] == pytest.approx((4 * 255) ** 2)
