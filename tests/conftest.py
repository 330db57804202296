"""Fixtures of all tests: a private cache, and the real films where they are."""

from __future__ import annotations

import os
from pathlib import Path

import pytest


@pytest.fixture(autouse=True)
def private_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """No test reads or writes the user's cache."""
    folder = tmp_path_factory.mktemp("cache")
    monkeypatch.setenv("CXRBENCH_CACHE", str(folder))
    return folder


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of real chest X-rays."""
    named = os.environ.get("CXRBENCH_DATA")
    if not named:
        pytest.skip("CXRBENCH_DATA is not set: it names the folder of real chest X-rays")
    return Path(named)
