"""Whole runs at tier smoke: results, resume, faults."""

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
from cxrbench.errors import Diverged
from cxrbench.registry import GENERATORS
from cxrbench.store import Store
from cxrbench_baselines.generators.classical import Classical

SMALL = ["--data", "phantom:patients_per_class=8", "--tier", "smoke", "--device", "cpu", "--controls", "none"]
ENOUGH = ["--data", "phantom:patients_per_class=24"]  # for every fidelity measure


@pytest.fixture
def run(cli):
    """`cxrbench run` on a small phantom; returns the exit code."""

    def command(results, *more, generators="classical", ratios="0,1"):
        return cli("run", *SMALL, "--results", results, "--generators", generators, "--ratios", ratios, *more)

    return command


def statuses(results):
    return {record.trial.describe(): record.status for record in Store(results)}


def digests(folder):
    return {p.relative_to(folder): hashlib.sha256(p.read_bytes()).hexdigest() for p in folder.rglob("*") if p.is_file()}


def test_a_run_answers_and_the_same_run_trains_nothing(run, tmp_path, capsys):
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


def test_results_are_the_same_from_a_fresh_cache(run, tmp_path, monkeypatch):
    scores = []
    for name in ("one", "two"):
        monkeypatch.setenv("CXRBENCH_CACHE", str(tmp_path / name))
        assert run(tmp_path / f"results-{name}", generators="cgan") == 0
        scores.append({r.key: r.scores for r in Store(tmp_path / f"results-{name}") if r.trial.kind != "throughput"})
    assert scores[0] == scores[1]


def test_fresh_runs_everything_again(run, tmp_path, capsys):
    assert run(tmp_path / "r") == 0
    capsys.readouterr()
    assert run(tmp_path / "r", "--fresh") == 0
    assert "0 already done" in capsys.readouterr().out


def test_quiet_prints_nothing(run, tmp_path, capfd):
    assert run(tmp_path / "r", "--quiet") == 0
    assert capfd.readouterr() == ("", "")


@dataclass
class Faulty(Classical):
    """Raises the way a broken plug-in does."""

    error: str = "RuntimeError"

    def fit(self, train, ctx):
        raise {"RuntimeError": RuntimeError("boom"), "Diverged": Diverged("loss is nan"), "MemoryError": MemoryError()}[
            self.error
        ]


@pytest.mark.parametrize(
    ("error", "status"), [("RuntimeError", "failed"), ("Diverged", "diverged"), ("MemoryError", "oom")]
)
def test_a_failing_generator_is_recorded_and_the_others_go_on(run, tmp_path, monkeypatch, error, status):
    monkeypatch.setitem(GENERATORS._decorated, "faulty", Faulty)
    results = tmp_path / "r"
    assert run(results, generators=f"faulty:error={error},classical") == 1
    found = statuses(results)
    assert {state for what, state in found.items() if "faulty" in what} == {status}
    assert {state for what, state in found.items() if "faulty" not in what} == {"ok"}
    assert "Trials that did not end well" in (results / "LEADERBOARD.md").read_text()


