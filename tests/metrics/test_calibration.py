"""Brier score and calibration error: worked examples, closed forms, agreement with scikit-learn, ranges."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import brier_score_loss

from cxrbench.metrics.calibration import brier_score, expected_calibration_error, reliability_bins


def predictions(films, classes, seed=0):
    rng = np.random.default_rng(seed)
    return rng.integers(0, classes, films), rng.dirichlet(np.ones(classes), films).astype(np.float32)


def of_confidence(top, right):
    """Two-class predictions whose top class is 0, with these probabilities; right or wrong."""
    top = np.asarray(top, np.float32)
    return np.where(right, 0, 1), np.stack([top, 1 - top], axis=1)


def test_calibration_error_of_four_films_by_hand():
    labels, probabilities = of_confidence([0.95, 0.97, 0.62, 0.7], [True, False, False, True])
    # Bins of 1/15: 0.95 and 0.97 share the last one; 0.62 lies in (9/15, 10/15], 0.7 in (10/15, 11/15].
    by_hand = 2 / 4 * abs(0.5 - 0.96) + 1 / 4 * abs(0 - 0.62) + 1 / 4 * abs(1 - 0.7)
    assert expected_calibration_error(labels, probabilities) == pytest.approx(by_hand)


def test_the_bins_of_four_films_by_hand():
    labels, probabilities = of_confidence([0.95, 0.97, 0.62, 0.7], [True, False, False, True])
    bins = reliability_bins(labels, probabilities)
    assert list(np.flatnonzero(bins.share)) == [9, 10, 14]
    assert bins.share[[9, 10, 14]] == pytest.approx([0.25, 0.25, 0.5])
    assert bins.accuracy[[9, 10, 14]] == pytest.approx([0, 1, 0.5])
    assert bins.confidence[[9, 10, 14]] == pytest.approx([0.62, 0.7, 0.96])
    assert np.isnan(bins.accuracy[0])
    assert np.isnan(bins.confidence[0])


@pytest.mark.parametrize(("top", "row"), [(0.6, 8), (np.nextafter(np.float32(0.6), np.float32(1)), 9), (1.0, 14)])
def test_a_probability_on_the_edge_of_a_bin_lies_below_it(top, row):
    bins = reliability_bins(*of_confidence([top], [True]))
    assert list(np.flatnonzero(bins.share)) == [row]


def test_a_top_probability_above_one_by_rounding_lies_in_the_last_bin():
    probabilities = np.asarray([[1.0005, 0.0]], np.float32)
    assert reliability_bins(np.asarray([0]), probabilities).share[-1] == 1


def test_perfect_and_inverted_predictors_have_the_extreme_scores():
    labels = np.asarray([0, 1, 2, 2])
    right, wrong = (np.eye(3, dtype=np.float32)[rows] for rows in (labels, (labels + 1) % 3))
    assert (brier_score(labels, right), expected_calibration_error(labels, right)) == (0, 0)
    assert (brier_score(labels, wrong), expected_calibration_error(labels, wrong)) == (2, 1)


def test_a_constant_predictor_of_the_right_frequencies_is_calibrated():
    labels = np.repeat([0, 1, 2], [60, 30, 10])
    shares = np.asarray([0.6, 0.3, 0.1], np.float32)
    probabilities = np.tile(shares, (100, 1))
    assert expected_calibration_error(labels, probabilities) == pytest.approx(0, abs=1e-6)
    # The expected squared error of a sure outcome guessed by its own frequencies: 1 - sum of squares.
    assert brier_score(labels, probabilities) == pytest.approx(1 - (0.36 + 0.09 + 0.01))


def test_a_tie_for_the_top_is_decided_as_the_accuracy_decides_it():
    probabilities = np.full((4, 2), 0.5, np.float32)
    assert expected_calibration_error(np.asarray([0, 0, 0, 0]), probabilities) == pytest.approx(0.5)
    assert expected_calibration_error(np.asarray([0, 0, 1, 1]), probabilities) == 0


def test_one_bin_compares_the_overall_accuracy_with_the_mean_confidence():
    labels, probabilities = predictions(200, 3)
    gap = (probabilities.argmax(axis=1) == labels).mean() - probabilities.max(axis=1).mean()
    assert expected_calibration_error(labels, probabilities, bins=1) == pytest.approx(abs(gap), rel=1e-5)


def test_calibration_error_falls_as_an_overconfident_classifier_is_cooled():
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 3, 3000)
    logits = rng.standard_normal((3000, 3)) + np.log(3) * np.eye(3)[labels]

    def error(sharpness):
        odds = np.exp(sharpness * logits)
        return expected_calibration_error(labels, (odds / odds.sum(axis=1, keepdims=True)).astype(np.float32))

    # Gaussian classes a distance of log 3 apart: the posterior is the softmax of log 3 times the coordinates.
    assert error(np.log(3)) < 0.04 < error(2) < error(4) < error(8)


@pytest.mark.parametrize("classes", [2, 3, 5])
def test_brier_equals_scikit_learns(classes):
    labels, probabilities = predictions(150, classes, seed=classes)
    probabilities = probabilities.astype(np.float64)
    probabilities /= probabilities.sum(axis=1, keepdims=True)
    reference = brier_score_loss(labels, probabilities, labels=list(range(classes)), scale_by_half=False)
    assert brier_score(labels, probabilities) == pytest.approx(reference)


def test_brier_of_two_classes_is_twice_the_binary_score():
    labels, probabilities = predictions(100, 2)
    binary = np.mean((probabilities[:, 1] - labels) ** 2)
    assert brier_score(labels, probabilities) == pytest.approx(2 * binary, rel=1e-5)


def test_the_probabilities_are_left_as_they_are():
    labels, probabilities = predictions(20, 3)
    before = probabilities.copy()
    brier_score(labels, probabilities)
    assert (probabilities == before).all()


@pytest.mark.parametrize("measure", [brier_score, reliability_bins, expected_calibration_error])
def test_no_film_is_refused(measure):
    with pytest.raises(ValueError, match="no film"):
        measure(np.zeros(0, np.int64), np.zeros((0, 3), np.float32))


@settings(max_examples=60, deadline=None)
@given(films=st.integers(1, 40), classes=st.integers(2, 6), bins=st.integers(1, 20), seed=st.integers(0, 10**6))
def test_scores_stay_in_their_ranges_and_films_may_come_in_any_order(films, classes, bins, seed):
    labels, probabilities = predictions(films, classes, seed)
    found = reliability_bins(labels, probabilities, bins)
    assert found.share.sum() == pytest.approx(1)
    assert (np.isnan(found.accuracy) == (found.share == 0)).all()
    filled = found.share > 0
    lower = np.arange(bins)[filled] / bins
    assert (found.confidence[filled] > lower - 1e-6).all()
    assert (found.confidence[filled] <= lower + 1 / bins + 1e-6).all()
    assert 0 <= found.ece <= 1 + 1e-6
    assert 0 <= brier_score(labels, probabilities) <= 2 + 1e-6
    order = np.random.default_rng(seed).permutation(films)
    assert brier_score(labels[order], probabilities[order]) == pytest.approx(brier_score(labels, probabilities))
    turned = expected_calibration_error(labels[order], probabilities[order], bins)
    assert turned == pytest.approx(found.ece, abs=1e-9)
