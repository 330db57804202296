"""Whole runs at tier smoke in which a fit fails, is interrupted or kills its process."""

import errno
import os
import re
import signal
from dataclasses import dataclass

import pytest

from cxrbench.errors import Diverged
from cxrbench.registry import GENERATORS
from cxrbench.store import Store
from cxrbench.workbench import Workbench
from cxrbench_baselines.generators.cgan import CGAN
from cxrbench_baselines.generators.classical import Classical

pytestmark = pytest.mark.usefixtures("undrawn")


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
def test_a_failing_generator_is_recorded_and_the_others_go_on(run, tmp_path, monkeypatch, error, status, statuses):
    monkeypatch.setitem(GENERATORS._decorated, "faulty", Faulty)
    results = tmp_path / "r"
    assert run(results, generators=f"faulty:error={error},classical") == 1
    found = statuses(results)
    assert {state for what, state in found.items() if "faulty" in what} == {status}
    assert {state for what, state in found.items() if "faulty" not in what} == {"ok"}
    assert "Trials that did not end well" in (results / "LEADERBOARD.md").read_text()


def test_nan_in_a_real_net_ends_in_a_record_that_says_what_was_seen(run, tmp_path, monkeypatch):
    whole = CGAN.training_step

    def poisoned(self, step):
        if step == 3:
            next(self._nets.generator.parameters()).data[0] = float("nan")
        return whole(self, step)

    monkeypatch.setattr(CGAN, "training_step", poisoned)
    assert run(tmp_path / "r", generators="cgan:width=8,classical") == 1
    records = {record.trial.describe(): record for record in Store(tmp_path / "r")}
    broken = [record for what, record in records.items() if "cgan" in what and record.trial.kind != "throughput"]
    assert {record.status for record in broken} == {"diverged"}
    (error,) = {record.error for record in broken}
    assert re.search(r"became nan at step [4-6] of 6; .*(?:had seen nothing wrong|seen before)", error), error
    assert {record.status for what, record in records.items() if "cgan" not in what} == {"ok"}
    assert error in (tmp_path / "r" / "LEADERBOARD.md").read_text()


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


def test_a_failed_fit_is_not_repeated_for_every_ratio(run, tmp_path, monkeypatch, statuses):
    monkeypatch.setitem(GENERATORS._decorated, "counting", Counting)
    FITS.clear()
    assert run(tmp_path / "r", generators="counting", ratios="0,0.5,1,2") == 1
    assert FITS == [0]
    assert [s for what, s in statuses(tmp_path / "r").items() if "counting" in what] == ["diverged"] * 9


def test_a_ratio_that_adds_nothing_is_no_arm(run, tmp_path):
    assert run(tmp_path / "r", ratios="0,0.001") == 1
    failed = [record for record in Store(tmp_path / "r") if record.status != "ok"]
    assert {record.trial.arm for record in failed} == {"augment", "copy-adjusted"}
    assert all("adds no film of" in record.error for record in failed)


def test_an_interrupt_does_not_undo_a_finished_trial(run, tmp_path, monkeypatch, statuses):
    monkeypatch.setitem(GENERATORS._decorated, "interrupting", Interrupting)
    with pytest.MonkeyPatch.context() as patient:
        patient.setattr(Interrupting, "fit", Classical.fit)
        assert run(tmp_path / "r", generators="interrupting") == 0
    assert run(tmp_path / "r", "--fresh", generators="interrupting") == 130
    assert set(statuses(tmp_path / "r").values()) == {"ok"}


def test_fail_fast_stops_at_the_first_failure(run, tmp_path, monkeypatch, statuses):
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


def test_ctrl_c_keeps_finished_trials_and_writes_the_report(run, tmp_path, monkeypatch, statuses):
    monkeypatch.setitem(GENERATORS._decorated, "interrupting", Interrupting)
    assert run(tmp_path / "r", generators="interrupting,classical") == 130
    found = list(statuses(tmp_path / "r").values())
    assert found.count("ok") == 6
    assert found.count("interrupted") == 1
    assert (tmp_path / "r" / "LEADERBOARD.md").is_file()


