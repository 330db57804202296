"""What a data set is made of: films per source, view, sex and age within each class."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from cxrbench.contracts import Film

UNKNOWN = "unknown"
AGES = (0, 1, 5, 18, 40, 65)  # years; where an age group begins
MOST_ROWS = 30  # of one table; rarer values are summed up


@dataclass(frozen=True)
class Composition:
    """One table.

    Attributes:
        aspect: ``source``, ``view``, ``sex`` or ``age``.
        rows: value -> films of each class, most frequent first (ages in their order).
    """

    aspect: str
    rows: dict[str, list[int]]


def compose(films: Sequence[Film], classes: Sequence[str]) -> list[Composition]:
    """A table per aspect that the origin says anything about."""
    aspects = {
        "source": [film.source for film in films],
        "view": [film.view.upper() if film.view else None for film in films],
        "sex": [film.sex for film in films],
        "age": [None if film.age is None else age_group(film.age) for film in films],
    }
    tables = []
    for aspect, values in aspects.items():
        if any(values):
            counts: dict[str, list[int]] = {}
            for film, value in zip(films, values, strict=True):
                counts.setdefault(value or UNKNOWN, [0] * len(classes))[film.label] += 1
            frequent = sorted(counts, key=lambda value, counts=counts: -sum(counts[value]))  # type: ignore[misc]
            order = sorted(counts, key=_age_order) if aspect == "age" else frequent
            rows = {value: counts[value] for value in order[:MOST_ROWS]}
            rest = [counts[value] for value in order[MOST_ROWS:]]
            if rest:
                rows[f"{len(rest)} more"] = [sum(column) for column in zip(*rest, strict=True)]
            tables.append(Composition(aspect, rows))
    return tables


def age_group(age: float) -> str:
    """``18 to 39`` for 20 years."""
    for start, end in pairwise(AGES):
        if age < end:
            return "under 1" if start == 0 else f"{start} to {end - 1}"
    return f"{AGES[-1]} and over"


def warnings_of(films: Sequence[Film], classes: Sequence[str]) -> list[str]:
    """What the composition alone gives cause to fear, in words."""
    counts = Counter(film.label for film in films)
    said = []
    largest, smallest = max(counts.values()), min(counts.values())
    if largest > 1.5 * smallest:
        names = [classes[max(counts, key=counts.__getitem__)], classes[min(counts, key=counts.__getitem__)]]
        said.append(f"imbalance: {largest / smallest:.1f} films of {names[0]} for each of {names[1]}")
    homes: dict[int, set[str]] = {}
    for film in films:
        if film.source:
            homes.setdefault(film.label, set()).add(film.source)
    for label, sources in sorted(homes.items()):
        others = set().union(*(where for other, where in homes.items() if other != label))
        if len(homes) > 1 and not sources & others:
            said.append(
                f"no known source of {classes[label]} holds any other class: a classifier may learn the hospital"
            )
    return said


def _age_order(value: str) -> int:
    groups = [age_group(start) for start in AGES]
    return groups.index(value) if value in groups else len(groups)
