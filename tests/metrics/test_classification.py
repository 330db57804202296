"""Scores of predictions: closed forms and refusals."""

import numpy as np
import pytest

from cxrbench.metrics.classification import score_predictions

NAMES = ("COVID", "Normal", "Viral Pneumonia")


def one_hot(predicted):
    return np.eye(3, dtype=np.float32)[predicted]


def test_perfect_predictions_score_one_everywhere():
    labels = np.asarray([0, 1, 2, 0, 1, 2])
    assert set(score_predictions(labels, one_hot(labels), NAMES).values()) == {1.0}


def test_a_constant_predictor_scores_chance():
    labels = np.repeat([0, 1, 2], [10, 20, 30])
    scores = score_predictions(labels, np.full((60, 3), 1 / 3, np.float32), NAMES)
    assert scores["auroc_macro"] == pytest.approx(0.5)
    assert scores["balanced_accuracy"] == pytest.approx(1 / 3)
    assert scores["accuracy"] == pytest.approx(10 / 60)


def test_scores_of_a_worked_example():
    labels = np.asarray([0, 0, 1, 1, 2, 2])
    predicted = np.asarray([0, 1, 1, 1, 2, 0])
    scores = score_predictions(labels, one_hot(predicted), NAMES)
    assert scores["accuracy"] == pytest.approx(4 / 6)
    assert scores["precision/Normal"] == pytest.approx(2 / 3)
    assert scores["recall/Normal"] == 1.0
    assert scores["f1/COVID"] == pytest.approx(0.5)
    assert scores["f1_macro"] == pytest.approx((0.5 + 0.8 + 2 / 3) / 3)


def test_renaming_the_classes_does_not_change_the_macro_scores():
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 3, 60)
    probabilities = rng.dirichlet(np.ones(3), 60).astype(np.float32)
    turned = np.roll(probabilities, 1, axis=1)
    one, other = (
        score_predictions(labels, probabilities, NAMES),
        score_predictions((labels + 1) % 3, turned, NAMES),
    )
    for key in ("auroc_macro", "f1_macro", "balanced_accuracy", "accuracy"):
        assert one[key] == pytest.approx(other[key])


@pytest.mark.parametrize(
    ("probabilities", "reason"),
    [
        (np.full((3, 3), 0.5, np.float32), "sum to one"),
        (np.full((3, 3), 1 / 3), "float32"),
        (np.full((3, 2), 0.5, np.float32), "float32"),
        (np.asarray([[np.nan, 0, 1]] * 3, np.float32), "not finite"),
        (np.asarray([[-0.5, 0.5, 1]] * 3, np.float32), "negative"),
    ],
)
def test_malformed_probabilities_are_refused(probabilities, reason):
    with pytest.raises(ValueError, match=reason):
        score_predictions(np.asarray([0, 1, 2]), probabilities, NAMES)


def test_a_class_without_test_films_is_named():
    with pytest.raises(ValueError, match="no test film of Viral Pneumonia"):
        score_predictions(np.asarray([0, 1, 1]), one_hot(np.asarray([0, 1, 1])), NAMES)
