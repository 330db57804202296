"""Content-addressed artifacts: atomic, checksummed, disposable.

An artifact is a folder of files whose ``manifest.json``, with the sha256 of each, is written last; a
folder without a manifest is the remains of a killed run and is thrown away.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import platformdirs
from filelock import FileLock

from cxrbench.errors import UsageError
from cxrbench.hashing import file_sha256

MANIFEST = "manifest.json"


def default_cache_root() -> Path:
    """``$CXRBENCH_CACHE``, else the platform's cache folder."""
    named = os.environ.get("CXRBENCH_CACHE")
    return Path(named) if named else Path(platformdirs.user_cache_dir("cxrbench"))


def write_atomically(path: Path, content: bytes) -> None:
    """Replace ``path`` by ``content``: after a crash it holds either the old bytes or the new ones.

    Raises:
        OSError: it cannot be written; its ``filename`` is set, as it is not where a disk is full.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError as error:
        if error.errno:
            error.filename = str(path)
        raise
    finally:
        temporary.unlink(missing_ok=True)


class Cache:
    """Artifacts under one root folder. Deleting the folder costs time, never results."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._verified: set[Path] = set()
        try:
            root.mkdir(parents=True, exist_ok=True)
            (root / "CACHEDIR.TAG").write_text("Signature: 8a477f597d28d172789f06886806bc55\n")
        except OSError as error:
            raise UsageError(f"cache folder {root} cannot be written ({error.strerror}); set $CXRBENCH_CACHE") from None

    def folder(self, stage: str, key: str) -> Path:
        """Where the artifact of ``key`` lies, whether or not it exists."""
        return self.root / stage / key[:2] / key

    def has(self, stage: str, key: str) -> bool:
        """Is a complete artifact there? (Its checksums are verified when it is opened.)"""
        return (self.folder(stage, key) / MANIFEST).is_file()

    def get(self, stage: str, key: str, build: Callable[[Path], None]) -> Path:
        """The folder of an artifact; ``build(folder)`` fills it with files where it is missing or damaged.

        Raises:
            ValueError: ``build`` made a subfolder; an artifact is a flat folder.
        """
        folder = self.folder(stage, key)
        if folder in self._verified and (folder / MANIFEST).is_file():
            return folder
        folder.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(folder.with_name(f"{key}.lock")):
            if not self._intact(folder):
                shutil.rmtree(folder, ignore_errors=True)
                folder.mkdir()
                build(folder)
                if any(path.is_dir() for path in folder.iterdir()):
                    raise ValueError(f"an artifact of stage {stage!r} must be files, and no subfolders")
                files = {p.name: file_sha256(p) for p in sorted(folder.iterdir())}
                for name in files:
                    _flush(folder / name)
                write_atomically(folder / MANIFEST, json.dumps(files, indent=1).encode())
                self._forget_work(stage, key)
        self._verified.add(folder)
        return folder

    def workdir(self, stage: str, key: str) -> Path:
        """A folder for what making an artifact needs; it outlives a killed process, not the complete artifact."""
        folder = self._work(stage, key)
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    def begun_since(self, stage: str, key: str, moment: float) -> bool:
        """Was the artifact made, or its making begun, at ``moment`` (as of ``time.time``) or later?"""
        places = (self.folder(stage, key) / MANIFEST, self._work(stage, key))
        return any(place.exists() and place.stat().st_mtime >= moment for place in places)

    def drop(self, stage: str, key: str) -> None:
        """Forget an artifact and what was begun of it, so that the next ``get`` makes it anew."""
        folder = self.folder(stage, key)
        shutil.rmtree(folder, ignore_errors=True)
        self._verified.discard(folder)
        self._forget_work(stage, key)

    def _work(self, stage: str, key: str) -> Path:
        return self.root / "work" / stage / key

    def _forget_work(self, stage: str, key: str) -> None:
        shutil.rmtree(self._work(stage, key), ignore_errors=True)

    def _intact(self, folder: Path) -> bool:
        try:
            files = json.loads((folder / MANIFEST).read_text())
            return isinstance(files, dict) and all(
                file_sha256(folder / name) == digest for name, digest in files.items()
            )
        except (OSError, ValueError):  # missing, torn or unreadable: all mean "make it again"
            return False


def _flush(path: Path) -> None:
    with path.open("rb") as file:
        os.fsync(file.fileno())
