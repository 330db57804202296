"""Mixup: every film is a convex combination of two training films of its class."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cxrbench.checks import toy_films
from cxrbench.contracts import Images, RunContext
from cxrbench.errors import UsageError
from cxrbench.registry import GENERATORS
from cxrbench_baselines.generators.mixup import Mixup


def sampled(train, labels, seed=0, alpha=1.0):
    ctx = RunContext(seed, "cpu", 0, None)
    return Mixup(alpha).fit(train, ctx).sample(np.asarray(labels, np.int64), ctx)


def pairs():
    """Two films in each of two classes."""
    pixels = np.random.default_rng(0).integers(0, 256, (4, 1, 8, 8)).astype(np.uint8)
    return Images(pixels, np.asarray([0, 0, 1, 1]), ("a", "b"))


@given(seed=st.integers(0, 2**31), alpha=st.sampled_from([0.01, 0.4, 1.0, 8.0, 1e6]))
def test_films_lie_on_the_line_between_two_films_of_their_class(seed, alpha):
    """Closed form: with two films a, b the weight is known from the film, and all pixels share it."""
    train, labels = pairs(), np.asarray([0, 1] * 8)
    for film, label in zip(sampled(train, labels, seed, alpha), labels, strict=True):
        one, other = train.of_class(label).pixels.astype(float)
        line = (one - other).ravel()
        weight = (film.ravel() - other.ravel()) @ line / (line @ line)
        assert -1e-2 <= weight <= 1 + 1e-2
        assert np.abs(film - (weight * one + (1 - weight) * other)).max() <= 1


def test_a_large_alpha_gives_the_mean_of_two_films():
    train = pairs()
    films = sampled(train, [0, 1, 1, 0], alpha=1e6).astype(float)
    means = [train.of_class(label).pixels.astype(float).mean(axis=0) for label in (0, 1, 1, 0)]
    assert np.abs(films - means).max() <= 1


def test_a_small_alpha_gives_the_films_themselves():
    train = pairs()
    known = {film.tobytes() for film in train.of_class(1).pixels}
    assert {film.tobytes() for film in sampled(train, np.ones(30), alpha=1e-4)} == known


@pytest.mark.parametrize(("alpha", "variance"), [(1.0, 1 / 12), (0.5, 1 / 8), (4.0, 1 / 36)])
def test_weights_follow_beta(alpha, variance):
    """Beta(alpha, alpha) has mean 1/2 and variance 1 / (4 (2 alpha + 1)); a film of 0 and one of 255 show it."""
    pixels = np.asarray([0, 255], np.uint8)[:, None, None, None] * np.ones((1, 1, 2, 2), np.uint8)
    train = Images(pixels, np.zeros(2, np.int64), ("a",))
    weights = sampled(train, np.zeros(4000), alpha=alpha)[:, 0, 0, 0] / 255
    assert weights.mean() == pytest.approx(0.5, abs=0.03)
    assert weights.var() == pytest.approx(variance, rel=0.1)


def test_no_film_is_mixed_with_itself():
    """With films that are bright in a place of their own, every mean of two is bright in two places."""
    pixels = np.zeros((5, 1, 1, 5), np.uint8)
    pixels[np.arange(5), 0, 0, np.arange(5)] = 200
    films = sampled(Images(pixels, np.zeros(5, np.int64), ("a",)), np.zeros(200), alpha=1e6)
    bright = films[:, 0, 0] > 90
    assert (bright.sum(axis=1) == 2).all()
    assert len(np.unique(bright, axis=0)) == 10  # every pair of five


def test_row_i_shows_the_class_that_was_asked_for_and_brightness_is_kept():
    train = toy_films(16)
    films, labels = sampled(train, [0, 1, 2] * 100), np.asarray([0, 1, 2] * 100)
    for label in range(3):
        assert films[labels == label].mean() == pytest.approx(train.of_class(label).pixels.mean(), abs=2)


def test_a_class_of_one_film_is_refused_by_name():
    train = pairs().subset(np.asarray([0, 1, 2]))
    with pytest.raises(UsageError, match="mixup needs two training films of class 'b'"):
        Mixup().fit(train, RunContext(0, "cpu", 0, None))


@pytest.mark.parametrize("alpha", ["0", "-1", "nan", "inf", "1e7"])
def test_an_alpha_outside_its_range_is_refused(alpha):
    with pytest.raises(UsageError, match=r"mixup.*must be above 0 and at most 1e\+06"):
        GENERATORS.parse(f"mixup:alpha={alpha}")