@pytest.mark.parametrize("jobs", [1, 2])  # one: as on one core
def test_a_plug_in_that_kills_its_process_costs_its_own_trials_alone(run, tmp_path, monkeypatch, jobs):
    monkeypatch.setitem(GENERATORS._decorated, "deadly", Deadly)
    assert run(tmp_path / "r", "--jobs", jobs, generators="deadly,classical") == 1
    found = {r.trial.describe(): (r.status, r.error) for r in Store(tmp_path / "r")}
    dead = {what: found.pop(what) for what in list(found) if "deadly" in what}
    assert {status for status, _ in found.values()} == {"ok"}
    assert {status for status, _ in dead.values()} == {"oom"}
    assert all("SIGKILL" in error for _, error in dead.values())


@dataclass
class Fussy(Classical):
    """Stands for a fit that takes hours."""


def test_fresh_fits_once_also_where_a_process_has_been_renewed(run, tmp_path, monkeypatch):
    """What this run has made is not dropped by the process that goes on after one that ran out of memory."""
    monkeypatch.setitem(GENERATORS._decorated, "fussy", Fussy)
    whole, fits = Workbench._memorize, tmp_path / "fits"

    def fit(self, train, ctx):
        with fits.open("a") as file:
            file.write("x")
        return Classical.fit(self, train, ctx)

    def full(self, trial):
        if trial.generator.name == "fussy":
            raise MemoryError
        return whole(self, trial)

    monkeypatch.setattr(Fussy, "fit", fit)
    assert run(tmp_path / "r", "--jobs", 2, generators="fussy,classical") == 0
    assert fits.read_text() == "x"
    monkeypatch.setattr(Workbench, "_memorize", full)
    assert run(tmp_path / "r", "--fresh", "--jobs", 2, generators="fussy,classical") == 1
    assert fits.read_text() == "xx"
    assert [r.status for r in Store(tmp_path / "r") if r.status != "ok"] == ["oom"]


def test_the_error_of_a_failed_fit_does_not_keep_what_the_fit_held(run, tmp_path, monkeypatch):
    """A net that failed would else stay on the device for the rest of the run."""
    import gc
    import weakref

    class Net:
        """Stands for what a fit allocates."""

    held = []

    def fit(self, train, ctx):
        self._net, net = Net(), Net()
        held.extend([weakref.ref(self._net), weakref.ref(net)])
        error = Diverged("loss is nan")
        error.__cause__ = error  # as a careless plug-in may have it
        raise error

    alive = []

    def classical_fit(self, train, ctx):
        gc.collect()
        alive.append([reference() is not None for reference in held])
        self._films = {str(i): train.of_class(i).pixels for i in range(len(train.classes))}
        return self

    monkeypatch.setitem(GENERATORS._decorated, "counting", Counting)
    monkeypatch.setattr(Counting, "fit", fit)
    monkeypatch.setattr(Classical, "fit", classical_fit)
    assert run(tmp_path / "r", generators="counting,classical") == 1
    assert len(held) == 2
    assert alive == [[False, False]]


@pytest.fixture
def breaking_disk(tmp_path, monkeypatch):
    """``breaking_disk(code)``: writing fails with this error from the fourth record on; returns how to mend it."""
    whole = os.fsync

    def broken(code):
        def fsync(number):
            if len(list((tmp_path / "r" / "records").glob("*.json"))) == 3:
                raise OSError(code, os.strerror(code))
            whole(number)

        monkeypatch.setattr(os, "fsync", fsync)
        return lambda: monkeypatch.setattr(os, "fsync", whole)

    return broken


def test_a_full_disk_ends_the_run_in_one_line_and_costs_no_finished_trial(run, tmp_path, breaking_disk, capsys):
    results = tmp_path / "r"
    mend = breaking_disk(errno.ENOSPC)
    assert run(results, "--quiet") == 2
    [said] = capsys.readouterr().err.strip().splitlines()
    assert re.match(
        rf"cxrbench: {results}/.*\(No space left on device\); make room there and give the same command again", said
    )
    assert len(list(Store(results))) == 3
    assert not list(results.rglob("*.tmp"))
    mend()
    assert run(results) == 0
    assert "3 already done" in capsys.readouterr().out


def test_another_error_of_a_file_is_not_taken_for_a_full_disk(run, tmp_path, breaking_disk):
    breaking_disk(errno.EBADF)
    with pytest.raises(OSError, match="Bad file descriptor"):
        run(tmp_path / "r", "--quiet")
