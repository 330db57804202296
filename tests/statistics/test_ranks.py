"""Rank correlations: scipy's values, a bootstrap written out, and when there is none."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import kendalltau, spearmanr

from cxrbench.statistics.ranks import _weighted_spearman, rank_agreement, rank_correlation


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)), min_size=4, max_size=15), st.integers(0, 1000))
def test_a_weighted_correlation_is_scipys_of_the_repeated_points(points, seed):
    x, y = np.asarray(points, dtype=float).T
    weights = np.random.default_rng(seed).multinomial(len(x), np.full(len(x), 1 / len(x)))
    repeated = np.repeat(x, weights), np.repeat(y, weights)
    found = _weighted_spearman(x, y, weights[None].astype(float))[0]
    if np.ptp(repeated[0]) == 0 or np.ptp(repeated[1]) == 0:
        assert np.isnan(found)
    else:
        assert found == pytest.approx(spearmanr(*repeated).statistic, abs=1e-9)


def test_the_interval_is_a_percentile_bootstrap():
    rng = np.random.default_rng(0)
    x = rng.standard_normal(30)
    y = x + rng.standard_normal(30)
    found = rank_correlation(x, y)
    drawn = [spearmanr(x[rows], y[rows]).statistic for rows in rng.integers(30, size=(1000, 30))]
    assert found.rho == pytest.approx(spearmanr(x, y).statistic)
    assert (found.low, found.high) == pytest.approx(np.quantile(drawn, [0.025, 0.975]), abs=0.04)
    assert found.n == 30


def test_the_order_of_opposites_is_minus_one():
    found = rank_correlation(range(8), [-(v**3) for v in range(8)])
    assert (found.rho, found.low, found.high) == pytest.approx((-1, -1, -1))


def test_seeds_of_a_generator_are_not_independent_evidence():
    rng = np.random.default_rng(1)
    names = np.repeat([f"g{i}" for i in range(6)], 5)
    x = np.repeat(rng.standard_normal(6), 5) + 0.01 * rng.standard_normal(30)
    y = np.repeat(rng.standard_normal(6), 5) + 0.01 * rng.standard_normal(30)
    grouped, single = rank_correlation(x, y, list(names)), rank_correlation(x, y)
    assert (grouped.n, single.n) == (6, 30)
    assert grouped.rho == single.rho
    assert grouped.high - grouped.low > 1.5 * (single.high - single.low)


def test_the_same_seed_gives_the_same_interval():
    x = np.random.default_rng(0).standard_normal(20)
    y = x + np.random.default_rng(1).standard_normal(20)
    assert rank_correlation(x, y, seed=3) == rank_correlation(x, y, seed=3)
    assert rank_correlation(x, y, seed=3, resamples=50) != rank_correlation(x, y, seed=4, resamples=50)


@pytest.mark.parametrize(
    ("x", "y", "groups"),
    [
        ([1, 2, 3], [1, 2, 3], None),
        ([], [], None),
        ([1, 2, 3, 4, 5, 6], [1, 2, 3, 4, 5, 6], ["a", "a", "b", "b", "c", "c"]),
        ([1, 1, 1, 1], [1, 2, 3, 4], None),
    ],
)
def test_too_few_units_or_a_constant_give_no_correlation(x, y, groups):
    assert rank_correlation(x, y, groups) is None


def test_agreement_is_kendalls_tau():
    a, b = [0.1, 0.3, 0.2, 0.4], [0.2, 0.3, 0.1, 0.4]
    assert rank_agreement(a, b) == pytest.approx(kendalltau(a, b).statistic)
    assert rank_agreement(a, a) == 1
    assert rank_agreement(a, [-v for v in a]) == -1
    assert rank_agreement([1, 1], [1, 2]) is None
    assert rank_agreement([1], [1]) is None


def test_unequal_lengths_and_missing_values_are_refused():
    with pytest.raises(ValueError, match="equal length"):
        rank_correlation([1, 2, 3, 4], [1, 2, 3])
    with pytest.raises(ValueError, match="equal length"):
        rank_correlation([1, 2, 3, 4], [1, 2, 3, 4], ["a"])
    with pytest.raises(ValueError, match="finite"):
        rank_correlation([1, 2, 3, np.nan], [1, 2, 3, 4])
    with pytest.raises(ValueError, match="same arms"):
        rank_agreement([1, 2], [1])
    with pytest.raises(ValueError, match="finite"):
        rank_agreement([1, np.nan], [1, 2])
