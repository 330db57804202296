"""What the file-based data sets share: a root folder, metadata, digests that are not recomputed."""

from __future__ import annotations

import hashlib
import json
import os
import posixpath
import stat
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from cxrbench.cache import default_cache_root, write_atomically
from cxrbench.contracts import Film, Listing
from cxrbench.datasets.decode import SUFFIXES, decode_film, stored_dimensions
from cxrbench.datasets.tables import read_rows
from cxrbench.errors import DataError, UsageError
from cxrbench.hashing import file_sha256

SPLITS = {"train": "train", "training": "train", "val": "val", "valid": "val", "validation": "val", "test": "test"}


@dataclass(frozen=True)
class Metadata:
    """What a table says of one file; see ``contracts.Film`` for the meaning of each."""

    label: str | None = None
    patient_id: str | None = None
    source: str | None = None
    view: str | None = None
    age: float | None = None
    sex: str | None = None
    split: str | None = None


@dataclass(frozen=True)
class Entry:
    """One file that should be a film; ``file`` is its name below the root, as a POSIX path."""

    file: str
    label: int
    meta: Metadata = field(default_factory=Metadata)


@dataclass
class FileDataset:
    """A data set whose films are files below one folder.

    Args:
        root: that folder.
    """

    root: str = ""

    redistributable: ClassVar[bool] = False

    def folder(self) -> Path:
        """Raises UsageError where ``root`` is empty or no folder."""
        return existing_folder(self.root, f"data set {type(self).__name__.lower()!r}")

    def read(self, film: Film, size: int) -> NDArray[np.uint8]:
        """Decode one film; see ``decode_film``."""
        return decode_film(self.folder() / film.file, size)

    def dimensions(self, film: Film) -> tuple[int, int]:
        """Width and height of the stored film in pixels; see ``stored_dimensions``."""
        return stored_dimensions(self.folder() / film.file)


def existing_folder(path: str, what: str) -> Path:
    """Raises UsageError where ``path`` is empty or no folder."""
    if not path:
        raise UsageError(f"{what} needs a folder: --data PATH")
    root = Path(path).expanduser()
    if not root.is_dir():
        raise UsageError(f"data path {root} {'is no folder' if root.exists() else 'does not exist'}")
    return root


def image_files(folder: Path) -> list[Path]:
    """The files directly in ``folder`` that are named like images, by name; a broken link is one of them.

    Hidden files are none: macOS leaves a ``._NAME.jpeg`` beside each file it packs.
    """
    return sorted(
        p for p in folder.iterdir() if p.suffix.lower() in SUFFIXES and not p.name.startswith(".") and not p.is_dir()
    )


def read_metadata(path: Path, required: Sequence[str] = ("file",)) -> tuple[dict[str, Metadata], dict[str, str]]:
    """Read a CSV with the columns file[,label][,patient_id][,source][,view][,age][,sex][,split].

    Returns:
        File name (normalised, relative) -> what is said of it, and file name -> why it cannot be used: it
        lies outside the table's folder, or is listed twice with different facts.

    Raises:
        DataError: no UTF-8 CSV, a required column is missing, a line without file or label, an unknown split.
    """
    rows: dict[str, Metadata] = {}
    refused: dict[str, str] = {}
    for line, row in read_rows(path, required):
        name = posixpath.normpath(row["file"].replace("\\", "/") or " ").strip()
        if not name or ("label" in required and not row["label"]):
            raise DataError(f"{path}, line {line}: file or label is empty")
        split = row.get("split", "").lower()
        if split and split not in SPLITS:
            raise DataError(f"{path}, line {line}: split {row['split']!r} is none of train, val, test")
        meta = Metadata(
            label=row.get("label") or None,
            patient_id=row.get("patient_id") or None,
            source=row.get("source") or None,
            view=row.get("view") or None,
            age=parse_age(row.get("age", "")),
            sex=row.get("sex") or None,
            split=SPLITS.get(split),
        )
        if name.startswith(("../", "/")):
            refused[name] = f"lies outside the folder of {path.name}, which names it"
        elif rows.setdefault(name, meta) != meta:
            refused[name] = f"listed twice in {path.name} with different facts (line {line}); keep one line"
    return {name: meta for name, meta in rows.items() if name not in refused}, refused


