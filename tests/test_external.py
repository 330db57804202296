"""An external test set: classes matched, leaks refused, every classifier trained once for both test sets."""

import shutil
from collections import Counter
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from cxrbench.cache import Cache
from cxrbench.contracts import no_progress
from cxrbench.datasets.folder import Folder
from cxrbench.errors import DataError
from cxrbench.external import load_external, match_external
from cxrbench.metrics.classification import score_predictions, score_present
from cxrbench.spec import spec_of_tier
from cxrbench.stages import index_data, load_and_split
from cxrbench.store import Store
from cxrbench_baselines.classifiers.small_cnn import SmallCNN

pytestmark = pytest.mark.usefixtures("undrawn")

SPEC = spec_of_tier("smoke")
SMALL = ["--tier", "smoke", "--device", "cpu", "--controls", "none", "--generators", "classical", "--ratios", "0,1"]
SMALL += ["--extractors", "radio-texture"]
CLASSES = ("COVID", "Normal", "Viral Pneumonia")


@pytest.fixture
def inside(tmp_path, draw_hospital):
    """A folder of 36 films, and its metadata."""
    rows = draw_hospital(tmp_path / "inside", lambda i: {"patient_id": f"p{i}", "source": "here"})
    return tmp_path / "inside", rows


@pytest.fixture
def outside(tmp_path, draw_hospital):
    """A folder of other patients' films, and its metadata."""
    facts = {"source": "there"}
    rows = draw_hospital(tmp_path / "outside", lambda i: {"patient_id": f"p{i}", **facts}, patients=4, seed=7)
    return tmp_path / "outside", rows


def index_of(folder):
    return index_data(folder.name, Folder(str(folder)))


def relabelled(index, *names):
    """The same films under other class names."""

    class Named(Folder):
        def classes(self):
            return tuple(names)

    return replace(index, classes=tuple(names), dataset=Named(index.dataset.root))


@pytest.mark.parametrize(
    ("theirs", "note"),
    [
        (("covid", "NORMAL", "viral_pneumonia"), ()),
        (("CO-VID", "Normal", "Viral-Pneumonia"), ()),
        (("COVID", "Normal", "Pneumonia"), ("external class 'Pneumonia' is scored as 'Viral Pneumonia'",)),
        (("COVID-19", "Normal", "viral pneumonia"), ("external class 'COVID-19' is scored as 'COVID'",)),
    ],
)
def test_classes_are_matched_by_name(outside, theirs, note):
    matched = match_external(relabelled(index_of(outside[0]), *theirs), CLASSES)
    assert matched.notes == note
    assert matched.index.classes == CLASSES
    for film, row in zip(matched.index.films, outside[1], strict=True):
        assert CLASSES[film.label] == row["label"]
        assert matched.index.dataset.read(film, 32).shape == (32, 32)


def test_classes_in_another_order_are_matched_by_name_not_by_number(outside):
    index = relabelled(index_of(outside[0]), "Viral Pneumonia", "COVID", "Normal")
    expected = ["Viral Pneumonia", "COVID", "Normal"]
    matched = match_external(index, CLASSES).index
    assert [CLASSES[film.label] for film in matched.films] == [expected[film.label] for film in index.films]


@pytest.mark.parametrize(
    ("theirs", "classes", "offending"),
    [
        (("COVID", "Healthy", "Tuberculosis"), CLASSES, "'Healthy', 'Tuberculosis'"),
        (
            ("COVID", "Normal", "Pneumonia"),
            ("COVID", "Normal", "Viral Pneumonia", "Bacterial Pneumonia"),
            "'Pneumonia'",
        ),
    ],
)
def test_classes_that_match_nothing_or_too_much_are_refused(outside, theirs, classes, offending):
    with pytest.raises(DataError, match=f"{offending} cannot be matched .* --labels"):
        match_external(relabelled(index_of(outside[0]), *theirs), classes)


