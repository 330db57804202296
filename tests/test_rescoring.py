"""Scores made anew from kept predictions: what changes, what stays to the byte, what is refused."""

import hashlib
import io
import json

import numpy as np
import pytest

import cxrbench
from cxrbench.errors import DataError
from cxrbench.metrics.classification import score_predictions, score_present
from cxrbench.records import PluginRef, Record, Setting, Status, Trial
from cxrbench.rescoring import rescore_record, rescore_store
from cxrbench.store import Store

SETTING = Setting(
    data="phantom", data_hash="d", split_seed=0, split_key="s", spec_hash="x", tier="smoke", image_size=32
)
CLASSIFIER = PluginRef(name="small-cnn", kind="classifier", params={}, identity="c")
CLASSES = ("COVID", "Normal", "Viral Pneumonia")
FILMS = 30
NOTE = {"date": "2026-11-23T00:00:00+00:00", "cxrbench": "0.1.0"}
PICTURES = {"generated": np.full((2, 1, 4, 4), 7, np.uint8)}


def predictions(seed, labels=(0, 1, 2)):
    rng = np.random.default_rng(seed)
    return {
        "probabilities": rng.dirichlet(np.ones(3), FILMS).astype(np.float32),
        "labels": np.resize(np.asarray(labels, np.int64), FILMS),
        "groups": np.arange(FILMS).astype(str),
    }


def record_of(kind, seed, scores, status=Status.OK):
    trial = Trial(
        kind=kind,
        setting=SETTING,
        classifier=CLASSIFIER,
        classifier_seed=seed,
        ratio=0.0,
        external="e" if kind == "external" else "",
    )
    return Record(
        key=trial.key,
        trial=trial,
        status=status,
        error=None if status is Status.OK else "boom",
        classes=CLASSES,
        scores=scores,
        counts={"test": FILMS, "train_real": 60, "train_synthetic": 0, "steps": 8, "tuning_trials": 1},
        provenance={"started": "2026-11-22T00:00:00+00:00", "seconds": 1.0, "device": "a machine"},
    )


@pytest.fixture
def store(tmp_path):
    """Two utility records, an external one whose films lack a class, a failed one and one of another kind."""
    made = Store(tmp_path / "results")
    made.prepare()
    for seed in range(2):
        kept = predictions(seed)
        scores = score_predictions(kept["labels"], kept["probabilities"], CLASSES)
        made.put(record_of("utility", seed, scores), kept, PICTURES if seed else {}, publish=False)
    kept = predictions(2, labels=(0, 1))
    made.put(
        record_of("external", 0, score_present(kept["labels"], kept["probabilities"], CLASSES)),
        kept,
        {},
        publish=False,
    )
    made.put(record_of("utility", 7, {}, Status.DIVERGED), {}, {}, publish=False)
    fidelity = {"lite0/all/fid": 3.0, "lite0/all/fid_low": 2.0, "lite0/all/fid_high": 4.0}
    made.put(record_of("fidelity", 0, fidelity), {}, {}, publish=False)
    return made


def one_of(store, kind="utility", seed=0):
    (found,) = [r for r in store if (r.trial.kind, r.trial.classifier_seed) == (kind, seed)]
    return found


def digests(folder):
    return {p.relative_to(folder): hashlib.sha256(p.read_bytes()).hexdigest() for p in folder.rglob("*") if p.is_file()}


def edit_scores(store, record, change):
    path = store.records / f"{record.key}.json"
    content = json.loads(path.read_text())
    change(content["scores"])
    path.write_text(json.dumps(content))


def test_an_untouched_store_stays_the_same_to_the_byte(store):
    before = digests(store.root)
    found = rescore_store(store, NOTE)
    assert (found.scored, found.changes, found.without) == (3, [], [])
    assert digests(store.root) == before


def test_a_score_that_was_deleted_or_edited_comes_back_and_the_record_says_so(store):
    record = one_of(store)
    edit_scores(store, record, lambda s: (s.pop("auprc_macro"), s.update(auroc_macro=1.0, outdated=0.5)))
    before = digests(store.root)
    found = rescore_store(store, NOTE)
    (change,) = found.changes
    assert (change.gained, change.lost, change.score) == (("auprc_macro",), ("outdated",), "auroc_macro")
    assert change.difference == pytest.approx(1.0 - record.scores["auroc_macro"])
    mended = store.get(record.key)
    assert mended == record.model_copy(update={"provenance": {**record.provenance, "rescored": NOTE}})
    touched = [path.name for path, digest in digests(store.root).items() if before[path] != digest]
    assert touched == [f"{record.key}.json"]
    assert rescore_store(store, NOTE).changes == []


def test_external_films_are_scored_over_the_classes_they_have(store):
    record = one_of(store, "external")
    assert "auroc/Viral Pneumonia" not in record.scores
    edit_scores(store, record, lambda s: s.clear())
    (change,) = rescore_store(store, NOTE).changes
    assert (change.difference, change.score) == (0.0, "")
    assert store.get(record.key).scores == record.scores


def test_rounding_is_no_change():
    kept = predictions(0)
    scores = score_predictions(kept["labels"], kept["probabilities"], CLASSES)
    nearly = {name: value + 1e-13 for name, value in scores.items()}
    assert rescore_record(record_of("utility", 0, nearly), kept, NOTE) is None
    farther = {name: value + 1e-6 for name, value in scores.items()}
    assert rescore_record(record_of("utility", 0, farther), kept, NOTE) is not None