def parse_age(text: str) -> float | None:
    """Years from ``58``, ``058Y``, ``18M`` or ``30D``; None where it is no age a person reaches."""
    unit = {"Y": 1.0, "M": 1 / 12, "W": 1 / 52.18, "D": 1 / 365.25}.get(text[-1:].upper())
    try:
        age = float(text[:-1]) * unit if unit else float(text)
    except ValueError:
        return None
    return age if 0 <= age <= 120 else None


def list_films(
    root: Path,
    entries: Sequence[Entry],
    quarantined: Mapping[str, str] | None = None,
    left_out: Mapping[str, int] | None = None,
) -> Listing:
    """Films of ``entries`` with the digest of each file's bytes; files that are not there are quarantined."""
    refused = dict(quarantined or {})
    present: list[tuple[Entry, os.stat_result]] = []
    for entry in entries:
        name, path = entry.file, root / entry.file
        try:
            found = path.stat()
            if not stat.S_ISREG(found.st_mode):
                refused[name] = "is no file"
            else:
                present.append((entry, found))
        except FileNotFoundError:
            refused[name] = "named, but not there"
        except OSError as error:  # a loop of links, a folder that may not be entered
            refused[name] = f"cannot be opened: {error.strerror}"
    digests = file_digests(root, [entry.file for entry, _ in present], [found for _, found in present])
    films = []
    for (entry, _), digest in zip(present, digests, strict=True):
        name, meta = entry.file, entry.meta
        if digest is None:
            refused[name] = "cannot be read: permission denied or a fault of the disk"
            continue
        films.append(
            Film(
                name,
                entry.label,
                digest,
                meta.patient_id,
                meta.source,
                view=meta.view,
                age=meta.age,
                sex=meta.sex,
                split=meta.split,
            )
        )
    return Listing(films, refused, dict(left_out or {}))


def file_digests(root: Path, names: Sequence[str], stats: Sequence[os.stat_result]) -> list[str | None]:
    """The sha256 of each file, None where it cannot be read; a file of unchanged size and modification time
    is not read again."""
    index = default_cache_root() / "digests" / f"{hashlib.sha256(os.fsencode(root.resolve())).hexdigest()}.json"
    try:
        stored = json.loads(index.read_text())
    except (OSError, ValueError):  # no index yet, or a torn one: read the files
        stored = {}
    known: dict[str, list[object]] = stored if isinstance(stored, dict) else {}
    stale = [
        i
        for i, (name, found) in enumerate(zip(names, stats, strict=True))
        if known.get(name, [None])[:2] != [found.st_size, found.st_mtime_ns]
    ]
    with ThreadPoolExecutor(max_workers=os.cpu_count()) as pool:
        fresh = dict(zip(stale, pool.map(lambda i: _digest(root / names[i]), stale), strict=True))
    entries = {
        name: [found.st_size, found.st_mtime_ns, fresh[i]] if i in fresh else known[name]
        for i, (name, found) in enumerate(zip(names, stats, strict=True))
    }
    readable = {name: entry for name, entry in entries.items() if entry[2] is not None}
    if fresh or readable.keys() != known.keys():
        try:
            write_atomically(index, json.dumps(readable).encode())
        except OSError as error:
            raise UsageError(f"cache folder {index.parent} cannot be written ({error}); set $CXRBENCH_CACHE") from None
    return [None if entries[name][2] is None else str(entries[name][2]) for name in names]


def _digest(path: Path) -> str | None:
    try:
        return file_sha256(path)
    except OSError:  # the caller quarantines it
        return None


def check_classes(root: Path, classes: Sequence[str], listing: Listing) -> Listing:
    """The listing, if every class has films.

    Raises:
        DataError: an empty class, a reserved name or fewer than two classes.
    """
    present = {film.label for film in listing.films}
    for label, name in enumerate(classes):
        if label not in present:
            lost = (
                f" ({len(listing.quarantined)} files were refused, the first because: " if listing.quarantined else ""
            )
            why = lost + next(iter(listing.quarantined.values())) + ")" if lost else ""
            raise DataError(f"class {name!r} in {root} has no image{why}; remove the class or add films")
    if "all" in classes:
        raise DataError(f"{root}: a class may not be called 'all', which means every class in the results; rename it")
    if len(classes) < 2:
        found = f"only the class {classes[0]!r}" if classes else "no class"
        raise DataError(f"{root} holds {found}; a classifier needs at least two classes with images")
    return listing
