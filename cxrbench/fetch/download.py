"""One file over HTTPS: gone on with after a break, hashed as it streams, kept only when whole.

urllib rather than pooch, which is good at the rest: pooch starts from zero after every break, and what is
fetched here is up to tens of gigabytes.
"""

from __future__ import annotations

import http.client
import json
import shutil
import time
import urllib.error
import urllib.request
from dataclasses import asdict, dataclass
from email.message import Message
from pathlib import Path
from typing import IO
from urllib.parse import urlsplit

from cxrbench import __version__
from cxrbench.cache import write_atomically
from cxrbench.errors import DataError, UsageError
from cxrbench.fetch.catalogue import Remote, size_text
from cxrbench.fetch.digests import Digests, Hashed, Progress, quiet

TRIES = 4  # in a row that bring no new byte
PAUSE = 0.5  # seconds before the second try; doubled for each one after
TIMEOUT = 30.0  # seconds without a byte
AT_ONCE = 1 << 16  # bytes per read of the network: what a break can lose
LOOPBACK = frozenset({"127.0.0.1", "localhost", "::1"})
PASSING = frozenset({408, 429, 500, 502, 503, 504})  # HTTP statuses that may be over in a moment


@dataclass(frozen=True)
class _State:
    """What is known of a partial file; lies beside it as ``.part.json``."""

    url: str
    validator: str | None = None  # a strong ETag, or Last-Modified: tells whether the file changed since
    total: int | None = None


class _Dropped(Exception):
    """The transfer broke off; what came is kept, and it may be gone on with."""


def download(remote: Remote, part: Path, progress: Progress = quiet) -> Hashed:
    """Fetch a file into ``part``, going on with what an earlier, broken fetch left there.

    Returns:
        The whole file, still called ``part``; ``forget`` removes it with its ``.part.json``.

    Raises:
        UsageError: it cannot be fetched (no network, no such page, no room, not encrypted).
        DataError: what came is not what the catalogue says; it is removed.
    """
    _check_address(remote.url, remote.allow_http)
    digests = Digests(remote.digest)
    failures, best = 0, -1
    while True:
        try:
            _transfer(remote, part, digests, progress)
            break
        except _Dropped as dropped:
            size = _size(part)
            failures = 0 if size > best else failures + 1
            best = max(best, size)
            if failures >= TRIES:
                again = f"give the same command again to go on from {size_text(size)}" if size else "try again later"
                raise UsageError(
                    f"{remote.url} cannot be fetched ({dropped}); {again}, or download it by hand and use "
                    f"--from ARCHIVE"
                ) from None
            time.sleep(PAUSE * 2**failures)
    try:
        digests.read_up_to(part, _size(part))
        digests.check(remote.url)
    except DataError:
        forget(part)
        raise
    return digests.result(part)


def forget(part: Path) -> None:
    """Remove a partial file and what is known of it."""
    part.unlink(missing_ok=True)
    _state_file(part).unlink(missing_ok=True)


def _transfer(remote: Remote, part: Path, digests: Digests, progress: Progress) -> None:
    """One request. Returns when ``part`` is whole."""
    have, state = _size(part), _read_state(part)
    # A part of another file, or one whose file may have changed unnoticed, cannot be gone on with.
    if have and (state.url != remote.url or not (state.validator or remote.digest)):
        forget(part)
        have, state = 0, _State(remote.url)
    if have and have == state.total:
        return
    headers = {"User-Agent": f"cxrbench/{__version__}", "Accept-Encoding": "identity"}
    if have:
        headers["Range"] = f"bytes={have}-"
        if state.validator:
            headers["If-Range"] = state.validator
    with _open(urllib.request.Request(remote.url, headers=headers), remote, part) as response:
        start, total = _extent(response, have)
        validator = _validator(response.headers)
        if start and (start != have or validator not in (None, state.validator) or (state.total or total) != total):
            forget(part)  # a server that goes on although the file changed: If-Range is not known to all
            raise _Dropped("the file changed on the server")
        if start:
            validator = state.validator
        total = total if total is not None else remote.bytes
        if remote.bytes is not None and total != remote.bytes:
            raise DataError(f"{remote.url} has {total} bytes, but the catalogue says {remote.bytes}: it was replaced")
        try:
            part.parent.mkdir(parents=True, exist_ok=True)
            _check_room(part, None if total is None else total - start)
            _write_state(part, _State(remote.url, validator, total))
            digests.read_up_to(part, start) if start else digests.reset()
            with part.open("ab" if start else "wb") as file:
                while block := _read(response):
                    file.write(block)
                    digests.update(block)
                    progress(f"fetching {remote.filename}", digests.count, total)
        except OSError as error:
            raise UsageError(f"cannot write {part} ({error.strerror}); free some room or name another --to") from None
    if total is not None and digests.count < total:
        raise _Dropped(f"the connection ended after {digests.count} of {total} bytes")
    _write_state(part, _State(remote.url, validator, digests.count))


