"""Precision, recall, density, coverage: agreement with torch-fidelity and with the equations, ties, direction."""

import tracemalloc

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from cxrbench.metrics.prdc import LEAST_PRDC, density_coverage, prdc_estimates, precision_recall

KEYS = ("precision", "recall", "density", "coverage")


def features(n, d, seed=0, shift=0.0, scale=1.0):
    return (np.random.default_rng(seed).standard_normal((n, d)) * scale + shift).astype(np.float32)


def lattice(n, d, seed):
    return np.random.default_rng(seed).integers(0, 3, (n, d)).astype(np.float32)  # full of ties and duplicates


def four(generated, reference, neighbours=5):
    return (*precision_recall(generated, reference, neighbours), *density_coverage(generated, reference, neighbours))


def by_double_loop(generated, reference, k):
    """The four from their equations; squared distances, which are exact for whole numbers."""

    def square(a, b):
        return float(((a.astype(np.float64) - b) ** 2).sum())

    def radius(films, i):
        return sorted(square(films[i], other) for j, other in enumerate(films) if j != i)[k - 1]

    balls = [(film, radius(reference, i)) for i, film in enumerate(reference)]
    drawn = [(film, radius(generated, i)) for i, film in enumerate(generated)]
    precision = np.mean([any(square(g, r) <= edge for r, edge in balls) for g in generated])
    recall = np.mean([any(square(g, r) <= edge for g, edge in drawn) for r in reference])
    density = sum(square(g, r) < edge for g in generated for r, edge in balls) / (k * len(generated))
    coverage = np.mean([any(square(g, r) < edge for g in generated) for r, edge in balls])
    return precision, recall, density, coverage


def torch_fidelity_prc(x, y, neighbours, save_cpu_ram):
    from torch_fidelity.metric_prc import KEY_METRIC_PRECISION, KEY_METRIC_RECALL, prc_features_to_metric

    tensors = [torch.from_numpy(a.astype(np.float64)) for a in (x, y)]
    found = prc_features_to_metric(
        *tensors, prc_neighborhood=neighbours, prc_batch_size=128, save_cpu_ram=save_cpu_ram, verbose=False
    )
    return found[KEY_METRIC_PRECISION], found[KEY_METRIC_RECALL]


@pytest.mark.parametrize("neighbours", [1, 3, 5])
@pytest.mark.parametrize(
    ("x", "y"),
    [
        (features(40, 8), features(60, 8, seed=1, shift=0.3, scale=1.3)),
        (features(600, 3), features(530, 3, seed=1, scale=0.6)),  # more than one chunk
        (features(64, 300, scale=0.97), features(50, 300, seed=1)),
        (np.abs(features(80, 16, shift=5.0)), np.abs(features(80, 16, seed=1, shift=5.2))),
        (lattice(16, 3, 0), lattice(24, 3, 1)),  # below 26 films torch takes exact differences, so ties count
    ],
)
def test_precision_and_recall_equal_torch_fidelity(x, y, neighbours):
    for save_cpu_ram in (False, True):
        expected = torch_fidelity_prc(x, y, neighbours, save_cpu_ram)
        assert precision_recall(x, y, neighbours) == pytest.approx(expected, abs=1e-6)


@settings(max_examples=40, deadline=None)
@given(
    st.integers(16, 24),
    st.integers(16, 24),
    st.integers(1, 5),
    st.integers(1, 7),
    st.sampled_from([features, lattice]),
    st.integers(0, 10_000),
)
def test_all_four_equal_a_double_loop_over_the_equations_with_and_without_ties(n, m, d, k, draw, seed):
    x, y = draw(n, d, seed=seed), draw(m, d, seed=seed + 1)
    assert four(x, y, k) == pytest.approx(by_double_loop(x, y, k), abs=1e-12)


@settings(max_examples=25, deadline=None)
@given(st.integers(16, 60), st.integers(16, 60), st.integers(1, 12), st.integers(0, 1000))
def test_recall_is_precision_with_the_sides_exchanged(n, m, d, seed):
    x, y = features(n, d, seed), features(m, d, seed + 1, shift=0.4)
    assert precision_recall(x, y) == precision_recall(y, x)[::-1]


