"""All fidelity measures of one set of films against another, each with its interval; and the real-vs-real floor."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray

from cxrbench.contracts import Features, Labels, Scores
from cxrbench.metrics.distances import (
    frechet_distance,
    frechet_infinity,
    frechet_interval,
    kernel_distance,
    kernel_interval,
)
from cxrbench.metrics.diversity import vendi_interval, vendi_score
from cxrbench.metrics.prdc import density_coverage, prdc_estimates, precision_recall
from cxrbench.metrics.sets import Estimate, check_sets

# Fewer films per side say nothing: a covariance of 15 films has rank 14, and five neighbours of 15 are a third of all.
LEAST_FILMS: Mapping[str, int] = {
    "fid": 16,
    "kid_mean": 8,
    "precision": 16,
    "recall": 16,
    "density": 16,
    "coverage": 16,
    "vendi": 8,
}
MANY_FILMS = 1000  # above it a quarter of the resamples: they cost minutes, and the intervals are narrow
LEAST_SHARE = 0.9  # of the films asked for: a floor at fewer films is not the floor of the value beside it
LOWER_IS_BETTER = ("fid", "fid_infinity", "kid_mean")


def measure_fidelity(generated: Features, reference: Features, resamples: int, seed: int) -> Scores:
    """Every measure that the number of films allows; one that it does not allow is left out.

    Args:
        generated, reference: float ``[N, D]`` and ``[M, D]``, of one extractor.
        resamples: of each bootstrap.

    Returns:
        ``METRIC``, ``METRIC_low`` and ``METRIC_high`` (95 % interval) for ``fid``, ``fid_infinity``, ``kid_mean``,
        ``precision``, ``recall``, ``density``, ``coverage`` and ``vendi``; ``kid_std``, the standard error.

    Raises:
        ValueError: different D, fewer than 2 films on a side, or a value that is not finite.
    """
    check_sets(generated, reference)
    films = min(len(generated), len(reference))
    found: dict[str, Estimate | None] = {}
    if films > MANY_FILMS:
        resamples = max(2, resamples // 4)
    if films >= LEAST_FILMS["fid"]:
        found["fid"] = frechet_interval(generated, reference, resamples, seed)
        found["fid_infinity"] = frechet_infinity(generated, reference, seed)
    if films >= LEAST_FILMS["kid_mean"]:
        found["kid_mean"] = kernel_interval(generated, reference, resamples, seed)
    if films >= LEAST_FILMS["precision"]:
        found |= prdc_estimates(generated, reference, resamples, seed)
    if films >= LEAST_FILMS["vendi"]:
        found["vendi"] = vendi_interval(generated, resamples, seed)
    scores: Scores = {}
    for name, estimate in found.items():
        if estimate is not None:
            scores |= {name: estimate.value, f"{name}_low": estimate.low, f"{name}_high": estimate.high}
    if "kid_mean" in scores:
        scores["kid_std"] = kernel_distance(generated, reference)[1]
    return scores


def abstentions(films: int) -> list[str]:
    """The measures that ``films`` per side are too few for."""
    return [name for name, least in LEAST_FILMS.items() if films < least]


def measure_floor(
    real: Features, labels: Labels, groups: NDArray[np.str_], films: Mapping[int, int], halves: int, seed: int
) -> Scores:
    """What two disjoint sets of real films score against each other.

    The Frechet distance of two finite samples of one distribution is not zero, nor is coverage one: a value must be
    read against this floor, at the same number of films.

    Args:
        real: float ``[N, D]``; labels: int64 ``[N]``.
        groups: str ``[N]``, the patient or duplicate cluster: none is in both halves.
        films: label -> films of that class in each half.
        halves: pairs of halves drawn.

    Returns:
        ``METRIC_floor`` (mean) and ``METRIC_floor_sd`` (standard deviation over the pairs); empty where there are not
        enough films for two such halves.
    """
    check_sets(real, real)
    rng = np.random.default_rng(seed)
    drawn: list[Scores] = []
    for _ in range(halves):
        one, other = _halves(labels, groups, films, rng)
        if min(len(one), len(other)) < LEAST_SHARE * sum(films.values()):
            return {}
        drawn.append(_values(real[one], real[other]))
    scores: Scores = {}
    for name in [name for name in drawn[0] if all(name in one for one in drawn)]:  # patients make halves uneven
        values = np.asarray([one[name] for one in drawn])
        scores |= {
            f"{name}_floor": float(values.mean()),
            f"{name}_floor_sd": float(values.std(ddof=min(1, halves - 1))),
        }
    return scores


def _values(x: Features, y: Features) -> Scores:
    """The measures without intervals."""
    measures: dict[str, Callable[[], tuple[float, ...]]] = {
        "fid": lambda: (frechet_distance(x, y),),
        "kid_mean": lambda: kernel_distance(x, y)[:1],
        "precision recall": lambda: precision_recall(x, y),
        "density coverage": lambda: density_coverage(x, y),
        "vendi": lambda: (vendi_score(x),),
    }
    scores: Scores = {}
    for names, measure in measures.items():
        if len(x) >= LEAST_FILMS[names.split()[0]]:
            scores |= dict(zip(names.split(), measure(), strict=True))
    return scores


def _halves(
    labels: Labels, groups: NDArray[np.str_], films: Mapping[int, int], rng: np.random.Generator
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Rows of two sets that share no group, equally many films of each class in both."""
    names, number = np.unique(groups, return_inverse=True)
    shuffled = np.argsort(rng.permutation(len(names))[number], kind="stable")  # films by the new order of their groups
    taken: set[int] = set()  # groups of the first half
    one: list[NDArray[np.int64]] = []
    other: list[NDArray[np.int64]] = []
    for label, count in films.items():
        own = shuffled[labels[shuffled] == label]
        one.append(own[: min(count, len(own) // 2)])
        taken |= set(number[one[-1]].tolist())
    free = shuffled[~np.isin(number[shuffled], list(taken))]
    for place, (label, count) in enumerate(films.items()):
        other.append(free[labels[free] == label][:count])
        size = min(len(one[place]), len(other[place]))
        one[place], other[place] = one[place][:size], other[place][:size]
    return np.concatenate(one), np.concatenate(other)