def test_a_score_that_no_metric_gives_any_more_goes():
    kept = predictions(0)
    scores = score_predictions(kept["labels"], kept["probabilities"], CLASSES)
    change = rescore_record(record_of("utility", 0, {**scores, "outdated": 0.5}), kept, NOTE)
    assert change.lost == ("outdated",)
    assert change.record.scores == scores


def test_records_without_predictions_are_named_and_left_alone(store):
    record = one_of(store)
    (store.records / f"{record.key}.npz").unlink()
    edit_scores(store, record, lambda s: s.update(auroc_macro=1.0))
    found = rescore_store(store, NOTE)
    assert found.scored == 2
    assert [r.key for r in found.without] == [record.key]
    assert store.get(record.key).scores["auroc_macro"] == 1.0


def doubled(kept):
    kept["probabilities"] = kept["probabilities"] * 2


def with_nan(kept):
    kept["probabilities"][3, 1] = np.nan


def shortened(kept):
    kept["probabilities"] = kept["probabilities"][:-1]


def in_float64(kept):
    kept["probabilities"] = kept["probabilities"].astype(np.float64)


def unknown_label(kept):
    kept["labels"][0] = 3


def text_labels(kept):
    kept["labels"] = kept["labels"].astype(str)


def few_groups(kept):
    kept["groups"] = kept["groups"][:4]


def one_class(kept):
    kept["labels"][:] = 0


def no_groups(kept):
    del kept["groups"]


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (doubled, "rows that do not sum to one"),
        (with_nan, "negative or not finite"),
        (shortened, r"float32 \[30, 3\]"),
        (in_float64, "must return float32"),
        (unknown_label, r"labels must lie in \[0, 3\)"),
        (text_labels, "labels must be int64"),
        (few_groups, r"groups \[N\]"),
        (one_class, "no test film of Normal, Viral Pneumonia"),
        (no_groups, "its predictions hold no groups"),
    ],
)
def test_malformed_predictions_name_their_record_and_nothing_is_written(store, spoil, said):
    first, last = sorted((one_of(store, seed=0), one_of(store, seed=1)), key=lambda record: record.key)
    edit_scores(store, first, lambda s: s.clear())  # is looked at first, and would be written
    kept = store.arrays(last.key)
    spoil(kept)
    np.savez(store.records / f"{last.key}.npz", **kept)
    before = digests(store.root)
    with pytest.raises(DataError, match=said) as raised:
        rescore_store(store, NOTE)
    assert f"record {last.key[:12]} ({last.trial.describe()})" in str(raised.value)
    assert digests(store.root) == before


def npy():
    """One array, and no npz."""
    buffer = io.BytesIO()
    np.save(buffer, np.arange(3))
    return buffer.getvalue()


@pytest.mark.parametrize("damage", [b"", b"PK\x03\x04", b"no npz at all", npy(), None])
def test_damaged_predictions_name_their_record(store, damage):
    record = one_of(store)
    path = store.records / f"{record.key}.npz"
    whole = path.read_bytes()
    middle = len(whole) // 4
    flipped = whole[:middle] + bytes(b ^ 255 for b in whole[middle : middle + 16]) + whole[middle + 16 :]
    path.write_bytes(flipped if damage is None else damage)
    with pytest.raises(DataError, match=f"record {record.key[:12]}.*cannot be read"):
        rescore_store(store, NOTE)


# ---------------------------------------------------------------- the command


def test_the_command_says_what_changed_and_rebuilds_the_report(store, cli, capsys):
    record, bare = one_of(store, seed=0), one_of(store, seed=1)
    edit_scores(store, record, lambda s: (s.pop("brier"), s.update(ece=s["ece"] + 0.25)))
    (store.records / f"{bare.key}.npz").unlink()
    assert cli("rescore", "--results", store.root) == 0
    named, last = capsys.readouterr().out.splitlines()
    assert named == f"no predictions: {bare.key[:12]} ({bare.trial.describe()})"
    page = store.root / "LEADERBOARD.md"
    assert last == (
        f"rescored 2 records: 1 changed, by at most 2.5e-01 (ece, {record.key[:12]}); new: brier; "
        f"1 have no predictions; see {page}"
    )
    assert page.is_file()
    mended = store.get(record.key)
    assert mended.scores == record.scores
    assert mended.provenance["rescored"]["cxrbench"] == cxrbench.__version__

    written = digests(store.root)
    assert cli("rescore", "--results", store.root) == 0
    assert "rescored 2 records: 0 changed; 1 have no predictions" in capsys.readouterr().out
    assert digests(store.root) == written


def test_the_command_ends_with_four_on_malformed_predictions(store, cli, capsys):
    record = one_of(store)
    kept = store.arrays(record.key)
    doubled(kept)
    np.savez(store.records / f"{record.key}.npz", **kept)
    before = digests(store.root)
    assert cli("rescore", "--results", store.root) == 4
    out, err = capsys.readouterr()
    assert out == ""
    assert len(err.splitlines()) == 1
    assert record.key[:12] in err
    assert digests(store.root) == before


def test_a_results_folder_that_is_not_there_is_a_usage_error(cli, tmp_path, capsys):
    assert cli("rescore", "--results", tmp_path / "none") == 2
    assert "does not exist" in capsys.readouterr().err