def _open(request: urllib.request.Request, remote: Remote, part: Path) -> http.client.HTTPResponse:
    opener = urllib.request.build_opener(_Redirects(remote.allow_http))
    try:
        response: http.client.HTTPResponse = opener.open(request, timeout=TIMEOUT)
    except urllib.error.HTTPError as error:
        error.close()
        if error.code == http.HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
            forget(part)
        elif error.code not in PASSING:
            raise UsageError(
                f"{remote.url} answers {error.code} {error.reason}; see the data set's homepage, download it by "
                f"hand and use --from ARCHIVE"
            ) from None
        raise _Dropped(f"the server answers {error.code} {error.reason}") from None
    except (OSError, http.client.HTTPException) as error:
        raise _Dropped(str(getattr(error, "reason", error)) or type(error).__name__) from None
    return response


def _read(response: http.client.HTTPResponse) -> bytes:
    try:
        return response.read(AT_ONCE)
    except (OSError, http.client.HTTPException) as error:
        raise _Dropped(f"the connection broke: {error or type(error).__name__}") from None


class _Redirects(urllib.request.HTTPRedirectHandler):
    """Follows redirects, but never from an encrypted page to one that is not."""

    def __init__(self, allow_http: bool) -> None:
        self.allow_http = allow_http

    def redirect_request(
        self, req: urllib.request.Request, fp: IO[bytes], code: int, msg: str, headers: Message, newurl: str
    ) -> urllib.request.Request | None:
        if req.type == "https" and urlsplit(newurl).scheme != "https":
            raise UsageError(f"{req.full_url} redirects to {newurl}, which is not encrypted; download it by hand")
        _check_address(newurl, self.allow_http)
        return super().redirect_request(req, fp, code, msg, headers, newurl)  # type: ignore[arg-type]


def _check_address(url: str, allow_http: bool) -> None:
    address = urlsplit(url)
    if address.scheme == "https" or (address.scheme == "http" and (allow_http or address.hostname in LOOPBACK)):
        return
    raise UsageError(f"{url} is not https, and nothing vouches for what comes; download it by hand and use --from")


def _extent(response: http.client.HTTPResponse, have: int) -> tuple[int, int | None]:
    """Where the answer begins in the file, and how long the file is in all (None: the server does not say)."""
    if response.status == http.HTTPStatus.PARTIAL_CONTENT:
        unit, _, extent = response.headers.get("Content-Range", "").partition(" ")
        span, _, total = extent.partition("/")
        first = span.partition("-")[0]
        if unit == "bytes" and first.isdigit():
            return int(first), int(total) if total.isdigit() else None
        raise _Dropped("the server answers a range that it does not name")
    length = response.headers.get("Content-Length", "")
    return 0, int(length) if length.isdigit() else None


def _validator(headers: Message) -> str | None:
    etag = headers.get("ETag", "")
    return etag if etag and not etag.startswith("W/") else headers.get("Last-Modified")


def _check_room(part: Path, wanted: int | None) -> None:
    free = shutil.disk_usage(part.parent).free
    if wanted is not None and wanted > free:
        raise UsageError(
            f"{part.parent} has {size_text(free)} free, but {size_text(wanted)} are still to come; free some room "
            f"or name another --to"
        )


def _size(part: Path) -> int:
    return part.stat().st_size if part.is_file() else 0


def _state_file(part: Path) -> Path:
    return part.with_name(f"{part.name}.json")


def _read_state(part: Path) -> _State:
    try:
        return _State(**json.loads(_state_file(part).read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):  # missing or torn: nothing is known, so the part is not used
        return _State("")


def _write_state(part: Path, state: _State) -> None:
    write_atomically(_state_file(part), json.dumps(asdict(state)).encode())
