"""Try every part of a plan for about 5 s in all, besides what starting takes, and keep in the cache what was found."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any, TypeVar

from cxrbench.cache import Cache
from cxrbench.costs.plugins import PluginCost, Task, probe_classifier, probe_generator
from cxrbench.costs.shared import (
    ExtractorCost,
    MeasuresCost,
    MemorizationCost,
    probe_extractor,
    probe_measures,
    probe_memorization,
)
from cxrbench.hashing import canonical_hash
from cxrbench.machine import computing_with, device_name
from cxrbench.metrics.fidelity import MANY_FILMS
from cxrbench.plan import Plan
from cxrbench.records import PluginRef
from cxrbench.spec import BenchSpec

VERSION = 1  # raised when what is kept comes to mean something else
SECONDS = 5.0
LEAST_SHARE = 1.0  # seconds for a plug-in, where there are many
COMPARED = 192  # films of each set that the measures are tried with, at most, and ...
REMEMBERED = 600  # ... the memorization test
FEWER_RESAMPLES = 4  # times fewer resamples are drawn of many films

C = TypeVar("C", PluginCost, ExtractorCost, MeasuresCost, MemorizationCost)


@dataclass(frozen=True)
class Calibration:
    """What the parts of a plan cost on this machine; one that broke is left out.

    Attributes:
        plugins: by identity.
        extractors: by name.
        broken: a line for each part that broke.
    """

    plugins: Mapping[str, PluginCost]
    extractors: Mapping[str, ExtractorCost]
    measures: MeasuresCost
    memorization: MemorizationCost
    broken: Sequence[str]


def calibrate(plan: Plan, classes: tuple[str, ...], train: int, compared: int, cache: Cache) -> Calibration:
    """Try what the cache knows nothing of: all, where the machine, its torch or the size of the films is a new one.

    Args:
        train: training films of a split, about.
        compared: films of each set that fidelity compares.
    """
    device = plan.request.device
    keeper = _Keeper(cache, [VERSION, device, device_name(device), version("torch"), version("cxrbench")])
    with computing_with(threads=1) if device == "cpu" else nullcontext():
        measures = _measures(plan, compared, keeper)  # first: it says what a process holds before anything is trained
        memorization = _memorization(plan.request.spec, train, keeper)
        extractors = _extractors(plan, keeper)
        plugins = _plugins(plan, classes, train, keeper)
    return Calibration(plugins, extractors, measures, memorization, keeper.broken)


def plugin_references(plan: Plan) -> dict[str, PluginRef]:
    """Identity -> a plug-in of the plan."""
    references = [reference for trial in plan.trials for reference in (trial.generator, trial.classifier)]
    return {reference.identity: reference for reference in references if reference is not None}


def _measures(plan: Plan, compared: int, keeper: _Keeper) -> MeasuresCost:
    dims = [extractor.dim for extractor in plan.extractors.values()]
    resamples = plan.request.spec.resamples // (FEWER_RESAMPLES if compared > MANY_FILMS else 1)
    films = max(2, min(compared, COMPARED))
    return keeper.find(MeasuresCost, [dims, films, resamples], lambda: probe_measures(dims, films, resamples))


def _memorization(spec: BenchSpec, train: int, keeper: _Keeper) -> MemorizationCost:
    films, size = max(2, min(train, REMEMBERED)), spec.image_size
    return keeper.find(MemorizationCost, [films, size], lambda: probe_memorization(films, size))


def _extractors(plan: Plan, keeper: _Keeper) -> dict[str, ExtractorCost]:
    found, size, device = {}, plan.request.spec.image_size, plan.request.device
    for name, extractor in plan.extractors.items():
        content = [name, extractor.weights_sha256(), size]
        cost = keeper.attempt(name, ExtractorCost, content, partial(probe_extractor, extractor, size, device))
        if cost is not None:
            found[name] = cost
    return found


def _plugins(plan: Plan, classes: tuple[str, ...], train: int, keeper: _Keeper) -> dict[str, PluginCost]:
    spec, references = plan.request.spec, plugin_references(plan)
    share = max(LEAST_SHARE, SECONDS / max(1, sum(reference.control is None for reference in references.values())))
    found = {}
    for identity, reference in references.items():
        probe: Callable[[], PluginCost]
        if reference.kind == "generator":
            task = Task(spec.image_size, classes, train, spec.generator_steps, plan.request.device, share)
            probe = partial(probe_generator, plan.generators[reference.name], task)
        else:
            task = Task(spec.image_size, classes, train, spec.classifier_steps, plan.request.device, share)
            probe = partial(probe_classifier, plan.classifiers[reference.name], task)
        cost = keeper.attempt(reference.name, PluginCost, [identity, spec.image_size, len(classes), train], probe)
        if cost is not None:
            found[identity] = cost
    return found


class _Keeper:
    """Costs in the cache, under what decides them."""

    def __init__(self, cache: Cache, machine: Sequence[Any]) -> None:
        self.cache, self.machine = cache, machine
        self.broken: list[str] = []

    def find(self, cost: type[C], content: Sequence[Any], probe: Callable[[], C]) -> C:
        """The cost that is kept, or that the probe finds."""

        def build(folder: Path) -> None:
            (folder / "cost.json").write_text(json.dumps(asdict(probe()), indent=1))

        key = canonical_hash([*self.machine, cost.__name__, *content])
        return cost(**json.loads((self.cache.get("cost", key, build) / "cost.json").read_text()))

    def attempt(self, name: str, cost: type[C], content: Sequence[Any], probe: Callable[[], C]) -> C | None:
        """The same of what may break; nothing is kept then."""
        try:
            return self.find(cost, content, probe)
        except Exception as error:  # noqa: BLE001 - a plug-in may raise anything; the other costs can be had
            self.broken.append(f"{name}: {type(error).__name__}: {' '.join(str(error).split())}")
            return None
