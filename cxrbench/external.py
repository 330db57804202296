"""An external test set: its classes under the internal names, and the proof that nobody trained on it."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from cxrbench.cache import Cache
from cxrbench.contracts import Film, Images, Labels, Listing
from cxrbench.duplicates import near_copies
from cxrbench.errors import DataError
from cxrbench.hashing import canonical_hash
from cxrbench.leakage import film_groups, find_leaks
from cxrbench.loading import decode_films
from cxrbench.renames import with_classes
from cxrbench.stages import SPLIT_VERSION, DataIndex, LoadedData, load_key

EXAMPLES = 3  # files named of those that were refused or removed
FILES_SHOWN = 20  # films named of those that must be taken out


@dataclass(frozen=True)
class ExternalIndex:
    """An external test set before any film is decoded.

    Attributes:
        index: its films, labelled by the internal classes.
        notes: which class is scored as which, where the names differ.
    """

    index: DataIndex
    notes: tuple[str, ...]

    def key(self, size: int) -> str:
        """Identity of the films as they are loaded, and of the gate they pass."""
        return canonical_hash([load_key(self.index, size), SPLIT_VERSION])


@dataclass(frozen=True)
class ExternalData:
    """Decoded external films that have passed the leakage gate.

    Attributes:
        images: labelled by the internal classes, of which some may be absent.
        notes: facts in words, for the record.
    """

    images: Images
    notes: tuple[str, ...]


def match_external(external: DataIndex, classes: tuple[str, ...]) -> ExternalIndex:
    """Label an external test set by the internal ``classes``.

    Names are equal but for case, spaces, underscores and hyphens; else a name that holds all words of the
    other (``Pneumonia``, ``Viral Pneumonia``) is taken for it, if only one does, and a note says so.

    Raises:
        DataError: a class that cannot be matched, or films of fewer than two classes.
    """
    matched = [_match(name, classes) for name in external.classes]
    strange = [name for name, found in zip(external.classes, matched, strict=True) if not found]
    if strange:
        raise DataError(
            f"external set {external.name!r}: {_listed(strange)} cannot be matched with the classes "
            f"{_listed(classes)}; rename or drop with --labels '{strange[0]}={classes[0]}' or --labels '{strange[0]}=-'"
        )
    notes = tuple(
        f"external class {name!r} is scored as {found!r}"
        for name, found in zip(external.classes, matched, strict=True)
        if _plain(name) != _plain(found)
    )
    listing = Listing(external.films, external.quarantined, external.left_out)
    renamed = with_classes(external.dataset, listing, classes, matched)
    index = replace(external, dataset=renamed, classes=classes, films=renamed.listing().films)
    _check_classes(external.name, np.asarray([film.label for film in index.films], np.int64), classes)
    return ExternalIndex(index, notes)


def load_external(
    external: ExternalIndex, data: LoadedData, size: int, cache: Cache, progress: Callable[[int, int], None]
) -> ExternalData:
    """Decode the external films and compare each with every internal one.

    Where the external set has a cleaning policy, films that are tied to training films are taken out.

    Raises:
        DataError: one of them is identical to, a near-copy of, or of the same patient as a film that is
            trained on or validated with; or fewer than two classes can be read.
    """
    index = external.index
    decoded = decode_films(index.dataset, index.films, load_key(index, size), size, cache, progress)
    labels = decoded.labels
    _check_classes(index.name, labels, index.classes)
    inside = len(data.decoded.films)

    def build(folder: Path) -> None:
        np.save(folder / "pairs.npy", near_copies(np.concatenate([data.decoded.thumbnails, decoded.thumbnails])))

    key = canonical_hash([data.decoded.key, decoded.key, SPLIT_VERSION])
    pairs = np.sort(np.load(cache.get("external", key, build) / "pairs.npy"), axis=1)
    crossing = pairs[(pairs[:, 0] < inside) & (pairs[:, 1] >= inside)]
    own = pairs[pairs[:, 0] >= inside] - inside

    films = _patients_by_source([*data.decoded.films, *decoded.films])
    rows = np.arange(inside, len(films))
    trained = np.concatenate([data.split.train, data.split.val])
    leaks = find_leaks(films, crossing, trained, rows)
    if leaks and index.clean != "none":
        kept = [film for film in index.films if film.file not in leaks.tied]
        removed = {**index.removed, **dict.fromkeys(leaks.tied, "tied to a film that is trained on")}
        cleaned = replace(external, index=replace(index, films=kept, removed=removed))
        return load_external(cleaned, data, size, cache, progress)
    if leaks:
        more = f" and {len(leaks.tied) - FILES_SHOWN} more" if len(leaks.tied) > FILES_SHOWN else ""
        # Where patients are all they share, two hospitals may only have numbered them alike.
        numbers = "" if leaks.files or leaks.copies else "; or give a source column, if these are other people"
        listed = f"{', '.join(leaks.tied[:FILES_SHOWN])}{more}{numbers}"
        raise DataError(
            f"leakage: the films to train and validate with and the external set {index.name!r} share {leaks}; "
            f"take out of the external set, as --clean quarantine does: {listed}"
        )
    notes = [f"external set: {index.name}, data hash {index.hash[:16]}", *external.notes]
    notes += [f"left out: {count}: {reason}" for reason, count in index.left_out.items()]
    notes += _in_short(
        index.removed, "films of the external set were removed, since films that are trained on are tied to them"
    )
    tested = find_leaks(films, crossing, data.split.test, rows)
    if tested:
        notes.append(f"the internal test films (which nothing is trained on) and the external set share {tested}")
    absent = [name for label, name in enumerate(index.classes) if not (labels == label).any()]
    if absent:
        present = [name for name in index.classes if name not in absent]
        notes.append(f"the external set has no {_listed(absent)}: scores are means over {_listed(present)}")
    unread = {**index.quarantined, **decoded.quarantined}
    notes += _in_short(unread, "files of the external set could not be read and were left out")
    groups = film_groups([f.patient_id for f in decoded.films], own, [f.digest for f in decoded.films])
    return ExternalData(Images(decoded.pixels, labels, index.classes, groups.astype(str)), tuple(notes))


def _match(name: str, classes: Sequence[str]) -> str:
    """The internal class that an external one means; empty where that is not plain."""
    equal = [own for own in classes if _plain(own) == _plain(name)]
    if not equal:
        words = _words(name)
        equal = [own for own in classes if words <= _words(own) or _words(own) <= words]
    return equal[0] if len(equal) == 1 else ""


def _plain(name: str) -> str:
    return re.sub(r"[\s_-]", "", name).casefold()


def _words(name: str) -> set[str]:
    return set(filter(None, re.split(r"[\s_-]+", name.casefold())))


def _patients_by_source(films: list[Film]) -> list[Film]:
    """Two data sets may number their patients alike, so a patient is known by source and number; by the number
    alone where a source is missing, since he may be the same person then."""
    if not all(film.source for film in films if film.patient_id):
        return films
    return [replace(f, patient_id=f"{f.source}\0{f.patient_id}") if f.patient_id else f for f in films]


def _check_classes(name: str, labels: Labels, classes: tuple[str, ...]) -> None:
    present = [classes[label] for label in np.unique(labels)]
    if len(present) < 2:
        found = f"only films of {present[0]!r}" if present else "no film"
        raise DataError(f"external set {name!r} has {found}; scores need at least two classes")


def _in_short(files: Mapping[str, str], meaning: str) -> list[str]:
    """One note for all files: every external record carries the notes, so they must stay short."""
    if not files:
        return []
    shown = "; ".join(f"{file}: {reason}" for file, reason in list(files.items())[:EXAMPLES])
    return [f"{len(files)} {meaning}, e.g. {shown}"]


def _listed(names: Sequence[str]) -> str:
    return ", ".join(repr(name) for name in names)
