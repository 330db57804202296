"""Data sets on Kaggle, through Kaggle's own client ``kagglehub``, which knows how to log in."""

from __future__ import annotations

import importlib
import os
import shutil
from pathlib import Path, PurePosixPath
from typing import Any

from cxrbench.errors import DataError, UsageError
from cxrbench.fetch.catalogue import Source
from cxrbench.fetch.digests import Progress
from cxrbench.fetch.guards import member_path
from cxrbench.fetch.manifest import FileFacts
from cxrbench.hashing import file_sha256


def load_client(source: Source) -> Any:
    """Import kagglehub, which is an optional extra.

    Raises:
        UsageError: it is not installed; says how to get it, and how to do without.
    """
    try:
        return importlib.import_module("kagglehub")
    except ImportError:
        raise UsageError(
            f"{source.name} comes from Kaggle, and kagglehub is not installed: `pip install 'cxrbench[kaggle]'`; or "
            f"download the archive by hand from {source.homepage} and use --from ARCHIVE"
        ) from None


def download_folder(source: Source) -> Path:
    """Let kagglehub fetch the data set into its cache, where it goes on with a broken download by itself.

    Returns:
        The folder of the data set in kagglehub's cache.

    Raises:
        UsageError: kagglehub is not installed, or Kaggle refuses.
    """
    client = load_client(source)
    handle = source.kaggle or ""
    get = client.dataset_download if "/" in handle else client.competition_download
    try:
        return Path(get(handle))
    except Exception as reason:  # noqa: BLE001 - kagglehub has seven classes of its own, and passes on those of requests
        terms = f"; {source.terms}" if source.terms else ""
        raise UsageError(
            f"Kaggle gives no {handle} ({type(reason).__name__}: {str(reason)[:300]}){terms}; see "
            f"{source.homepage}, or download it by hand and use --from ARCHIVE"
        ) from None


def adopt(cached: Path, folder: Path, progress: Progress) -> dict[str, FileFacts]:
    """Take the files of kagglehub's cache into ``folder``: as hard links, which cost no room, or as copies.

    Raises:
        DataError: the cache holds something that is no file or folder, or nothing at all.
    """
    files: dict[str, FileFacts] = {}
    for parent, folders, names in os.walk(cached):
        for name in [*folders, *names]:
            if (Path(parent) / name).is_symlink():
                raise DataError(f"{Path(parent) / name} is a link; empty kagglehub's cache and fetch again")
        for name in sorted(names):
            path = Path(parent) / name
            try:
                place = member_path(path.relative_to(cached).as_posix())
            except ValueError as error:
                raise DataError(f"Kaggle's download of {cached} holds {str(path)!r}: {error}") from None
            if place is not None:
                progress("taking over from Kaggle's cache, files", len(files), None)
                files[place.as_posix()] = _link(path, folder, place)
    if not files:
        raise DataError(f"Kaggle's download of {cached} is empty; empty kagglehub's cache and fetch again")
    return files


def _link(path: Path, folder: Path, place: PurePosixPath) -> FileFacts:
    target = folder / place
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.link(path, target)
    except OSError:  # another disk, or one without hard links
        shutil.copyfile(path, target)
    return FileFacts(bytes=target.stat().st_size, sha256=file_sha256(target))
