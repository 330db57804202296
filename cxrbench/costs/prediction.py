"""Seconds and memory of every trial of a plan, and of the run."""

from __future__ import annotations

import heapq
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from cxrbench.cache import Cache
from cxrbench.contracts import AskedOnce
from cxrbench.costs.calibration import Calibration, calibrate
from cxrbench.costs.plugins import PluginCost
from cxrbench.executors.packing import packed
from cxrbench.plan import GIVING_BACK, Plan, relative_cost
from cxrbench.records import PluginRef, Trial
from cxrbench.spec import BenchSpec
from cxrbench.stages import DataIndex, class_counts
from cxrbench.synthesis import SAMPLE_CHUNK
from cxrbench.throughput import LEAST_CYCLES

VALIDATION_LOOKS = 8  # of a classifier's fit, about
FILM_COPIES = 3  # of the films of a trial, in memory at once, about


@dataclass(frozen=True)
class TrialCost:
    """What one trial costs.

    Attributes:
        seconds: of one thread; on a GPU, of the GPU.
        peak_bytes: of the process; on a GPU, of GPU memory.
    """

    seconds: float
    peak_bytes: float


@dataclass(frozen=True)
class Prediction:
    """What a plan costs.

    Attributes:
        trials: by key; None where a part of the trial could not be tried.
        resident_bytes: of a process before its first trial, which processes share; 0 on a GPU.
        broken: a line for each part that could not be tried.
    """

    plan: Plan
    trials: Mapping[str, TrialCost | None]
    resident_bytes: float
    broken: Sequence[str]

    def run_seconds(self, trials: Sequence[Trial], jobs: int) -> float:
        """Of a run of these trials, ``jobs`` groups at a time; without those of unknown cost, and without reading the
        films and writing the report."""
        spec = self.plan.request.spec
        groups, alone = packed(trials, lambda trial: relative_cost(trial, spec))
        ends = [0.0] * jobs
        for group in groups:
            heapq.heapreplace(ends, ends[0] + self._seconds(group))
        return max(ends) + self._seconds(alone)

    def run_bytes(self, trials: Sequence[Trial], jobs: int) -> float:
        """Most that a run of these trials takes at once: the dearest, side by side."""
        known = (self.trials[trial.key] for trial in trials)
        grown = sorted((cost.peak_bytes - self.resident_bytes for cost in known if cost), reverse=True)
        return self.resident_bytes + sum(grown[:jobs])

    def _seconds(self, trials: Sequence[Trial]) -> float:
        return sum(cost.seconds for trial in trials if (cost := self.trials[trial.key]) is not None)


def predict(plan: Plan, index: DataIndex, cache: Cache) -> Prediction:
    """Predict the cost of every trial, as if none were done; with a calibration, where there is none."""
    films = Films.expected(plan, index)
    train, compared = sum(films.train.values()), sum(films.compared.values())
    calibration = calibrate(plan, index.classes, train, compared, cache)
    costs = TrialCosts(plan, films, calibration, first_memorization(plan))
    trials = {trial.key: costs.of(trial) for trial in plan.trials}
    return Prediction(plan, trials, costs.resident_bytes, calibration.broken)


@dataclass(frozen=True)
class Films:
    """Films of a split, about: the spec's fractions of all, whatever the policy.

    Attributes:
        train: label -> films.
        compared: label -> films that fidelity compares.
        total: of the data set and the external one.
        external: of the external one alone.
    """

    train: Mapping[int, int]
    compared: Mapping[int, int]
    val: int
    test: int
    external: int
    total: int

    @classmethod
    def expected(cls, plan: Plan, index: DataIndex) -> Films:
        spec = plan.request.spec
        labels = np.asarray([film.label for film in index.films], np.int64)
        counts = class_counts(labels, len(index.classes))
        train = {label: round(spec.split[0] * count) for label, count in counts.items()}
        compared = {label: min(spec.fidelity_images, n, counts[label] - n) for label, n in train.items()}
        val = round(spec.split[1] * len(labels))
        external = len(plan.external.index.films) if plan.external else 0
        test = len(labels) - sum(train.values()) - val
        return cls(train, compared, val, test, external, len(labels) + external)


