"""Where the weights of pretrained extractors come from: one way for all, and no file is opened unchecked.

A file of weights may hold a pickle, and a pickle runs code when it is read. So every file is hashed first, and
none is handed on whose sha256 is not the published one. cxrbench's fetcher of data sets is not used: it waits
and tries again for seconds, while a run without a network shall go on at once with the other extractors.
"""

from __future__ import annotations

import functools
import hashlib
import http.client
import os
import sys
import urllib.error
import urllib.request
from pathlib import Path
from urllib.parse import urlsplit

from cxrbench.cache import default_cache_root
from cxrbench.contracts import WeightsUnavailable
from cxrbench.errors import UsageError
from cxrbench.hashing import file_sha256

SHORTEST_PREFIX = 8  # hex digits: what torch's file names carry
TIMEOUT = 30.0  # seconds without a byte
BLOCK = 1 << 20


def find_weights(filename: str, url: str, sha256_prefix: str) -> Path:
    """Find a file of weights, or fetch it once; its sha256 has been checked.

    Looked at in this order: ``$CXRBENCH_WEIGHTS`` (files and folders, separated as in ``$PATH``; a file that is
    named alone may have any name), torch's hub folder, the folder ``weights`` of cxrbench's cache. Fetched into
    the last one.

    Args:
        filename: what the file is called; the last part of ``url`` will do, too.
        url: where it is published.
        sha256_prefix: what its sha256 begins with: at least 8 hex digits, better all 64.

    Raises:
        UsageError: ``$CXRBENCH_WEIGHTS`` names something that does not exist.
        WeightsUnavailable: a file of that name has another sha256, or there is none and it cannot be fetched.
    """
    if len(sha256_prefix) < SHORTEST_PREFIX:
        raise ValueError(f"{filename}: a sha256 prefix needs {SHORTEST_PREFIX} hex digits, got {sha256_prefix!r}")
    names = dict.fromkeys([filename, Path(urlsplit(url).path).name])
    named, strangers = _named_files(names, sha256_prefix)
    own = default_cache_root() / "weights"
    for path in [*named, *(folder / name for folder in (_hub_folder(), own) for name in names)]:
        if path.is_file():
            _check(path, filename, url, sha256_prefix)
            return path
    reason = _fetch(url, own / filename, sha256_prefix)
    if reason:
        other = "".join(f"; {path} is not the known file: its sha256 is {_short(path)}" for path in strangers)
        raise WeightsUnavailable(
            f"{filename} cannot be fetched ({reason}){other}; download {url} and set CXRBENCH_WEIGHTS to the file "
            f"or its folder"
        )
    return own / filename


def weights_digest(path: Path) -> str:
    """The sha256 (hex) of a file; hashed again only when its size or time has changed."""
    facts = path.stat()
    return _digest(path, facts.st_size, facts.st_mtime_ns, facts.st_ino)


@functools.lru_cache(maxsize=64)
def _digest(path: Path, size: int, modified: int, inode: int) -> str:
    return file_sha256(path)


def _named_files(names: dict[str, None], sha256_prefix: str) -> tuple[list[Path], list[Path]]:
    """What ``$CXRBENCH_WEIGHTS`` names: the files that are meant, and a file that is another one."""
    found, strangers = [], []
    named = [Path(entry).expanduser() for entry in os.environ.get("CXRBENCH_WEIGHTS", "").split(os.pathsep) if entry]
    for path in named:
        if not path.exists():
            raise UsageError(f"$CXRBENCH_WEIGHTS names {path}, which does not exist")
        if path.is_dir():
            found += [path / name for name in names]
        elif path.name in names or (len(named) == 1 and weights_digest(path).startswith(sha256_prefix)):
            found.append(path)
        elif len(named) == 1:
            strangers.append(path)
    return found, strangers


def _hub_folder() -> Path:
    """Where ``torch.hub`` keeps weights; torch is not imported to be asked, which takes longer than a plan."""
    if (torch := sys.modules.get("torch")) is not None:
        return Path(torch.hub.get_dir()) / "checkpoints"
    cache = os.environ.get("XDG_CACHE_HOME", "~/.cache")
    return Path(os.environ.get("TORCH_HOME", f"{cache}/torch")).expanduser() / "hub" / "checkpoints"


def _check(path: Path, filename: str, url: str, sha256_prefix: str) -> None:
    if not weights_digest(path).startswith(sha256_prefix):
        raise WeightsUnavailable(
            f"{path} is not the known {filename}: its sha256 is {_short(path)}, expected {sha256_prefix[:16]}...; "
            f"delete it, or replace it by {url}"
        )


def _short(path: Path) -> str:
    return f"{weights_digest(path)[:16]}..."


def _fetch(url: str, target: Path, sha256_prefix: str) -> str:
    """Fetch ``url`` into ``target``, which is there whole and right, or not at all. Returns why not, or nothing."""
    part = target.with_name(f".{target.name}.{os.getpid()}.part")
    digest = hashlib.sha256()
    try:
        with urllib.request.urlopen(url, timeout=TIMEOUT) as response:
            target.parent.mkdir(parents=True, exist_ok=True)
            with part.open("wb") as file:
                while block := response.read(BLOCK):
                    digest.update(block)
                    file.write(block)
        if not digest.hexdigest().startswith(sha256_prefix):
            return f"what came has sha256 {digest.hexdigest()[:16]}..., expected {sha256_prefix[:16]}..."
        os.replace(part, target)
    except urllib.error.HTTPError as error:
        error.close()
        return f"the server answers {error.code} {error.reason}"
    except (OSError, ValueError, http.client.HTTPException) as error:
        return str(getattr(error, "reason", error)) or type(error).__name__
    finally:
        part.unlink(missing_ok=True)
    return ""
