"""Intervals of a sum of variances: the t interval as the special case, coverage, consistency of p and width."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from cxrbench.statistics.intervals import LEAST_P, Part, half_width, matching_df, two_sided_p


@pytest.mark.parametrize("df", [1, 2, 7, 300])
def test_one_part_gives_students_t(df):
    part = Part("seed", 0.04, df)
    assert half_width([part], 0.05) == pytest.approx(0.2 * stats.t.ppf(0.975, df))
    assert two_sided_p(0.5, [part]) == pytest.approx(2 * stats.t.sf(0.5 / 0.2, df), rel=1e-6)
    assert matching_df(half_width([part], 0.01) / 0.2, 0.01) == pytest.approx(df, rel=1e-4)


@given(
    st.lists(st.tuples(st.floats(0, 10), st.integers(1, 200)), min_size=1, max_size=3).filter(
        lambda parts: sum(variance for variance, _ in parts) > 1e-6
    ),
    st.floats(1e-6, 0.9),
)
def test_the_p_value_is_the_level_whose_interval_ends_at_zero(found, alpha):
    parts = [Part("any", variance, df) for variance, df in found]
    assert two_sided_p(half_width(parts, alpha), parts) == pytest.approx(alpha, rel=1e-5)
    assert half_width(parts, alpha / 2) > half_width(parts, alpha)


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.9])
@pytest.mark.parametrize("df", [1, 2])
def test_a_true_null_hypothesis_is_rejected_in_at_most_a_twentieth_whatever_the_shares(share, df):
    rng = np.random.default_rng(0)
    runs = 4000
    seeds = (1 - share) * rng.chisquare(df, runs) / df
    estimates = rng.standard_normal(runs)
    wide = [half_width([Part("film", share, 300), Part("seed", seed, df)], 0.05) for seed in seeds]
    rejected = np.mean(np.abs(estimates) > wide)
    assert rejected <= 0.05 + 3 * math.sqrt(0.05 * 0.95 / runs)
    if share == 0.0:
        assert rejected > 0.05 - 3 * math.sqrt(0.05 * 0.95 / runs)


def test_estimates_without_variance_or_of_zero_are_settled():
    assert two_sided_p(0.0, [Part("film", 1.0, 10)]) == 1.0
    assert two_sided_p(0.0, []) == 1.0
    assert two_sided_p(0.1, []) == LEAST_P
    assert two_sided_p(1e9, [Part("film", 1.0, 10)]) == LEAST_P
