"""What the file-based data sets share: digests that are not recomputed, and CSV metadata."""

from __future__ import annotations

import csv
import hashlib
import json
import os
import posixpath
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cxrbench.cache import default_cache_root, write_atomically
from cxrbench.contracts import Film
from cxrbench.datasets.decode import SUFFIXES, decode_film
from cxrbench.errors import DataError, UsageError
from cxrbench.hashing import file_sha256


@dataclass(frozen=True)
class Metadata:
    """What a CSV says of one file."""

    label: str | None = None
    patient_id: str | None = None
    source: str | None = None


def existing_folder(path: str, what: str) -> Path:
    """Raises UsageError where ``path`` is empty or no folder."""
    if not path:
        raise UsageError(f"{what} needs a folder: --data PATH")
    root = Path(path).expanduser()
    if not root.is_dir():
        raise UsageError(f"data path {root} {'is no folder' if root.exists() else 'does not exist'}")
    return root


def image_files(folder: Path) -> list[Path]:
    """The image files directly in ``folder``, by name."""
    return sorted(p for p in folder.iterdir() if p.suffix.lower() in SUFFIXES and p.is_file())


def read_metadata(path: Path, required: Sequence[str] = ("file",)) -> dict[str, Metadata]:
    """Read a CSV with the columns file[,label][,patient_id][,source]; other columns are ignored.

    Raises:
        DataError: not readable as UTF-8 CSV, a required column is missing, or a file is listed twice.
    """
    rows: dict[str, Metadata] = {}
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file)
            missing = [name for name in required if name not in (reader.fieldnames or ())]
            if missing:
                raise DataError(f"{path} has no column {', '.join(missing)}; its first line must name them")
            for line, row in enumerate(reader, start=2):
                name = posixpath.normpath((row["file"] or "").strip().replace("\\", "/") or " ").strip()
                if not name or ("label" in required and not (row["label"] or "").strip()):
                    raise DataError(f"{path}, line {line}: file or label is empty")
                if name in rows:
                    raise DataError(f"{path}, line {line}: {name} is listed a second time; keep one line")
                rows[name] = Metadata(
                    *((row.get(key) or "").strip() or None for key in ("label", "patient_id", "source"))
                )
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is not UTF-8 (byte {error.start}); save it as UTF-8") from None
    except (OSError, csv.Error) as error:
        raise DataError(f"{path} cannot be read: {error}") from None
    return rows


def list_films(root: Path, files: Sequence[tuple[Path, int, Metadata]]) -> list[Film]:
    """Films of (path, label, metadata), with the digest of each file's bytes."""
    digests = file_digests(root, [path for path, _, _ in files])
    return [
        Film(path.relative_to(root).as_posix(), label, digest, meta.patient_id, meta.source)
        for (path, label, meta), digest in zip(files, digests, strict=True)
    ]


def file_digests(root: Path, paths: Sequence[Path]) -> list[str]:
    """The sha256 of each file; a file of unchanged size and modification time is not read again."""
    index = default_cache_root() / "digests" / f"{hashlib.sha256(str(root.resolve()).encode()).hexdigest()}.json"
    try:
        stored = json.loads(index.read_text())
    except (OSError, ValueError):  # no index yet, or a torn one: read the files
        stored = {}
    known: dict[str, list[object]] = stored if isinstance(stored, dict) else {}
    stats = [path.stat() for path in paths]
    names = [path.relative_to(root).as_posix() for path in paths]
    stale = [
        i
        for i, (name, stat) in enumerate(zip(names, stats, strict=True))
        if known.get(name, [None])[:2] != [stat.st_size, stat.st_mtime_ns]
    ]
    with ThreadPoolExecutor(max_workers=os.cpu_count()) as pool:
        fresh = dict(zip(stale, pool.map(lambda i: file_sha256(paths[i]), stale), strict=True))
    entries = {
        name: [stat.st_size, stat.st_mtime_ns, fresh[i]] if i in fresh else known[name]
        for i, (name, stat) in enumerate(zip(names, stats, strict=True))
    }
    if fresh or entries.keys() != known.keys():
        try:
            write_atomically(index, json.dumps(entries).encode())
        except OSError as error:
            raise UsageError(f"cache folder {index.parent} cannot be written ({error}); set $CXRBENCH_CACHE") from None
    return [str(entries[name][2]) for name in names]


def check_classes(root: Path, classes: Sequence[str], counts: Sequence[int]) -> None:
    """Raises DataError for an empty class, a reserved name or fewer than two classes."""
    for name, count in zip(classes, counts, strict=True):
        if count == 0:
            raise DataError(f"class {name!r} in {root} has no image; remove the folder or add films")
    if "all" in classes:
        raise DataError(f"{root}: a class may not be called 'all', which means every class in the results; rename it")
    if len(classes) < 2:
        found = f"only the class {classes[0]!r}" if classes else "no class"
        raise DataError(f"{root} holds {found}; a classifier needs at least two classes with images")


def read_film(root: Path, film: Film, size: int) -> NDArray[np.uint8]:
    """Decode the file of a film; see ``decode_film``."""
    return decode_film(root / film.file, size)
