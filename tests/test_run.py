"""Whole runs at tier smoke: results, resume, what is private."""

import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import pytest

from cxrbench.datasets.phantom import Phantom
from cxrbench.registry import GENERATORS
from cxrbench.store import Store
from cxrbench_baselines.generators.classical import Classical

SMALL = ["--data", "phantom:patients_per_class=8", "--tier", "smoke", "--device", "cpu", "--controls", "none"]
QUICKLY = ["--extractors", "radio-texture"]
ENOUGH = ["--data", "phantom:patients_per_class=24", "--extractors", "auto"]  # for every fidelity measure


def digests(folder):
    return {p.relative_to(folder): hashlib.sha256(p.read_bytes()).hexdigest() for p in folder.rglob("*") if p.is_file()}


def test_a_run_answers_and_the_same_run_trains_nothing(run, tmp_path, capsys, statuses):
    results = tmp_path / "results"
    assert run(results, *ENOUGH, generators="classical,cgan") == 0
    page = (results / "LEADERBOARD.md").read_text()
    for wanted in ("real only", "classical", "cgan", "FD-radio-texture", "spec hash", "films per second", "test films"):
        assert wanted in page
    assert "FID" not in page.replace("Only InceptionV3 distances are FID", "")
    assert set(statuses(results).values()) == {"ok"}
    figures = {p.name for p in (results / "figures").rglob("*.png")}
    drawn = {"roc.png", "pr.png", "calibration.png", "confusion.png", "samples.png", "suspicious.png"}
    assert figures == drawn | {"ratio_curves.png"}  # one seed has no interval, so there is no picture of gains

    capsys.readouterr()
    started = time.monotonic()
    assert run(results, *ENOUGH, generators="classical,cgan") == 0
    assert time.monotonic() - started < 20
    assert "0 trials run, 0 failed, 18 already done" in capsys.readouterr().out

    assert run(results, *ENOUGH, generators="classical,cgan", ratios="0,1,2") == 0
    assert "4 trials run, 0 failed, 18 already done" in capsys.readouterr().out


def test_the_report_is_a_pure_function_of_the_records(run, cli, tmp_path):
    results = tmp_path / "results"
    assert run(results) == 0
    first = digests(results)
    (results / "LEADERBOARD.md").unlink()
    assert cli("report", "--results", results) == 0
    assert digests(results) == first


@pytest.mark.usefixtures("undrawn")
def test_fresh_runs_everything_again(run, tmp_path, capsys):
    assert run(tmp_path / "r") == 0
    capsys.readouterr()
    assert run(tmp_path / "r", "--fresh") == 0
    assert "0 already done" in capsys.readouterr().out


@pytest.mark.usefixtures("undrawn")
def test_quiet_prints_nothing(run, tmp_path, capfd):
    assert run(tmp_path / "r", "--quiet") == 0
    assert capfd.readouterr() == ("", "")


@dataclass
class Frank(Classical):
    """Says what went wrong in its fit."""

    def diagnosis(self):
        return ["class Normal has collapsed"]


@pytest.mark.usefixtures("undrawn")
def test_what_a_user_should_know_of_the_cpu_is_said_once(run, tmp_path, monkeypatch, capfd):
    monkeypatch.setattr("cxrbench.runner.slow_precision_note", lambda device: f"{device} has no bf16")
    for times in (1, 0):  # a run that finds all done trains nothing
        assert run(tmp_path / "r", "--controls", "none", ratios="0") == 0
        said = capfd.readouterr()
        assert (said.out + said.err).count("note: cpu has no bf16") == times


@pytest.mark.usefixtures("undrawn")
def test_what_a_generator_says_of_its_fit_stands_in_its_fidelity_record(run, tmp_path, monkeypatch):
    monkeypatch.setitem(GENERATORS._decorated, "frank", Frank)
    assert run(tmp_path / "r", generators="frank,classical", ratios="0") == 0
    notes = {
        record.trial.generator.name: [note for note in record.notes if note.startswith("diagnosis: ")]
        for record in Store(tmp_path / "r")
        if record.trial.kind == "fidelity" and record.trial.generator
    }
    assert notes == {"frank": ["diagnosis: class Normal has collapsed"], "classical": []}


@pytest.mark.usefixtures("undrawn")
def test_scores_do_not_depend_on_the_cache_nor_on_how_many_trials_run_side_by_side(run, tmp_path, monkeypatch):
    scores = []
    for jobs in (0, 2):
        monkeypatch.setenv("CXRBENCH_CACHE", str(tmp_path / f"cache-{jobs}"))
        results = tmp_path / f"results-{jobs}"
        assert run(results, "--jobs", jobs, "--seeds", 2, generators="cgan,classical") == 0
        assert {r.provenance["jobs"] for r in Store(results)} == {max(jobs, 1)}
        scores.append({r.key: (r.scores, r.notes) for r in Store(results) if r.trial.kind != "throughput"})
        assert {r.provenance["threads"] for r in Store(results) if r.trial.kind != "throughput"} == {1}
    assert scores[0] == scores[1]