def test_an_external_set_of_one_class_is_refused(outside):
    with pytest.raises(DataError, match="only films of 'COVID'"):
        match_external(relabelled(index_of(outside[0]), "COVID", "CO-VID", "covid"), CLASSES)


def copy_of(folder, name):
    """A film's pixels, after a change that a near-copy survives."""
    pixels = np.asarray(Image.open(folder / name), dtype=np.float32)
    return Image.fromarray(np.clip(pixels * 0.9 + 12, 0, 255).astype(np.uint8))


def plant(kind, inside, outside, write_table, film):
    """Tie one external film to the internal ``film``."""
    (here, rows), (there, others) = inside, outside
    row = {"file": "planted.png", "label": "COVID", "patient_id": "new", "source": "there"}
    target = next(r for r in rows if r["file"] == film)
    if kind == "identical file":
        shutil.copy(here / film, there / "planted.png")
    elif kind == "near-copy":
        copy_of(here, film).save(there / "planted.png")
    else:
        Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 64), np.uint8)).save(there / "planted.png")
        row |= {"patient_id": target["patient_id"], "source": target["source"]}
    write_table(there, [*others, row])


def film_in(part, folder, cache):
    data = load_and_split(index_of(folder), SPEC, 0, cache)
    return data.decoded.films[getattr(data.split, part)[0]].file


KINDS = {
    "patient": "1 patient, 0 identical files and 0 near-copies",
    "identical file": "0 patients, 1 identical file and 0 near-copies",
    "near-copy": "0 patients, 0 identical files and 1 near-copy",
}


@pytest.mark.parametrize("part", ["train", "val"])
@pytest.mark.parametrize("kind", KINDS)
def test_an_external_film_that_was_trained_on_ends_the_run(
    cli, inside, outside, write_table, tmp_path, capsys, kind, part
):
    film = film_in(part, inside[0], Cache(tmp_path / "c"))
    plant(kind, inside, outside, write_table, film)
    arguments = ["--data", inside[0], "--external", outside[0], *SMALL, "--results", tmp_path / "r"]
    assert cli("run", *arguments) == 4
    complaint = capsys.readouterr().err
    assert f"share {KINDS[kind]}" in complaint
    assert f"'{film}' and 'planted.png'" in complaint
    assert "take out of the external set, as --clean quarantine does: planted.png" in complaint
    assert not list((tmp_path / "r").rglob("records/*.json"))


@pytest.mark.parametrize("kind", KINDS)
def test_a_cleaning_policy_takes_the_tied_film_out_and_says_so(inside, outside, write_table, tmp_path, kind):
    cache = Cache(tmp_path / "c")
    plant(kind, inside, outside, write_table, film_in("train", inside[0], cache))
    data = load_and_split(index_of(inside[0]), SPEC, 0, cache)
    index = replace(index_of(outside[0]), clean="quarantine")
    loaded = load_external(match_external(index, CLASSES), data, 32, cache, no_progress)
    assert len(loaded.images) == len(outside[1])
    assert any("planted.png" in note and "tied to a film that is trained on" in note for note in loaded.notes)


@pytest.mark.parametrize("kind", KINDS)
def test_an_external_film_of_the_internal_test_part_is_a_note(inside, outside, write_table, tmp_path, kind):
    cache = Cache(tmp_path / "c")
    plant(kind, inside, outside, write_table, film_in("test", inside[0], cache))
    data = load_and_split(index_of(inside[0]), SPEC, 0, cache)
    loaded = load_external(match_external(index_of(outside[0]), CLASSES), data, 32, cache, no_progress)
    assert any("internal test films" in note and KINDS[kind] in note for note in loaded.notes)


def test_patients_of_two_hospitals_may_have_the_same_number(inside, outside, tmp_path):
    cache = Cache(tmp_path / "c")
    assert {r["patient_id"] for r in inside[1]} & {r["patient_id"] for r in outside[1]}
    data = load_and_split(index_of(inside[0]), SPEC, 0, cache)
    load_external(match_external(index_of(outside[0]), CLASSES), data, 32, cache, no_progress)


