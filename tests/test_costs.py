"""What a plan will cost: times of known work, what is left out, and what is not tried twice."""

import functools
import sys
import time
from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from cxrbench.cache import Cache
from cxrbench.costs import calibration
from cxrbench.costs.calibration import Calibration, plugin_references
from cxrbench.costs.plugins import PluginCost, Task, probe_classifier, probe_generator
from cxrbench.costs.prediction import Films, Prediction, TrialCost, TrialCosts, first_memorization, predict
from cxrbench.costs.shared import ExtractorCost, MeasuresCost, MemorizationCost
from cxrbench.costs.trying import made_up_films, seconds_of
from cxrbench.datasets.phantom import Phantom
from cxrbench.plan import Request, make_plan
from cxrbench.records import Record, Status
from cxrbench.registry import GENERATORS
from cxrbench.spec import spec_of_tier
from cxrbench.stages import index_data
from cxrbench.store import Store
from cxrbench_baselines.generators.kept import KeptFilms

SPEC = spec_of_tier("smoke")
TASK = Task(size=32, classes=("a", "b"), train=12, budget=100, device="cpu", share=0.2)


def spin(seconds):
    """Compute for so long: waiting is no CPU time."""
    end = time.process_time() + seconds
    while time.process_time() < end:
        sum(range(100))


@dataclass
class Spinner(KeptFilms):
    """A cycle of three steps, the first of which is slow; sampling a film takes a tenth of a millisecond."""

    def setup(self, train, ctx):
        spin(0.005)

    def training_step(self, step):
        spin(0.009 if step % 3 == 0 else 0.003)
        return {}

    def images_per_step(self):
        return 1

    def steps_per_cycle(self):
        return 3

    def fit(self, train, ctx):
        self.setup(train, ctx)
        for step in range(ctx.budget):
            self.training_step(step)
        return super().fit(train, ctx)

    def sample(self, labels, ctx):
        spin(1e-4 * len(labels))
        return self.draw(labels, np.random.default_rng(0))


@dataclass
class Closed(KeptFilms):
    """Says nothing of its steps."""

    def fit(self, train, ctx):
        spin(0.01 + 0.004 * ctx.budget)
        return super().fit(train, ctx)

    def sample(self, labels, ctx):
        return self.draw(labels, np.random.default_rng(0))


@dataclass
class Multiplier(Spinner):
    """One matrix product a step, of known FLOPs; notes the sizes at which it was really done."""

    def setup(self, train, ctx):
        self.factor = torch.ones(train.size**2, 100)

    def steps_per_cycle(self):
        return 1

    def training_step(self, step):
        product = self.factor.T @ self.factor
        if type(product) is torch.Tensor:
            spin(0.01)
            DONE_AT.append(len(self.factor))
        return {"loss": product.sum()}


@dataclass
class Broken(Spinner):
    def setup(self, train, ctx):
        raise ValueError("no room\nfor a net")


DONE_AT: list[int] = []


@pytest.fixture
def stubs(monkeypatch):
    for name, cls in (("spinner", Spinner), ("broken", Broken)):
        monkeypatch.setitem(GENERATORS._decorated, name, cls)


def plan_of(*generators, patients=8, **more):
    asked = {"controls": ("noise",), "extractors": ("radio-texture",), **more}
    request = Request(SPEC, generators, ("small-cnn",), (0.5, 1.0), 1, "cpu", **asked)
    index = index_data("phantom", Phantom(patients_per_class=patients, max_films=1))
    return make_plan(request, index), index


@functools.cache
def plan_once():
    return plan_of("classical")[0]


def test_made_up_films_have_the_asked_shape_and_every_class():
    films = made_up_films(7, 50, ("a", "b", "c"))
    assert films.pixels.shape == (7, 1, 50, 50)
    assert set(films.labels.tolist()) == {0, 1, 2}
    assert len(np.unique(films.pixels.reshape(7, -1), axis=0)) == 7


def test_seconds_are_those_of_this_process_alone():
    assert seconds_of(lambda: time.sleep(0.05)) < 0.02
    assert seconds_of(lambda: spin(0.05)) == pytest.approx(0.05, rel=0.5)


def test_a_slow_step_of_a_cycle_is_counted_in():
    cost = probe_generator(Spinner(), TASK)
    assert cost.cycle == 3
    assert cost.step_seconds == pytest.approx(0.005, rel=0.2)
    assert cost.fit_seconds == pytest.approx(0.014, rel=0.3)  # setup and the slow step
    assert cost.film_seconds == pytest.approx(1e-4, rel=0.3)


def test_of_a_plug_in_without_steps_two_fits_say_what_a_step_takes():
    cost = probe_generator(Closed(), TASK)
    assert cost.step_seconds == pytest.approx(0.004, rel=0.4)
    assert cost.fit_seconds == pytest.approx(0.014, rel=0.3)


