"""The Vendi score: closed forms, bounds, direction, and whether its interval is as wide as the truth."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cxrbench.metrics.diversity import vendi_interval, vendi_score


def features(n, d, seed=0):
    """Like pooled ReLU channels: none below zero, some strong in every film."""
    strength = np.arange(1, d + 1) ** -0.5
    return (np.abs(np.random.default_rng(seed).standard_normal((n, d))) * strength).astype(np.float32)


@pytest.mark.parametrize(("n", "d"), [(2, 2), (7, 7), (20, 50)])
def test_orthogonal_films_score_their_number(n, d):
    films = np.eye(n, d, dtype=np.float32) * np.arange(1, n + 1, dtype=np.float32)[:, None]
    assert vendi_score(films) == pytest.approx(n)


@pytest.mark.parametrize(("n", "d"), [(2, 5), (40, 5), (40, 1280)])
def test_one_film_over_and_over_scores_one(n, d):
    films = np.repeat(features(1, d), n, axis=0)
    assert vendi_score(films) == pytest.approx(1.0)
    estimate = vendi_interval(films, resamples=20)
    assert (estimate.low, estimate.high) == pytest.approx((1.0, 1.0))


def test_groups_of_equal_films_score_the_exponential_of_the_entropy_of_their_shares():
    films = np.repeat(np.eye(3, 6, dtype=np.float32), [10, 20, 30], axis=0)
    shares = np.asarray([10, 20, 30]) / 60
    assert vendi_score(films) == pytest.approx(np.exp(-(shares * np.log(shares)).sum()))


def test_two_films_at_an_angle_score_as_written_out():
    cosine = np.cos(0.7)
    films = np.asarray([[1.0, 0.0], [np.cos(0.7), np.sin(0.7)]])
    shares = np.asarray([(1 + cosine) / 2, (1 - cosine) / 2])  # the eigenvalues of [[1, c], [c, 1]] / 2
    assert vendi_score(films) == pytest.approx(np.exp(-(shares * np.log(shares)).sum()))


@pytest.mark.parametrize(("n", "d"), [(30, 8), (8, 30), (30, 30)])
def test_the_score_equals_the_definition_with_the_kernel_written_out(n, d):
    x = features(n, d).astype(np.float64)
    kernel = np.asarray([[a @ b / np.sqrt((a @ a) * (b @ b)) for b in x] for a in x])
    eigenvalues = np.linalg.eigvals(kernel / n).real
    eigenvalues = eigenvalues[eigenvalues > 1e-14]
    assert vendi_score(x) == pytest.approx(np.exp(-(eigenvalues * np.log(eigenvalues)).sum()))


@pytest.mark.parametrize(("n", "d"), [(15, 40), (40, 15), (25, 40)])
def test_the_set_twice_over_scores_as_the_set(n, d):
    x = features(n, d)
    assert vendi_score(np.concatenate([x, x])) == pytest.approx(vendi_score(x))


@settings(max_examples=40, deadline=None)
@given(st.integers(2, 40), st.integers(1, 40), st.integers(0, 1000))
def test_the_score_lies_between_one_and_the_number_of_films_and_of_dimensions(n, d, seed):
    x = np.random.default_rng(seed).standard_normal((n, d))
    estimate = vendi_interval(x, resamples=5, seed=seed)
    assert 1.0 <= estimate.low <= estimate.value <= estimate.high <= min(n, d)


def test_length_rotation_and_order_do_not_matter():
    x = features(30, 12).astype(np.float64)
    turn = np.linalg.qr(np.random.default_rng(2).standard_normal((12, 12)))[0]
    lengths = np.random.default_rng(3).uniform(1e-6, 1e6, (30, 1))
    for same in (x @ turn, x * lengths, x[::-1]):
        assert vendi_score(same) == pytest.approx(vendi_score(x))


def test_collapse_scores_lower_than_few_modes_and_those_lower_than_real_films():
    real = features(120, 64)
    jitter = features(120, 64, seed=1) * 0.05
    few = real[np.arange(120) % 8] + jitter
    collapsed = real[:1] + jitter
    scores = [vendi_interval(x) for x in (collapsed, few, real)]
    assert scores[0].high < scores[1].low
    assert scores[1].high < scores[2].low
    assert scores[0].value < 1.3


@pytest.mark.parametrize(("n", "d"), [(20, 60), (60, 20), (30, 25)])
def test_the_interval_is_that_of_scores_of_sets_with_their_films_repeated(n, d):
    x = features(n, d)
    counts = np.random.default_rng(5).multinomial(n, np.full(n, 1 / n), size=30)
    scores = np.asarray([vendi_score(np.repeat(x, drawn, axis=0)) for drawn in counts])
    low, high = np.quantile(scores - scores.mean(), [0.025, 0.975]) + vendi_score(x)
    estimate = vendi_interval(x, resamples=30, seed=5)
    assert (estimate.value, estimate.low, estimate.high) == pytest.approx((vendi_score(x), low, high))


@pytest.mark.parametrize(("n", "d"), [(64, 8), (64, 64)])
def test_the_interval_is_as_wide_as_the_spread_over_fresh_films(n, d):
    found = [vendi_interval(features(n, d, seed), resamples=60, seed=seed) for seed in range(100)]
    spread = np.std([estimate.value for estimate in found])
    width = np.mean([estimate.high - estimate.low for estimate in found]) / (2 * 1.96)
    assert spread / width == pytest.approx(1.0, rel=0.35)


def test_the_interval_shrinks_with_more_films_and_depends_on_the_seed_alone():
    few, many = (vendi_interval(features(n, 16), seed=1) for n in (40, 640))
    assert (few.high - few.low) / (many.high - many.low) == pytest.approx(4.0, rel=0.6)
    assert few == vendi_interval(features(40, 16), seed=1)
    assert few != vendi_interval(features(40, 16), seed=2)


@pytest.mark.parametrize("measure", [vendi_score, vendi_interval])
@pytest.mark.parametrize("broken", [np.nan, np.inf, -np.inf])
def test_features_that_are_not_finite_are_refused(measure, broken):
    x = features(10, 4)
    x[3, 2] = broken
    with pytest.raises(ValueError, match="NaN or infinity"):
        measure(x)


@pytest.mark.parametrize("measure", [vendi_score, vendi_interval])
def test_a_film_without_features_one_film_and_a_vector_are_refused(measure):
    x = features(10, 4)
    x[7] = 0.0
    with pytest.raises(ValueError, match="film 7 are all zero"):
        measure(x)
    with pytest.raises(ValueError, match="at least 2 films"):
        measure(features(1, 4))
    with pytest.raises(ValueError, match="must be"):
        measure(features(10, 4)[0])


def test_no_resamples_are_refused():
    with pytest.raises(ValueError, match="resamples must be at least 1"):
        vendi_interval(features(10, 4), resamples=0)
