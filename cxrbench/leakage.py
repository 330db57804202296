"""Which films belong together, and what two sets of films share that they must not.

Three things tie films: a patient, the same file, and a confirmed near-copy. The ties are asked for directly
here, film against film, so that a mistake in building the groups of a split cannot pass the gate.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cxrbench.contracts import Film

Rows = NDArray[np.int64]
NO_PAIRS: Rows = np.empty((0, 2), np.int64)


@dataclass(frozen=True)
class Leaks:
    """What two sets of films share.

    Attributes:
        patients: patients with films in both.
        files: files (by digest) that stand in both.
        copies: near-copy pairs between them, beyond the identical files.
        example: the names of one such pair of films, the first set's film first; empty names where none.
        tied: the names of all films of the second set that share anything with the first.
    """

    patients: int = 0
    files: int = 0
    copies: int = 0
    example: tuple[str, str] = ("", "")
    tied: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.patients or self.files or self.copies)

    def __str__(self) -> str:
        kinds = ((self.patients, "patient"), (self.files, "identical file"), (self.copies, "near-copy"))
        counted = [f"{count} {_plural(what, count)}" for count, what in kinds]
        return f"{counted[0]}, {counted[1]} and {counted[2]} (e.g. {self.example[0]!r} and {self.example[1]!r})"


def find_leaks(films: Sequence[Film], pairs: Rows, one: Rows, other: Rows) -> Leaks:
    """Compare two sets of films.

    Args:
        films: all films; ``patient_id`` None or empty is an unknown patient, who is nobody else.
        pairs: int64 ``[P, 2]``, rows of near-copies.
        one, other: int64 rows of ``films``.
    """
    patients = _shared([film.patient_id for film in films], one, other)
    files = _shared([film.digest for film in films], one, other)
    here, there = np.zeros(len(films), bool), np.zeros(len(films), bool)
    here[one], there[other] = True, True
    forward = here[pairs[:, 0]] & there[pairs[:, 1]]
    backward = here[pairs[:, 1]] & there[pairs[:, 0]]
    crossing = np.concatenate([pairs[forward], pairs[backward][:, ::-1]])
    copies = [(int(i), int(j)) for i, j in crossing if films[i].digest != films[j].digest]
    example = next(iter([*files, *copies, *patients]), None)
    names = (films[example[0]].file, films[example[1]].file) if example else ("", "")
    known, same = {films[i].patient_id for i, _ in patients}, {films[i].digest for i, _ in files}
    near = {j for _, j in copies}
    tied = [j for j in other if films[j].patient_id in known or films[j].digest in same or int(j) in near]
    return Leaks(len(patients), len(files), len(copies), names, tuple(films[j].file for j in tied))


def film_groups(patients: Sequence[str | None], pairs: Rows, digests: Sequence[str] = ()) -> Rows:
    """Group number (int64 ``[N]``) of every film: ties are one patient, a near-copy or an equal digest.

    Args:
        patients: of each film; None or empty is an unknown patient, who is nobody else.
        pairs: int64 ``[P, 2]``, rows of near-copies.
        digests: of each film; equal files join even where their thumbnails are too blank to be compared.
    """
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    edges = np.concatenate([_ties(patients), _ties(digests), pairs])
    graph = coo_array((np.ones(len(edges), bool), (edges[:, 0], edges[:, 1])), shape=(len(patients),) * 2)
    return connected_components(graph, directed=False)[1].astype(np.int64)


def _ties(names: Sequence[str | None]) -> Rows:
    """Each film beside the first one of its name."""
    first: dict[str, int] = {}
    return np.asarray([(first.setdefault(name, i), i) for i, name in enumerate(names) if name], np.int64).reshape(-1, 2)


def _shared(names: Sequence[str | None], one: Rows, other: Rows) -> list[tuple[int, int]]:
    """A pair of rows for each name that stands in both sets."""
    first: dict[str, int] = {}
    for row in one:
        if name := names[row]:
            first.setdefault(name, int(row))
    found: dict[str, tuple[int, int]] = {}
    for row in other:
        name = names[row]
        if name and name in first:
            found.setdefault(name, (first[name], int(row)))
    return list(found.values())


def _plural(what: str, count: int) -> str:
    if count == 1:
        return what
    return f"{what[:-1]}ies" if what.endswith("y") else f"{what}s"
