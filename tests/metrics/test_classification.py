"""Scores of predictions: closed forms, agreement with scikit-learn and with brute force, invariances, refusals."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score, roc_auc_score

from cxrbench.metrics.classification import score_predictions, score_present

NAMES = ("COVID", "Normal", "Viral Pneumonia")


def one_hot(predicted):
    return np.eye(3, dtype=np.float32)[predicted]


def predictions(films, seed=0, steps=0):
    """Labels of three classes, each of which occurs; ``steps``: probabilities in whole parts, so that many tie."""
    rng = np.random.default_rng(seed)
    labels = rng.permutation(np.concatenate([[0, 1, 2], rng.integers(0, 3, films - 3)]))
    probabilities = rng.dirichlet(np.ones(3) + np.eye(3)[labels].mean(axis=0), films)
    if steps:
        probabilities = rng.multinomial(steps, probabilities) / steps
    return labels, probabilities.astype(np.float32)


def two_classes(scores, positive):
    """Two-class predictions from the probabilities of the class that is ``positive``."""
    scores = np.asarray(scores, np.float32)
    return np.asarray(positive, np.int64), np.stack([1 - scores, scores], axis=1)


def best_sensitivity(scores, positive):
    """Over every threshold that leaves at most one in twenty of the others above it; by counting."""
    best = 0.0
    for threshold in [*np.unique(scores), np.inf]:
        above = scores >= threshold
        if 20 * (above & ~positive).sum() <= (~positive).sum():
            best = max(best, (above & positive).sum() / positive.sum())
    return best


def test_perfect_predictions_score_one_everywhere_and_make_no_error():
    labels = np.asarray([0, 1, 2, 0, 1, 2])
    scores = score_predictions(labels, one_hot(labels), NAMES)
    assert {name for name, value in scores.items() if value == 0} == {"brier", "ece"}
    assert {value for name, value in scores.items() if name not in ("brier", "ece")} == {1.0}


def test_every_score_has_its_name():
    macro = {"auroc_macro", "f1_macro", "balanced_accuracy", "accuracy"}
    macro |= {"auprc_macro", "sensitivity_at_95_macro", "brier", "ece"}
    each = ("precision", "recall", "f1", "auroc", "auprc", "sensitivity_at_95")
    scores = score_predictions(*predictions(30), NAMES)
    assert set(scores) == macro | {f"{metric}/{name}" for metric in each for name in NAMES}
    assert {type(value) for value in scores.values()} == {float}


def test_a_constant_predictor_scores_chance():
    labels = np.repeat([0, 1, 2], [10, 20, 30])
    scores = score_predictions(labels, np.full((60, 3), 1 / 3, np.float32), NAMES)
    assert scores["auroc_macro"] == pytest.approx(0.5)
    assert scores["balanced_accuracy"] == pytest.approx(1 / 3)
    assert scores["accuracy"] == pytest.approx(10 / 60)
    assert scores["auprc_macro"] == pytest.approx(1 / 3)  # each class's share of the films, averaged
    assert scores["auprc/Viral Pneumonia"] == pytest.approx(30 / 60)
    assert scores["sensitivity_at_95_macro"] == 0  # one threshold takes all films, the other none
    assert scores["brier"] == pytest.approx(2 / 3)
    assert scores["ece"] == pytest.approx(1 / 3 - 10 / 60)


def test_an_inverted_predictor_scores_the_worst():
    labels = np.repeat([0, 1], 20)
    scores = score_predictions(labels, np.eye(2, dtype=np.float32)[1 - labels], ("a", "b"))
    assert scores["auroc_macro"] == scores["accuracy"] == scores["f1_macro"] == 0
    assert scores["sensitivity_at_95_macro"] == 0
    assert (scores["brier"], scores["ece"]) == (2, 1)
    assert scores["auprc_macro"] == pytest.approx(0.5)  # all its precision: found only where all films are taken


@pytest.mark.parametrize("steps", [0, 5])
@pytest.mark.parametrize("seed", range(3))
def test_areas_equal_scikit_learns_with_and_without_ties(seed, steps):
    labels, probabilities = predictions(120, seed, steps)
    scores = score_predictions(labels, probabilities, NAMES)
    for metric, reference in (("auroc", roc_auc_score), ("auprc", average_precision_score)):
        each = [reference(labels == i, probabilities[:, i]) for i in range(3)]
        assert [scores[f"{metric}/{name}"] for name in NAMES] == pytest.approx(each)
        assert scores[f"{metric}_macro"] == pytest.approx(np.mean(each))


def test_auroc_is_the_share_of_pairs_in_order_with_ties_counted_half():
    labels, probabilities = predictions(60, 1, steps=4)
    scores = score_predictions(labels, probabilities, NAMES)
    for i, name in enumerate(NAMES):
        inside, others = probabilities[labels == i, i][:, None], probabilities[labels != i, i][None]
        assert scores[f"auroc/{name}"] == pytest.approx(((inside > others) + 0.5 * (inside == others)).mean())


@pytest.mark.parametrize("steps", [0, 6])
@pytest.mark.parametrize(("films", "seed"), [(12, 0), (61, 1), (200, 2), (401, 3)])
def test_sensitivity_at_95_equals_the_best_of_all_thresholds(films, seed, steps):
    labels, probabilities = predictions(films, seed, steps)
    scores = score_predictions(labels, probabilities, NAMES)
    each = [best_sensitivity(probabilities[:, i], labels == i) for i in range(3)]
    assert [scores[f"sensitivity_at_95/{name}"] for name in NAMES] == pytest.approx(each)
    assert scores["sensitivity_at_95_macro"] == pytest.approx(np.mean(each))


@pytest.mark.parametrize(("others", "sensitivity"), [(19, 0.5), (20, 1.0), (21, 1.0)])
def test_one_false_alarm_in_twenty_is_a_specificity_of_95(others, sensitivity):
    # From the top: a positive, one of the others, a positive, the rest of the others.
    scores = [0.9, 0.8, 0.7, *np.linspace(0.1, 0.5, others - 1)]
    labels, probabilities = two_classes(scores, [1, 0, 1, *[0] * (others - 1)])
    assert score_predictions(labels, probabilities, ("a", "b"))["sensitivity_at_95/b"] == sensitivity


def test_a_threshold_amid_a_straight_piece_of_the_curve_counts():
    pairs = np.linspace(0.1, 0.9, 40)  # each score is had by one film of either class: the curve is the diagonal
    labels, probabilities = two_classes([*pairs, *pairs], [1] * 40 + [0] * 40)
    assert score_predictions(labels, probabilities, ("a", "b"))["sensitivity_at_95/b"] == pytest.approx(2 / 40)


def test_films_that_tie_cannot_be_told_apart_by_a_threshold():
    labels, probabilities = two_classes([0.9, 0.7, 0.7, 0.7, 0.1], [1, 1, 0, 0, 0])
    assert score_predictions(labels, probabilities, ("a", "b"))["sensitivity_at_95/b"] == 0.5


def test_ranking_scores_do_not_change_under_a_monotone_transform():
    labels, probabilities = predictions(80, 4)
    labels, score = labels == 0, probabilities[:, 0]
    one, other = (score_predictions(*two_classes(s, labels), ("rest", "COVID")) for s in (score, score**3 / 2))
    for metric in ("auroc", "auprc", "sensitivity_at_95"):
        assert one[f"{metric}/COVID"] == pytest.approx(other[f"{metric}/COVID"])
    assert one["brier"] != pytest.approx(other["brier"])


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
    for key in (key for key in one if "/" not in key):
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


def test_an_absent_class_has_no_scores_of_its_own():
    labels, probabilities = predictions(60, 5)
    labels = np.where(labels == 1, 2, labels)
    scores = score_present(labels, probabilities, NAMES)
    assert not [key for key in scores if key.endswith("/Normal")]
    for metric in ("auroc", "auprc", "sensitivity_at_95"):
        each = [scores[f"{metric}/COVID"], scores[f"{metric}/Viral Pneumonia"]]
        assert scores[f"{metric}_macro"] == pytest.approx(np.mean(each))


def test_what_is_given_to_an_absent_class_is_an_error_of_the_probabilities():
    labels = np.asarray([0, 2])
    probabilities = np.asarray([[0.25, 0.75, 0], [0, 0, 1]], np.float32)
    scores = score_present(labels, probabilities, NAMES)
    assert scores["brier"] == pytest.approx((0.75**2 + 0.75**2 + 0) / 2)
    assert scores["ece"] == pytest.approx((0.75 + 0) / 2)


@pytest.mark.parametrize("labels", [[], [1], [1, 1]])
def test_films_of_one_class_have_no_rest_to_be_told_from(labels):
    with pytest.raises(ValueError, match="at least two"):
        score_present(np.asarray(labels, np.int64), np.full((len(labels), 3), 1 / 3, np.float32), NAMES)


@settings(max_examples=30, deadline=None)
@given(films=st.integers(3, 50), steps=st.integers(0, 9), seed=st.integers(0, 10**6))
def test_scores_stay_in_their_ranges_and_films_may_come_in_any_order(films, steps, seed):
    labels, probabilities = predictions(films, seed, steps)
    scores = score_predictions(labels, probabilities, NAMES)
    for key, value in scores.items():
        assert 0 <= value <= (2 if key == "brier" else 1) + 1e-6, key
    order = np.random.default_rng(seed).permutation(films)
    assert score_predictions(labels[order], probabilities[order], NAMES) == pytest.approx(scores, abs=1e-9)
