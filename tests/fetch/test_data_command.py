"""`cxrbench data`: from the catalogue to a verified folder, as a user sees it."""

import hashlib
import json
import os
import random
import signal
import subprocess
import sys
import threading
import types
import zipfile
from pathlib import Path

import pytest

from cxrbench import cli_data
from cxrbench.cli import main
from cxrbench.fetch import dataset
from cxrbench.fetch.catalogue import Remote, Source, catalogue, size_text
from cxrbench.fetch.manifest import MANIFEST
from cxrbench.registry import DATASETS

ADAPTERS = {"radiography", "covid-chestxray", "vinbigdata", "kermany", "covidx", "chestxray14", "medmnist"}
FILMS = {name: random.Random(name).randbytes(3000) for name in ("set/COVID/images/a.png", "set/Normal/images/b.png")}


def cli(*arguments):
    """Run the command in this process and return its exit code."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["cxrbench", "data", *map(str, arguments)])
        try:
            main()
        except SystemExit as end:
            return end.code or 0
    return 0


def zipped(path, files=FILMS):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as whole:
        for name, content in files.items():
            whole.writestr(name, content)
    return path


def contents(folder):
    files = {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}
    return {name: content for name, content in files.items() if name != MANIFEST}


@pytest.fixture(autouse=True)
def empty_folder(tmp_path, monkeypatch):
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    return tmp_path / "work"


@pytest.fixture
def archive(tmp_path):
    return zipped(tmp_path / "films.zip")


@pytest.fixture
def known(monkeypatch):
    """Adds data sets to the catalogue."""
    entries = dict(catalogue())
    monkeypatch.setattr("cxrbench.fetch.catalogue.catalogue", lambda: entries)

    def add(name, **facts):
        words = {"title": "Toy", "licence": "CC0-1.0", "citation": "Nobody, 2024", "homepage": "https://example.org"}
        entries[name] = Source(name=name, adapter="radiography", size=1000, **words, **facts)
        return entries[name]

    return add


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


def test_every_entry_is_complete_and_has_an_adapter():
    assert {source.adapter for source in catalogue().values()} == ADAPTERS
    assert set(DATASETS.names()) >= ADAPTERS
    for source in catalogue().values():
        assert source.files or source.kaggle
        for remote in source.files:
            assert remote.url.startswith("https://")
            assert not remote.allow_http
            assert remote.filename.endswith((".zip", ".npz"))
        if source.kaggle:
            assert source.homepage.endswith(source.kaggle)
            assert "/" in source.kaggle or source.terms, "a competition has rules to accept"
    assert {"covid19-radiography", "kermany", "chestxray14", "pneumoniamnist-28", "chestmnist-224"} <= set(catalogue())


def test_sizes_for_people():
    assert [size_text(n) for n in (0, 999, 1000, 20_600_000, 1_235_512_464, 206 * 10**9)] == [
        "0 B", "999 B", "1 kB", "20.6 MB", "1.24 GB", "206 GB",
    ]  # fmt: skip


def test_list_and_info_name_what_matters(capsys):
    assert cli("list") == 0
    shown = capsys.readouterr().out
    assert all(name in shown for name in catalogue())
    assert cli("info", "kermany") == 0
    shown = capsys.readouterr().out
    for wanted in (
        "CC-BY-4.0",
        "10.17632/rscbjbr9sj.2",
        "sha256:13efc055",
        "1.24 GB",
        "data/kermany",
        "read by:  kermany",
    ):
        assert wanted in shown
    assert cli("info", "covid-chestxray") == 0
    assert "the first fetch records it" in capsys.readouterr().out
    assert cli("info", "vinbigdata", "--to", "elsewhere") == 0
    shown = capsys.readouterr().out
    assert "accept its rules" in shown
    assert "elsewhere" in shown


@pytest.mark.parametrize("command", ["info", "fetch"])
def test_an_unknown_name_gets_the_nearest(capsys, command):
    assert cli(command, "kermani") == 2
    assert "did you mean kermany" in capsys.readouterr().err
    assert cli(command, "zzz") == 2
    assert "cxrbench data list" in capsys.readouterr().err


def test_fetch_writes_a_verified_folder_and_says_how_to_go_on(toy, capsys, empty_folder):
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


def test_the_second_fetch_is_a_no_op(toy, capsys):
    assert cli("fetch", "toy", "--yes", "--to", "films") == 0
    before = contents(Path("films"))
    assert cli("fetch", "toy", "--to", "films") == 0  # nothing to accept any more
    assert "already here" in capsys.readouterr().out
    assert contents(Path("films")) == before
    assert len(toy.asked) == 1


def test_damage_is_found_and_named(toy, capsys):
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


def test_there_must_be_something_to_verify(toy, capsys):
    assert cli("fetch", "toy", "--verify") == 2
    assert "fetch it first" in capsys.readouterr().err


def test_a_folder_of_something_else_is_left_alone(toy, known, capsys):
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


def test_an_empty_folder_is_filled(toy):
    Path("films").mkdir()
    assert cli("fetch", "toy", "--yes", "--to", "films") == 0
    assert contents(Path("films")) == FILMS


def test_a_wrong_digest_ends_in_4_and_leaves_nothing(toy, site, capsys, empty_folder):
    toy.body = zipped(empty_folder / "other.zip", {"x": b"x"}).read_bytes()
    assert cli("fetch", "toy", "--yes") == 4
    assert "the catalogue says sha256:" in capsys.readouterr().err
    assert {path.name for path in Path("data").iterdir()} <= {".toy.lock"}


def test_an_archive_without_digest_that_is_damaged_is_not_kept(site, known, capsys):
    page = site.add("/films.zip", b"PK\x03\x04 and then nothing")
    known("loose", files=(Remote(url=f"{site.url}/films.zip", filename="films.zip"),))
    assert cli("fetch", "loose", "--yes") == 4
    assert {path.name for path in Path("data").iterdir()} <= {".loose.lock"}
    page.body = zipped(Path("good.zip")).read_bytes()
    assert cli("fetch", "loose", "--yes") == 0


def test_nobody_there_to_accept(toy, capsys, monkeypatch):
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


def test_from_an_archive_without_a_network(toy, archive, capsys):
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


def test_from_what_is_no_archive(toy, archive, capsys):
    assert cli("fetch", "toy", "--yes", "--from", "nowhere.zip") == 2
    assert "does not exist" in capsys.readouterr().err
    assert cli("fetch", "toy", "--yes", "--from", ".") == 2
    assert "is a folder" in capsys.readouterr().err
    assert cli("fetch", "toy", "--yes", "--from", archive, "--from", archive) == 2
    assert "1 file(s)" in capsys.readouterr().err


def test_an_npz_gets_the_catalogues_name(known, tmp_path, capsys):
    known("films", files=(Remote(url="https://example.org/x", filename="pneumoniamnist_64.npz"),))
    archive = zipped(tmp_path / "download (1).npz")
    assert cli("fetch", "films", "--yes", "--from", archive) == 0
    assert Path("data/films/pneumoniamnist_64.npz").read_bytes() == archive.read_bytes()
    assert "next: cxrbench run --data data/films/pneumoniamnist_64.npz\n" in capsys.readouterr().out


def test_a_set_of_two_files(site, known, tmp_path):
    names = ("one", "two")
    for name in names:
        site.add(f"/{name}", zipped(tmp_path / name, {f"set/{name}.png": name.encode()}).read_bytes())
    known("pair", files=tuple(Remote(url=f"{site.url}/{name}", filename=f"{name}.zip") for name in names))
    assert cli("fetch", "pair", "--yes") == 0
    assert contents(Path("data/pair")) == {"set/one.png": b"one", "set/two.png": b"two"}
    assert litter(Path("data/pair")) == set()


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


def test_kaggle_by_its_own_client(kaggle, known, capsys):
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


def test_kaggle_files_are_copied_where_they_cannot_be_linked(kaggle, known, monkeypatch):
    known("films", kaggle="some/body")
    monkeypatch.setattr(os, "link", lambda *paths: (_ for _ in ()).throw(OSError(18, "Invalid cross-device link")))
    assert cli("fetch", "films", "--yes") == 0
    assert contents(Path("data/films")) == FILMS


def test_a_link_in_kaggles_cache_is_refused(kaggle, known, capsys):
    known("films", kaggle="some/body")
    (kaggle.cache / "link.png").symlink_to("/etc/passwd")
    assert cli("fetch", "films", "--yes") == 4
    assert not Path("data/films").exists()


def test_kaggle_says_no(kaggle, known, capsys):
    known("films", kaggle="not/mine", terms="accept the rules")
    assert cli("fetch", "films", "--yes") == 2
    shown = capsys.readouterr().err
    assert "403 Client Error" in shown
    assert "accept the rules" in shown
    assert "--from ARCHIVE" in shown
    assert shown.count("\n") == 1


def test_without_kagglehub_the_message_says_both_ways(monkeypatch, capsys, archive):
    monkeypatch.setitem(sys.modules, "kagglehub", None)
    assert cli("fetch", "covid19-radiography", "--yes") == 2
    shown = capsys.readouterr().err
    assert "pip install 'cxrbench[kaggle]'" in shown
    assert "by hand from https://www.kaggle.com/datasets/tawsifurrahman/covid19-radiography-database" in shown
    assert cli("fetch", "covid19-radiography", "--yes", "--from", archive) == 0


def test_a_kill_while_unpacking_leaves_no_folder_that_looks_whole(toy, monkeypatch, capsys):
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


def test_two_fetches_at_once(toy, capsys, monkeypatch):
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


def test_a_folder_that_cannot_be_written_is_one_line(toy, capsys):
    Path("file").write_text("in the way")
    assert cli("fetch", "toy", "--yes", "--to", "file/films") == 2
    assert "name another --to" in capsys.readouterr().err


def test_what_was_fetched_runs(site, known, capsys):
    """The folder that is printed is one that `cxrbench run` recognises."""
    from cxrbench.datasets.radiography import Radiography
    from cxrbench.datasets.resolve import resolve_dataset

    page = zipped(Path("films.zip"))
    known("toy", files=(Remote(url="https://example.org/x", filename="films.zip"),))
    assert cli("fetch", "toy", "--yes", "--from", page) == 0
    path = capsys.readouterr().out.splitlines()[-1].removeprefix("next: cxrbench run --data ")
    assert isinstance(resolve_dataset(path)[1], Radiography)


def test_the_catalogue_costs_neither_numpy_nor_torch_nor_kagglehub():
    code = "import sys; sys.argv = ['cxrbench', 'data', 'list']\nfrom cxrbench.cli import main\n"
    code += "try:\n    main()\nexcept SystemExit:\n"
    code += "    print([name for name in ('torch', 'numpy', 'kagglehub') if name in sys.modules])"
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert shown.stdout.strip().endswith("[]")
