"""`cxrbench data fetch`: from the catalogue to a verified folder, as a user sees it."""

import hashlib
import json
import os
import random
import signal
import sys
import threading
import zipfile
from pathlib import Path

import pytest

from cxrbench import cli_data
from cxrbench.fetch import dataset
from cxrbench.fetch.catalogue import Remote
from cxrbench.fetch.manifest import MANIFEST

FILMS = {name: random.Random(name).randbytes(3000) for name in ("set/COVID/images/a.png", "set/Normal/images/b.png")}

pytestmark = pytest.mark.usefixtures("empty_folder")


def zipped(path, files=FILMS):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as whole:
        for name, content in files.items():
            whole.writestr(name, content)
    return path


@pytest.fixture
def archive(tmp_path):
    return zipped(tmp_path / "films.zip")


@pytest.fixture
def toy(site, archive, known):
    """A data set on the local server; gives its page."""
    page = site.add("/films.zip", archive.read_bytes())
    digest = "sha256:" + hashlib.sha256(page.body).hexdigest()
    known("toy", files=(Remote(url=f"{site.url}/films.zip", filename="films.zip", digest=digest),))
    return page


def litter(folder):
    """What a finished fetch may leave beside the folder: its lock, and nothing else."""
    return {path.name for path in folder.parent.iterdir()} - {folder.name, f".{folder.name}.lock"}


def test_fetch_writes_a_verified_folder_and_says_how_to_go_on(toy, capsys, empty_folder, cli, contents):
    assert cli("fetch", "toy", "--yes") == 0
    shown = capsys.readouterr().out
    assert shown.index("CC0-1.0") < shown.index("Nobody, 2024") < shown.index("wrote 2 files")
    assert "next: cxrbench run --data data/toy/set\n" in shown
    folder = empty_folder / "data" / "toy"
    assert contents(folder) == FILMS
    assert litter(folder) == set()
    manifest = json.loads((folder / MANIFEST).read_text())
    assert manifest["archives"]["films.zip"]["sha256"] == hashlib.sha256(toy.body).hexdigest()
    assert manifest["files"]["set/COVID/images/a.png"] == {
        "bytes": 3000,
        "sha256": hashlib.sha256(FILMS["set/COVID/images/a.png"]).hexdigest(),
    }
    assert manifest["name"] == "toy"
    assert manifest["origin"].endswith("/films.zip")
    assert manifest["licence"] == "CC0-1.0"
    assert manifest["citation"] == "Nobody, 2024"
    assert manifest["fetched"].endswith("+00:00")


def test_the_second_fetch_is_a_no_op(toy, capsys, cli, contents):
    assert cli("fetch", "toy", "--yes", "--to", "films") == 0
    before = contents(Path("films"))
    assert cli("fetch", "toy", "--to", "films") == 0  # nothing to accept any more
    assert "already here" in capsys.readouterr().out
    assert contents(Path("films")) == before
    assert len(toy.asked) == 1


def test_damage_is_found_and_named(toy, capsys, cli):
    assert cli("fetch", "toy", "--yes") == 0
    film = Path("data/toy/set/COVID/images/a.png")
    assert cli("fetch", "toy", "--verify") == 0
    assert "every sha256 is right" in capsys.readouterr().out
    content = bytearray(film.read_bytes())
    content[100] ^= 1
    film.write_bytes(content)
    Path("data/toy/set/.DS_Store").write_bytes(b"")
    assert cli("fetch", "toy") == 0  # sizes only
    assert "--verify" in capsys.readouterr().out
    Path("data/toy/new.png").write_bytes(b"x")
    Path("data/toy/set/Normal/images/b.png").unlink()
    assert cli("fetch", "toy", "--verify") == 4
    shown = capsys.readouterr()
    for line in ("changed: set/COVID/images/a.png", "missing: set/Normal/images/b.png", "extra: new.png"):
        assert line in shown.out.splitlines()
    assert "1 changed, 1 missing, 1 extra" in shown.err
    assert cli("fetch", "toy") == 4  # a missing file is seen without reading any
    (Path("data/toy") / MANIFEST).write_text("{")
    assert cli("fetch", "toy") == 4


