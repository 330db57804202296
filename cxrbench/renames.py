"""``--labels``: classes renamed, merged or dropped while a data set is read."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from cxrbench.contracts import Dataset, Film, Listing, Measured
from cxrbench.errors import DataError, UsageError

DROPPED = "-"

Renames = Mapping[str, str]  # own class name -> wanted name, or DROPPED


def parse_labels(text: str) -> dict[str, str]:
    """``Viral Pneumonia=Pneumonia,Lung_Opacity=-`` to own name -> wanted name (or ``-``: drop the class).

    Raises:
        UsageError: an entry is no ``OLD=NEW``, or a class is named twice.
    """
    found: dict[str, str] = {}
    for entry in filter(None, (part.strip() for part in text.split(","))):
        old, equals, new = (part.strip() for part in entry.partition("="))
        if not (old and equals and new):
            raise UsageError(f"--labels: {entry!r} is no OLD=NEW; write --labels 'Viral Pneumonia=Pneumonia,Other=-'")
        if old in found:
            raise UsageError(f"--labels names the class {old!r} twice")
        found[old] = new
    return found


def check_labels(labels: Renames, classes: Sequence[str]) -> None:
    """Raises UsageError where a class that is to be renamed is none of ``classes``."""
    unknown = [name for name in labels if name not in classes]
    if unknown:
        named = ", ".join(repr(name) for name in unknown)
        raise UsageError(f"--labels: there is no class {named}; there are {', '.join(map(repr, sorted(classes)))}")


def rename_classes(dataset: Dataset, labels: Renames) -> Dataset:
    """The data set under other class names, which are sorted; names that it lacks are passed over.

    The films of a dropped class are counted in ``left_out``.

    Raises:
        DataError: fewer than two classes are left, or one is called ``all``.
    """
    own = dataset.classes()
    wanted = [labels.get(name, name) for name in own]
    names = tuple(sorted(set(wanted) - {DROPPED}))
    if len(names) < 2:
        left = f"only the class {names[0]!r}" if names else "no class"
        raise DataError(f"--labels leaves {left}; a classifier needs at least two")
    if "all" in names:
        raise DataError("--labels: a class may not be called 'all', which means every class in the results")
    return with_classes(dataset, dataset.listing(), names, wanted)


def with_classes(dataset: Dataset, listing: Listing, names: tuple[str, ...], wanted: Sequence[str]) -> Dataset:
    """The films of ``listing`` under the classes ``names``; ``wanted`` holds the name (or ``-``) of each label."""
    number, own = {name: label for label, name in enumerate(names)}, dataset.classes()
    becomes = [number.get(name, -1) for name in wanted]
    films = [replace(film, label=becomes[film.label]) for film in listing.films if becomes[film.label] >= 0]
    dropped = Counter(own[film.label] for film in listing.films if becomes[film.label] < 0)
    left_out = {f"class {name!r} is dropped by --labels": count for name, count in sorted(dropped.items())}
    renamed = Listing(films, listing.quarantined, {**listing.left_out, **left_out})
    own_label = {film.file: film.label for film in listing.films}
    kind = _MeasuredRenamed if isinstance(dataset, Measured) else _Renamed
    return kind(dataset, names, renamed, own_label, dataset.redistributable)


@dataclass
class _Renamed:
    """Hands each film to its own data set under the label it has there: a phantom draws by the label."""

    inner: Dataset
    names: tuple[str, ...]
    renamed: Listing
    own_label: Mapping[str, int]
    redistributable: bool

    def classes(self) -> tuple[str, ...]:
        return self.names

    def listing(self) -> Listing:
        """The renamed films, listed when this was made."""
        return self.renamed

    def read(self, film: Film, size: int) -> NDArray[np.uint8]:
        """Decode one film as its own data set does."""
        return self.inner.read(self.own(film), size)

    def own(self, film: Film) -> Film:
        return replace(film, label=self.own_label[film.file])


class _MeasuredRenamed(_Renamed):
    def dimensions(self, film: Film) -> tuple[int, int]:
        """Width and height of the stored film, as its own data set knows them."""
        assert isinstance(self.inner, Measured)
        return self.inner.dimensions(self.own(film))