def test_a_failed_trial_is_tried_again_and_a_mended_one_counts(run, tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(GENERATORS._decorated, "faulty", Faulty)
    assert run(tmp_path / "r", generators="faulty") == 1
    monkeypatch.setattr(Faulty, "fit", Classical.fit)
    capsys.readouterr()
    assert run(tmp_path / "r", generators="faulty") == 0
    assert "5 trials run, 0 failed, 7 already done" in capsys.readouterr().out


@dataclass
class Counting(Classical):
    """Counts its fits and fails every one."""

    def fit(self, train, ctx):
        FITS.append(ctx.seed)
        raise Diverged("loss is nan")


FITS = []


def test_a_failed_fit_is_not_repeated_for_every_ratio(run, tmp_path, monkeypatch):
    monkeypatch.setitem(GENERATORS._decorated, "counting", Counting)
    FITS.clear()
    assert run(tmp_path / "r", generators="counting", ratios="0,0.5,1,2") == 1
    assert FITS == [0]
    assert [s for what, s in statuses(tmp_path / "r").items() if "counting" in what] == ["diverged"] * 9


@dataclass
class Frank(Classical):
    """Says what went wrong in its fit."""

    def diagnosis(self):
        return ["class Normal has collapsed"]


def test_what_a_generator_says_of_its_fit_stands_in_its_fidelity_record(run, tmp_path, monkeypatch):
    monkeypatch.setitem(GENERATORS._decorated, "frank", Frank)
    assert run(tmp_path / "r", generators="frank,classical", ratios="0") == 0
    notes = {
        record.trial.generator.name: [note for note in record.notes if note.startswith("diagnosis: ")]
        for record in Store(tmp_path / "r")
        if record.trial.kind == "fidelity" and record.trial.generator
    }
    assert notes == {"frank": ["diagnosis: class Normal has collapsed"], "classical": []}


def test_a_ratio_that_adds_nothing_is_no_arm(run, tmp_path):
    assert run(tmp_path / "r", ratios="0,0.001") == 1
    failed = [record for record in Store(tmp_path / "r") if record.status != "ok"]
    assert {record.trial.arm for record in failed} == {"augment", "copy-adjusted"}
    assert all("adds no film of" in record.error for record in failed)


def test_an_interrupt_does_not_undo_a_finished_trial(run, tmp_path, monkeypatch):
    monkeypatch.setitem(GENERATORS._decorated, "interrupting", Interrupting)
    with pytest.MonkeyPatch.context() as patient:
        patient.setattr(Interrupting, "fit", Classical.fit)
        assert run(tmp_path / "r", generators="interrupting") == 0
    assert run(tmp_path / "r", "--fresh", generators="interrupting") == 130
    assert set(statuses(tmp_path / "r").values()) == {"ok"}


def test_fail_fast_stops_at_the_first_failure(run, tmp_path, monkeypatch):
    monkeypatch.setitem(GENERATORS._decorated, "faulty", Faulty)
    assert run(tmp_path / "r", "--fail-fast", generators="faulty,classical") == 1
    assert not any("classical" in what for what in statuses(tmp_path / "r"))


@dataclass
class Interrupting(Classical):
    """Stands for a user who presses Ctrl-C during a fit."""

    def fit(self, train, ctx):
        raise KeyboardInterrupt


@dataclass
class Deadly(Classical):
    """Stands for a fit for which the system has no memory."""

    def fit(self, train, ctx):
        os.kill(os.getpid(), signal.SIGKILL)


def test_ctrl_c_keeps_finished_trials_and_writes_the_report(run, tmp_path, monkeypatch):
    monkeypatch.setitem(GENERATORS._decorated, "interrupting", Interrupting)
    assert run(tmp_path / "r", generators="interrupting,classical") == 130
    found = list(statuses(tmp_path / "r").values())
    assert found.count("ok") == 6
    assert found.count("interrupted") == 1
    assert (tmp_path / "r" / "LEADERBOARD.md").is_file()


def test_scores_do_not_depend_on_how_many_trials_run_side_by_side(run, tmp_path, monkeypatch):
    scores = []
    for jobs in (1, 2):
        monkeypatch.setenv("CXRBENCH_CACHE", str(tmp_path / f"cache-{jobs}"))
        results = tmp_path / f"results-{jobs}"
        assert run(results, "--jobs", jobs, "--seeds", 2, generators="cgan,classical") == 0
        assert {r.provenance["jobs"] for r in Store(results)} == {jobs}
        scores.append({r.key: (r.scores, r.notes) for r in Store(results) if r.trial.kind != "throughput"})
        assert {r.provenance["threads"] for r in Store(results) if r.trial.kind != "throughput"} == {1}
    assert scores[0] == scores[1]


def test_a_number_of_jobs_that_is_none_is_refused(run, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("CXRBENCH_JOBS", "many")
    assert run(tmp_path / "r") == 2
    assert "$CXRBENCH_JOBS is 'many'" in capsys.readouterr().err


def test_side_by_side_a_plug_in_that_kills_its_process_costs_its_own_trials_alone(run, tmp_path, monkeypatch):
    monkeypatch.setitem(GENERATORS._decorated, "deadly", Deadly)
    assert run(tmp_path / "r", "--jobs", 2, generators="deadly,classical") == 1
    found = {r.trial.describe(): (r.status, r.error) for r in Store(tmp_path / "r")}
    dead = {what: found.pop(what) for what in list(found) if "deadly" in what}
    assert {status for status, _ in found.values()} == {"ok"}
    assert {status for status, _ in dead.values()} == {"oom"}
    assert all("SIGKILL" in error for _, error in dead.values())


@pytest.mark.parametrize("command", [["run"], ["plan", "--costs"]])
def test_jobs_that_cannot_run_side_by_side_are_refused_before_anything_is_done(
    cli, tmp_path, monkeypatch, capsys, command
):
    monkeypatch.setattr("cxrbench.runner.can_fork", lambda: False)
    results = tmp_path / "r"
    assert cli(*command, "--tier", "smoke", "--jobs", 2, "--results", results) == 2
    assert "--jobs 2: trials cannot run side by side here" in capsys.readouterr().err
    assert not list(results.rglob("*.json"))


@pytest.mark.parametrize("jobs", [1, 2])
@pytest.mark.parametrize(("number", "code"), [(signal.SIGKILL, -9), (signal.SIGINT, 130), (signal.SIGTERM, 130)])
def test_a_killed_run_goes_on_from_its_finished_trials(run, tmp_path, number, code, jobs, capsys):
    results = tmp_path / "results"
    command = [sys.executable, "-c", "from cxrbench.cli import main; main()", "run", *SMALL]
    command += ["--results", str(results), "--generators", "cgan,classical", "--seeds", "3", "--jobs", str(jobs)]
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

    assert run(results, "--seeds", "3", generators="cgan,classical", ratios="0,0.5,1") == 0
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


def test_real_films_run_end_to_end(cli, real_data, tmp_path):
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


def test_the_error_of_a_failed_fit_does_not_keep_what_the_fit_held(run, tmp_path, monkeypatch):
    """A net that failed would else stay on the device for the rest of the run."""
    import gc
    import weakref

    class Net:
        """Stands for what a fit allocates."""

    held = []

    def fit(self, train, ctx):
        net = Net()
        held.append(weakref.ref(net))
        raise Diverged("loss is nan")

    alive = []

    def classical_fit(self, train, ctx):
        gc.collect()
        alive.append(held[0]() is not None)
        self._films = {str(i): train.of_class(i).pixels for i in range(len(train.classes))}
        return self

    monkeypatch.setitem(GENERATORS._decorated, "counting", Counting)
    monkeypatch.setattr(Counting, "fit", fit)
    monkeypatch.setattr(Classical, "fit", classical_fit)
    assert run(tmp_path / "r", generators="counting,classical") == 1
    assert len(held) == 1
    assert alive == [False]
