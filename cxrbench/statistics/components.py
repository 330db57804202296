"""How much of a gain's spread is the split's, the generator's, the classifier's and the test patients' doing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cxrbench.statistics.gains import FILM, NO_SEED, PairedRuns, pair_runs
from cxrbench.statistics.influence import ScoredRun

LEAST_PIVOT = 1e-9  # least relative singular value of equations that can be solved


@dataclass(frozen=True)
class Component:
    """One source of spread.

    Attributes:
        source: what varies: ``split``, ``generator seed``, ``classifier seed``, several of them joined by `` + ``
            where the runs vary them together only, ``generator seed x classifier seed`` (what both do together,
            where generators share classifier seeds), or ``film``.
        variance: of one run's gain, in squared AUROC; at least 0.
        groups: distinct values of it that were seen, for ``film`` the patients; from two groups the variance is
            hardly more than a guess.
    """

    source: str
    variance: float
    groups: int


def variance_components(arm: Sequence[ScoredRun], base: Sequence[ScoredRun]) -> tuple[Component, ...] | None:
    """Variance components of an arm's gains, by the method of moments.

    The sum of squared totals of each level's groups is set equal to its expectation under independent random effects
    (Henderson's method I, 1953; Searle, Casella & McCulloch 1992, "Variance Components", section 5.3). On balanced
    nested designs that is the classical analysis of variance; unbalanced and crossed ones need no other formulas. A
    negative solution becomes 0. Seeds count within their split: seed 0 of one split has nothing to do with seed 0
    of another.

    ``film`` is the variance of one run's gain because of the test patients, from the influence values. It does not
    add up with the others: patients that suit one seed are part of that seed's component, and the test sets'
    differences are part of the splits'.

    Args:
        arm, base: as for ``gains.estimate_gain``.

    Returns:
        The levels from the top down, and ``film`` last. What did not vary is left out. None if no run can be paired.

    Raises:
        ValueError: as ``gains.pair_runs``; or runs so unbalanced that levels cannot be told apart.
    """
    paired = pair_runs(arm, base)
    if paired is None:
        return None
    patients = paired.influence.shape[1]
    film = float((paired.influence**2).sum(axis=1).mean()) * patients / max(patients - 1, 1)
    levels = _levels(paired)
    components = [
        Component(source, max(float(variance), 0.0), len(np.unique(level)))
        for (source, level), variance in zip(levels, _solve(paired.gain, [level for _, level in levels]), strict=True)
    ]
    return (*components, Component(FILM, film, patients))


def _levels(paired: PairedRuns) -> list[tuple[str, NDArray[np.int64]]]:
    """Sources that varied, and the group (int64 ``[R]``) of every run; at the last level each run is a group."""
    runs = len(paired.gain)
    keys = {
        "split": [paired.split],
        "generator seed": [paired.split, paired.generator_seed],
        "classifier seed": [paired.split, paired.classifier_seed],
    }
    if (paired.generator_seed == NO_SEED).all():
        del keys["generator seed"]
    found: dict[tuple[int, ...], list[str]] = {}
    for source, columns in keys.items():
        _, first, group = np.unique(np.stack(columns), axis=1, return_index=True, return_inverse=True)
        partition = tuple(first[group.ravel()].tolist())  # equal for equal partitions, whatever their keys
        if len(first) > 1:
            found.setdefault(partition, []).append(source)
    if runs > 1:
        found.setdefault(tuple(range(runs)), ["generator seed x classifier seed"])
    levels = [(" + ".join(sources), np.asarray(partition, np.int64)) for partition, sources in found.items()]
    return sorted(levels, key=lambda level: len(np.unique(level[1])) == runs)


def _solve(gains: NDArray[np.float64], levels: Sequence[NDArray[np.int64]]) -> NDArray[np.float64]:
    """The variance at each level: one equation per level, and one for the mean."""
    members = [np.unique(level)[:, None] == level for level in levels]  # bool [groups, R]
    members.append(np.ones((1, len(gains)), bool))
    centred = gains - gains.mean()
    squares, expected = [], []
    for groups in members:
        sizes = groups.sum(axis=1)
        squares.append(float(((groups @ centred) ** 2 / sizes).sum()))
        common = [groups.astype(np.float64) @ other.T for other in members]  # runs in a group of both
        expected.append([float((counts**2 / sizes[:, None]).sum()) for counts in common])
    matrix = np.asarray(expected)
    singular = np.linalg.svd(matrix, compute_uv=False)
    if singular[-1] < LEAST_PIVOT * singular[0]:
        raise ValueError("the runs are so unbalanced that their levels cannot be told apart")
    return np.asarray(np.linalg.solve(matrix, np.asarray(squares))[:-1], np.float64)