def test_there_must_be_something_to_verify(toy, capsys, cli):
    assert cli("fetch", "toy", "--verify") == 2
    assert "fetch it first" in capsys.readouterr().err


def test_a_folder_of_something_else_is_left_alone(toy, known, capsys, cli, contents):
    Path("mine").mkdir()
    Path("mine/film.png").write_bytes(b"mine")
    assert cli("fetch", "toy", "--yes", "--to", "mine") == 2
    assert "not made by" in capsys.readouterr().err
    assert contents(Path("mine")) == {"film.png": b"mine"}
    assert cli("fetch", "toy", "--yes", "--to", "mine/film.png") == 2
    assert cli("fetch", "toy", "--yes") == 0
    known("other", kaggle="some/body")
    assert cli("fetch", "other", "--yes", "--to", "data/toy") == 2
    assert "holds toy, not other" in capsys.readouterr().err
    known("toy", kaggle="some/body")
    assert cli("fetch", "toy", "--yes") == 2
    assert "the catalogue now names kaggle:some/body" in capsys.readouterr().err


def test_an_empty_folder_is_filled(toy, cli, contents):
    Path("films").mkdir()
    assert cli("fetch", "toy", "--yes", "--to", "films") == 0
    assert contents(Path("films")) == FILMS


def test_a_wrong_digest_ends_in_4_and_leaves_nothing(toy, site, capsys, empty_folder, cli):
    toy.body = zipped(empty_folder / "other.zip", {"x": b"x"}).read_bytes()
    assert cli("fetch", "toy", "--yes") == 4
    assert "the catalogue says sha256:" in capsys.readouterr().err
    assert {path.name for path in Path("data").iterdir()} <= {".toy.lock"}


def test_an_archive_without_digest_that_is_damaged_is_not_kept(site, known, capsys, cli):
    page = site.add("/films.zip", b"PK\x03\x04 and then nothing")
    known("loose", files=(Remote(url=f"{site.url}/films.zip", filename="films.zip"),))
    assert cli("fetch", "loose", "--yes") == 4
    assert {path.name for path in Path("data").iterdir()} <= {".loose.lock"}
    page.body = zipped(Path("good.zip")).read_bytes()
    assert cli("fetch", "loose", "--yes") == 0


def test_nobody_there_to_accept(toy, capsys, monkeypatch, cli):
    assert cli("fetch", "toy") == 2
    shown = capsys.readouterr()
    assert "add --yes" in shown.err
    assert "licence:  CC0-1.0" in shown.out
    assert not toy.asked
    monkeypatch.setattr(cli_data, "_interactive", lambda: True)
    for answer, code in ((False, 2), (True, 0)):
        monkeypatch.setattr(cli_data.typer, "confirm", lambda question, answer=answer: answer)
        assert cli("fetch", "toy") == code
    assert len(toy.asked) == 1


def test_from_an_archive_without_a_network(toy, archive, capsys, cli, contents):
    assert cli("fetch", "toy", "--yes", "--from", archive) == 0
    assert contents(Path("data/toy")) == FILMS
    assert not toy.asked
    assert archive.exists()
    assert json.loads((Path("data/toy") / MANIFEST).read_text())["origin"] == "archive"
    assert cli("fetch", "toy", "--from", archive) == 0
    assert cli("fetch", "toy") == 0
    assert "already here" in capsys.readouterr().out
    other = zipped(archive.with_name("other.zip"), {"a": b"b"})
    assert cli("fetch", "toy", "--from", other) == 2
    assert cli("fetch", "toy", "--yes", "--from", other, "--to", "new") == 4
    assert "the catalogue says" in capsys.readouterr().err
    assert other.exists()


def test_from_what_is_no_archive(toy, archive, capsys, cli):
    assert cli("fetch", "toy", "--yes", "--from", "nowhere.zip") == 2
    assert "does not exist" in capsys.readouterr().err
    assert cli("fetch", "toy", "--yes", "--from", ".") == 2
    assert "is a folder" in capsys.readouterr().err
    assert cli("fetch", "toy", "--yes", "--from", archive, "--from", archive) == 2
    assert "1 file(s)" in capsys.readouterr().err


