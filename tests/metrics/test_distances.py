"""Distances: closed forms, agreement with torch-fidelity and scipy, symmetry, direction."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.linalg import sqrtm

from cxrbench.metrics.distances import Frechet, Kernel, frechet_distance, kernel_distance


def features(n, d, seed=0, shift=0.0, scale=1.0):
    return (np.random.default_rng(seed).standard_normal((n, d)) * scale + shift).astype(np.float32)


def torch_fidelity_fid(x, y):
    from torch_fidelity.metric_fid import KEY_METRIC_FID, fid_features_to_statistics, fid_statistics_to_metric

    stats = [fid_features_to_statistics(torch.from_numpy(a.astype(np.float64))) for a in (x, y)]
    return fid_statistics_to_metric(*stats, verbose=False)[KEY_METRIC_FID]


def scipy_fid(x, y):
    x, y = x.astype(np.float64), y.astype(np.float64)
    sx, sy = np.cov(x, rowvar=False), np.cov(y, rowvar=False)
    root = sqrtm(sx @ sy)
    return ((x.mean(0) - y.mean(0)) ** 2).sum() + np.trace(sx + sy) - 2 * np.trace(root).real


@pytest.mark.parametrize(("n", "m", "d"), [(20, 30, 64), (200, 150, 16), (64, 64, 64), (2, 5, 8)])
def test_frechet_equals_torch_fidelity_below_and_above_the_dimension(n, m, d):
    x, y = features(n, d), features(m, d, seed=1, shift=0.5, scale=1.7)
    assert frechet_distance(x, y) == pytest.approx(torch_fidelity_fid(x, y), rel=1e-6)


def test_frechet_equals_scipys_matrix_root_where_it_is_well_conditioned():
    x, y = features(400, 12), features(300, 12, seed=1, shift=-0.3, scale=0.5)
    assert frechet_distance(x, y) == pytest.approx(scipy_fid(x, y), rel=1e-6)


def test_both_branches_of_frechet_agree_where_they_meet():
    x, y = features(33, 32), features(33, 32, seed=1, shift=1.0)
    wide = [np.concatenate([a, np.zeros((33, 8), np.float32)], axis=1) for a in (x, y)]  # D = 40 >= n
    assert frechet_distance(x, y) == pytest.approx(frechet_distance(*wide), rel=1e-9)


def test_frechet_of_shifted_copies_is_the_squared_shift():
    x = features(50, 10)
    assert frechet_distance(x, x + 2.0) == pytest.approx(4.0 * 10, rel=1e-5)


def test_frechet_of_rank_one_and_constant_sets_is_finite_and_right():
    line = np.outer(np.arange(6), np.ones(5)).astype(np.float32)
    constant = np.zeros((6, 5), np.float32)
    assert frechet_distance(line, line) == pytest.approx(0.0, abs=1e-9)
    assert frechet_distance(line, constant) == pytest.approx(5 * 2.5**2 + 5 * np.var(np.arange(6), ddof=1))


@settings(max_examples=25, deadline=None)
@given(st.integers(2, 40), st.integers(2, 40), st.integers(1, 30), st.integers(0, 1000))
def test_frechet_is_symmetric_and_not_negative(n, m, d, seed):
    x, y = features(n, d, seed), features(m, d, seed + 1, shift=0.2)
    assert frechet_distance(x, y) == pytest.approx(frechet_distance(y, x), rel=1e-6, abs=1e-6)
    assert frechet_distance(x, y) >= -1e-6


@pytest.mark.parametrize("metric", [Frechet(), Kernel(subsets=20)])
def test_a_farther_set_scores_worse(metric):
    real, near, far = features(80, 32), features(80, 32, seed=1), features(80, 32, seed=2, shift=1.0)
    key = "fid" if isinstance(metric, Frechet) else "kid_mean"
    assert not metric.higher_is_better
    assert metric(near, real)[key] < metric(far, real)[key]


def test_kernel_distance_of_equal_distributions_is_near_zero_and_its_subsets_differ():
    mean, std = kernel_distance(features(200, 16), features(200, 16, seed=1), subsets=50, seed=0)
    assert abs(mean) < 3 * std
    assert std > 0


def test_kernel_distance_equals_the_unbiased_estimator_written_out():
    x, y = features(8, 4).astype(np.float64), features(8, 4, seed=1, shift=1.0).astype(np.float64)

    def kernel(a, b):
        return (a @ b.T / 4 + 1) ** 3

    def unbiased(a, b):
        m = len(a)
        off = ~np.eye(m, dtype=bool)
        return (kernel(a, a)[off].sum() + kernel(b, b)[off].sum()) / (m * (m - 1)) - 2 * kernel(a, b).mean()

    rng = np.random.RandomState(5)
    expected = [unbiased(x[rng.choice(8, 4, False)], y[rng.choice(8, 4, False)]) for _ in range(10)]
    assert kernel_distance(x, y, subsets=10, seed=5)[0] == pytest.approx(np.mean(expected), rel=1e-9)


@pytest.mark.parametrize("broken", [np.nan, np.inf])
def test_features_that_are_not_finite_are_refused(broken):
    x = features(10, 4)
    x[3, 2] = broken
    with pytest.raises(ValueError, match="NaN or infinity"):
        frechet_distance(x, features(10, 4))
    with pytest.raises(ValueError, match="NaN or infinity"):
        kernel_distance(features(10, 4), x, 5, 0)


def test_sets_that_are_too_small_or_of_another_extractor_are_refused():
    with pytest.raises(ValueError, match="at least 2"):
        frechet_distance(features(1, 4), features(10, 4))
    with pytest.raises(ValueError, match="at least 4"):
        kernel_distance(features(3, 4), features(10, 4), 5, 0)
    with pytest.raises(ValueError, match="must be"):
        frechet_distance(features(10, 4), features(10, 5))
