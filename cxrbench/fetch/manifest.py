"""What a fetched folder says of itself: where it came from, and the sha256 of each of its files.

The manifest is written last, into a folder that gets its name only when whole: a folder with one is whole.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from cxrbench.cache import write_atomically
from cxrbench.errors import DataError
from cxrbench.fetch.digests import Progress, quiet
from cxrbench.hashing import file_sha256

MANIFEST = "cxrbench-manifest.json"
LITTER = frozenset({".DS_Store", "Thumbs.db", "desktop.ini"})  # left by file browsers; no part of any data set


class FileFacts(BaseModel):
    """One file: its size and its sha256 (hex)."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    bytes: int
    sha256: str


class Manifest(BaseModel):
    """What was fetched.

    Attributes:
        name: of the catalogue.
        origin: the address, the Kaggle handle, or ``archive`` for a file given with ``--from``.
        fetched: when, ISO 8601, UTC.
        archives: what was unpacked, by file name; empty where Kaggle's own client did it.
        files: what lies in the folder, by path with slashes.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    schema_version: Literal[1] = 1
    name: str
    origin: str
    fetched: str
    licence: str
    citation: str
    archives: dict[str, FileFacts]
    files: dict[str, FileFacts]


@dataclass
class Damage:
    """How a folder differs from its manifest; paths with slashes, sorted."""

    changed: list[str] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    extra: list[str] = field(default_factory=list)

    def lines(self) -> Iterator[str]:
        """One line per file."""
        for what in ("changed", "missing", "extra"):
            for name in getattr(self, what):
                yield f"{what}: {name}"


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Write it, atomically."""
    write_atomically(folder / MANIFEST, manifest.model_dump_json(indent=1).encode())


def read_manifest(folder: Path) -> Manifest | None:
    """The manifest of a folder; None where it has none.

    Raises:
        DataError: it cannot be read.
    """
    path = folder / MANIFEST
    if not path.is_file():
        return None
    try:
        return Manifest.model_validate_json(path.read_bytes())
    except (OSError, ValidationError) as error:
        reason = "cannot be read" if isinstance(error, OSError) else "is damaged or of another version"
        raise DataError(f"{path} {reason}; remove the folder and fetch it again") from None


def find_damage(folder: Path, manifest: Manifest, thorough: bool, progress: Progress = quiet) -> Damage:
    """Compare a folder with its manifest.

    Args:
        thorough: read every byte, and look for files that the manifest lacks; else sizes only.
    """
    damage = Damage()
    for done, (name, facts) in enumerate(sorted(manifest.files.items())):
        progress(f"verifying {folder.name}", done, len(manifest.files))
        path = folder / PurePosixPath(name)
        try:
            same = path.stat().st_size == facts.bytes and (not thorough or file_sha256(path) == facts.sha256)
        except OSError:
            damage.missing.append(name)
            continue
        if not same:
            damage.changed.append(name)
    if thorough:
        damage.extra = sorted(name for name in _names(folder) if name not in manifest.files)
    return damage


def _names(folder: Path) -> Iterator[str]:
    for parent, _, names in os.walk(folder):
        for name in names:
            path = (Path(parent) / name).relative_to(folder).as_posix()
            if path != MANIFEST and name not in LITTER:
                yield path
