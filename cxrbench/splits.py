"""Train, validation and test sets that share no patient, no file and no near-copy.

Films are grouped by patient; equal files and near-copies join one group whether or not their patients are
known, so that neither a patient nor a copy can stand on both sides of a split. Three policies:

* ``patient``: whole groups dealt out at random, stratified by class.
* ``official``: the parts that the data set's origin names. Validation films are taken from the training films
  where the origin names none, or too few of them to choose a checkpoint by.
* ``source``: test on hospitals that training and validation have never seen.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import combinations, pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cxrbench.contracts import Film, Labels
from cxrbench.errors import DataError
from cxrbench.leakage import Rows, film_groups, find_leaks
from cxrbench.sources import choose_test_sources

LEAST_VAL = 0.05  # an official validation part smaller than this share of the training films is not used as one

NO_OFFICIAL = "the origin names no official part"
NO_SOURCE = "the source is unknown"
TIED_TO_TEST = "shares a patient or a near-copy with a test film of another source"


@dataclass(frozen=True)
class Split:
    """Rows (int64 indices into the loaded films) of each part.

    Attributes:
        by: the policy that made it: ``patient``, ``official`` or ``source``.
        left_out: reason -> number of films that stand in no part.
        notes: facts in words, e.g. which sources the test films come from.
    """

    train: Rows
    val: Rows
    test: Rows
    by: str = "patient"
    left_out: dict[str, int] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    def parts(self) -> dict[str, Rows]:
        """The three parts by name."""
        return {"train": self.train, "val": self.val, "test": self.test}


def resolve_policy(policy: str, films: Sequence[Film]) -> str:
    """``auto`` is ``official`` where every film has an official part and there are train and test films."""
    if policy != "auto":
        return policy
    named = {film.split for film in films}
    return "official" if None not in named and {"train", "test"} <= named else "patient"


def split_films(
    policy: str,
    films: Sequence[Film],
    pairs: Rows,
    classes: tuple[str, ...],
    fractions: tuple[float, float, float],
    seed: int,
) -> tuple[Split, Rows]:
    """Divide films, and prove that no patient, file or near-copy stands in two parts.

    Args:
        policy: ``auto``, ``patient``, ``official`` or ``source``.
        pairs: int64 ``[P, 2]``, rows of near-copies.
        fractions: of train, validation and test.

    Returns:
        The split, and the group number (int64 ``[N]``) of every film. Films that are left out tie no others.

    Raises:
        DataError: the films cannot be divided so, or the official parts share films or patients.
    """
    by = resolve_policy(policy, films)
    labels = np.asarray([film.label for film in films], np.int64)
    if by == "official":
        split, groups = _split_by_origin(films, labels, pairs, classes, fractions, seed)
    elif by == "source":
        split, groups = _split_by_source(films, labels, pairs, classes, fractions, seed)
    else:
        groups = _groups_of(films, pairs, np.ones(len(films), bool))
        train, val, test = deal_groups(labels, groups, classes, fractions, seed)
        split = Split(train, val, test)
    check_disjoint(split, groups, films, pairs)
    for part, rows in split.parts().items():
        absent = _absent(labels[rows], classes)
        if absent:
            raise DataError(f"the {part} part has no film of {', '.join(absent)}; {_OTHER_WAY[by]}")
    return split, groups


_OTHER_WAY = {
    "patient": "add films or patient ids",
    "official": "--split-by patient ignores the official split",
    "source": "--split-by patient mixes the sources",
}


def deal_groups(
    labels: Labels,
    groups: Rows,
    classes: tuple[str, ...],
    fractions: Sequence[float],
    seed: int,
) -> list[Rows]:
    """Deal whole groups out, stratified by class: int64 rows for each fraction, sorted.

    Raises:
        DataError: a class has too few groups to stand in every part.
    """
    from sklearn.model_selection import StratifiedGroupKFold

    parts = _shares(fractions)
    for label, name in enumerate(classes):
        distinct = len(np.unique(groups[labels == label]))
        if distinct < sum(parts):
            raise DataError(
                f"class {name!r} has {int((labels == label).sum())} films of {distinct} distinct patients or "
                f"duplicate clusters; a {'/'.join(f'{f:.0%}' for f in fractions)} split needs at least "
                f"{sum(parts)}: add films of other patients, or leave the class out with --labels '{name}=-'"
            )
    folds = StratifiedGroupKFold(n_splits=sum(parts), shuffle=True, random_state=seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # small classes are checked above, in our own words
        rows: list[NDArray[Any]] = [held for _, held in folds.split(labels, labels, groups)]
    cuts = np.cumsum([0, *parts])
    return [np.sort(np.concatenate(rows[a:b])).astype(np.int64) for a, b in pairwise(cuts)]


def check_disjoint(split: Split, groups: Rows, films: Sequence[Film], pairs: Rows) -> None:
    """The leakage gate, on the groups and on what they were made from.

    Raises:
        DataError: a group, a patient, a file or both films of a near-copy pair stand in two parts.
    """
    for (one, rows), (other, others) in combinations(split.parts().items(), 2):
        shared = np.intersect1d(groups[rows], groups[others])
        if len(shared):
            raise DataError(f"leakage: {len(shared)} patients or duplicate clusters stand in {one} and {other}")
        leaks = find_leaks(films, pairs, rows, others)
        if leaks:
            raise DataError(f"leakage: {one} and {other} share {leaks}")


def _split_by_origin(
    films: Sequence[Film],
    labels: Labels,
    pairs: Rows,
    classes: tuple[str, ...],
    fractions: tuple[float, float, float],
    seed: int,
) -> tuple[Split, Rows]:
    named = np.asarray([film.split or "" for film in films])
    given = {part: np.flatnonzero(named == part).astype(np.int64) for part in ("train", "val", "test")}
    for part in ("train", "test"):
        if not len(given[part]):
            raise DataError(f"no film is named as an official {part} film; {_OTHER_WAY['official']}")
    shared = [
        f"{one} and {other} share {leaks}"
        for (one, rows), (other, others) in combinations(given.items(), 2)
        if (leaks := find_leaks(films, pairs, rows, others))
    ]
    if shared:
        raise DataError(f"leakage in the official split: {'; '.join(shared)}; {_OTHER_WAY['official']}")
    groups = _groups_of(films, pairs, named != "")
    train, val = given["train"], given["val"]
    notes: tuple[str, ...] = ()
    lacking = _absent(labels[val], classes)
    if len(val) < LEAST_VAL * len(train) or lacking:
        reason = f"has no film of {', '.join(lacking)}" if len(val) else "is empty"
        reason = reason if lacking else f"has {len(val)} films to {len(train)} for training"
        pool = np.sort(np.concatenate([train, val]))
        train, val = (pool[rows] for rows in _deal_train_and_val(labels[pool], groups[pool], classes, fractions, seed))
        notes = (f"the official validation part {reason}: validation films were taken from the training films",)
    left_out = _counted({NO_OFFICIAL: int((named == "").sum())})
    return Split(train, val, given["test"], "official", left_out, notes), groups


def _split_by_source(
    films: Sequence[Film],
    labels: Labels,
    pairs: Rows,
    classes: tuple[str, ...],
    fractions: tuple[float, float, float],
    seed: int,
) -> tuple[Split, Rows]:
    known = np.asarray([bool(film.source) for film in films])
    sources = sorted({film.source for film in films if film.source})
    number = {source: i for i, source in enumerate(sources)}
    source_of = np.asarray([number[film.source] if film.source else -1 for film in films], np.int64)
    counts = np.zeros((len(sources), len(classes)), np.int64)
    np.add.at(counts, (source_of[known], labels[known]), 1)
    chosen = choose_test_sources(counts, sources, classes, fractions[2], seed)

    groups = _groups_of(films, pairs, known)
    is_test = known & np.isin(source_of, np.flatnonzero(chosen))
    tied = known & ~is_test & np.isin(groups, groups[is_test])
    pool = np.flatnonzero(known & ~is_test & ~tied)
    train, val = (pool[rows] for rows in _deal_train_and_val(labels[pool], groups[pool], classes, fractions, seed))
    left_out = _counted({NO_SOURCE: int((~known).sum()), TIED_TO_TEST: int(tied.sum())})
    notes = (
        f"sources tested on: {', '.join(s for s, held in zip(sources, chosen, strict=True) if held)}",
        f"sources trained on: {', '.join(s for s, held in zip(sources, chosen, strict=True) if not held)}",
    )
    return Split(train, val, np.flatnonzero(is_test).astype(np.int64), "source", left_out, notes), groups


def _deal_train_and_val(
    labels: Labels, groups: Rows, classes: tuple[str, ...], fractions: tuple[float, float, float], seed: int
) -> list[Rows]:
    """Train and validation in their own proportion; the test films stand elsewhere."""
    both = fractions[0] + fractions[1]
    return deal_groups(labels, groups, classes, (fractions[0] / both, fractions[1] / both), seed)


def _groups_of(films: Sequence[Film], pairs: Rows, used: NDArray[np.bool_]) -> Rows:
    """Groups among the used films; a film that is left out must tie no others."""
    patients = [film.patient_id if use else None for film, use in zip(films, used, strict=True)]
    digests = [film.digest if use else "" for film, use in zip(films, used, strict=True)]
    return film_groups(patients, pairs[used[pairs].all(axis=1)], digests)


def nested_share(rows: Rows, labels: Labels, groups: NDArray[np.str_], share: float, seed: int) -> Rows:
    """A share of the films of each class, whole groups only; a smaller share is part of a larger one.

    Args:
        rows: int64, the films to choose from; labels and groups are those of all films.
        share: in (0, 1]; rounded up to whole groups.

    Returns:
        Rows in ascending order.
    """
    if share >= 1:
        return rows
    names, number = np.unique(groups[rows], return_inverse=True)
    place = np.random.default_rng([seed, len(names)]).permutation(len(names))[number]  # of each film's group
    chosen = np.zeros(len(names), bool)
    for label in np.unique(labels[rows]):
        own = np.flatnonzero(labels[rows] == label)
        own = own[np.argsort(place[own], kind="stable")]
        chosen[number[own[: int(np.ceil(share * len(own)))]]] = True
    return np.sort(rows[chosen[number]])


def _absent(labels: Labels, classes: tuple[str, ...]) -> list[str]:
    return [name for label, name in enumerate(classes) if not (labels == label).any()]


def _counted(reasons: dict[str, int]) -> dict[str, int]:
    return {reason: count for reason, count in reasons.items() if count}


def _shares(fractions: Sequence[float]) -> list[int]:
    """Fractions as whole folds: 60/20/20 is 3, 1 and 1 of five."""
    for folds in range(len(fractions), 21):
        counts = [fraction * folds for fraction in fractions]
        if all(abs(count - round(count)) < 1e-6 and round(count) > 0 for count in counts):
            return [round(count) for count in counts]
    raise DataError(f"split fractions {tuple(fractions)} are no multiples of 5 % that sum to one")
