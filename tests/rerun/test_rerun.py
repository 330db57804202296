"""Rows that are re-run from their records alone: what matches, what differs and why, what cannot be asked."""

import hashlib
import json
import shutil

import numpy as np
import pytest
from PIL import Image

from cxrbench.store import Store
from cxrbench_baselines.generators.classical import Classical


@pytest.fixture
def results(ran, tmp_path):
    """A copy of the run's results, to be spoilt."""
    return shutil.copytree(ran.root / "results", tmp_path / "results")


def edit(results, key, change):
    path = results / "records" / f"{key}.json"
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


def digests(folder):
    return {p.relative_to(folder): hashlib.sha256(p.read_bytes()).hexdigest() for p in folder.rglob("*") if p.is_file()}


def refuse_to_run(*arguments, **options):
    raise AssertionError("nothing should have been run")


# ---------------------------------------------------------------- re-runs


def test_a_row_matches_in_a_clean_cache_and_nothing_else_is_touched(ran, cli, private_cache, tmp_path, capsys):
    before = digests(ran.root)
    row = ran.record("utility").trial.row
    assert cli("verify", row, "--results", ran.root / "results", "--keep", tmp_path / "kept") == 0
    last = capsys.readouterr().out.strip().splitlines()[-1]
    assert last == (
        "match: 2 records re-run in a clean cache, largest difference 0.0e+00 (auroc_macro), tolerance 1e-06"
    )
    assert digests(ran.root) == before
    assert not [path for path in private_cache.rglob("*") if path.is_file()]
    again = list(Store(tmp_path / "kept" / "results"))
    assert {record.trial.row for record in again} == {row}
    assert {record.provenance["request"]["generators"] for record in again} == {"classical"}
    assert (tmp_path / "kept" / "cache" / "predict").is_dir()


@pytest.mark.parametrize(("kind", "generator"), [("external", ""), ("fidelity", "classical")])
def test_other_rows_match_from_films_that_were_moved(ran, results, cli, tmp_path, capsys, kind, generator):
    record = ran.record(kind, generator)
    nowhere = str(tmp_path / "gone")
    for found in Store(results):
        edit(results, found.key, lambda c: c["provenance"]["request"].update(data=nowhere, external=nowhere))
    assert cli("verify", record.key[:12], "--results", results) == 2
    complaint = capsys.readouterr().err
    assert f"data path {nowhere} does not exist; if the films were moved, name their folder with --data" in complaint

    moved = ["--data", ran.root / "inside"]
    if kind == "external":
        assert cli("verify", record.key[:12], "--results", results, *moved) == 2
        assert "name their folder with --external" in capsys.readouterr().err
        moved += ["--external", ran.root / "outside"]
    assert cli("verify", record.key[:12], "--results", results, *moved) == 0
    assert "match: " in capsys.readouterr().out


def test_scores_and_predictions_edited_by_hand_differ_and_are_named(ran, results, cli, capsys):
    record, other = (ran.record("utility", "", classifier_seed=seed) for seed in (0, 1000))
    edit(results, record.key, lambda c: c["scores"].update({"f1/Normal": c["scores"]["f1/Normal"] + 0.25}))
    kept = Store(results).arrays(other.key)
    kept["probabilities"][0] = kept["probabilities"][0][::-1]
    np.savez(results / "records" / f"{other.key}.npz", **kept)
    assert cli("verify", record.trial.row, "--results", results) == 5
    out = capsys.readouterr().out
    assert f"differs: {record.trial.describe()}: f1/Normal differs by more than 1e-06" in out
    assert f"differs: {record.trial.describe()}: the predictions are the same: the scores were edited" in out
    assert f"differs: {other.trial.describe()}: predictions differ by up to" in out
    assert "differ: 2 of 2 records re-run in a clean cache, largest difference 2.5e-01 (f1/Normal)" in out

    assert cli("verify", record.trial.row, "--results", results, "--tolerance", "0.5", "--quiet") == 0
    assert capsys.readouterr() == ("", "")


@pytest.mark.usefixtures("no_run")
def test_damaged_predictions_are_bad_data_before_anything_is_run(ran, results, cli, capsys):
    record = ran.record("utility")
    path = results / "records" / f"{record.key}.npz"
    path.write_bytes(path.read_bytes()[:-40])
    assert cli("verify", record.trial.row, "--results", results) == 4
    assert f"record {record.key[:12]}" in capsys.readouterr().err


def test_a_trial_that_fails_again_is_no_match(ran, cli, monkeypatch, capsys):
    def fit(self, train, ctx):
        raise RuntimeError("the disk is full")

    monkeypatch.setattr(Classical, "fit", fit)
    row = ran.record("utility").trial.row
    assert cli("verify", row, "--results", ran.root / "results") == 1
    out = capsys.readouterr().out
    assert "failed: small-cnn on real films with 1 x classical, seed 0: failed: RuntimeError: the disk is full" in out
    assert "match" not in out


