"""The affine warp: closed forms for turns, mirrors and shifts of whole pixels."""

import numpy as np
import pytest

from cxrbench_baselines.generators.warp import BATCH, warp

FILMS = np.random.default_rng(0).integers(0, 256, (3, 1, 12, 12)).astype(np.uint8)
STILL = [[1.0, 0, 0], [0, 1, 0]]


def moved(matrix):
    return warp(FILMS, np.asarray([matrix] * len(FILMS), np.float64))


def test_the_unit_matrix_changes_nothing():
    assert np.array_equal(moved(STILL), FILMS)


@pytest.mark.parametrize(
    ("matrix", "expected"),
    [
        ([[-1.0, 0, 0], [0, 1, 0]], FILMS[..., ::-1]),
        ([[-1.0, 0, 0], [0, -1, 0]], FILMS[..., ::-1, ::-1]),
        ([[0.0, 1, 0], [1, 0, 0]], FILMS.swapaxes(2, 3)),
    ],
)
def test_mirrors_and_turns_about_the_centre_only_rearrange_pixels(matrix, expected):
    assert np.array_equal(moved(matrix), expected)


def test_a_shift_of_whole_pixels_repeats_the_border():
    right = moved([[1.0, 0, -2 * 2 / 12], [0, 1, 0]])  # what is shown at x lay two pixels to the left
    assert np.array_equal(right[..., 2:], FILMS[..., :-2])
    assert np.array_equal(right[..., :2], np.repeat(FILMS[..., :1], 2, axis=-1))


def test_films_have_matrices_of_their_own_whatever_batch_they_fall_in():
    many = np.repeat(FILMS[:1], BATCH + 2, axis=0)
    matrices = np.asarray([STILL] * len(many), np.float64)
    matrices[BATCH, 0, 0] = -1
    out = warp(many, matrices)
    assert np.array_equal(out[BATCH], FILMS[0, :, :, ::-1])
    assert np.array_equal(np.delete(out, BATCH, axis=0), np.delete(many, BATCH, axis=0))
