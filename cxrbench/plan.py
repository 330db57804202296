"""What is asked -> the list of trials that answer it."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

from cxrbench.contracts import (
    Classifier,
    FeatureExtractor,
    Generator,
    Preflight,
    Steppable,
    WeightsUnavailable,
)
from cxrbench.errors import UsageError
from cxrbench.external import ExternalIndex
from cxrbench.hashing import canonical_hash, plugin_identity, plugin_parameters
from cxrbench.machine import device_name
from cxrbench.records import PluginRef, Setting, Trial
from cxrbench.registry import CLASSIFIERS, EXTRACTORS, GENERATORS
from cxrbench.spec import BenchSpec
from cxrbench.splits import resolve_policy
from cxrbench.stages import DataIndex, split_key


@dataclass(frozen=True)
class Request:
    """What the user asked for, checked.

    Attributes:
        ratios: ascending, without 0: the real-only baseline always runs.
        seeds: seed i of a generator goes with seed i of a classifier, so i = 0 .. seeds - 1 are
            independent repetitions of the whole experiment.
    """

    spec: BenchSpec
    generators: tuple[str, ...]
    classifiers: tuple[str, ...]
    ratios: tuple[float, ...]
    seeds: int
    device: str


@dataclass(frozen=True)
class Plan:
    """The trials in the order they run, and the plug-ins behind their names.

    Attributes:
        notes: what was left out and why, e.g. an extractor without weights.
        external: the external test set that every classifier is scored on, too.
    """

    request: Request
    trials: list[Trial]
    generators: dict[str, Generator]
    classifiers: dict[str, Classifier]
    extractors: dict[str, FeatureExtractor]
    notes: list[str] = field(default_factory=list)
    external: ExternalIndex | None = None

    @property
    def largest_ratio(self) -> float:
        return max(self.request.ratios, default=0.0)


def parse_ratios(text: str) -> tuple[float, ...]:
    """``0,0.5,1`` to ascending positive ratios.

    Raises:
        UsageError: empty, or an entry that is no finite number >= 0.
    """
    found = set()
    for entry in text.split(","):
        try:
            value = float(entry)
        except ValueError:
            raise UsageError(f"ratio {entry.strip()!r} is no number; write --ratios 0,0.5,1") from None
        if not math.isfinite(value) or value < 0:
            raise UsageError(f"ratio {entry.strip()} must be a finite number of at least 0")
        found.add(value)
    return tuple(sorted(found - {0.0}))


def parse_names(text: str, kind: str) -> tuple[str, ...]:
    """A comma-separated list without repeats.

    Raises:
        UsageError: the list is empty.
    """
    names = tuple(dict.fromkeys(name.strip() for name in text.split(",") if name.strip()))
    if not names:
        raise UsageError(f"no {kind} given; `cxrbench list` shows them")
    return names


def make_plan(request: Request, index: DataIndex, external: ExternalIndex | None = None) -> Plan:
    """Every trial of the grid, in the order they run; ``external`` doubles the utility trials.

    Raises:
        UsageError: an unknown plug-in or parameter, or one whose preflight fails.
    """
    spec, seeds = request.spec, range(request.seeds)
    generators = dict(GENERATORS.parse(text) for text in request.generators)
    classifiers = dict(CLASSIFIERS.parse(text) for text in request.classifiers)
    extractors, weights, notes = _usable_extractors(spec.extractors)
    setting = Setting(
        data=index.name,
        data_hash=index.hash,
        split_key=split_key(index, spec),
        spec_hash=spec.hash,
        tier=spec.tier,
        image_size=spec.image_size,
        split_by=resolve_policy(spec.split_by, index.films),
        clean=index.clean,
    )
    generator_refs = {n: _reference(n, g, "generator", spec) for n, g in generators.items()}
    classifier_refs = {n: _reference(n, c, "classifier", spec) for n, c in classifiers.items()}

    def scored(utility: Trial) -> list[Trial]:
        """A utility trial and, right behind it, its external one: the classifier is trained once for both."""
        if external is None:
            return [utility]
        there = {"kind": "external", "external": external.key(spec.image_size), "external_data": external.index.name}
        return [utility, utility.model_copy(update=there)]

    trials = [
        Trial(kind="data", setting=setting),
        Trial(kind="fidelity", setting=setting, extractors=weights),
    ]
    for classifier, seed in itertools.product(classifier_refs.values(), seeds):
        trials += scored(Trial(kind="utility", setting=setting, ratio=0.0, classifier=classifier, classifier_seed=seed))
    for generator, seed in itertools.product(generator_refs.values(), seeds):
        trials.append(
            Trial(kind="fidelity", setting=setting, generator=generator, generator_seed=seed, extractors=weights)
        )
        for classifier, ratio in itertools.product(classifier_refs.values(), request.ratios):
            trials += scored(
                Trial(
                    kind="utility",
                    setting=setting,
                    generator=generator,
                    generator_seed=seed,
                    ratio=ratio,
                    classifier=classifier,
                    classifier_seed=seed,
                )
            )
    machine = device_name(request.device)
    trials += [
        Trial(kind="throughput", setting=setting, generator=generator_refs[name], environment=machine)
        for name, plugin in generators.items()
        if isinstance(plugin, Steppable)
    ]
    trials += [
        Trial(kind="throughput", setting=setting, classifier=classifier_refs[name], environment=machine)
        for name, plugin in classifiers.items()
        if isinstance(plugin, Steppable)
    ]
    return Plan(request, trials, generators, classifiers, extractors, notes, external)


def relative_cost(trial: Trial, spec: BenchSpec) -> float:
    """A trial's share of the work, for the progress bar; fits are charged to the fidelity trial."""
    if trial.kind == "utility":
        return spec.classifier_steps * 1.0
    if trial.kind == "external":  # its classifier is trained by the utility trial before it
        return spec.classifier_steps * 0.05
    if trial.kind == "fidelity":
        return 3.0 * spec.fidelity_images + (1.5 * spec.generator_steps if trial.generator else 0.0)
    return float(spec.timed_steps)


def _reference(
    name: str, plugin: Generator | Classifier, kind: Literal["generator", "classifier"], spec: BenchSpec
) -> PluginRef:
    files = plugin.preflight(spec.image_size) if isinstance(plugin, Preflight) else {}
    identity = {**plugin_identity(name.partition(":")[0], plugin), "files": dict(files)}
    return PluginRef(name=name, kind=kind, params=plugin_parameters(plugin), identity=canonical_hash(identity))


def _usable_extractors(
    names: Sequence[str],
) -> tuple[dict[str, FeatureExtractor], dict[str, str], list[str]]:
    usable: dict[str, FeatureExtractor] = {}
    weights: dict[str, str] = {}
    notes: list[str] = []
    for name in names:
        extractor = EXTRACTORS.create(name)
        try:
            weights[name] = extractor.weights_sha256()
        except WeightsUnavailable as error:
            notes.append(f"{extractor.fd_label} is left out: {error}")
        else:
            usable[name] = extractor
    if not usable:
        raise UsageError("no feature extractor can be used: " + "; ".join(notes))
    return usable, weights, notes