def test_ctrl_c_ends_a_verification(ran, cli, monkeypatch):
    def fit(self, train, ctx):
        raise KeyboardInterrupt

    monkeypatch.setattr(Classical, "fit", fit)
    assert cli("verify", ran.record("utility").trial.row, "--results", ran.root / "results", "--quiet") == 130


# ---------------------------------------------------------------- what cannot be re-run, and why


@pytest.fixture
def no_run(monkeypatch):
    monkeypatch.setattr("cxrbench.runner.run_plan", refuse_to_run)


@pytest.mark.usefixtures("no_run")
def test_another_parameter_of_a_plugin_is_explained(ran, results, cli, capsys):
    record = ran.record("utility")
    for found in Store(results):
        edit(results, found.key, lambda c: c["provenance"]["request"].update(generators="classical:flip=0.125"))
    assert cli("verify", record.trial.row, "--results", results) == 5
    lines = capsys.readouterr().out.splitlines()
    assert lines == [
        "why: generator classical: parameters differ: flip 0.5 in the record, 0.125 here",
        f"differ: row {record.trial.row} cannot be re-run as it was; nothing was run",
    ]


@pytest.mark.usefixtures("no_run")
def test_other_source_of_a_plugin_is_explained(ran, cli, monkeypatch, capsys):
    from cxrbench import hashing

    original = hashing.source_hash
    edited = Classical.__module__
    monkeypatch.setattr(hashing, "source_hash", lambda name: "edited" if name == edited else original(name))
    assert cli("verify", ran.record("utility").trial.row, "--results", ran.root / "results", "--quiet") == 5
    out, err = capsys.readouterr()
    assert out == ""
    assert err.splitlines()[0] == "why: generator classical: source differs"


@pytest.mark.usefixtures("no_run")
def test_changed_films_are_explained(ran, cli, tmp_path, capsys):
    inside = shutil.copytree(ran.root / "inside", tmp_path / "inside")
    outside = shutil.copytree(ran.root / "outside", tmp_path / "outside")
    for folder, name in ((inside, "3.png"), (outside, "4.png")):
        Image.fromarray(np.asarray(Image.open(folder / name)) // 2).save(folder / name)
    row = ran.record("external").trial.row
    places = ["--data", inside, "--external", outside]
    assert cli("verify", row, "--results", ran.root / "results", *places) == 5
    why = [line for line in capsys.readouterr().out.splitlines() if line.startswith("why: ")]
    assert [line.split(":")[1].strip() for line in why] == ["data hash", "external films"]


@pytest.mark.usefixtures("no_run")
def test_a_record_that_calls_itself_something_else_is_found_out(ran, results, cli, capsys):
    first = ran.record("utility", classifier_seed=0)
    edit(results, first.key, lambda c: c["trial"]["generator"].update(name="diffusion"))
    assert cli("verify", first.trial.row, "--results", results) == 5
    assert f"record {first.key[:12]}: its generator cannot be called what" in capsys.readouterr().out

    edit(results, first.key, lambda c: c["trial"].update(ratio=2.0))
    (row,) = {r.trial.row for r in Store(results) if r.key == first.key}
    assert cli("verify", row, "--results", results) == 5
    assert "its key is not the key of the trial it holds" in capsys.readouterr().out


@pytest.mark.usefixtures("no_run")
@pytest.mark.parametrize(
    ("request_", "said"),
    [
        ({}, "keeps no request, so its run cannot be planned again"),
        ({"data": "phantom", "colour": "blue"}, "keeps a request that is none: colour: Extra inputs"),
        ({"tier": "smok"}, "unknown tier 'smok'; did you mean smoke?"),
        ({"generators": "clasical"}, "unknown generator 'clasical'; did you mean classical"),
    ],
)
def test_a_request_that_cannot_be_planned_is_a_usage_error(ran, results, cli, capsys, request_, said):
    record = ran.record("fidelity")
    edit(results, record.key, lambda c: c["provenance"].update(request=request_))
    assert cli("verify", record.trial.row, "--results", results) == 2
    assert said in capsys.readouterr().err


@pytest.mark.usefixtures("no_run")
def test_options_that_make_no_sense_are_refused_before_anything_is_run(ran, cli, tmp_path, capsys):
    row, where = ran.record("utility").trial.row, ["--results", ran.root / "results"]
    (tmp_path / "film.png").write_bytes(b"")
    assert cli("verify", row, *where, "--keep", tmp_path) == 2
    assert "it is no empty folder" in capsys.readouterr().err
    for tolerance in ("-1", "nan", "inf"):
        assert cli("verify", row, *where, "--tolerance", tolerance) == 2
        assert "--tolerance" in capsys.readouterr().err
    assert cli("verify", row, "--results", tmp_path / "none") == 2
    assert "does not exist" in capsys.readouterr().err
    assert cli("verify", row, *where, "--device", "gpu") == 2
    assert "unknown device 'gpu'" in capsys.readouterr().err
