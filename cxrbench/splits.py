"""Train, validation and test sets that share no patient and no near-copy.

Films are grouped by patient; films that are near-copies of each other join one group whether or not
their patients are known, so that neither a patient nor a copy can stand on both sides of a split.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cxrbench.contracts import Labels
from cxrbench.errors import DataError


@dataclass(frozen=True)
class Split:
    """Rows (int64 indices into the loaded films) of each part."""

    train: NDArray[np.int64]
    val: NDArray[np.int64]
    test: NDArray[np.int64]


def film_groups(patients: list[str | None], pairs: NDArray[np.int64]) -> NDArray[np.int64]:
    """Group number of every film: films of one patient, and near-copies (``pairs``), share a number."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    first: dict[str, int] = {}
    same = [(first.setdefault(p, i), i) for i, p in enumerate(patients) if p]
    edges = np.concatenate([np.asarray(same, np.int64).reshape(-1, 2), pairs])
    graph = coo_array((np.ones(len(edges), bool), (edges[:, 0], edges[:, 1])), shape=(len(patients),) * 2)
    return connected_components(graph, directed=False)[1].astype(np.int64)


def split_films(
    labels: Labels,
    groups: NDArray[np.int64],
    classes: tuple[str, ...],
    fractions: tuple[float, float, float],
    seed: int,
) -> Split:
    """Deal whole groups out, stratified by class.

    Raises:
        DataError: a class has too few groups to stand in all three parts.
    """
    from sklearn.model_selection import StratifiedGroupKFold

    parts = _shares(fractions)
    for label, name in enumerate(classes):
        distinct = len(np.unique(groups[labels == label]))
        if distinct < sum(parts):
            raise DataError(
                f"class {name!r} has {int((labels == label).sum())} films of {distinct} distinct patients or "
                f"duplicate clusters; a {'/'.join(f'{f:.0%}' for f in fractions)} split needs at least "
                f"{sum(parts)}"
            )
    folds = StratifiedGroupKFold(n_splits=sum(parts), shuffle=True, random_state=seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # small classes are checked above, in our own words
        rows: list[NDArray[Any]] = [test for _, test in folds.split(labels, labels, groups)]
    cut = np.cumsum(parts)
    train, val, test = (
        np.sort(np.concatenate(part)) for part in (rows[: cut[0]], rows[cut[0] : cut[1]], rows[cut[1] :])
    )
    split = Split(train.astype(np.int64), val.astype(np.int64), test.astype(np.int64))
    check_disjoint(split, groups)
    for part, chosen in (("train", split.train), ("validation", split.val), ("test", split.test)):
        absent = [name for label, name in enumerate(classes) if not np.any(labels[chosen] == label)]
        if absent:
            raise DataError(f"the {part} split has no film of {', '.join(absent)}; add films or patient ids")
    return split


def check_disjoint(split: Split, groups: NDArray[np.int64]) -> None:
    """The leakage gate.

    Raises:
        DataError: a group stands in two parts.
    """
    for one, other in (("train", "val"), ("train", "test"), ("val", "test")):
        shared = np.intersect1d(groups[getattr(split, one)], groups[getattr(split, other)])
        if len(shared):
            raise DataError(f"leakage: {len(shared)} patients or duplicate clusters stand in {one} and {other}")


def _shares(fractions: tuple[float, float, float]) -> tuple[int, int, int]:
    """Fractions as whole folds: 60/20/20 is 3, 1 and 1 of five."""
    for folds in range(3, 21):
        counts = [fraction * folds for fraction in fractions]
        whole = all(abs(count - round(count)) < 1e-6 and round(count) > 0 for count in counts)
        if whole and sum(map(round, counts)) == folds:
            return (round(counts[0]), round(counts[1]), round(counts[2]))
    raise DataError(f"split fractions {fractions} are no multiples of 5 % that sum to one")
