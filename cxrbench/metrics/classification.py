"""Scores of test predictions. Anything here can be recomputed from stored predictions."""

from __future__ import annotations

import numpy as np

from cxrbench.contracts import Labels, Probabilities, Scores


def score_predictions(labels: Labels, probabilities: Probabilities, classes: tuple[str, ...]) -> Scores:
    """Accuracy, balanced accuracy, macro F1, macro one-vs-rest AUROC, and per-class scores.

    Args:
        labels: int64 ``[N]``; every class must occur.
        probabilities: float32 ``[N, C]``, rows sum to one.
        classes: the C names, used in the keys ``precision/NAME``, ``recall/NAME``, ``f1/NAME``,
            ``auroc/NAME``.

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
    class counts as wrong.
    """
    from sklearn.metrics import accuracy_score, precision_recall_fscore_support, roc_auc_score

    check_probabilities(probabilities, len(labels), len(classes))
    present = np.unique(labels)
    predicted = probabilities.argmax(axis=1)
    precision, recall, f1, _ = precision_recall_fscore_support(labels, predicted, labels=present, zero_division=0)
    aurocs = [float(roc_auc_score(labels == label, probabilities[:, label])) for label in present]
    scores = {
        "auroc_macro": float(np.mean(aurocs)),
        "f1_macro": float(np.mean(f1)),
        "balanced_accuracy": float(np.mean(recall)),
        "accuracy": float(accuracy_score(labels, predicted)),
    }
    for i, label in enumerate(present):
        found = {"precision": precision[i], "recall": recall[i], "f1": f1[i], "auroc": aurocs[i]}
        scores |= {f"{metric}/{classes[label]}": float(value) for metric, value in found.items()}
    return scores


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