@pytest.mark.parametrize("d", [2, 64, 1280])
def test_a_set_against_itself_scores_one_in_all_four(d):
    x = np.abs(features(700, d, shift=3.0))
    assert four(x, x.copy()) == pytest.approx((1.0, 1.0, 1.0, 1.0), abs=1e-12)


@pytest.mark.parametrize("value", [0.0, 0.1, 1234.567])
def test_two_sets_of_one_film_over_and_over_are_inside_but_cover_nothing(value):
    x, y = np.full((20, 33), value, np.float32), np.full((30, 33), value, np.float32)
    assert four(x, y) == (1.0, 1.0, 0.0, 0.0)
    assert four(x, y + 1.0) == (0.0, 0.0, 0.0, 0.0)


def test_films_in_as_many_copies_as_there_are_neighbours_cannot_be_covered():
    y = np.repeat(features(8, 4), 4, axis=0)
    assert density_coverage(y, y, neighbours=3) == (0.0, 0.0)
    assert density_coverage(y, y, neighbours=4)[1] == 1.0
    assert precision_recall(y, y, neighbours=3) == (1.0, 1.0)


def test_sets_that_are_far_apart_score_zero():
    estimates = prdc_estimates(features(40, 8), features(40, 8, seed=1, shift=50.0))
    assert {(e.value, e.low, e.high) for e in estimates.values()} == {(0.0, 0.0, 0.0)}


def test_mode_collapse_keeps_precision_and_loses_recall_and_coverage():
    real = features(200, 16)
    collapsed = real[7] + features(200, 16, seed=1, scale=0.05)
    precision, recall, _, coverage = four(collapsed, real)
    assert precision == 1.0
    assert recall < 0.05
    assert coverage < 0.2


def test_noise_scores_worse_than_fresh_real_films_in_all_four():
    real, fresh = features(200, 16), features(200, 16, seed=1)
    noise = features(200, 16, seed=2, scale=4.0)
    worse, better = four(noise, real), four(fresh, real)
    assert worse[0] < better[0]
    assert worse[2] < better[2]
    assert worse[3] < better[3]
    far = features(200, 16, seed=3, shift=2.5)
    assert four(far, real)[1] < better[1]


def test_rotating_scaling_and_shifting_both_sets_changes_nothing():
    x, y = features(90, 12).astype(np.float64), features(70, 12, seed=1, scale=1.1).astype(np.float64)
    turn = np.linalg.qr(np.random.default_rng(2).standard_normal((12, 12)))[0]
    expected = four(x, y)
    assert 0 < expected[0] < 1  # else any change would go unseen
    assert 0 < expected[1] < 1
    assert four(x @ turn, y @ turn) == pytest.approx(expected)
    assert four(x * 1e-4, y * 1e-4) == pytest.approx(expected)
    assert four(x * 1e4, y * 1e4) == pytest.approx(expected)
    assert four(x + 1e6, y + 1e6) == pytest.approx(expected)


def test_the_order_of_the_films_does_not_matter():
    x, y = lattice(60, 3, 0), lattice(50, 3, 1)
    assert four(x[::-1], np.roll(y, 11, axis=0)) == pytest.approx(four(x, y))


def test_estimates_hold_the_values_of_the_plain_functions_inside_their_intervals():
    x, y = features(80, 16, scale=1.2), features(60, 16, seed=1)
    estimates = prdc_estimates(x, y, neighbours=3)
    assert tuple(estimates) == KEYS
    assert [e.value for e in estimates.values()] == pytest.approx(four(x, y, 3))
    for key, estimate in estimates.items():
        assert 0.0 <= estimate.low < estimate.value < estimate.high
        assert key == "density" or estimate.high <= 1.0


def test_intervals_end_where_the_values_can_go():
    near = features(64, 4, scale=0.8), features(64, 4, seed=2)  # shares of nearly one
    far = features(64, 4, shift=2.5), features(64, 4, seed=1)  # of nearly none
    for generated, reference in (near, near[::-1], far, far[::-1]):
        for seed in range(20):
            estimates = prdc_estimates(generated, reference, resamples=10, seed=seed)
            for key, estimate in estimates.items():
                assert 0.0 <= estimate.low <= estimate.value <= estimate.high
                assert key == "density" or estimate.high <= 1.0


