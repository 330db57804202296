"""The page that sets predicted costs beside true ones: what it counts, and one small run of it."""

import json
import subprocess
import sys
import time

import pytest

from bench import plan_accuracy
from bench.plan_accuracy import SELF, Meter, Truth, compare, factor, kind_of, options_of, page
from cxrbench.asked import Asked, prepare, request_of
from cxrbench.costs.prediction import Prediction, TrialCost
from cxrbench.records import Record, Status

SMALL = Asked(
    data="phantom:patients_per_class=8:max_films=1",
    generators="classical",
    ratios="1",
    tier="smoke",
    seeds=1,
    controls="none",
    device="cpu",
)


@pytest.fixture(scope="module")
def plan():
    return prepare(SMALL, request_of(SMALL), lambda found: found)[1]


def record_of(trial, status=Status.OK, error=None):
    return Record(key=trial.key, trial=trial, status=status, error=error)


def test_trials_of_a_row_are_summed_and_unknown_ones_left_out(plan):
    costs = {trial.key: TrialCost(2.0, 3 * 2**20) for trial in plan.trials}
    unknown = next(trial for trial in plan.trials if trial.kind == "memorization")
    meter = Meter(truths={trial.key: Truth(5.0, 4.0, 6 * 2**20) for trial in plan.trials})
    prediction = Prediction(plan, costs | {unknown.key: None}, 0.0, ())
    rows = {row["what"]: row for row in compare(prediction, meter, by_cpu=True)}
    assert rows["small-cnn"] == {
        "what": "small-cnn",
        "trials": 5,  # real films, two thirds and one third of them, with synthetic ones, synthetic ones alone
        "predicted": 10.0,
        "true": 20.0,
        "predicted_mib": 3,
        "true_mib": 6,
    }
    assert set(rows) == {kind_of(trial) for trial in plan.trials} - {"memorization"}
    [timed] = [trial.describe() for trial in plan.trials if trial.kind == "throughput"]
    assert rows[timed]["true"] == 5.0  # wall seconds: it has all cores
    walls = {row["what"]: row for row in compare(prediction, meter, by_cpu=False)}
    assert walls["small-cnn"]["true"] == 25.0
    assert "true_mib" not in walls["small-cnn"]


def test_a_meter_counts_trials_and_neither_loading_nor_failures(plan):
    meter, (good, bad) = Meter(), plan.trials[:2]
    meter.begin("load phantom", 1.0)
    meter.end("load phantom", None)
    meter.begin("good", 1.0)
    end = time.process_time() + 0.05
    while time.process_time() < end:
        sum(range(100))
    meter.end("good", record_of(good))
    meter.begin("bad", 1.0)
    meter.end("bad", record_of(bad, Status.FAILED, "no room"))
    assert list(meter.truths) == [good.key]
    assert meter.truths[good.key].cpu_seconds == pytest.approx(0.05, rel=0.3)
    assert meter.truths[good.key].wall_seconds <= meter.wall_seconds
    assert meter.failed == ["bad: no room"]


PEAKS = """
import numpy as np
from bench.plan_accuracy import begin_peak, peak_bytes
begin_peak()
before = peak_bytes()
np.ones(2**24).sum()  # 128 MiB, freed at once
after = peak_bytes()
begin_peak()
print(after - before, peak_bytes() - before)
"""


@pytest.mark.skipif(not (SELF / "clear_refs").exists(), reason="only Linux tells the peak of the resident memory")
def test_the_peak_of_the_memory_is_that_of_the_trial():
    # In a process of its own, as the bench is: one that has run many tests holds freed memory, which is given out anew.
    shown = subprocess.run([sys.executable, "-c", PEAKS], capture_output=True, text=True, check=True).stdout
    grown, begun_anew = map(int, shown.split())
    assert grown > 100 * 2**20
    assert begun_anew < 50 * 2**20


def test_a_factor_of_nothing_is_not_shown():
    assert factor(3.0, 2.0) == "1.50"
    assert factor(3.0, 0.01) == ""


def test_the_command_line_names_what_is_no_default():
    assert options_of(Asked()) == []
    assert options_of(Asked(tier="smoke", seeds=1)) == ["--tier", "smoke", "--seeds", "1"]


def test_a_small_plan_is_predicted_run_and_compared(tmp_path, monkeypatch, capsys):
    asked = [f"{option}" for option in options_of(SMALL)]
    monkeypatch.setattr(sys, "argv", ["plan_accuracy", str(tmp_path / "plan.json"), *asked])
    assert plan_accuracy.main() == 0
    found = json.loads((tmp_path / "plan.json").read_text())
    assert found["failed"] == found["broken"] == []
    assert found["seconds"] == "CPU"
    assert found["true"] == pytest.approx(sum(row["true"] for row in found["rows"]), abs=0.1)
    assert found["predicted"] == pytest.approx(sum(row["predicted"] for row in found["rows"]), abs=0.1)
    assert 0.2 < found["predicted"] / found["true"] < 5  # far more is said where the machine does nothing else
    assert {row["what"] for row in found["rows"]} >= {"small-cnn", "fidelity of classical", "memorization"}
    text = (tmp_path / "PLAN.md").read_text()
    assert text == page(found)
    assert "| small-cnn | 5 |" in text
    assert "--generators classical" in text
    assert "predicted" in capsys.readouterr().out


def test_bad_options_are_one_line(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["plan_accuracy", str(tmp_path / "plan.json"), "--tier", "quik"])
    assert plan_accuracy.main() == 2
    assert "did you mean quick" in capsys.readouterr().err
