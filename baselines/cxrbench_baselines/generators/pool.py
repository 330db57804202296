"""Anybody's synthetic films on the leaderboard, without code: a folder with a folder of films for each class.

``pool:path=DIR`` is for the films of a generator that is no plug-in (a colleague's GAN, medigan, RoentGen). How they
were made is not known here: nobody but their author can tell that the generator never saw the test films, though
copies of held-out films are found as in any other generator's.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar, Self

import numpy as np

from cxrbench.contracts import Dataset, Film, Images, Labels, Listing, Pixels, RunContext
from cxrbench.datasets.resolve import resolve_dataset
from cxrbench.errors import DataError, UnreadableFilm, UsageError
from cxrbench.hashing import canonical_hash
from cxrbench.registry import GENERATORS
from cxrbench_baselines.generators.kept import KeptFilms

NOTES = "notes.json"
NAMED = 3  # unreadable films that a note names


@GENERATORS.register("pool")
@dataclass
class PoolFolder(KeptFilms):
    """Gives back the films of a folder, in a random order that begins anew when all have been given.

    Args:
        path: the folder, in any layout that ``--data`` reads: ``CLASS/*.png``, or ``CLASS/images/*.png`` as in the
            COVID-19 Radiography Database. Classes are matched by name, whatever the case, with those of the
            training films (after ``--labels``). No comma and no colon can be in it: they part generators and
            parameters.
    """

    path: str = ""

    asked_once: ClassVar[bool] = True

    _notes: list[str] = field(default_factory=list, init=False, repr=False, compare=False)

    def preflight(self, size: int) -> dict[str, str]:
        """One sha256 over every film's name, class and content, so that other films make another trial.

        Raises:
            UsageError: there is no such folder, it is in no known layout, or one of its classes has no film.
        """
        dataset, listing = self._listed()
        films = [[film.file, film.label, film.digest] for film in listing.films]
        return {"films": canonical_hash([list(dataset.classes()), films])}

    def fit(self, train: Images, ctx: RunContext) -> Self:
        """Read the films of the classes in ``train``, in grey and at its size.

        Raises:
            UsageError: as ``preflight``; or a class of ``train`` is missing, or has fewer than two readable films.
        """
        dataset, listing = self._listed()
        found = dataset.classes()
        becomes = _match(train.classes, found, self.path)
        films, unreadable = _decode(dataset, [film for film in listing.films if film.label in becomes], train.size, ctx)
        self._films = {}
        self._notes = []
        for label, name in enumerate(train.classes):
            own = [pixels for film, pixels in films if becomes[film.label] == label]
            if len(own) < 2:
                raise UsageError(
                    f"generator 'pool': class {name!r} in {self.path} has too few readable films ({len(own)}); "
                    "two are the least that can be compared with real ones"
                )
            self._films[str(label)] = np.stack(own)[:, None]
            self._notes.append(_repeats(name, len(own), int((train.labels == label).sum())))
        self._notes += _left_out(found, listing, becomes, {**listing.quarantined, **unreadable})
        return self

    def sample(self, labels: Labels, ctx: RunContext) -> Pixels:
        """Row i is a film of class ``labels[i]``; none comes twice before all films of the class came once."""
        out = np.empty((len(labels), *next(iter(self._films.values())).shape[1:]), np.uint8)
        for label in np.unique(labels):
            rows, films = np.flatnonzero(labels == label), self._films[str(label)]
            order = np.random.default_rng([ctx.seed, int(label)]).permutation(len(films))
            out[rows] = films[np.resize(order, len(rows))]
        return out

    def diagnosis(self) -> list[str]:
        """How many films each class has, from which ratio on they repeat, and what was left out."""
        return list(self._notes)

    def save(self, path: Path) -> None:
        super().save(path)
        (path / NOTES).write_text(json.dumps(self._notes), encoding="utf-8")

    def load(self, path: Path) -> Self:
        self._notes = json.loads((path / NOTES).read_text(encoding="utf-8"))
        return super().load(path)

    def _listed(self) -> tuple[Dataset, Listing]:
        if not self.path:
            raise UsageError("generator 'pool' needs films: pool:path=DIR, with a folder for each class in DIR")
        folder = Path(self.path).expanduser()
        if not folder.is_dir():
            fault = "is no folder" if folder.exists() else "does not exist"
            raise UsageError(f"generator 'pool': {folder} {fault}; name one that has a folder of films for each class")
        try:
            _, dataset = resolve_dataset(str(folder))
            return dataset, dataset.listing()
        except DataError as error:
            raise UsageError(f"generator 'pool': {error}") from None


def _match(wanted: Sequence[str], found: Sequence[str], path: str) -> dict[int, int]:
    """Label in the folder -> label in the training films, of the classes that both have.

    Raises:
        UsageError: one of ``wanted`` is not found.
    """
    label_of = {name.casefold(): label for label, name in enumerate(wanted)}
    becomes = {own: label_of[name.casefold()] for own, name in enumerate(found) if name.casefold() in label_of}
    missing = [name for label, name in enumerate(wanted) if label not in becomes.values()]
    if missing:
        raise UsageError(
            f"generator 'pool': {path} has no class {', '.join(map(repr, missing))}; it has "
            f"{', '.join(map(repr, found))}: rename its folders as the training classes are called"
        )
    return becomes


def _decode(
    dataset: Dataset, films: Sequence[Film], size: int, ctx: RunContext
) -> tuple[list[tuple[Film, Pixels]], dict[str, str]]:
    """Readable films with their pixels (uint8 ``[size, size]``), in order; and file -> reason, of the others."""

    def read(film: Film) -> Pixels | str:
        try:
            return dataset.read(film, size)
        except UnreadableFilm as error:
            return str(error)

    good, bad = [], {}
    with ThreadPoolExecutor(max_workers=os.cpu_count()) as threads:
        for done, (film, pixels) in enumerate(zip(films, threads.map(read, films), strict=True), start=1):
            if isinstance(pixels, str):
                bad[film.file] = pixels
            else:
                good.append((film, pixels))
            ctx.progress(done, len(films))
    return good, bad


def _repeats(name: str, films: int, real: int) -> str:
    """One sentence: the films of a class, and the ratio above which they repeat (rounded down to 1/100)."""
    ratio = math.floor(100 * films / real) / 100
    return f"class {name!r} has {films} films, which repeat above ratio {ratio:g}"


def _left_out(
    found: Sequence[str], listing: Listing, becomes: Mapping[int, int], unreadable: Mapping[str, str]
) -> list[str]:
    """A sentence for each kind of films that are not used."""
    notes = []
    for own, name in enumerate(found):
        if own not in becomes:
            count = sum(film.label == own for film in listing.films)
            notes.append(f"class {name!r} is left out with {count} films: no training film is of that class")
    notes += [f"{count} films are left out: {reason}" for reason, count in listing.left_out.items()]
    if unreadable:
        named = "; ".join(f"{file}: {reason}" for file, reason in sorted(unreadable.items())[:NAMED])
        notes.append(f"{len(unreadable)} files could not be read and are left out: {named}")
    return notes