def test_intervals_depend_on_the_seed_alone():
    x, y = features(80, 16, scale=1.2), features(60, 16, seed=1)
    assert prdc_estimates(x, y, seed=3) == prdc_estimates(x, y, seed=3)
    assert prdc_estimates(x, y, seed=3) != prdc_estimates(x, y, seed=4)


def test_intervals_shrink_with_the_root_of_the_number_of_films():
    def width(n):
        found = prdc_estimates(features(n, 16, scale=1.2), features(n, 16, seed=1), resamples=1000)
        return np.asarray([found[key].high - found[key].low for key in KEYS])

    assert width(60) / width(960) == pytest.approx(np.full(4, 4.0), rel=0.6)


def half_width(estimates):
    return np.asarray([(estimates[key].high - estimates[key].low) / (2 * 1.96) for key in KEYS])


def values_and_widths(draws, generated, reference):
    found = [prdc_estimates(generated(i), reference(i), seed=i) for i in range(draws)]
    values = np.asarray([[estimates[key].value for key in KEYS] for estimates in found])
    return values.std(axis=0), np.mean([half_width(estimates) for estimates in found], axis=0)


def test_intervals_are_the_true_spread_over_fresh_films_inside_fixed_balls():
    fixed = features(96, 16, seed=900)
    spread, width = values_and_widths(150, lambda i: features(96, 16, i, scale=1.2), lambda i: fixed)
    assert spread[[0, 2]] / width[[0, 2]] == pytest.approx([1.0, 1.0], rel=0.25)  # precision, density
    spread, width = values_and_widths(150, lambda i: fixed, lambda i: features(96, 16, i, scale=1.2))
    assert spread[1] / width[1] == pytest.approx(1.0, rel=0.25)  # recall


def test_intervals_reach_half_the_spread_over_fresh_films_on_both_sides():
    spread, width = values_and_widths(
        150, lambda i: features(96, 16, i, scale=1.2), lambda i: features(96, 16, 500 + i)
    )
    assert (spread / width > 0.9).all()
    assert (spread / width < 2.0).all()


def test_the_distance_matrix_is_never_held_whole():
    n = 3000
    x, y = features(n, 8), features(n, 8, seed=1)
    tracemalloc.start()
    prdc_estimates(x, y, resamples=10)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < n * n * 8 / 1.5


@pytest.mark.parametrize("measure", [precision_recall, density_coverage, prdc_estimates])
@pytest.mark.parametrize("broken", [np.nan, np.inf, -np.inf])
def test_features_that_are_not_finite_are_refused(measure, broken):
    x = features(20, 4)
    x[3, 2] = broken
    with pytest.raises(ValueError, match="NaN or infinity"):
        measure(x, features(20, 4))
    with pytest.raises(ValueError, match="NaN or infinity"):
        measure(features(20, 4), x)


@pytest.mark.parametrize("measure", [precision_recall, density_coverage, prdc_estimates])
def test_sets_that_are_too_small_or_of_another_extractor_are_refused(measure):
    for few in (1, LEAST_PRDC - 1):
        with pytest.raises(ValueError, match="at least 16"):
            measure(features(few, 4), features(20, 4))
        with pytest.raises(ValueError, match="at least 16"):
            measure(features(20, 4), features(few, 4))
    with pytest.raises(ValueError, match="must be"):
        measure(features(20, 4), features(20, 5))
    for neighbours in (0, 16):
        with pytest.raises(ValueError, match=r"neighbours must lie in \[1, 15\]"):
            measure(features(16, 4), features(20, 4), neighbours=neighbours)


def test_no_resamples_are_refused():
    with pytest.raises(ValueError, match="resamples must be at least 1"):
        prdc_estimates(features(20, 4), features(20, 4), resamples=0)


def test_the_films_handed_in_are_left_as_they_were():
    x, y = features(20, 4).astype(np.float64), features(20, 4, seed=1).astype(np.float64)
    before = x.copy(), y.copy()
    prdc_estimates(x, y)
    assert (x == before[0]).all()
    assert (y == before[1]).all()