def test_a_number_of_jobs_that_is_none_is_refused(run, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("CXRBENCH_JOBS", "many")
    assert run(tmp_path / "r") == 2
    assert "$CXRBENCH_JOBS is 'many'" in capsys.readouterr().err


@pytest.mark.parametrize("command", [["run"], ["plan", "--costs"]])
def test_jobs_that_cannot_run_side_by_side_are_refused_before_anything_is_done(
    cli, tmp_path, monkeypatch, capsys, command
):
    monkeypatch.setattr("cxrbench.runner.can_fork", lambda: False)
    results = tmp_path / "r"
    assert cli(*command, "--tier", "smoke", "--jobs", 2, "--results", results) == 2
    assert "--jobs 2: trials cannot run side by side here" in capsys.readouterr().err
    assert not list(results.rglob("*.json"))


@pytest.mark.usefixtures("undrawn")
@pytest.mark.parametrize(
    ("number", "code", "jobs"),
    [
        pytest.param(signal.SIGKILL, -9, 1, marks=pytest.mark.slow),
        (signal.SIGKILL, -9, 2),
        (signal.SIGINT, 130, 0),
        (signal.SIGTERM, 130, 2),
    ],
)
def test_a_killed_run_goes_on_from_its_finished_trials(run, tmp_path, number, code, jobs, capsys):
    results = tmp_path / "results"
    command = [sys.executable, "-c", "from cxrbench.cli import main; main()", "run", *SMALL, *QUICKLY]
    command += ["--results", str(results), "--generators", "cgan,classical", "--ratios", "0,1", "--jobs", str(jobs)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=os.environ.copy())
    deadline = time.monotonic() + 60
    while len(list((results / "records").glob("*.json"))) < 4:
        assert process.poll() is None, "the run ended before it could be killed"
        assert time.monotonic() < deadline
        time.sleep(0.05)
    process.send_signal(number)
    assert process.wait(30) == code
    kept = {r.key: r for r in Store(results) if r.status == "ok"}
    assert len(kept) >= 4

    assert run(results, generators="cgan,classical") == 0
    assert f"{len(kept)} already done" in capsys.readouterr().out
    after = {r.key: r for r in Store(results)}
    assert all(after[key].provenance == record.provenance for key, record in kept.items())


def write_films(root, films=14):
    from PIL import Image

    phantom = Phantom(patients_per_class=films, max_films=1)
    for film in phantom.listing().films:
        folder = root / film.file.split("/")[0] / "images"
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(phantom.read(film, 48)).save(folder / f"{film.file.split('/')[1]}.png")
    return root


def test_pictures_of_a_users_films_stay_private_and_quarantine_is_counted(cli, tmp_path):
    data, results = write_films(tmp_path / "hospital"), tmp_path / "results"
    (data / "COVID" / "images" / "torn.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    assert cli("run", "--data", data, *SMALL[2:], "--generators", "classical", "--results", results) == 0
    page = (results / "LEADERBOARD.md").read_text()
    assert "1 files could not be read" in page
    assert "torn.png" in page
    assert "samples.png)" not in page
    assert {p.name for p in (results / "private").rglob("samples.png")} == {"samples.png"}
    assert not list((results / "records").glob("*.samples.npz"))
    assert (results / "private" / ".gitignore").read_text() == "*\n"


@pytest.mark.usefixtures("undrawn")
def test_predictions_are_kept_and_reproduce_the_scores(run, tmp_path):
    from cxrbench.metrics.classification import score_predictions

    assert run(tmp_path / "r") == 0
    store = Store(tmp_path / "r")
    utility = [record for record in store if record.trial.kind == "utility"]
    assert utility
    for record in utility:
        kept = store.arrays(record.key)
        assert score_predictions(kept["labels"], kept["probabilities"], record.classes) == pytest.approx(record.scores)
        assert len(kept["groups"]) == record.counts["test"]


def test_real_films_run_end_to_end(cli, real_data, tmp_path, statuses):
    results = tmp_path / "results"
    data = real_data / "external"
    assert cli("run", "--data", data, *SMALL[2:], "--generators", "classical,dcgan", "--results", results) == 0
    page = (results / "LEADERBOARD.md").read_text()
    assert "900 films" in page
    assert set(statuses(results).values()) == {"ok"}


def test_a_third_party_package_is_found_and_run(tmp_path):
    """Install the example package, which only declares entry points, and use it."""
    target = tmp_path / "site"
    example = Path(__file__).parent / "example_plugin"
    install = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation"]
    subprocess.run([*install, "--target", str(target), str(example)], check=True, capture_output=True)
    environment = {**os.environ, "PYTHONPATH": str(target), "COLUMNS": "200"}

    def command(*arguments):
        code = "from cxrbench.cli import main; main()"
        return subprocess.run(
            [sys.executable, "-c", code, *map(str, arguments)], env=environment, capture_output=True, text=True
        )

    listed = command("list").stdout
    assert "class-mean" in listed
    assert "cxrbench-example-plugin" in listed
    results = tmp_path / "results"
    done = command("run", *SMALL, "--results", results, "--generators", "class-mean", "--classifiers", "nearest-mean")
    assert done.returncode == 0, done.stderr
    records = [json.loads(p.read_text()) for p in (results / "records").glob("*.json")]
    assert {r["status"] for r in records} == {"ok"}
    assert "class-mean" in (results / "LEADERBOARD.md").read_text()
