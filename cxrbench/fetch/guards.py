"""What stands between an archive and the disk: which names are allowed, and how far its stream may be followed."""

from __future__ import annotations

import re
from pathlib import Path, PurePosixPath
from typing import IO

from cxrbench.errors import DataError
from cxrbench.fetch.manifest import LITTER, MANIFEST

DRIVE = re.compile(r"^[A-Za-z]:")


def member_path(name: str) -> PurePosixPath | None:
    """Where a member of that name belongs inside the folder; None for the litter of file browsers.

    Raises:
        ValueError: the name leads out of the folder, or is no name on some system.
    """
    parts = [part for part in name.split("/") if part not in ("", ".")]
    if name in (".", "./"):
        return None  # the folder itself
    if not parts or name.startswith("/"):
        raise ValueError("is an absolute path" if name.startswith("/") else "is empty")
    if ".." in parts or any(DRIVE.match(part) for part in parts):
        raise ValueError("leads out of the folder")
    if "\\" in name or any(ord(letter) < 32 for letter in name):
        raise ValueError("has a backslash or a control character")
    try:
        name.encode()
    except UnicodeEncodeError:
        raise ValueError("is not UTF-8") from None
    path = PurePosixPath(*parts)
    return None if "__MACOSX" in parts or path.name in LITTER or path == PurePosixPath(MANIFEST) else path


class Guarded:
    """A stream for tarfile, which reads headers of any declared length into memory and skips without looking.

    Attributes:
        end: the position past which nothing honest lies.
        last: what the last read gave.
    """

    LARGEST = 64 << 20  # bytes in one read; members are read in blocks of one MiB, and headers are small

    def __init__(self, stream: IO[bytes], archive: Path, end: int) -> None:
        self.stream, self.archive, self.end = stream, archive, end
        self.last = b""

    def read(self, size: int) -> bytes:
        self._check(size <= self.LARGEST and self.stream.tell() <= self.end)
        self.last = self.stream.read(size)
        return self.last

    def seek(self, position: int) -> int:
        self._check(position <= self.end)
        return self.stream.seek(position)

    def tell(self) -> int:
        return self.stream.tell()

    def _check(self, honest: bool) -> None:
        if not honest:
            raise DataError(f"{self.archive} unpacks like a decompression bomb; it is refused")
