"""Whole audits of small sets with planted faults."""

import csv
import json
import re
import shutil

import numpy as np
import pytest
from PIL import Image

from cxrbench.audit import looks, orientation
from cxrbench.datasets.phantom import CLASSES, Phantom
from cxrbench.store import Store

SMOKE = ["--tier", "smoke", "--generators", "classical", "--ratios", "1", "--controls", "none"]


@pytest.fixture(autouse=True)
def small(monkeypatch):
    monkeypatch.setattr(orientation, "STEPS", 120)
    monkeypatch.setattr(orientation, "BATCH", 64)
    monkeypatch.setattr(looks, "STRANGERS", 10)


@pytest.fixture
def one_cache(tmp_path_factory, monkeypatch):
    """The tests that audit the same films share a cache: whichever is first examines them."""
    folder = tmp_path_factory.getbasetemp() / "cache-of-audits"
    monkeypatch.setenv("CXRBENCH_CACHE", str(folder))


@pytest.fixture(scope="module")
def faulty(tmp_path_factory):
    """A hundred phantom films in three folders, with one fault of several kinds."""
    root = tmp_path_factory.mktemp("faulty") / "films"
    phantom = Phantom(patients_per_class=34, max_films=1)
    for film in phantom.listing().films:
        path = root / f"{film.file}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(phantom.read(film, 128)).save(path)
    covid, normal = root / CLASSES[0], root / CLASSES[1]
    shutil.copy(covid / "00003-0.png", covid / "copy.png")
    relit = Image.open(normal / "00004-0.png").point(lambda grey: grey * 0.8 + 20)
    relit.save(covid / "conflict.png")
    (covid / "torn.png").write_bytes((covid / "00005-0.png").read_bytes()[:500])
    Image.fromarray(np.full((128, 128), 77, np.uint8)).save(normal / "blank.png")
    grain = np.random.default_rng(0).integers(100, 108, (128, 128)).astype(np.uint8)
    Image.fromarray(grain).save(normal / "fog.png")
    upside_down = np.asarray(Image.open(normal / "00006-0.png"))[::-1, ::-1]
    Image.fromarray(255 - upside_down).save(normal / "wrong.png")
    Image.open(normal / "00007-0.png").resize((300, 128)).save(normal / "wide.png")
    (normal / "00007-0.png").unlink()
    return root


def read_findings(folder):
    with (folder / "findings.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    return {(row["file"], row["finding"]): row for row in rows}


def test_planted_faults_are_found_and_shown_and_the_second_audit_is_read_from_the_cache(
    cli, faulty, one_cache, tmp_path, capsys, monkeypatch
):
    results = tmp_path / "results"
    assert cli("audit", faulty, "--results", results, "--device", "cpu") == 0
    folder = results / "audit" / "films"
    found = read_findings(folder)
    assert ("COVID/copy.png", "exact-duplicate") in found
    conflict = found["COVID/conflict.png", "label-conflict"]
    assert (conflict["partner"], conflict["detail"]) == ("Normal/00004-0.png", "COVID and Normal")
    assert ("COVID/torn.png", "unreadable") in found
    assert "same value" in found["Normal/blank.png", "blank"]["detail"]
    assert ("Normal/fog.png", "blank") in found
    assert ("Normal/wrong.png", "near-duplicate") in found
    assert found["Normal/wrong.png", "near-duplicate"]["detail"] == "upside down, inverted"
    assert ("Normal/wide.png", "distorted") in found

    page, markdown = (folder / "audit.html").read_text(), (folder / "AUDIT.md").read_text()
    assert "data:image/jpeg;base64," in page
    assert not re.search(r'(src|href)="(?!data:|#)', page)  # one file, nothing fetched
    for wanted in ("label-conflict", "near-duplicate (mirrored)", "border", "--clean strict"):
        assert wanted in markdown
    assert "*.html" in (folder / ".gitignore").read_text()
    record = json.loads((folder / "audit.json").read_text())
    assert record["counts"]["unreadable"] == 1
    assert record["facts"]["threads"] == 1  # whatever the machine has: findings depend on it

    before = {path.name: path.read_bytes() for path in folder.iterdir() if path.suffix != ".png"}
    monkeypatch.setattr("cxrbench.audit.audit._examine", None)  # a second examination would fail
    assert cli("audit", faulty, "--results", results, "--device", "cpu") == 0
    assert {path.name: path.read_bytes() for path in folder.iterdir() if path.suffix != ".png"} == before
    capsys.readouterr()


def test_a_policy_removes_what_was_found_and_the_page_lists_it(cli, faulty, one_cache, tmp_path, capsys):
    results = tmp_path / "results"
    arguments = ["--data", faulty, *SMOKE]
    assert cli("run", *arguments, "--results", results, "--clean", "quarantine") == 0
    data = next(record for record in Store(results) if record.trial.kind == "data")
    removed = [note for note in data.notes if note.startswith("removed")]
    assert any("COVID/copy.png" in note and "exact-duplicate" in note for note in removed)
    assert any("COVID/conflict.png" in note and "label-conflict" in note for note in removed)
    assert "copy.png" in (results / "LEADERBOARD.md").read_text()
    assert cli("run", *arguments, "--results", results) == 0
    plain = [record for record in Store(results) if record.trial.kind == "data"]
    assert len({record.trial.setting.data_hash for record in plain}) == 2
    capsys.readouterr()


@pytest.mark.usefixtures("undrawn")
def test_another_machine_removes_what_the_records_say_and_audits_nothing(
    cli, faulty, one_cache, tmp_path, tmp_path_factory, capsys, monkeypatch
):
    """What an audit finds hangs on the arithmetic of the machine; records that are gone on with must not."""
    results = tmp_path / "results"
    arguments = ["--data", faulty, *SMOKE, "--results", results, "--clean", "quarantine"]
    assert cli("run", *arguments) == 0
    (row, *_) = [record.trial.row for record in Store(results) if record.trial.kind == "utility"]
    monkeypatch.setenv("CXRBENCH_CACHE", str(tmp_path_factory.mktemp("elsewhere")))
    monkeypatch.setattr("cxrbench.audit.audit._examine", None)  # an audit would fail
    capsys.readouterr()
    assert cli("run", *arguments) == 0
    said = capsys.readouterr()
    assert "0 trials run" in said.out
    assert re.search(r"note: --clean quarantine: the \d+ films that record \w{12} lists are left out", said.err)
    assert cli("verify", row, "--results", results) == 0
    assert "match" in capsys.readouterr().out

    shutil.copytree(faulty, tmp_path / "films")
    (tmp_path / "films" / "COVID" / "00003-0.png").unlink()
    with pytest.raises(TypeError):  # other films: the record says nothing of them
        cli("run", *arguments, "--data", tmp_path / "films")


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["audit", "nowhere/films"], 2, "does not exist"),
        (["audit", "phantom:patients_per_class=2:max_films=1"], 4, "needs at least 20"),
        (["run", "--clean", "spotless", "--tier", "smoke"], 2, "--clean spotless: use none, quarantine, strict"),
    ],
)
def test_complaints_are_one_line(cli, tmp_path, capsys, arguments, code, message):
    assert cli(*arguments, "--results", tmp_path / "results") == code
    complaint = capsys.readouterr().err.strip().splitlines()
    assert message in complaint[-1]
    assert not list((tmp_path / "results").rglob("*.md"))
