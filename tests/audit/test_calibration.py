"""Thresholds and the accuracy that is claimed for them."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import norm

from cxrbench.audit.calibration import PREVALENCE, calibrate, measured, precision_at


def normal(mean, n, seed):
    return np.random.default_rng(seed).normal(mean, 1, n).astype(np.float32)


def test_separate_scores_are_separated():
    accuracy = calibrate("x", normal(0, 500, 0), normal(12, 500, 1))
    assert (accuracy.recall, accuracy.false_alarms, accuracy.precision) == (1.0, 0.0, 1.0)
    assert 3 < accuracy.threshold < 9


def test_two_normals_get_the_threshold_of_best_f1():
    accuracy = calibrate("x", normal(0, 40000, 0), normal(3, 40000, 1))
    grid = np.linspace(0, 5, 501)
    recall, alarms = norm.sf(grid - 3), norm.sf(grid)
    f1 = 2 * PREVALENCE * recall / (PREVALENCE * recall + (1 - PREVALENCE) * alarms + PREVALENCE)
    assert accuracy.threshold == pytest.approx(grid[f1.argmax()], abs=0.15)
    assert accuracy.recall == pytest.approx(norm.sf(accuracy.threshold - 3), abs=0.01)
    assert accuracy.false_alarms == pytest.approx(norm.sf(accuracy.threshold), abs=0.003)


def test_scores_that_tell_nothing_give_no_threshold():
    accuracy = calibrate("x", normal(0, 2000, 0), normal(0, 2000, 1))
    assert accuracy.threshold is None
    assert "nothing is reported" in accuracy.note


def test_the_threshold_is_measured_on_films_that_did_not_choose_it():
    untouched, planted = normal(0, 100, 0), normal(2, 60, 1)
    accuracy = calibrate("x", untouched, planted)
    assert (accuracy.untouched, accuracy.planted) == (50, 30)


def test_too_few_films_give_no_threshold():
    assert calibrate("x", normal(0, 1, 0), normal(5, 1, 1)).threshold is None


@given(st.floats(0, 1), st.floats(0, 1))
def test_precision_is_bayes_rule(recall, alarms):
    found, wrong = PREVALENCE * recall, (1 - PREVALENCE) * alarms
    expected = found / (found + wrong) if found + wrong else 0.0
    assert precision_at(recall, alarms) == pytest.approx(expected)
    assert 0 <= precision_at(recall, alarms) <= 1


def test_a_given_threshold_is_measured_as_it_is():
    accuracy = measured("x", 1.0, np.float32([0, 0, 0, 2]), np.float32([1, 3, 0, 5]))
    assert (accuracy.recall, accuracy.false_alarms) == (0.75, 0.25)
    assert accuracy.precision == pytest.approx(0.05 * 0.75 / (0.05 * 0.75 + 0.95 * 0.25))