def test_a_step_that_would_take_too_long_is_counted_and_not_done():
    DONE_AT.clear()
    cost = probe_generator(Multiplier(), replace(TASK, size=1024, share=0.02))
    assert set(DONE_AT) == {32**2}
    assert cost.step_flops == 2 * 100 * 1024**2 * 100
    assert cost.step_seconds == pytest.approx(0.01 * 1024, rel=0.3)  # in proportion to the FLOPs
    assert cost.peak_bytes >= 4 * 100 * 1024**2


def test_with_time_enough_the_step_is_timed_at_full_size():
    DONE_AT.clear()
    cost = probe_generator(Multiplier(), replace(TASK, size=96, share=1.0))
    assert set(DONE_AT) == {32**2, 64**2, 96**2}
    assert cost.step_seconds == pytest.approx(0.01, rel=0.5)


def test_a_classifier_is_tried_as_it_is_used():
    from cxrbench_baselines.classifiers.small_cnn import SmallCNN

    wide, narrow = (probe_classifier(SmallCNN(width=width), replace(TASK, train=40)) for width in (64, 8))
    assert wide.step_flops > 10 * narrow.step_flops
    assert wide.peak_bytes > narrow.peak_bytes
    assert min(wide.step_seconds, wide.film_seconds, wide.fit_seconds) > 0


ROUND = PluginCost(fit_seconds=10.0, step_seconds=2.0, film_seconds=0.5, cycle=4, step_flops=0.0, peak_bytes=100.0)


def costs_of(plan, first=frozenset()):
    """With round numbers: 100 training films, 10 of each class compared."""
    films = Films(train={0: 50, 1: 50}, compared={0: 10, 1: 10}, val=20, test=30, external=7, total=157)
    found = Calibration(
        dict.fromkeys(plugin_references(plan), ROUND),
        {"radio-texture": ExtractorCost(0.1, 1000.0)},
        MeasuresCost(films=20, fidelity=6.0, floor=1.0, resident_bytes=10**6),
        MemorizationCost(films=100, first=9.0, again=3.0, near_copies=1.0),
        (),
    )
    return TrialCosts(plan, films, found, first)


def seconds_by_trial(plan, costs):
    return {trial.describe(): costs.of(trial).seconds for trial in plan.trials}


def test_every_kind_of_trial_has_its_own_price():
    plan, _ = plan_of("classical", controls=("noise", "copy"))
    found = seconds_by_trial(plan, costs_of(plan))
    training = 10 + (SPEC.classifier_steps - 1) * 2 + (8 * 20 + 30 + 7) * 0.5
    longer = training + SPEC.classifier_steps * 2
    fit = 10 + (SPEC.generator_steps - 1) * 2
    measured = 20 * 0.1 + (1 + 2 / 4) * 6  # all films, and both classes of half as many
    assert found["data phantom"] == 0
    assert found["small-cnn on real films, seed 0"] == pytest.approx(training)
    assert found["small-cnn on real films (longer), seed 0"] == pytest.approx(longer)
    assert found["small-cnn on real films with 1 x classical, seed 0"] == pytest.approx(training)
    assert found["small-cnn on real films with 1 x classical (copy-adjusted), seed 0"] == pytest.approx(training + 1)
    assert found["fidelity of classical, seed 0"] == pytest.approx(fit + 2 * 64 * 0.5 + measured)  # chunks of 64
    assert found["fidelity of noise, seed 0"] == pytest.approx(fit + 2 * 50 * 0.5 + measured)  # asked once
    assert found["fidelity of copy, seed 0"] == pytest.approx(fit + 2 * 50 * 0.5 + measured - 20 * 0.1)  # real films
    assert found["memorization of classical, seed 0"] == pytest.approx(3)
    real = 2 * 30 * 0.1 + (1 + 2 / 4) * (6 + SPEC.floor_halves * 1)  # a bank of 30 of each class
    assert found["fidelity of real held-out films"] == pytest.approx(real)
    assert found["throughput of small-cnn"] == pytest.approx(10 + (4 * (1 + 3) - 1) * 2)


def test_what_is_computed_once_is_paid_by_the_first():
    plan = plan_once()
    names = ["memorization of classical, seed 0", "memorization of noise, seed 0"]
    found = seconds_by_trial(plan, costs_of(plan, first_memorization(plan)))
    assert [found[name] for name in names] == pytest.approx([9, 3])


def test_memory_is_the_process_the_tensors_of_the_dearest_part_and_the_films():
    plan, _ = plan_of("classical")
    by_trial = {trial.describe(): costs_of(plan).of(trial).peak_bytes for trial in plan.trials}
    assert by_trial["small-cnn on real films, seed 0"] == 10**6 + 100 + 3 * 157 * 32**2
    assert by_trial["fidelity of classical, seed 0"] == 10**6 + 1000 + 3 * (157 + 100) * 32**2


