"""Where to draw the line: thresholds from films that were corrupted on purpose, measured on others of them."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from cxrbench.audit.findings import Accuracy

PREVALENCE = 0.05  # the share of faulty films for which precision is stated
LEAST_PRECISION = 0.7  # at that prevalence; a finding that is wrong more often is not reported at all

Floats = NDArray[np.float32]


def calibrate(finding: str, untouched: Floats, planted: Floats, note: str = "") -> Accuracy:
    """Choose the threshold of best F1 on one half of the films, and measure it on the other half.

    Args:
        untouched, planted: scores of films as they are and of corrupted films; higher is more suspicious.
            Row i of both need not be the same film. Halves are dealt by a fixed shuffle.
    """
    rng = np.random.default_rng(0)
    (choose, test), (choose_bad, test_bad) = (
        (scores[order[::2]], scores[order[1::2]])
        for scores, order in ((s, rng.permutation(len(s))) for s in (untouched, planted))
    )
    candidates = np.unique(np.concatenate([choose_bad, choose]))
    if not len(candidates) or not len(test) or not len(test_bad):
        return Accuracy(finding, None, 0.0, 0.0, 0.0, PREVALENCE, len(test_bad), len(test), "too few films")
    steps = (candidates[1:] + candidates[:-1]) / 2  # between two scores, never on one
    candidates = np.concatenate([steps, candidates[-1:]])
    recall = _share_above(choose_bad, candidates)
    alarms = _share_above(choose, candidates)
    found = PREVALENCE * recall
    f1 = 2 * found / (found + (1 - PREVALENCE) * alarms + PREVALENCE)
    best = np.flatnonzero(f1 >= f1.max() - 1e-9)
    threshold = float(candidates[best[len(best) // 2]])  # the middle of equals: away from both kinds of film
    return measured(finding, threshold, test, test_bad, note)


def measured(finding: str, threshold: float, untouched: Floats, planted: Floats, note: str = "") -> Accuracy:
    """The accuracy of a given threshold on films that did not choose it."""
    recall, alarms = float((planted >= threshold).mean()), float((untouched >= threshold).mean())
    precision = precision_at(recall, alarms)
    kept = threshold if precision >= LEAST_PRECISION else None
    reason = note if kept is not None else "no threshold is precise enough on these films, so nothing is reported"
    return Accuracy(finding, kept, recall, alarms, precision, PREVALENCE, len(planted), len(untouched), reason)


def precision_at(recall: float, alarms: float, prevalence: float = PREVALENCE) -> float:
    """Bayes' rule; 0 where nothing would be found."""
    found, wrong = prevalence * recall, (1 - prevalence) * alarms
    return found / (found + wrong) if found + wrong > 0 else 0.0


def _share_above(scores: Floats, thresholds: Floats) -> NDArray[np.float64]:
    ordered = np.sort(scores)
    return 1 - np.searchsorted(ordered, thresholds, side="left") / len(ordered)
