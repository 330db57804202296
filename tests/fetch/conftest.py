"""A loopback server that misbehaves as told, and what the tests of ``cxrbench data`` share."""

from __future__ import annotations

import functools
import http.server
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from cxrbench.fetch.catalogue import Source, catalogue
from cxrbench.fetch.manifest import MANIFEST


@dataclass
class Page:
    """What is served at one path.

    Attributes:
        cut: bytes of each answer's body after which the connection is closed, one per request; then no cut.
        statuses: statuses to answer with first, one per request.
        asked: the headers of each request.
    """

    body: bytes = b""
    etag: str | None = '"one"'
    modified: str | None = None
    ranges: bool = True
    if_range: bool = True
    length: bool = True
    location: str | None = None
    cut: list[int] = field(default_factory=list)
    statuses: list[int] = field(default_factory=list)
    asked: list[dict[str, str]] = field(default_factory=list)


@dataclass
class Site:
    """A running server: its address, and its pages by path."""

    url: str
    pages: dict[str, Page]

    def add(self, path: str, body: bytes = b"", **facts: object) -> Page:
        self.pages[path] = Page(body, **facts)
        return self.pages[path]


@pytest.fixture
def site(monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    """A server on the loopback address, without pages; and no wait before a download is tried again."""
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setattr("cxrbench.fetch.download.PAUSE", 0.0)
    pages: dict[str, Page] = {}

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            page = pages.get(self.path)
            if page is None:
                return self.send_error(404)
            page.asked.append(dict(self.headers))
            if page.statuses:
                return self.send_error(page.statuses.pop(0))
            if page.location:
                self.send_response(302)
                self.send_header("Location", page.location)
                self.send_header("Content-Length", "0")
                return self.end_headers()
            return self.answer(page)

        def answer(self, page: Page) -> None:
            start = 0
            asked = self.headers.get("Range")
            fresh = self.headers.get("If-Range") in (None, page.etag, page.modified) or not page.if_range
            if asked and page.ranges and fresh:
                start = int(asked.removeprefix("bytes=").rstrip("-"))
                if start >= len(page.body):
                    return self.send_error(416)
                self.send_response(206)
                self.send_header("Content-Range", f"bytes {start}-{len(page.body) - 1}/{len(page.body)}")
            else:
                self.send_response(200)
            if page.length:
                self.send_header("Content-Length", str(len(page.body) - start))
            if page.etag:
                self.send_header("ETag", page.etag)
            if page.modified:
                self.send_header("Last-Modified", page.modified)
            self.end_headers()
            rest = page.body[start:]
            self.wfile.write(rest[: page.cut.pop(0)] if page.cut else rest)

        def log_message(self, *args: object) -> None:
            """Nothing on the terminal."""

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as running:
        threading.Thread(target=running.serve_forever, args=(0.02,), daemon=True).start()
        try:
            yield Site(f"http://127.0.0.1:{running.server_port}", pages)
        finally:
            running.shutdown()


@pytest.fixture
def cli(cli: Callable[..., int]) -> Callable[..., int]:
    """Runs ``cxrbench data`` in this process and returns its exit code."""
    return functools.partial(cli, "data")


@pytest.fixture
def empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The command runs in an empty folder."""
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    return tmp_path / "work"


@pytest.fixture
def contents() -> Callable[[Path], dict[str, bytes]]:
    """``contents(folder)`` is every file but the manifest, by name."""

    def read(folder: Path) -> dict[str, bytes]:
        files = {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}
        return {name: content for name, content in files.items() if name != MANIFEST}

    return read


@pytest.fixture
def known(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Source]:
    """Adds data sets to the catalogue."""
    entries = dict(catalogue())
    monkeypatch.setattr("cxrbench.fetch.catalogue.catalogue", lambda: entries)

    def add(name: str, **facts: object) -> Source:
        words = {"title": "Toy", "licence": "CC0-1.0", "citation": "Nobody, 2024", "homepage": "https://example.org"}
        entries[name] = Source(name=name, adapter="radiography", size=1000, **words, **facts)
        return entries[name]

    return add
