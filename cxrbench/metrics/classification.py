"""Scores of test predictions. Anything here can be recomputed from stored predictions."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from cxrbench.contracts import Labels, Probabilities, Scores
from cxrbench.metrics.calibration import brier_score, expected_calibration_error

SPECIFICITY = 0.95  # at which ``sensitivity_at_95`` is read: one false alarm among twenty films


def score_predictions(labels: Labels, probabilities: Probabilities, classes: tuple[str, ...]) -> Scores:
    """Scores of the decisions, of the ranking and of the probabilities.

    * ``accuracy``, ``balanced_accuracy``, ``f1_macro``: of the class with the highest probability (the first of
      those that tie).
    * ``auroc_macro``, ``auprc_macro``: areas under the ROC and the precision-recall curve, each class against
      the rest, averaged over the classes. The latter is average precision, the step-wise sum without
      interpolation; its chance level is the class's share of the films, not 0.5.
    * ``sensitivity_at_95_macro``: the highest sensitivity that a threshold on the class's probability has while
      its specificity is at least 0.95; averaged over the classes. With fewer than 20 films of the other classes
      that means no false alarm at all.
    * ``brier``: squared error summed over the classes, averaged over the films: 0 (best) to 2.
    * ``ece``: expected calibration error, 15 equal-width bins of the top probability: 0 (best) to 1.

    All but ``brier`` and ``ece`` lie in [0, 1], and higher is better.

    Args:
        labels: int64 ``[N]``; every class must occur.
        probabilities: float32 ``[N, C]``, rows sum to one.
        classes: the C names, used in the keys ``precision/NAME``, ``recall/NAME``, ``f1/NAME``,
            ``auroc/NAME``, ``auprc/NAME``, ``sensitivity_at_95/NAME``.

    Raises:
        ValueError: malformed probabilities, or a class without a test film (its AUROC is undefined).
    """
    check_probabilities(probabilities, len(labels), len(classes))
    absent = [name for i, name in enumerate(classes) if not (labels == i).any()]
    if absent:
        raise ValueError(f"no test film of {', '.join(absent)}: its scores are undefined")
    return score_present(labels, probabilities, classes)


def score_present(labels: Labels, probabilities: Probabilities, classes: tuple[str, ...]) -> Scores:
    """``score_predictions`` over the classes that ``labels`` (int64 ``[N]``) holds.

    All C classes may be predicted (probabilities: float32 ``[N, C]``); a film that is taken for an absent
    class counts as wrong. ``brier`` and ``ece`` are over all C columns: what a classifier gives to an absent
    class is part of its error.

    Raises:
        ValueError: malformed probabilities, or films of fewer than two classes (no class has a rest).
    """
    from sklearn.metrics import accuracy_score, precision_recall_fscore_support

    check_probabilities(probabilities, len(labels), len(classes))
    present = np.unique(labels)
    if len(present) < 2:
        raise ValueError(f"test films of {len(present)} classes: scores need at least two")
    predicted = probabilities.argmax(axis=1)
    precision, recall, f1, _ = precision_recall_fscore_support(labels, predicted, labels=present, zero_division=0)
    ranking = [_one_against_rest(labels == label, probabilities[:, label]) for label in present]
    scores = {
        "auroc_macro": float(np.mean([found["auroc"] for found in ranking])),
        "f1_macro": float(np.mean(f1)),
        "balanced_accuracy": float(np.mean(recall)),
        "accuracy": float(accuracy_score(labels, predicted)),
        "auprc_macro": float(np.mean([found["auprc"] for found in ranking])),
        "sensitivity_at_95_macro": float(np.mean([found["sensitivity_at_95"] for found in ranking])),
        "brier": brier_score(labels, probabilities),
        "ece": expected_calibration_error(labels, probabilities),
    }
    for i, label in enumerate(present):
        found = {"precision": precision[i], "recall": recall[i], "f1": f1[i], **ranking[i]}
        scores |= {f"{metric}/{classes[label]}": float(value) for metric, value in found.items()}
    return scores


def _one_against_rest(positive: NDArray[np.bool_], score: NDArray[np.float32]) -> Scores:
    from sklearn.metrics import auc, average_precision_score, roc_curve

    # All thresholds: the highest sensitivity may be at one that the curve does not need.
    false_alarms, sensitivity, _ = roc_curve(positive, score, drop_intermediate=False)
    return {
        "auroc": float(auc(false_alarms, sensitivity)),
        "auprc": float(average_precision_score(positive, score)),
        "sensitivity_at_95": float(sensitivity[false_alarms <= 1 - SPECIFICITY].max()),
    }


def check_probabilities(probabilities: Probabilities, films: int, classes: int) -> None:
    """Raises ValueError unless finite float32 ``[films, classes]`` in [0, 1] with rows that sum to one."""
    if probabilities.shape != (films, classes) or probabilities.dtype != np.float32:
        raise ValueError(
            f"predict_proba must return float32 [{films}, {classes}], got {probabilities.dtype} {probabilities.shape}"
        )
    if not np.isfinite(probabilities).all() or probabilities.min(initial=0) < 0:
        raise ValueError("predict_proba returned a value that is negative or not finite")
    if not np.allclose(probabilities.sum(axis=1), 1.0, atol=1e-3):
        raise ValueError("predict_proba returned rows that do not sum to one")
