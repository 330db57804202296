"""From a name of the catalogue to a whole, verified folder of films."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from filelock import FileLock, Timeout

from cxrbench.errors import DataError, UsageError
from cxrbench.fetch.archive import Limits, Unpacker
from cxrbench.fetch.catalogue import Source
from cxrbench.fetch.digests import Hashed, Progress, check_file, quiet
from cxrbench.fetch.download import download, forget
from cxrbench.fetch.kaggle import adopt, download_folder, load_client
from cxrbench.fetch.manifest import (
    LITTER,
    MANIFEST,
    Damage,
    FileFacts,
    Manifest,
    find_damage,
    read_manifest,
    write_manifest,
)

FROM_ARCHIVE = "archive"


def already_here(source: Source, folder: Path, archives: Sequence[Path] = ()) -> Manifest | None:
    """Does ``folder`` hold this very fetch? Looks at the manifest alone.

    Args:
        archives: what was given with ``--from``; its digests must be those of the manifest.

    Returns:
        The manifest; None where the folder is missing or empty, and can be filled.

    Raises:
        UsageError: the folder holds something else.
        DataError: its manifest cannot be read.
    """
    if folder.exists() and not folder.is_dir():
        raise UsageError(f"{folder} is a file; name a folder with --to")
    if not folder.is_dir() or not any(folder.iterdir()):
        return None
    manifest = read_manifest(folder)
    if manifest is None:
        raise UsageError(f"{folder} is not empty and was not made by `cxrbench data fetch`; name another with --to")
    if manifest.name != source.name:
        raise UsageError(f"{folder} holds {manifest.name}, not {source.name}; name another folder with --to")
    if archives:
        given = {check_file(path, None).sha256 for path in archives}
        if given != {facts.sha256 for facts in manifest.archives.values()}:
            raise UsageError(f"{folder} holds {source.name} of another archive; name another folder with --to")
    elif manifest.origin not in (source.origin, FROM_ARCHIVE):
        raise UsageError(
            f"{folder} holds {source.name} from {manifest.origin}, but the catalogue now names {source.origin}; name "
            f"another folder with --to"
        )
    return manifest


def check_folder(folder: Path, manifest: Manifest, thorough: bool, progress: Progress = quiet) -> Damage:
    """Verify a fetched folder: sizes, or (``thorough``) every sha256 and files that do not belong."""
    return find_damage(folder, manifest, thorough, progress)


def check_request(source: Source, archives: Sequence[Path]) -> None:
    """Find out before anything is asked or fetched whether it can be.

    Raises:
        UsageError: an archive is missing, or too few or too many are given; or kagglehub is not installed.
    """
    if not archives and source.kaggle:
        load_client(source)
    if archives and source.files and len(archives) != len(source.files):
        names = " ".join(remote.filename for remote in source.files)
        raise UsageError(f"{source.name} is {len(source.files)} file(s): give --from for each, in this order: {names}")
    for path in archives:
        if not path.is_file():
            reason = "is a folder; run it with --data instead" if path.is_dir() else "does not exist"
            raise UsageError(f"--from {path} {reason}")


def fetch(source: Source, folder: Path, archives: Sequence[Path] = (), progress: Progress = quiet) -> Manifest:
    """Get a data set and put it into ``folder``, which appears only when everything is there.

    Args:
        folder: missing or empty. Partial files lie beside it as ``FOLDER.FILE.part`` and are gone on with.
        archives: take these files instead of downloading; they are left alone.

    Raises:
        UsageError: it cannot be fetched or written, or another fetch into the folder is under way.
        DataError: what came is damaged or dangerous.
    """
    folder = folder.resolve()
    unpacking = folder.with_name(f".{folder.name}.unpacking")
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(folder.with_name(f".{folder.name}.lock"), timeout=0):
            try:
                shutil.rmtree(unpacking, ignore_errors=True)  # of a killed fetch
                unpacking.mkdir()
                manifest = _fill(source, folder, unpacking, archives, progress)
                write_manifest(unpacking, manifest)
                if folder.exists():
                    folder.rmdir()  # os.replace takes the place of an empty folder on some systems only
                os.replace(unpacking, folder)
            finally:
                shutil.rmtree(unpacking, ignore_errors=True)
        for part in _parts(source, folder):
            forget(part)
    except Timeout:
        raise UsageError(f"another fetch into {folder} is under way; wait for it, or end it") from None
    except OSError as error:
        raise UsageError(f"cannot write {error.filename or folder} ({error.strerror}); name another --to") from None
    return manifest


def films_path(folder: Path) -> Path:
    """The path to run on: many archives hold one folder that holds everything; an ``.npz`` is one file."""
    while True:
        inside = [path for path in folder.iterdir() if path.name != MANIFEST and path.name not in LITTER]
        if len(inside) != 1 or not (inside[0].is_dir() or inside[0].suffix == ".npz"):
            return folder
        folder = inside[0]
        if folder.is_file():
            return folder


def _fill(source: Source, folder: Path, unpacking: Path, archives: Sequence[Path], progress: Progress) -> Manifest:
    found: list[tuple[str, Hashed]] = []
    if archives:
        wanted = [remote.digest for remote in source.files] or [None] * len(archives)
        names = [remote.filename for remote in source.files] or [path.name for path in archives]
        for name, path, digest in zip(names, archives, wanted, strict=True):
            # The user's file may be a tar where the catalogue has a zip: only an .npz goes by the catalogue's name.
            found.append((name if name.endswith(".npz") else path.name, check_file(path, digest, progress)))
    else:
        for remote, part in zip(source.files, _parts(source, folder), strict=True):
            found.append((remote.filename, download(remote, part, progress)))
    if found:
        limits = Limits(total=max(Limits.total, 2 * source.size))
        unpacker = Unpacker(unpacking, limits, progress)
        try:
            for name, archive in found:
                unpacker.add(archive.path, name)
            if not unpacker.files:
                raise DataError(f"{found[0][1].path} holds no file; download it again")
        except DataError:
            for part in [] if archives else _parts(source, folder):
                forget(part)  # or the next fetch would take the same bytes for good
            raise
        files = unpacker.files
    else:
        files = adopt(download_folder(source), unpacking, progress)
    return Manifest(
        name=source.name,
        origin=FROM_ARCHIVE if archives else source.origin,
        fetched=datetime.now(UTC).isoformat(timespec="seconds"),
        licence=source.licence,
        citation=source.citation,
        archives={name: FileFacts(bytes=facts.bytes, sha256=facts.sha256) for name, facts in found},
        files=files,
    )


def _parts(source: Source, folder: Path) -> list[Path]:
    return [folder.with_name(f"{folder.name}.{remote.filename}.part") for remote in source.files]
