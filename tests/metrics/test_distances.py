"""Distances: closed forms, agreement with torch-fidelity and scipy, symmetry, direction, honest intervals."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.linalg import sqrtm

from cxrbench.metrics import distances
from cxrbench.metrics.distances import (
    LEAST_INFINITY,
    Frechet,
    Kernel,
    frechet_distance,
    frechet_infinity,
    frechet_interval,
    kernel_distance,
    kernel_interval,
)
from cxrbench.metrics.sets import centred_interval


def features(n, d, seed=0, shift=0.0, scale=1.0):
    return (np.random.default_rng(seed).standard_normal((n, d)) * scale + shift).astype(np.float32)


def exact_set(n, variances, mean, seed=0):
    """``[n, D]`` with exactly these sample variances, no covariances, and this mean; n > D."""
    drawn = np.random.default_rng(seed).standard_normal((n, len(variances)))
    orthonormal = np.linalg.qr(drawn - drawn.mean(axis=0))[0]
    return orthonormal * np.sqrt((n - 1) * np.asarray(variances)) + mean


def spread(x, y):
    return x.astype(np.float64).var(axis=0, ddof=1).sum() + y.astype(np.float64).var(axis=0, ddof=1).sum()


def torch_fidelity_fid(x, y):
    from torch_fidelity.metric_fid import KEY_METRIC_FID, fid_features_to_statistics, fid_statistics_to_metric

    stats = [fid_features_to_statistics(torch.from_numpy(a.astype(np.float64))) for a in (x, y)]
    return fid_statistics_to_metric(*stats, verbose=False)[KEY_METRIC_FID]


def torch_fidelity_kid(x, y):
    from torch_fidelity.metric_kid import KEY_METRIC_KID_MEAN, kid_features_to_metric

    x, y = (torch.from_numpy(a.astype(np.float64)) for a in (x, y))
    return kid_features_to_metric(x, y, kid_subsets=1, kid_subset_size=len(x), verbose=False)[KEY_METRIC_KID_MEAN]


def scipy_fid(x, y):
    x, y = x.astype(np.float64), y.astype(np.float64)
    sx, sy = np.cov(x, rowvar=False), np.cov(y, rowvar=False)
    root = sqrtm(sx @ sy)
    return ((x.mean(0) - y.mean(0)) ** 2).sum() + np.trace(sx + sy) - 2 * np.trace(root).real


def kid_written_out(x, y):
    """The double sums of Gretton et al. (2012), equation 3, pair by pair."""
    x, y = x.astype(np.float64), y.astype(np.float64)

    def k(a, b):
        return (a @ b / len(a) + 1) ** 3

    own = [np.mean([k(s[i], s[j]) for i in range(len(s)) for j in range(len(s)) if i != j]) for s in (x, y)]
    return own[0] + own[1] - 2 * np.mean([k(a, b) for a in x for b in y])


LINE = np.outer(np.arange(6), np.ones(5)).astype(np.float32)
DEGENERATE = {
    "rank one": (LINE, LINE[:, :1] * np.array([[1, 2, 0, -1, 3]], np.float32)),
    "two films": (features(2, 16), features(2, 16, seed=1)),
    "constant": (np.full((6, 5), 3.0, np.float32), features(7, 5)),
    "both constant": (np.full((6, 5), 3.0, np.float32), np.ones((9, 5), np.float32)),
    "identical": (features(12, 20), features(12, 20)),
}


@pytest.mark.parametrize(("n", "m", "d"), [(20, 30, 64), (200, 150, 16), (64, 64, 64), (2, 5, 8), (20, 90, 40)])
def test_frechet_equals_torch_fidelity_below_and_above_the_dimension(n, m, d):
    x, y = features(n, d), features(m, d, seed=1, shift=0.5, scale=1.7)
    assert frechet_distance(x, y) == pytest.approx(torch_fidelity_fid(x, y), rel=1e-6)


@pytest.mark.parametrize("case", DEGENERATE)
def test_frechet_equals_torch_fidelity_on_degenerate_sets(case):
    x, y = DEGENERATE[case]
    found = frechet_distance(x, y)
    assert found == pytest.approx(torch_fidelity_fid(x, y), rel=1e-6, abs=1e-6 * spread(x, y))  # 0 for identical


def test_frechet_equals_scipys_matrix_root_where_it_is_well_conditioned():
    x, y = features(400, 12), features(300, 12, seed=1, shift=-0.3, scale=0.5)
    assert frechet_distance(x, y) == pytest.approx(scipy_fid(x, y), rel=1e-6)


@pytest.mark.parametrize("n", [17, 18, 60])
def test_frechet_of_exact_gaussians_is_the_closed_form_also_where_variances_span_twelve_decades(n):
    a, b = np.logspace(0, -12, 16), np.logspace(-12, 0, 16)
    x, y = exact_set(n, a, 1.0), exact_set(n + 5, b, 1.25, seed=1)
    expected = 16 * 0.25**2 + ((np.sqrt(a) - np.sqrt(b)) ** 2).sum()
    assert frechet_distance(x, y) == pytest.approx(expected, rel=1e-12)


def test_frechet_of_a_turned_gaussian_is_the_closed_form_in_two_dimensions():
    x, y = exact_set(30, [4.0, 0.25], 0.0), exact_set(40, [1.0, 9.0], 0.0, seed=1)
    turn = np.array([[0.8, -0.6], [0.6, 0.8]])
    sx, sy = np.diag([4.0, 0.25]), turn.T @ np.diag([1.0, 9.0]) @ turn
    root = np.sqrt(np.trace(sx @ sy) + 2 * np.sqrt(np.linalg.det(sx) * np.linalg.det(sy)))  # Cayley-Hamilton
    assert frechet_distance(x, y @ turn) == pytest.approx(np.trace(sx + sy) - 2 * root, rel=1e-12)


def test_frechet_is_the_same_whether_or_not_a_side_is_reduced():
    x, y = features(33, 32), features(33, 32, seed=1, shift=1.0)
    wide = [np.concatenate([a, np.zeros((33, 8), np.float32)], axis=1) for a in (x, y)]  # D = 40 >= n
    assert frechet_distance(x, y) == pytest.approx(frechet_distance(*wide), rel=1e-12)


def test_frechet_of_shifted_copies_is_the_squared_shift():
    x = features(50, 10)
    assert frechet_distance(x, x + 2.0) == pytest.approx(4.0 * 10, rel=1e-5)


@pytest.mark.parametrize(("n", "d"), [(10, 40), (90, 40)])
def test_frechet_of_a_set_and_itself_is_zero_in_any_order_and_never_below(n, d):
    for seed in range(5):
        x = features(n, d, seed, shift=100.0)
        assert 0.0 <= frechet_distance(x, x[::-1]) <= 1e-12 * spread(x, x)


def test_frechet_of_rank_one_and_constant_sets_is_right():
    constant = np.zeros((6, 5), np.float32)
    assert frechet_distance(LINE, constant) == pytest.approx(5 * 2.5**2 + 5 * np.var(np.arange(6), ddof=1), rel=1e-12)


@settings(max_examples=25, deadline=None)
@given(st.integers(2, 40), st.integers(2, 40), st.integers(1, 30), st.integers(0, 1000))
def test_frechet_is_symmetric_not_negative_and_blind_to_turning(n, m, d, seed):
    x, y = features(n, d, seed).astype(np.float64), features(m, d, seed + 1, shift=0.2).astype(np.float64)
    turn = np.linalg.qr(np.random.default_rng(seed).standard_normal((d, d)))[0]
    found = frechet_distance(x, y)
    assert found >= 0
    assert frechet_distance(y, x) == pytest.approx(found, rel=1e-9, abs=1e-9)
    assert frechet_distance(x @ turn, y @ turn) == pytest.approx(found, rel=1e-9, abs=1e-9)
    assert frechet_distance(3 * x, 3 * y) == pytest.approx(9 * found, rel=1e-9, abs=1e-9)


@pytest.mark.parametrize(("metric", "key"), [(Frechet(), "fid"), (Kernel(), "kid_mean")])
def test_a_farther_set_scores_worse(metric, key):
    real, near, far = features(80, 32), features(80, 32, seed=1), features(80, 32, seed=2, shift=1.0)
    assert not metric.higher_is_better
    assert metric(near, real)[key] < metric(far, real)[key]


def test_the_metrics_hold_the_functions_values():
    x, y = features(20, 8), features(30, 8, seed=1)
    assert Frechet()(x, y) == {"fid": frechet_distance(x, y)}
    assert Kernel()(x, y) == dict(zip(["kid_mean", "kid_std"], kernel_distance(x, y), strict=True))


@pytest.mark.parametrize(("n", "m", "d"), [(8, 11, 40), (40, 30, 3), (20, 60, 14), (4, 4, 5)])
def test_the_frechet_interval_is_that_of_sets_with_repeated_films(n, m, d):
    x, y = features(n, d, shift=9.0), features(m, d, seed=1, scale=2.0, shift=8.0)
    x, y = x.astype(np.float64), y.astype(np.float64)
    drawn = zip(*(side.astype(int) for side in distances._draw_weights((n, m), 30, 7)), strict=True)
    repeated = [frechet_distance(np.repeat(x, w, axis=0), np.repeat(y, v, axis=0)) for w, v in drawn]
    expected, found = centred_interval(frechet_distance(x, y), np.array(repeated)), frechet_interval(x, y, 30, 7)
    assert found.value == expected.value
    assert [found.low, found.high] == pytest.approx([expected.low, expected.high], rel=1e-9)


def test_the_kernel_interval_leaves_out_pairs_of_a_film_with_itself():
    x, y = features(6, 4), features(9, 4, seed=1, shift=0.5)

    def k(a, b):
        return (a.astype(np.float64) @ b.astype(np.float64).T / 4 + 1) ** 3

    def resampled(w, v):
        i, j = np.repeat(np.arange(6), w), np.repeat(np.arange(9), v)
        own = [k(s[r], s[r])[r[:, None] != r].mean() for s, r in ((x, i), (y, j))]
        return own[0] + own[1] - 2 * k(x[i], y[j]).mean()

    drawn = zip(*(side.astype(int) for side in distances._draw_weights((6, 9), 30, 3)), strict=True)
    expected = centred_interval(kid_written_out(x, y), np.array([resampled(w, v) for w, v in drawn]))
    found = kernel_interval(x, y, 30, 3)
    assert [found.value, found.low, found.high] == pytest.approx([expected.value, expected.low, expected.high])


@pytest.mark.parametrize("interval", [frechet_interval, kernel_interval])
def test_intervals_hold_what_other_films_of_the_same_kind_score(interval):
    found = [interval(features(40, 8, 2 * s, shift=0.5), features(40, 8, 2 * s + 1), 60, s) for s in range(40)]
    expected = np.mean([one.value for one in found])
    held = np.mean([one.low <= expected <= one.high for one in found])
    assert held >= 0.85  # 95 % is wanted, and 40 trials are few
    assert np.mean([one.high - one.low for one in found]) < 8 * np.std([one.value for one in found])


@pytest.mark.parametrize("interval", [frechet_interval, kernel_interval])
def test_intervals_repeat_with_their_seed_and_narrow_with_more_films(interval):
    few, many = [(features(n, 8, shift=0.5), features(n, 8, seed=1)) for n in (25, 400)]
    assert interval(*few, seed=1) == interval(*few, seed=1) != interval(*few, seed=2)
    wide, narrow = (found.high - found.low for found in (interval(*few), interval(*many)))
    assert 2 < wide / narrow < 8  # the root of 16 is 4


def test_a_resample_never_holds_one_film_only():
    for side in distances._draw_weights((2, 4), 2000, 0):
        assert (side.sum(axis=1) == side.shape[1]).all()
        assert side.max() < side.shape[1]


@pytest.mark.parametrize("n", [4, 30, 120])
def test_kernel_distance_equals_torch_fidelity_with_one_subset_of_all_films(n):
    x, y = features(n, 24), features(n, 24, seed=1, shift=0.3, scale=1.3)
    assert kernel_distance(x, y)[0] == pytest.approx(torch_fidelity_kid(x, y), rel=1e-6)
    assert kernel_distance(x, x)[0] == pytest.approx(torch_fidelity_kid(x, x), rel=1e-6)


def test_kernel_distance_of_unequal_sets_equals_the_sums_written_out_and_is_symmetric():
    x, y = features(7, 5), features(11, 5, seed=1, shift=1.0)
    value, error = kernel_distance(x, y)
    assert value == pytest.approx(kid_written_out(x, y), rel=1e-12)
    assert kernel_distance(y, x) == pytest.approx((value, error), rel=1e-12)


def test_the_error_of_the_kernel_distance_is_the_jackknife_written_out():
    x, y = features(6, 5), features(9, 5, seed=1, shift=1.0)
    without_x = [kid_written_out(np.delete(x, i, axis=0), y) for i in range(6)]
    without_y = [kid_written_out(x, np.delete(y, i, axis=0)) for i in range(9)]
    expected = np.sqrt(5 / 6 * 6 * np.var(without_x) + 8 / 9 * 9 * np.var(without_y))
    assert kernel_distance(x, y)[1] == pytest.approx(expected, rel=1e-9)


def test_kernel_distance_is_unbiased_and_its_error_is_the_spread_over_films():
    same = np.array([kernel_distance(features(40, 8, 2 * s), features(40, 8, 2 * s + 1)) for s in range(300)])
    other = np.array([kernel_distance(features(40, 8, 2 * s), features(40, 8, 2 * s + 1, 0.5)) for s in range(300)])
    assert abs(same[:, 0].mean()) < 3 * same[:, 0].std() / np.sqrt(300)
    assert other[:, 1].mean() == pytest.approx(other[:, 0].std(), rel=0.2)
    assert same[:, 0].std() < same[:, 1].mean() < 3 * same[:, 0].std()


def test_the_distance_at_infinity_of_one_distribution_is_near_zero_where_that_at_n_is_not():
    found = []
    for seed in range(12):
        x, y = features(128, 64, 2 * seed), features(128, 64, 2 * seed + 1)
        found.append(frechet_infinity(x, y, seed))
    at_n = frechet_distance(x, y)
    assert sum(one.low <= 0 <= one.high for one in found) >= 11
    assert abs(np.mean([one.value for one in found])) < 0.1 * at_n
    assert np.mean([one.high - one.low for one in found]) < at_n


def test_the_distance_at_infinity_finds_the_true_distance():
    found = [frechet_infinity(features(300, 32, 2 * s, shift=0.5), features(250, 32, 2 * s + 1), s) for s in range(8)]
    assert sum(one.low <= 32 * 0.25 <= one.high for one in found) >= 7
    assert np.mean([one.value for one in found]) == pytest.approx(32 * 0.25, rel=0.05)


def test_the_distance_at_infinity_repeats_with_its_seed_and_abstains_below_its_least():
    x, y = features(LEAST_INFINITY * 10, 10), features(50, 10, seed=1)
    assert frechet_infinity(x, y) == frechet_infinity(x, y) != frechet_infinity(x, y, seed=1)
    assert frechet_infinity(x[:-1], y) is None
    assert frechet_infinity(y, x[:-1]) is None
    assert frechet_infinity(features(15, 1), features(15, 1)) is None


@pytest.mark.parametrize(
    "distance", [frechet_distance, frechet_interval, frechet_infinity, kernel_distance, kernel_interval]
)
def test_features_that_are_not_finite_too_few_or_of_another_extractor_are_refused(distance):
    whole = features(10, 4)
    for broken in (np.nan, np.inf):
        x = whole.copy()
        x[3, 2] = broken
        for pair in ((x, whole), (whole, x)):
            with pytest.raises(ValueError, match="NaN or infinity"):
                distance(*pair)
    with pytest.raises(ValueError, match="must be"):
        distance(whole, features(10, 5))
    least = 2 if distance in (frechet_distance, frechet_infinity) else 4
    with pytest.raises(ValueError, match=f"at least {least} films"):
        distance(whole, features(least - 1, 4))


@pytest.mark.parametrize("interval", [frechet_interval, kernel_interval])
def test_one_resample_and_one_point_are_refused(interval):
    with pytest.raises(ValueError, match="at least 2 resamples"):
        interval(features(10, 4), features(10, 4), resamples=1)
    with pytest.raises(ValueError, match="at least 2 points"):
        frechet_infinity(features(100, 4), features(100, 4), points=1)