@given(st.lists(st.floats(0.1, 50), min_size=25, max_size=25), st.integers(1, 6))
def test_a_run_takes_no_less_than_its_longest_group_and_no_more_than_all_of_them(seconds, jobs):
    plan = plan_once()
    costs = {trial.key: TrialCost(cost, 5.0) for trial, cost in zip(plan.trials, seconds, strict=False)}
    prediction = Prediction(plan, costs, 0.0, ())
    every, longest = sum(cost.seconds for cost in costs.values()), max(cost.seconds for cost in costs.values())
    took = prediction.run_seconds(plan.trials, jobs)
    assert max(longest, every / jobs) <= took * (1 + 1e-9)
    assert took <= every * (1 + 1e-9)
    assert prediction.run_seconds(plan.trials, 1) == pytest.approx(every)
    assert prediction.run_seconds([], jobs) == 0


def test_processes_share_what_they_hold_before_their_first_trial():
    plan = plan_once()
    peaks = {trial.key: TrialCost(1.0, 100.0 + number) for number, trial in enumerate(plan.trials)}
    prediction, most = Prediction(plan, peaks, 90.0, ()), len(plan.trials) - 1
    assert prediction.run_bytes(plan.trials, 1) == 100 + most
    assert prediction.run_bytes(plan.trials, 2) == 90 + (10 + most) + (10 + most - 1)
    assert prediction.run_bytes([], 2) == 90


@pytest.mark.usefixtures("stubs")
def test_a_plug_in_that_breaks_is_unknown_and_the_others_are_priced(tmp_path):
    plan, index = plan_of("spinner", "broken")
    prediction = predict(plan, index, Cache(tmp_path))
    assert list(prediction.broken) == ["broken: ValueError: no room for a net"]
    for trial in plan.trials:
        breaks = trial.generator is not None and trial.generator.name == "broken"
        assert (prediction.trials[trial.key] is None) is breaks, trial.describe()
    assert 0 < prediction.run_seconds(plan.trials, 1) < 60
    spinner = next(t for t in plan.trials if t.kind == "fidelity" and t.generator and t.generator.name == "spinner")
    assert prediction.trials[spinner.key].seconds > 0.014 + (SPEC.generator_steps - 1) * 0.005 * 0.8


@pytest.mark.usefixtures("stubs")
def test_nothing_is_tried_twice_and_a_changed_plug_in_is(tmp_path, monkeypatch):
    plan, index = plan_of("spinner", controls=())
    first = predict(plan, index, Cache(tmp_path))
    tried = []

    def refuse(name):
        def probe(*asked):
            tried.append(name)
            raise AssertionError(name)

        return probe

    for name in ("probe_generator", "probe_classifier", "probe_extractor", "probe_measures", "probe_memorization"):
        monkeypatch.setattr(calibration, name, refuse(name))
    assert predict(plan, index, Cache(tmp_path)) == first
    assert tried == []
    changed, _ = plan_of("spinner", "classical:degrees=3", controls=())
    again = predict(changed, index, Cache(tmp_path))
    assert tried == ["probe_generator"]
    assert list(again.broken) == ["classical:degrees=3.0: AssertionError: probe_generator"]


@pytest.fixture
def planned(cli, tmp_path, capsys, monkeypatch):
    """`cxrbench plan` on a small phantom, on a wide terminal; returns what it prints."""
    monkeypatch.setenv("COLUMNS", "200")
    data = "phantom:patients_per_class=8:max_films=1"

    def command(*more):
        asked = ["--data", data, "--tier", "smoke", "--device", "cpu", "--controls", "none", "--ratios", "1"]
        assert cli("plan", *asked, "--results", tmp_path / "results", *more) == 0
        return capsys.readouterr().out

    return command


def test_a_plan_without_costs_loads_nothing_of_them(planned, monkeypatch):
    for name in [name for name in sys.modules if name.startswith("cxrbench.costs")]:
        monkeypatch.delitem(sys.modules, name)
    shown = planned("--generators", "classical")
    assert "seconds" not in shown
    assert "about" not in shown
    assert not [name for name in sys.modules if name.startswith("cxrbench.costs")]


@pytest.mark.usefixtures("stubs")
def test_the_plan_shows_costs_and_what_is_done_costs_nothing(planned, tmp_path):
    shown = planned("--generators", "spinner,broken", "--costs")
    assert "MiB" in shown
    assert "cost unknown: broken: ValueError: no room for a net" in shown
    assert "with one process, peak memory about" in shown
    assert "without 6 trials of unknown cost" in shown
    line = next(line for line in shown.splitlines() if "fidelity of spinner" in line)
    seconds, mib = (cell.strip() for cell in line.split("│")[3:5])
    assert 0.03 < float(seconds) < 5
    assert 100 < int(mib) < 10000

    from cxrbench.asked import Asked, prepare, request_of

    options = {"data": "phantom:patients_per_class=8:max_films=1", "tier": "smoke", "device": "cpu"}
    asked = Asked(**options, controls="none", ratios="1", generators="spinner")
    _, plan = prepare(asked, request_of(asked), lambda found: found)
    store = Store(tmp_path / "results")
    for trial in plan.trials:
        store.put(Record(key=trial.key, trial=trial, status=Status.OK), {}, {}, publish=True)
    shown = planned("--generators", "spinner", "--costs", "--jobs", 2)
    assert "about 0:00 with 2 processes" in shown
    assert "to run" not in shown.split("trials, ")[0]
