"""Labels that are probably wrong: confident learning on out-of-fold predictions.

Northcutt, Jiang and Chuang, "Confident Learning: Estimating Uncertainty in Dataset Labels", JAIR 70 (2021).
How many labels are wrong is estimated from the films that a classifier which never saw them is sure of; which
ones, by how far it prefers another class.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from cxrbench.audit.calibration import PREVALENCE
from cxrbench.audit.findings import Accuracy, Finding
from cxrbench.contracts import Film, Labels

COMPONENTS = 96
FOLDS = 5
PRIOR_FILMS = 50  # how many films' evidence it takes to outweigh the prior that no feature matters

Floats = NDArray[np.float32]


def out_of_fold(features: Floats, labels: Labels, groups: NDArray[np.int64], classes: int) -> Floats | None:
    """Class probabilities float32 ``[N, classes]`` of every film, from a logistic regression that was taught
    without the film's group; None where a class has fewer than two groups."""
    from sklearn.decomposition import PCA
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import StratifiedGroupKFold

    folds = min(FOLDS, *(len(np.unique(groups[labels == label])) for label in range(classes)))
    if folds < 2:
        return None
    spread = (features - features.mean(axis=0)) / (features.std(axis=0) + 1e-6)
    components = min(COMPONENTS, len(features) - 1, features.shape[1])
    reduced = PCA(components, svd_solver="randomized", random_state=0).fit_transform(spread)
    reduced /= reduced.std(axis=0) + 1e-6
    probabilities = np.zeros((len(labels), classes), np.float32)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # rare classes: checked above
        dealt = StratifiedGroupKFold(folds, shuffle=True, random_state=0).split(reduced, labels, groups)
        for taught, asked in dealt:
            if not len(asked) or len(np.unique(labels[taught])) < 2:  # groups of several classes allow no other deal
                return None
            model = LogisticRegression(C=PRIOR_FILMS / len(features), max_iter=200).fit(reduced[taught], labels[taught])
            probabilities[np.ix_(asked, model.classes_)] = model.predict_proba(reduced[asked])
    return probabilities


def suspects(probabilities: Floats, labels: Labels) -> tuple[Floats, Labels]:
    """Films whose label is probably wrong: of each label and other class as many as the confident joint says,
    those that prefer the other class most ("prune by noise rate", section 3.2).

    Returns:
        float32 ``[N]`` (0 where the film is not suspect, else the other class's probability less the label's)
        and int64 ``[N]`` (the class the film is taken for; its own label where it is not suspect).
    """
    rows, classes = np.arange(len(labels)), probabilities.shape[1]
    margins = probabilities - probabilities[rows, labels][:, None]
    margin, taken = np.zeros(len(labels), np.float32), labels.copy()
    for label, wrong in enumerate(_wrong_counts(probabilities, labels)):
        for other in range(classes):
            mine = np.flatnonzero(labels == label)
            chosen = mine[np.argsort(-margins[mine, other], kind="stable")[: wrong[other]]]
            better = chosen[margins[chosen, other] > margin[chosen]]
            margin[better], taken[better] = margins[better, other], other
    return margin, taken


def _wrong_counts(probabilities: Floats, labels: Labels) -> NDArray[np.int64]:
    """Off-diagonal counts ``[classes, classes]`` (label, true class) of the calibrated confident joint.

    A film counts for the likeliest of the classes it is at least as sure of as that class's own films are on
    average (equation 1); the counts of each label are scaled to its number of films (equation 3).
    """
    classes = probabilities.shape[1]
    own = [probabilities[labels == c, c] for c in range(classes)]
    thresholds = np.asarray([mine.mean() if len(mine) else np.inf for mine in own])
    confident = np.where(probabilities >= thresholds, probabilities, -1.0)
    counted = confident.max(axis=1) >= 0
    joint = np.zeros((classes, classes))
    np.add.at(joint, (labels[counted], confident.argmax(axis=1)[counted]), 1)
    films = np.bincount(labels, minlength=classes)
    joint *= (films / np.maximum(joint.sum(axis=1), 1))[:, None]
    np.fill_diagonal(joint, 0)
    return np.rint(joint).astype(np.int64)


def swap_labels(
    labels: Labels, classes: int, share: float, rng: np.random.Generator
) -> tuple[Labels, NDArray[np.bool_]]:
    """Give a random ``share`` of the films another class at random; also says which."""
    chosen = np.zeros(len(labels), bool)
    chosen[rng.permutation(len(labels))[: round(share * len(labels))]] = True
    moved = (labels + rng.integers(1, classes, len(labels))) % classes
    return np.where(chosen, moved, labels).astype(np.int64), chosen


def label_findings(
    films: Sequence[Film], features: Floats, labels: Labels, groups: NDArray[np.int64], classes: Sequence[str]
) -> tuple[list[Finding], list[Accuracy]]:
    """Suspect labels of a set, and how many of labels swapped on purpose are found among as many films."""
    probabilities = out_of_fold(features, labels, groups, len(classes))
    if probabilities is None:
        return [], []
    margin, taken = suspects(probabilities, labels)
    findings = [
        Finding(
            films[row].file,
            "label-suspect",
            float(margin[row]),
            detail=f"labelled {classes[labels[row]]}, taken for {classes[taken[row]]}",
        )
        for row in np.flatnonzero(margin > 0).tolist()
    ]
    swapped, chosen = swap_labels(labels, len(classes), PREVALENCE, np.random.default_rng(2))
    again = out_of_fold(features, swapped, groups, len(classes))
    if again is None:
        return findings, []
    suspect = suspects(again, swapped)[0] > 0
    measured = Accuracy(
        "label-suspect",
        0.0,
        float(suspect[chosen].mean()),
        float(suspect[~chosen].mean()),
        float(chosen[suspect].mean()) if suspect.any() else 0.0,
        PREVALENCE,
        int(chosen.sum()),
        int((~chosen).sum()),
        f"{PREVALENCE:.0%} of all labels swapped at once; true label errors count as false alarms",
    )
    return findings, [measured]
