"""One cache for the tests of a file, and how they read what a command wrote."""

import numpy as np
import pytest


@pytest.fixture(scope="module")
def one_cache(tmp_path_factory):
    """Films that were decoded once are decoded: what is tested here comes after that."""
    return tmp_path_factory.mktemp("one-cache")


@pytest.fixture(autouse=True)
def use_one_cache(private_cache, one_cache, monkeypatch):
    monkeypatch.setenv("CXRBENCH_CACHE", str(one_cache))


@pytest.fixture
def complaint():
    """``complaint(capsys)`` is the one line on standard error."""

    def one_line(capsys):
        lines = capsys.readouterr().err.strip().splitlines()
        complaints = [line for line in lines if line.startswith("cxrbench: ")]
        assert len(complaints) == 1
        assert not any("Traceback" in line for line in lines)
        return complaints[0]

    return one_line


@pytest.fixture
def arrays():
    """``arrays(path)`` is what an .npz holds."""

    def load(path):
        with np.load(path) as stored:
            return {name: stored[name] for name in stored.files}

    return load