def test_refused_files_of_the_external_set_are_counted_in_one_note(inside, outside, write_table, tmp_path):
    folder, rows = outside
    for number in range(5):
        (folder / f"torn-{number}.png").write_bytes(b"torn")
    torn = [{**rows[0], "file": f"torn-{number}.png", "patient_id": ""} for number in range(5)]
    write_table(folder, [*rows, *torn])
    cache = Cache(tmp_path / "c")
    data = load_and_split(index_of(inside[0]), SPEC, 0, cache)
    loaded = load_external(match_external(index_of(folder), CLASSES), data, 32, cache, no_progress)
    (note,) = [note for note in loaded.notes if "could not be read" in note]
    assert note.startswith("5 files of the external set")
    assert "torn-2.png" in note
    assert "torn-3.png" not in note
    assert len(loaded.images) == len(rows)


def test_copies_within_the_external_set_share_a_group(inside, outside, write_table, tmp_path):
    folder, rows = outside
    copy_of(folder, rows[0]["file"]).save(folder / "again.png")
    write_table(folder, [*rows, {**rows[0], "file": "again.png", "patient_id": ""}])
    cache = Cache(tmp_path / "c")
    data = load_and_split(index_of(inside[0]), SPEC, 0, cache)
    groups = load_external(match_external(index_of(folder), CLASSES), data, 32, cache, no_progress).images.groups
    assert groups[0] == groups[-1]
    assert len(set(groups)) == len(rows)


def test_scores_over_the_classes_that_are_there():
    rng = np.random.default_rng(0)
    labels = np.repeat([0, 2], 20)
    probabilities = rng.dirichlet(np.ones(3), 40).astype(np.float32)
    scores = score_present(labels, probabilities, CLASSES)
    assert "auroc/Normal" not in scores
    assert scores["accuracy"] == pytest.approx((probabilities.argmax(axis=1) == labels).mean())
    recall = [(probabilities.argmax(axis=1)[labels == c] == c).mean() for c in (0, 2)]
    assert scores["balanced_accuracy"] == pytest.approx(np.mean(recall))
    assert scores["auroc_macro"] == pytest.approx((scores["auroc/COVID"] + scores["auroc/Viral Pneumonia"]) / 2)
    higher = probabilities[labels == 0, 0][:, None] > probabilities[labels == 2, 0][None]
    assert scores["auroc/COVID"] == pytest.approx(higher.mean())


def test_scores_of_a_complete_set_are_the_usual_ones():
    labels = np.tile([0, 1, 2], 10)
    probabilities = np.random.default_rng(1).dirichlet(np.ones(3), 30).astype(np.float32)
    assert score_present(labels, probabilities, CLASSES) == score_predictions(labels, probabilities, CLASSES)


@pytest.fixture
def fits(monkeypatch):
    """Counts the classifiers that are trained."""
    counted = []
    real = SmallCNN.fit

    def fit(self, train, val, ctx):
        counted.append(len(train))
        return real(self, train, val, ctx)

    monkeypatch.setattr(SmallCNN, "fit", fit)
    return counted


def scores_of(results, kind):
    return {r.trial.describe(): r.scores for r in Store(results) if r.trial.kind == kind}