def test_an_npz_gets_the_catalogues_name(known, tmp_path, capsys, cli):
    known("films", files=(Remote(url="https://example.org/x", filename="pneumoniamnist_64.npz"),))
    archive = zipped(tmp_path / "download (1).npz")
    assert cli("fetch", "films", "--yes", "--from", archive) == 0
    assert Path("data/films/pneumoniamnist_64.npz").read_bytes() == archive.read_bytes()
    assert "next: cxrbench run --data data/films/pneumoniamnist_64.npz\n" in capsys.readouterr().out


def test_a_set_of_two_files(site, known, tmp_path, cli, contents):
    names = ("one", "two")
    for name in names:
        site.add(f"/{name}", zipped(tmp_path / name, {f"set/{name}.png": name.encode()}).read_bytes())
    known("pair", files=tuple(Remote(url=f"{site.url}/{name}", filename=f"{name}.zip") for name in names))
    assert cli("fetch", "pair", "--yes") == 0
    assert contents(Path("data/pair")) == {"set/one.png": b"one", "set/two.png": b"two"}
    assert litter(Path("data/pair")) == set()


def test_without_kagglehub_the_message_says_both_ways(monkeypatch, capsys, archive, cli):
    monkeypatch.setitem(sys.modules, "kagglehub", None)
    assert cli("fetch", "covid19-radiography", "--yes") == 2
    shown = capsys.readouterr().err
    assert "pip install 'cxrbench[kaggle]'" in shown
    assert "by hand from https://www.kaggle.com/datasets/tawsifurrahman/covid19-radiography-database" in shown
    assert cli("fetch", "covid19-radiography", "--yes", "--from", archive) == 0


def test_a_kill_while_unpacking_leaves_no_folder_that_looks_whole(toy, monkeypatch, capsys, cli, contents):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(dataset, "write_manifest", lambda *args: os.kill(os.getpid(), signal.SIGINT))
        assert cli("fetch", "toy", "--yes") == 130
    assert "the part that came is kept" in capsys.readouterr().err
    assert not Path("data/toy").exists()
    Path("data/.toy.unpacking").mkdir()  # what SIGKILL would leave
    Path("data/.toy.unpacking/half.png").write_bytes(b"half")
    assert cli("fetch", "toy", "--yes") == 0
    assert contents(Path("data/toy")) == FILMS
    assert len(toy.asked) == 1  # the whole archive was still there
    assert litter(Path("data/toy")) == set()


def test_two_fetches_at_once(toy, capsys, monkeypatch, cli, contents):
    entered, leave = threading.Event(), threading.Event()
    real = dataset.write_manifest

    def wait(*args):
        entered.set()
        leave.wait(20)
        real(*args)

    monkeypatch.setattr(dataset, "write_manifest", wait)
    source = cli_data_source("toy")
    first = threading.Thread(target=dataset.fetch, args=(source, Path("data/toy")))
    first.start()
    assert entered.wait(20)
    assert cli("fetch", "toy", "--yes") == 2
    assert "another fetch" in capsys.readouterr().err
    leave.set()
    first.join()
    assert contents(Path("data/toy")) == FILMS


def cli_data_source(name):
    from cxrbench.fetch.catalogue import find

    return find(name)


def test_a_folder_that_cannot_be_written_is_one_line(toy, capsys, cli):
    Path("file").write_text("in the way")
    assert cli("fetch", "toy", "--yes", "--to", "file/films") == 2
    assert "name another --to" in capsys.readouterr().err


def test_what_was_fetched_runs(site, known, capsys, cli):
    """The folder that is printed is one that `cxrbench run` recognises."""
    from cxrbench.datasets.radiography import Radiography
    from cxrbench.datasets.resolve import resolve_dataset

    page = zipped(Path("films.zip"))
    known("toy", files=(Remote(url="https://example.org/x", filename="films.zip"),))
    assert cli("fetch", "toy", "--yes", "--from", page) == 0
    path = capsys.readouterr().out.splitlines()[-1].removeprefix("next: cxrbench run --data ")
    assert isinstance(resolve_dataset(path)[1], Radiography)
