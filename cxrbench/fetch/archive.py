"""Unpacking an archive that nobody vouches for: every name, kind and size is checked, and nothing is trusted.

Members are read as streams and written by the code here, so no link, owner or permission of an archive ever
reaches the disk.
"""

from __future__ import annotations

import bz2
import gzip
import hashlib
import lzma
import shutil
import stat
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO, Any, cast

from cxrbench.errors import DataError, UsageError
from cxrbench.fetch.catalogue import size_text
from cxrbench.fetch.digests import BLOCK, Progress, quiet
from cxrbench.fetch.guards import Guarded, member_path
from cxrbench.fetch.manifest import FileFacts

BROKEN = (
    zipfile.BadZipFile,
    tarfile.TarError,
    gzip.BadGzipFile,
    lzma.LZMAError,
    zlib.error,
    EOFError,
    NotImplementedError,  # a zip of an unknown method
    ValueError,  # damaged numbers and names in headers
    struct.error,
)
PACKED: dict[bytes, Callable[[Path], Any]] = {b"\x1f\x8b": gzip.open, b"\xfd7": lzma.open, b"BZ": bz2.open}


@dataclass(frozen=True)
class Limits:
    """What an archive may hold before it counts as a bomb.

    Attributes:
        total: bytes of all files, unpacked.
        members: files and folders.
        ratio: unpacked to packed bytes of the archive as a whole; films hardly shrink.
        member_ratio: the same of one member of a zip.
        floor: bytes up to which no ratio is looked at.
    """

    total: int = 200_000_000_000
    members: int = 2_000_000
    ratio: float = 200.0
    member_ratio: float = 1000.0
    floor: int = 10_000_000


