"""How much each test film, and each patient, weighs in a macro AUROC.

A bootstrap over patients repeats the whole scoring thousands of times. To first order its outcome is known
without a single resample: a score moves by the sum of its films' influence values, weighted by how often each film
was drawn. A report of thousands of runs can therefore have the patients' part of every interval in closed form.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cxrbench.contracts import Labels, Probabilities
from cxrbench.metrics.classification import check_probabilities


@dataclass(frozen=True)
class ScoredRun:
    """One training's test score, and what every test patient contributes to its uncertainty.

    Attributes:
        split: number of the split; runs of one split share train, validation and test films.
        generator_seed: None for a real-only run.
        classifier_seed: pairs an arm's run with the real-only run of the same split.
        score: macro one-vs-rest AUROC in [0, 1].
        clusters: str ``[G]``, the test patients (or duplicate clusters), sorted, each once. A name means the same
            patient in every split.
        influence: float64 ``[G]``, the patients' influence values; their sum is 0.
    """

    split: int
    generator_seed: int | None
    classifier_seed: int
    score: float
    clusters: NDArray[np.str_]
    influence: NDArray[np.float64]


def macro_auroc_influence(labels: Labels, probabilities: Probabilities) -> tuple[float, NDArray[np.float64]]:
    """The macro one-vs-rest AUROC over the classes present, and its derivative by every film's weight.

    With films weighted ``w`` (how often a bootstrap draws each of them), the AUROC is
    ``auroc + sum_i (w_i - 1) influence_i`` to first order: the infinitesimal jackknife (Efron 2014, "Estimation and
    accuracy after model selection", section 3). For one class the values are the structural components of DeLong
    et al. (1988), centred, over the number of films of the film's own side; ties count half.

    Args:
        labels: int64 ``[N]`` in [0, C); at least two classes must occur. Classes that do not occur are not counted.
        probabilities: float32 ``[N, C]``, rows sum to one.

    Returns:
        The AUROC in [0, 1], and float64 ``[N]`` whose sum is 0.

    Raises:
        ValueError: malformed probabilities, a label outside [0, C), or fewer than two classes.
    """
    if labels.ndim != 1 or probabilities.ndim != 2:
        raise ValueError(f"labels must be [N] and probabilities [N, C], got {labels.shape} and {probabilities.shape}")
    classes = probabilities.shape[1]
    check_probabilities(probabilities, len(labels), classes)
    present = np.unique(labels)
    if len(present) < 2:
        raise ValueError(f"an AUROC needs films of two classes, got {len(present)}")
    if present[0] < 0 or present[-1] >= classes:
        raise ValueError(f"labels must lie in [0, {classes}), got {present[0]} to {present[-1]}")
    score, influence = 0.0, np.zeros(len(labels))
    for label in present:
        own = labels == label
        inside, outside = probabilities[own, label], probabilities[~own, label]
        beaten = _share_below(inside, outside)  # DeLong's V10: of the other films, those ranked below this one
        beating = 1.0 - _share_below(outside, inside)  # V01: of the class's films, those ranked above this one
        auroc = float(beaten.mean())
        score += auroc / len(present)
        influence[own] += (beaten - auroc) / (len(inside) * len(present))
        influence[~own] += (beating - auroc) / (len(outside) * len(present))
    return score, influence


def score_run(
    labels: Labels,
    probabilities: Probabilities,
    groups: NDArray[np.str_],
    *,
    split: int,
    generator_seed: int | None,
    classifier_seed: int,
) -> ScoredRun:
    """Score a run's test predictions, and add up the influence of each patient's films.

    Args:
        labels: int64 ``[N]``.
        probabilities: float32 ``[N, C]``.
        groups: str ``[N]``, the patient or duplicate cluster of each film.

    Raises:
        ValueError: as ``macro_auroc_influence``; or groups of another length.
    """
    if groups.shape != labels.shape:
        raise ValueError(f"groups must be str [{len(labels)}], got {groups.shape}")
    score, influence = macro_auroc_influence(labels, probabilities)
    clusters, members = np.unique(groups, return_inverse=True)
    summed = np.bincount(members, weights=influence, minlength=len(clusters)).astype(np.float64)
    return ScoredRun(split, generator_seed, classifier_seed, score, clusters, summed)


def _share_below(values: NDArray[np.float32], others: NDArray[np.float32]) -> NDArray[np.float64]:
    """For each value the share of ``others`` beneath it, ties counted half."""
    ordered = np.sort(others)
    below, up_to = np.searchsorted(ordered, values, "left"), np.searchsorted(ordered, values, "right")
    return (below + up_to) / (2.0 * len(others))
