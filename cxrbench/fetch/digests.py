"""Digests of what is fetched: always sha256, and md5 where that is what was published."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from cxrbench.errors import DataError, UsageError

Progress = Callable[[str, int, int | None], None]  # what, done, in all (None: not known); bytes

BLOCK = 1 << 20


def quiet(what: str, done: int, total: int | None) -> None:
    """Shows nothing."""


@dataclass(frozen=True)
class Hashed:
    """A whole file on disk: its sha256 (hex) and its size."""

    path: Path
    sha256: str
    bytes: int


class Digests:
    """The digests of the first ``count`` bytes of a file.

    Args:
        wanted: ``sha256:HEX`` or ``md5:HEX`` as published; None where none is.
    """

    def __init__(self, wanted: str | None) -> None:
        self.wanted = wanted
        self.reset()

    def reset(self) -> None:
        """Start from the first byte."""
        self.count = 0
        self.sha256 = hashlib.sha256()
        self.md5 = hashlib.md5(usedforsecurity=False)

    def update(self, block: bytes) -> None:
        """Take in the next bytes."""
        self.count += len(block)
        self.sha256.update(block)
        if self.wanted and self.wanted.startswith("md5:"):
            self.md5.update(block)

    def read_up_to(self, part: Path, size: int) -> None:
        """Hash what lies on disk, unless it was hashed as it came."""
        if self.count != size:
            self.reset()
            with part.open("rb") as file:
                while block := file.read(BLOCK):
                    self.update(block)

    def check(self, what: str) -> None:
        """Compare with the published digest.

        Raises:
            DataError: it is another; both are named.
        """
        if self.wanted:
            kind = self.wanted.partition(":")[0]
            found = f"{kind}:{(self.md5 if kind == 'md5' else self.sha256).hexdigest()}"
            if found != self.wanted:
                raise DataError(
                    f"{what} has {found}, but the catalogue says {self.wanted}: it was damaged or replaced; "
                    f"download it again"
                )

    def result(self, path: Path) -> Hashed:
        """What was taken in, as the facts of ``path``."""
        return Hashed(path, self.sha256.hexdigest(), self.count)


def check_file(path: Path, wanted: str | None, progress: Progress = quiet) -> Hashed:
    """Hash a file that is already here, and compare.

    Args:
        wanted: ``sha256:HEX`` or ``md5:HEX``; None compares with nothing.

    Raises:
        DataError: its digest is another. The file is left alone.
        UsageError: it cannot be read.
    """
    digests = Digests(wanted)
    try:
        total = path.stat().st_size
        with path.open("rb") as file:
            while block := file.read(BLOCK):
                digests.update(block)
                progress(f"checking {path.name}", digests.count, total)
    except OSError as error:
        raise UsageError(f"cannot read {path} ({error.strerror}); name an archive file with --from") from None
    digests.check(str(path))
    return digests.result(path)
