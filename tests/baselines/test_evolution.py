"""The evolution picture: which looks it shows, that films survive packing, and that each lies in its place."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image

from cxrbench_baselines.evolution import choose_columns, draw_evolution, pack, shrink, unpack

GAP = 4


def films(count, size=32, seed=0):
    return np.random.default_rng(seed).integers(0, 200, (count, 1, size, size)).astype(np.uint8)


def places(picture, film):
    """Top-left corners at which a film stands in a picture."""
    windows = np.lib.stride_tricks.sliding_window_view(picture, film.shape[1], axis=1)
    rows, columns = np.nonzero((windows == film[0]).all(axis=2))
    return [
        (int(y), int(x))
        for y, x in zip(rows, columns, strict=True)
        if np.array_equal(picture[y : y + len(film), x : x + film.shape[1]], film)
    ]


@given(st.integers(1, 500))
def test_at_most_ten_columns_evenly_spread_from_the_first_to_the_last(count):
    chosen = choose_columns(count)
    assert chosen[0] == 0
    assert chosen[-1] == count - 1
    assert len(chosen) == min(count, 10)
    assert all(after > before for before, after in itertools.pairwise(chosen))
    gaps = np.diff(chosen)
    assert not gaps.size or gaps.max() - gaps.min() <= 1


@given(arrays(np.uint8, st.tuples(st.integers(1, 4), st.just(1), st.integers(1, 9), st.integers(1, 9))))
def test_packed_films_come_back_bit_by_bit(pixels):
    assert np.array_equal(unpack(pack(pixels), len(pixels)), pixels)


def test_small_films_are_kept_as_they_are_and_large_ones_averaged():
    small = films(2, 128)
    assert shrink(small) is small
    large = np.full((2, 1, 300, 150), 77, np.uint8)
    assert shrink(large).shape == (2, 1, 128, 64)
    assert (shrink(large) == 77).all()


def test_every_film_stands_in_the_column_of_its_look_and_the_row_of_its_class(tmp_path):
    looks = [films(4, 64, seed) for seed in range(3)]
    draw_evolution(looks, [1, 11, 20], ["COVID", "COVID", "Normal", "Normal"], tmp_path / "e.png")
    with Image.open(tmp_path / "e.png") as opened:
        assert opened.mode == "L"
        picture = np.asarray(opened)
    corners = np.array([[places(picture, film[0]) for film in look] for look in looks])
    assert corners.shape == (3, 4, 1, 2)  # each stands in one place
    top, left = corners[0, 0, 0]
    for column in range(3):
        for row in range(4):
            assert corners[column, row, 0].tolist() == [top + row * (64 + GAP), left + column * (64 + GAP)]


def test_small_films_are_enlarged_so_that_the_step_can_be_read(tmp_path):
    (look,) = [films(2, 32)]
    draw_evolution([look], [1500], ["a", "b"], tmp_path / "e.png")
    picture = np.asarray(Image.open(tmp_path / "e.png"))
    assert places(picture, look[0, 0].repeat(2, axis=0).repeat(2, axis=1))


@pytest.mark.parametrize(
    ("names", "written"), [(["COVID", "COVID"], [True, False]), (["COVID", "Normal"], [True, True])]
)
def test_a_class_is_named_once_and_every_column_has_its_step(tmp_path, names, written):
    looks = [films(2, 64, seed) for seed in range(2)]
    draw_evolution(looks, [1, 999], names, tmp_path / "e.png")
    picture = np.asarray(Image.open(tmp_path / "e.png"))
    (top, left), (lower, _) = (places(picture, film[0])[0] for film in looks[0])
    margin = picture[:, :left]
    assert [bool((part < 128).any()) for part in (margin[top:lower], margin[lower:])] == written
    assert all((picture[:top, x : x + 64] < 128).any() for x in (left, left + 64 + GAP))
