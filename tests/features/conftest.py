"""Weights for tests: a server that gives out a folder, and files that show when they are unpickled."""

from __future__ import annotations

import functools
import hashlib
import http.server
import pickle
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest


@pytest.fixture(autouse=True)
def no_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither torch's hub folder nor ``$CXRBENCH_WEIGHTS`` has any; nor has the cache (it is private)."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.delenv("CXRBENCH_WEIGHTS", raising=False)


@pytest.fixture
def serve() -> Iterator[Callable[[Path], str]]:
    """Serves a folder on the loopback address, and returns the address."""
    with ExitStack() as open_servers:

        def start(folder: Path) -> str:
            handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=str(folder))
            running = open_servers.enter_context(http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler))
            threading.Thread(target=running.serve_forever, args=(0.02,), daemon=True).start()
            open_servers.callback(running.shutdown)
            return f"http://127.0.0.1:{running.server_port}"

        yield start


@pytest.fixture
def sha256() -> Callable[[Path], str]:
    """The sha256 of a file."""
    return lambda path: hashlib.sha256(path.read_bytes()).hexdigest()


class _Trap:
    """A pickle that writes a file when it is read."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Callable[..., object], tuple[object, ...]]:
        return (open, (str(self.mark), "w"))


@pytest.fixture
def set_trap(tmp_path: Path) -> Callable[[Path], Path]:
    """Writes a pickle to a path; the file whose path is returned exists once anybody has unpickled it."""

    def write(path: Path) -> Path:
        mark = tmp_path / f"{path.name}.was-read"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(pickle.dumps(_Trap(mark), protocol=2))
        return mark

    return write
