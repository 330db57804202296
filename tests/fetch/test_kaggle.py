"""`cxrbench data fetch` by Kaggle's own client: what is taken from it, and what is said where it refuses."""

import json
import os
import random
import sys
import types
from pathlib import Path

import pytest

from cxrbench.fetch.manifest import MANIFEST

pytestmark = pytest.mark.usefixtures("empty_folder")

FILMS = {name: random.Random(name).randbytes(3000) for name in ("set/COVID/images/a.png", "set/Normal/images/b.png")}


@pytest.fixture
def kaggle(monkeypatch, tmp_path):
    """A stand-in for kagglehub with a cache of its own."""
    cache = tmp_path / "kagglehub" / "versions" / "1"
    for name, content in (FILMS | {"__MACOSX/._a": b"x"}).items():
        (cache / name).parent.mkdir(parents=True, exist_ok=True)
        (cache / name).write_bytes(content)
    asked = []

    def download(kind):
        def get(handle):
            asked.append((kind, handle))
            if handle == "not/mine":
                raise RuntimeError("403 Client Error.\n\nYou don't have permission")
            return str(cache)

        return get

    fake = types.SimpleNamespace(dataset_download=download("dataset"), competition_download=download("competition"))
    monkeypatch.setitem(sys.modules, "kagglehub", fake)
    return types.SimpleNamespace(asked=asked, cache=cache)


def test_kaggle_by_its_own_client(kaggle, known, capsys, cli, contents):
    known("films", kaggle="some/body")
    known("contest", kaggle="some-contest", terms="accept the rules")
    assert cli("fetch", "films", "--yes") == 0
    assert cli("fetch", "contest", "--yes") == 0
    assert kaggle.asked == [("dataset", "some/body"), ("competition", "some-contest")]
    assert contents(Path("data/films")) == FILMS
    assert "terms:    accept the rules" in capsys.readouterr().out
    assert cli("fetch", "films", "--verify") == 0
    assert len(kaggle.asked) == 2
    assert json.loads((Path("data/films") / MANIFEST).read_text())["origin"] == "kaggle:some/body"


def test_kaggle_files_are_copied_where_they_cannot_be_linked(kaggle, known, monkeypatch, cli, contents):
    known("films", kaggle="some/body")
    monkeypatch.setattr(os, "link", lambda *paths: (_ for _ in ()).throw(OSError(18, "Invalid cross-device link")))
    assert cli("fetch", "films", "--yes") == 0
    assert contents(Path("data/films")) == FILMS


def test_a_link_in_kaggles_cache_is_refused(kaggle, known, capsys, cli):
    known("films", kaggle="some/body")
    (kaggle.cache / "link.png").symlink_to("/etc/passwd")
    assert cli("fetch", "films", "--yes") == 4
    assert not Path("data/films").exists()


def test_kaggle_says_no(kaggle, known, capsys, cli):
    known("films", kaggle="not/mine", terms="accept the rules")
    assert cli("fetch", "films", "--yes") == 2
    shown = capsys.readouterr().err
    assert "403 Client Error" in shown
    assert "accept the rules" in shown
    assert "--from ARCHIVE" in shown
    assert shown.count("\n") == 1