@dataclass(frozen=True)
class TrialCosts:
    """What the trials of a plan cost, from what its parts cost.

    Attributes:
        first: memorization trials, by key, that compute what others of their process find there.
    """

    plan: Plan
    films: Films
    calibration: Calibration
    first: frozenset[str]

    @property
    def spec(self) -> BenchSpec:
        return self.plan.request.spec

    @property
    def resident_bytes(self) -> float:
        return float(self.calibration.measures.resident_bytes) if self.plan.request.device == "cpu" else 0.0

    def of(self, trial: Trial) -> TrialCost | None:
        """None where a part of the trial could not be tried."""
        extractors = [self.calibration.extractors.get(name) for name in trial.extractors]
        plugins = [self.calibration.plugins.get(plugin.identity) for plugin in _plugins(trial)]
        parts = [part for part in [*extractors, *plugins] if part is not None]
        if len(parts) < len(extractors) + len(plugins):
            return None
        films = self.films.total + sum(self._pool(trial).values())
        held = FILM_COPIES * films * self.spec.image_size**2 + max((part.peak_bytes for part in parts), default=0.0)
        return TrialCost(self._seconds(trial), self.resident_bytes + held)

    def _seconds(self, trial: Trial) -> float:
        """A fit and its pool belong to the fidelity trial; of an external trial nothing is left to do; a copy-adjusted
        arm is thought to have copies, and so a training of its own."""
        if trial.kind == "fidelity":
            return self._fidelity(trial) + (self._pooled(trial.generator, trial) if trial.generator else 0.0)
        if trial.kind == "memorization":
            test = self.calibration.memorization
            return self._pairs(trial) * (test.first if trial.key in self.first else test.again)
        if trial.kind == "utility":
            return self._utility(trial)
        return sum(self._timed_steps(plugin) for plugin in _plugins(trial)) if trial.kind == "throughput" else 0.0

    def _pooled(self, generator: PluginRef, trial: Trial) -> float:
        """Fit, and sample the pool."""
        cost, plugin = self._cost(generator), self.plan.generators[generator.name]
        chunk = 1 if isinstance(plugin, AskedOnce) and plugin.asked_once else SAMPLE_CHUNK
        sampled = sum(-(-count // chunk) * chunk for count in self._pool(trial).values())
        return _fit_seconds(cost, self.spec.generator_steps) + sampled * cost.film_seconds

    def _fidelity(self, trial: Trial) -> float:
        """Features and measures; where the films are real, the floor, too.

        Every film's features are extracted once: those of the real films belong to the floor, which is drawn from most
        of them, and controls that give them back need none.
        """
        measures, compared = self.calibration.measures, self.films.compared
        groups = [*compared.values(), sum(compared.values())]
        pairs = sum(count**2 for count in groups) / measures.films**2
        films, seconds = sum(compared.values()), measures.fidelity
        if trial.generator is None:
            bank = sum(2 * n + min(n, self.films.train[label] - n) for label, n in compared.items())
            films, seconds = bank, seconds + self.spec.floor_halves * measures.floor
        elif trial.generator.control in GIVING_BACK:
            films = 0
        features = sum(self.calibration.extractors[name].film_seconds for name in trial.extractors)
        return films * features + pairs * seconds

    def _utility(self, trial: Trial) -> float:
        assert trial.classifier is not None
        cost, films, tried = self._cost(trial.classifier), self.films, self.spec.tuning_trials
        steps = round(self.spec.classifier_steps * (self.spec.longer if trial.arm == "longer" else 1.0))
        predicted = tried * VALIDATION_LOOKS * films.val + films.test + films.external
        copies = self._pairs(trial) * self.calibration.memorization.near_copies if trial.arm == "copy-adjusted" else 0.0
        return tried * _fit_seconds(cost, steps) + predicted * cost.film_seconds + copies

    def _timed_steps(self, plugin: PluginRef) -> float:
        cost, spec = self._cost(plugin), self.spec
        cycles = -(-spec.warmup_steps // cost.cycle) + max(LEAST_CYCLES, spec.timed_steps // cost.cycle)
        return _fit_seconds(cost, cycles * cost.cycle)

    def _cost(self, plugin: PluginRef) -> PluginCost:
        return self.calibration.plugins[plugin.identity]

    def _pairs(self, trial: Trial) -> float:
        """Pairs of a synthetic and a training film, over those that the memorization test was tried with."""
        return sum(self._pool(trial).values()) * self._trained(trial) / self.calibration.memorization.films**2

    def _trained(self, trial: Trial) -> float:
        return trial.real_share * sum(self.films.train.values())

    def _pool(self, trial: Trial) -> dict[int, int]:
        """Label -> films of the trial's generator."""
        if trial.generator is None:
            return {}
        ratio = max(1.0, self.plan.request.largest_ratio) * trial.real_share
        return {label: max(round(ratio * n), self.spec.fidelity_images) for label, n in self.films.train.items()}


def first_memorization(plan: Plan) -> frozenset[str]:
    """The trials that the preparation of their real films is charged to: it is done once for all processes."""
    seen: dict[tuple[int, float], str] = {}
    for trial in plan.trials:
        if trial.kind == "memorization":
            seen.setdefault((trial.setting.split_seed, trial.real_share), trial.key)
    return frozenset(seen.values())


def _plugins(trial: Trial) -> list[PluginRef]:
    return [plugin for plugin in (trial.generator, trial.classifier) if plugin is not None]


def _fit_seconds(cost: PluginCost, budget: int) -> float:
    return cost.fit_seconds + (budget - 1) * cost.step_seconds
