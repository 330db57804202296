"""Whole runs under each way to split: what is refused, and what the record and the page say."""

import shutil

import numpy as np
import pytest
from PIL import Image

from cxrbench.store import Store

pytestmark = pytest.mark.usefixtures("undrawn")

SMALL = ["--tier", "smoke", "--device", "cpu", "--controls", "none", "--generators", "classical", "--ratios", "0"]
SMALL += ["--extractors", "radio-texture"]
TEST_ROW, TRAIN_ROW = 0, 5  # of the metadata that ``official`` draws


@pytest.fixture
def official(tmp_path, draw_hospital):
    """A folder whose metadata names official parts, and that metadata."""
    parts = ("test", "test", "val", "val", "train", "train", "train", "train", "train", "train")
    return tmp_path / "films", draw_hospital(
        tmp_path / "films",
        lambda i: {"split": parts[i % 10], "patient_id": f"p{i}", "source": "abc"[i % 3]},
        patients=20,
    )


def data_record(results):
    (record,) = [r for r in Store(results) if r.trial.kind == "data"]
    return record


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        ("patient", "1 patient, 0 identical files and 0 near-copies"),
        ("identical file", "0 patients, 1 identical file and 0 near-copies"),
        ("near-copy", "0 patients, 0 identical files and 1 near-copy"),
    ],
)
def test_official_parts_that_share_films_end_the_run(cli, official, write_table, tmp_path, capsys, kind, said):
    folder, rows = official
    test, train = rows[TEST_ROW], rows[TRAIN_ROW]
    assert (test["split"], train["split"]) == ("test", "train")
    if kind == "patient":
        train["patient_id"] = test["patient_id"]
    elif kind == "identical file":
        shutil.copy(folder / test["file"], folder / train["file"])
    else:
        pixels = np.asarray(Image.open(folder / test["file"]), dtype=np.float32)
        Image.fromarray(np.clip(pixels * 0.9 + 12, 0, 255).astype(np.uint8)).save(folder / train["file"])
    write_table(folder, rows)
    results = tmp_path / "r"
    assert cli("run", "--data", folder, *SMALL, "--results", results) == 4
    complaint = capsys.readouterr().err
    assert f"train and test share {said} (e.g. '{train['file']}' and '{test['file']}')" in complaint
    assert "--split-by patient ignores the official split" in complaint
    assert not list(results.rglob("records/*.json"))

    assert cli("run", "--data", folder, *SMALL, "--results", results, "--split-by", "patient") == 0
    assert data_record(results).trial.setting.split_by == "patient"


def test_auto_takes_the_official_parts_and_the_page_says_so(cli, official, tmp_path):
    results = tmp_path / "r"
    assert cli("run", "--data", official[0], *SMALL, "--results", results) == 0
    record = data_record(results)
    assert record.notes == ["split: official"]
    counts = {part: sum(v for k, v in record.counts.items() if k.startswith(part)) for part in ("train", "val", "test")}
    assert counts == {"train": 36, "val": 12, "test": 12}
    assert "split: official" in (results / "LEADERBOARD.md").read_text()
    assert record.trial.setting.split_by == "official"


def test_a_folder_without_official_validation_films_is_run_and_the_page_says_where_they_come_from(
    cli, official, write_table, tmp_path
):
    folder, rows = official
    kept = [row for row in rows if row["split"] != "val"]
    kept[-1]["split"] = ""
    write_table(folder, kept)
    results = tmp_path / "r"
    assert cli("run", "--data", folder, *SMALL, "--results", results, "--split-by", "official") == 0
    page = (results / "LEADERBOARD.md").read_text()
    assert "validation part is empty: validation films were taken from the training films" in page
    assert "left out: 1: the origin names no official part" in page
    record = data_record(results)
    assert record.counts["left_out"] == 1
    assert record.counts["films"] == len(kept) - 1


def test_a_run_tests_on_hospitals_it_did_not_train_on(cli, official, tmp_path):
    results = tmp_path / "r"
    assert cli("run", "--data", official[0], *SMALL, "--results", results, "--split-by", "source") == 0
    page = (results / "LEADERBOARD.md").read_text()
    assert "split: source" in page
    assert "split: sources tested on: " in page
    assert data_record(results).trial.setting.split_by == "source"


def test_a_class_of_one_hospital_cannot_be_split_by_source(cli, official, write_table, tmp_path, capsys):
    folder, rows = official
    write_table(folder, [row | ({"source": "clinic"} if row["label"] == "COVID" else {}) for row in rows])
    assert cli("run", "--data", folder, *SMALL, "--results", tmp_path / "r", "--split-by", "source") == 4
    assert "class 'COVID' comes only from source 'clinic'" in capsys.readouterr().err


def test_each_way_to_split_has_its_own_trials(cli, official, tmp_path, capsys):
    assert cli("run", "--data", official[0], *SMALL, "--results", tmp_path / "r", "--split-by", "source") == 0
    for way, done in (("official", 0), ("patient", 0), ("source", 9)):
        capsys.readouterr()
        cli("plan", "--data", official[0], *SMALL, "--results", tmp_path / "r", "--split-by", way)
        assert f", {done} done" in capsys.readouterr().out
    assert len({record.trial.setting.split_key for record in Store(tmp_path / "r")}) == 1


def test_classes_renamed_and_dropped_are_counted_on_the_page(cli, official, tmp_path):
    labels = ["--labels", "COVID=-,Viral Pneumonia=Pneumonia"]
    assert cli("run", "--data", official[0], *SMALL, *labels, "--results", tmp_path / "r") == 0
    record = data_record(tmp_path / "r")
    assert record.classes == ("Normal", "Pneumonia")
    assert record.counts["left_out"] == 20
    assert "left out: 20: class 'COVID' is dropped by --labels" in (tmp_path / "r" / "LEADERBOARD.md").read_text()