class Unpacker:
    """Fills a folder from one archive or more.

    Attributes:
        files: what was written, by path with slashes.
    """

    def __init__(self, folder: Path, limits: Limits | None = None, progress: Progress = quiet) -> None:
        self.folder = folder
        self.limits = limits or Limits()
        self.progress = progress
        self.files: dict[str, FileFacts] = {}
        self._bytes = 0  # of all archives so far
        self._before = 0  # of those before the present one

    def add(self, archive: Path, filename: str) -> None:
        """Unpack a zip or a tar (plain, gz, xz, bz2); an ``.npz`` is copied.

        Args:
            filename: what the archive is called, which may differ from what its file is called now.

        Raises:
            DataError: it is damaged, or holds what it must not hold.
            UsageError: it cannot be read, or its content cannot be written.
        """
        self._before = self._bytes
        try:
            with archive.open("rb") as file:
                start = file.read(4)
            if filename.lower().endswith(".npz"):
                self._copy(archive, filename)
            elif start[:2] == b"PK":
                self._unzip(archive, filename)
            else:
                self._untar(archive, filename, PACKED.get(start[:2]))
        except BROKEN as error:
            raise DataError(
                f"{archive} is no whole zip, tar or npz archive ({error or type(error).__name__}); download it again"
            ) from None
        except (FileExistsError, NotADirectoryError, IsADirectoryError) as error:
            raise DataError(f"{archive} holds {error.filename} twice, or as file and folder") from None
        except OSError as error:
            raise UsageError(f"cannot unpack {archive} to {self.folder} ({error.strerror or error})") from None

    def _copy(self, archive: Path, filename: str) -> None:
        with zipfile.ZipFile(archive) as whole:  # an .npz is a zip of arrays
            self._check_open(archive, whole.infolist())
            bad = whole.testzip()
        if bad is not None:
            raise zipfile.BadZipFile(f"wrong CRC in {bad}")
        size = archive.stat().st_size
        self._check_room(size)
        with archive.open("rb") as file:
            self._write(PurePosixPath(filename), file, size, archive)

    def _unzip(self, archive: Path, filename: str) -> None:
        packed = archive.stat().st_size
        with zipfile.ZipFile(archive) as whole:
            members = whole.infolist()
            declared = sum(member.file_size for member in members)
            self._check_open(archive, members)
            self._check_count(archive, len(members))
            self._check_bytes(archive, declared, packed)
            self._check_room(declared)
            paths = []
            for member in members:  # all are looked at before the first is written
                kind = stat.S_IFMT(member.external_attr >> 16)
                if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
                    raise DataError(f"{archive} holds {member.filename!r}, which is no file or folder but a link")
                if member.file_size > max(self.limits.floor, member.compress_size * self.limits.member_ratio):
                    raise DataError(f"{archive} holds {member.filename!r}, which grows like a decompression bomb")
                paths.append(self._place(archive, member.orig_filename))
            for path, member in zip(paths, members, strict=True):
                if path and member.is_dir():
                    (self.folder / path).mkdir(parents=True, exist_ok=True)
                elif path:
                    with whole.open(member) as stream:
                        self._write(path, stream, member.file_size, archive)
                    self.progress(f"unpacking {filename}", self._bytes, declared)

    def _untar(self, archive: Path, filename: str, unpack: Callable[[Path], Any] | None) -> None:
        packed = archive.stat().st_size
        allowed = min(self.limits.total, max(self.limits.floor, int(packed * self.limits.ratio)))
        stream: IO[bytes] = unpack(archive) if unpack else archive.open("rb")
        guarded = Guarded(stream, archive, allowed + 4 * tarfile.BLOCKSIZE * self.limits.members)
        with stream, tarfile.open(fileobj=cast(IO[bytes], guarded), mode="r:") as whole:
            written = 0
            for members, member in enumerate(whole, start=1):
                self._check_count(archive, members)
                if not (member.isfile() or member.isdir()):
                    raise DataError(f"{archive} holds {member.name!r}, which is no file or folder but a link or device")
                path = self._place(archive, member.name)
                if path and member.isdir():
                    (self.folder / path).mkdir(parents=True, exist_ok=True)
                elif path:
                    if hasattr(tarfile, "data_filter"):  # Python's own opinion, where it has one (3.11.4)
                        tarfile.data_filter(member, str(self.folder))
                    written += member.size
                    self._check_bytes(archive, written, packed)
                    self._check_room(member.size)
                    self._write(path, cast(IO[bytes], whole.extractfile(member)), member.size, archive)
                    self.progress(f"unpacking {filename}", self._bytes, None)
            # tarfile takes a damaged header for the end; the true end is a block of zeros.
            if guarded.last != bytes(tarfile.BLOCKSIZE):
                raise tarfile.ReadError("it is cut short or damaged")

    def _check_open(self, archive: Path, members: list[zipfile.ZipInfo]) -> None:
        for member in members:
            if member.flag_bits & 0x1:
                raise DataError(f"{archive} is encrypted ({member.filename!r}); decrypt it first")

    def _place(self, archive: Path, name: str) -> PurePosixPath | None:
        try:
            return member_path(name)
        except ValueError as error:
            raise DataError(f"{archive} holds a member whose name {error}: {name[:200]!r}; it is refused") from None

    def _write(self, path: PurePosixPath, stream: IO[bytes], declared: int, archive: Path) -> None:
        target = self.folder / path
        target.parent.mkdir(parents=True, exist_ok=True)
        digest, count = hashlib.sha256(), 0
        with target.open("xb") as file:
            while block := stream.read(BLOCK):
                count += len(block)
                if count > declared:
                    break
                digest.update(block)
                file.write(block)
        if count != declared:
            raise DataError(f"{archive} says {path} has {declared} bytes, but it holds another number; it is damaged")
        self._bytes += count
        self.files[path.as_posix()] = FileFacts(bytes=count, sha256=digest.hexdigest())

    def _check_count(self, archive: Path, members: int) -> None:
        if members > self.limits.members:
            raise DataError(f"{archive} holds more than {self.limits.members} members; it is refused")

    def _check_bytes(self, archive: Path, unpacked: int, packed: int) -> None:
        if self._before + unpacked > self.limits.total:
            raise DataError(f"{archive} unpacks to more than {size_text(self.limits.total)}; it is refused")
        if unpacked > max(self.limits.floor, packed * self.limits.ratio):
            raise DataError(
                f"{archive} unpacks {size_text(packed)} to {size_text(unpacked)} or more, as a decompression bomb "
                f"does; it is refused"
            )

    def _check_room(self, wanted: int) -> None:
        free = shutil.disk_usage(self.folder).free
        if wanted > free:
            raise UsageError(
                f"{self.folder.parent} has {size_text(free)} free, but unpacking needs {size_text(wanted)}; free "
                f"some room or name another --to"
            )