def test_each_classifier_is_trained_once_for_both_test_sets(cli, inside, outside, tmp_path, capsys, fits, monkeypatch):
    results = tmp_path / "r"
    arguments = ["--data", inside[0], "--external", outside[0], *SMALL, "--seeds", "2", "--results", results]
    assert cli("run", *arguments) == 0
    trained, asked = len(fits), [r for r in Store(results) if r.trial.kind == "utility"]
    assert trained <= len(asked) == 2 * 7
    capsys.readouterr()
    records = [r for r in Store(results) if r.trial.kind == "external"]
    assert len(records) == 4
    for record in records:
        kept = Store(results).arrays(record.key)
        assert record.counts["test"] == len(kept["labels"]) == len(kept["groups"]) == 12
        assert score_predictions(kept["labels"], kept["probabilities"], CLASSES) == pytest.approx(record.scores)
    page = (results / "LEADERBOARD.md").read_text()
    for wanted in ("### External validation: outside", "AUROC outside", "gain outside", "verdict outside"):
        assert wanted in page
    table = pd.read_csv(next((results / "tables").rglob("external.csv")))
    for row in table.to_dict("records"):
        shown = [
            r.scores["auroc_macro"]
            for r in records
            if (r.trial.generator.name if r.trial.generator else "real only") == row["generator"]
        ]
        assert row["external_auroc_mean"] == pytest.approx(np.mean(shown), abs=1e-5)

    assert cli("run", *arguments) == 0
    assert "0 trials run" in capsys.readouterr().out
    assert len(fits) == trained


def test_external_scores_added_later_are_those_of_the_same_classifiers(cli, inside, outside, tmp_path, capsys, fits):
    late, at_once = tmp_path / "late", tmp_path / "at once"
    both = ["--data", inside[0], "--external", outside[0], *SMALL]
    assert cli("run", "--data", inside[0], *SMALL, "--results", late) == 0
    before = len(fits)
    assert cli("run", *both, "--results", late) == 0
    assert "2 trials run, 0 failed" in capsys.readouterr().out
    assert len(fits) == before + 2
    assert cli("run", *both, "--results", at_once) == 0
    assert scores_of(late, "external") == scores_of(at_once, "external")
    assert scores_of(late, "utility") == scores_of(at_once, "utility")


def test_a_classifier_that_fails_is_not_trained_again_for_the_external_films(
    cli, inside, outside, tmp_path, monkeypatch
):
    tried = []

    def fit(self, train, val, ctx):
        tried.append(len(train))
        raise RuntimeError("boom")

    monkeypatch.setattr(SmallCNN, "fit", fit)
    arguments = ["--data", inside[0], "--external", outside[0], *SMALL, "--results", tmp_path / "r"]
    assert cli("run", *arguments) == 1
    failed = Counter(r.trial.kind for r in Store(tmp_path / "r") if r.status == "failed")
    assert failed == {"external": 2, "utility": 7}
    assert len(tried) <= 7


def test_an_external_set_that_lacks_a_class_is_scored_over_the_others(
    cli, inside, outside, write_table, tmp_path, capsys
):
    folder, rows = outside
    write_table(folder, [row for row in rows if row["label"] != "Normal"])
    labels = ["--labels", "Viral Pneumonia=Pneumonia"]
    arguments = ["--data", inside[0], "--external", folder, *SMALL, *labels, "--results", tmp_path / "r"]
    assert cli("run", *arguments) == 0
    page = (tmp_path / "r" / "LEADERBOARD.md").read_text()
    assert "the external set has no 'Normal': scores are means over 'COVID', 'Pneumonia'" in page
    assert "Viral" not in page.replace("Viral Pneumonia=Pneumonia", "")


def test_a_class_scored_under_another_name_is_said_on_the_page_and_the_terminal(
    cli, inside, outside, write_table, tmp_path, capsys
):
    folder, rows = outside
    write_table(folder, [row | {"label": row["label"].replace("Viral ", "")} for row in rows])
    arguments = ["--data", inside[0], "--external", folder, *SMALL, "--results", tmp_path / "r"]
    assert cli("run", *arguments) == 0
    said = "external class 'Pneumonia' is scored as 'Viral Pneumonia'"
    assert said in (tmp_path / "r" / "LEADERBOARD.md").read_text()
    assert said in capsys.readouterr().err
    assert all(said in r.notes for r in Store(tmp_path / "r") if r.trial.kind == "external")
