"""What is asked -> the list of trials that answer it."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from cxrbench.cache import Cache
from cxrbench.cards import Card, look_up
from cxrbench.contracts import Classifier, FeatureExtractor, Generator
from cxrbench.errors import UsageError
from cxrbench.external import ExternalIndex
from cxrbench.machine import device_name
from cxrbench.records import ExtractorRef, PluginRef, Setting, Trial
from cxrbench.references import extractor_reference, plugin_references, usable_extractors
from cxrbench.registry import CLASSIFIERS, GENERATORS
from cxrbench.spec import DEFAULT_CONTROLS, DEFAULT_EXTRACTORS, BenchSpec
from cxrbench.splits import resolve_policy
from cxrbench.stages import DataIndex, split_key

# Of every control, whatever ratios are asked for: a further ratio must add trials and change none.
CONTROL_RATIO = 1.0
SEED_STRIDE = 1000  # generator seeds of a run are fewer
GIVING_BACK = ("copy", "oversample", "shuffle", "oracle")  # roles of the controls whose films are real ones


@dataclass(frozen=True)
class Request:
    """What the user asked for, checked.

    Attributes:
        ratios: ascending, without 0: the real-only baseline always runs.
        seeds: generator seeds in each split.
        classifier_seeds: classifiers trained with each generator seed; classifier seeds g, g + 1000, g + 2000 ...
            go with generator seed g, so that more of either only add trials. The real-only baseline runs all of them.
        splits: independent splits of the data, the whole grid in each.
        controls: generators whose place in the ranking is known; measured at ratio 1.
        extractors: asked for; those without weights are left out with a note.
    """

    spec: BenchSpec
    generators: tuple[str, ...]
    classifiers: tuple[str, ...]
    ratios: tuple[float, ...]
    seeds: int
    device: str
    classifier_seeds: int = 1
    splits: int = 1
    controls: tuple[str, ...] = DEFAULT_CONTROLS
    extractors: tuple[str, ...] = DEFAULT_EXTRACTORS

    @property
    def largest_ratio(self) -> float:
        return max(self.ratios, default=0.0)


@dataclass(frozen=True)
class Plan:
    """The trials in the order they run, and the plug-ins behind their names.

    Attributes:
        generators, classifiers: imported when they are first asked for.
        notes: what was left out and why, e.g. an extractor without weights.
        external: the external test set that every classifier is scored on, too.
    """

    request: Request
    trials: list[Trial]
    generators: Mapping[str, Generator]
    classifiers: Mapping[str, Classifier]
    extractors: dict[str, FeatureExtractor]
    notes: list[str] = field(default_factory=list)
    external: ExternalIndex | None = None

    def import_all(self) -> None:
        """Import every plug-in now: one that cannot be imported fails before the first trial, and all processes that
        are forked later have them.

        Raises:
            UsageError: one cannot be imported.
        """
        for plugins in (self.generators, self.classifiers):
            for name in plugins:
                plugins[name]


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


def make_plan(
    request: Request, index: DataIndex, external: ExternalIndex | None = None, cache: Cache | None = None
) -> Plan:
    """Every trial of the grid, in the order they run; ``external`` adds one to each augmented and real-only one.

    Args:
        cache: keeps what is to be known of plug-ins, so that they need not be imported for it.

    Raises:
        UsageError: an unknown plug-in or parameter, or one whose preflight fails.
    """
    spec, policy = request.spec, resolve_policy(request.spec.split_by, index.films)
    if request.splits > 1 and policy == "official":
        raise UsageError("--splits: the official split is fixed and cannot be drawn again; add --split-by patient")
    asked, generators = look_up(GENERATORS, (*request.generators, *request.controls), cache)
    judges, classifiers = look_up(CLASSIFIERS, request.classifiers, cache)
    _check_roles(request, asked[len(request.generators) :], judges)
    # By name: who is named twice, perhaps as a control, too, runs once.
    generator_cards, classifier_cards = ({card.name: card for card in cards} for cards in (asked, judges))
    extractors, notes = usable_extractors(request.extractors)
    grid = _Grid(
        request,
        plugin_references(generator_cards, generators, "generator", spec.image_size),
        plugin_references(classifier_cards, classifiers, "classifier", spec.image_size),
        {name: extractor_reference(extractor) for name, extractor in extractors.items()},
        external,
    )
    trials: list[Trial] = []
    for split_seed in range(request.splits):
        setting = Setting(
            data=index.name,
            data_hash=index.hash,
            split_seed=split_seed,
            split_key=split_key(index, spec, split_seed),
            spec_hash=spec.hash,
            tier=spec.tier,
            image_size=spec.image_size,
            split_by=policy,
            clean=index.clean,
        )
        trials += grid.trials(setting)
        if split_seed == 0:
            machine = device_name(request.device)
            timed = [
                Trial(kind="throughput", setting=setting, environment=machine, generator=ref)
                for ref in grid.generators
                if generator_cards[ref.name].steppable
            ] + [
                Trial(kind="throughput", setting=setting, environment=machine, classifier=ref)
                for ref in grid.classifiers
                if classifier_cards[ref.name].steppable
            ]
    return Plan(request, trials + timed, generators, classifiers, extractors, notes, external)


@dataclass(frozen=True)
class _Grid:
    request: Request
    generators: list[PluginRef]
    classifiers: list[PluginRef]
    extractors: dict[str, ExtractorRef]
    external: ExternalIndex | None

    def trials(self, setting: Setting) -> Iterator[Trial]:
        """The trials of one split."""
        few = self.request.spec.few_share
        yield Trial(kind="data", setting=setting)
        yield Trial(kind="fidelity", setting=setting, extractors=self.extractors)
        repeats = itertools.product(range(self.request.seeds), range(self.request.classifier_seeds))
        seeds = [seed + SEED_STRIDE * repeat for seed, repeat in repeats]
        for classifier, seed in itertools.product(self.classifiers, seeds):
            real = Trial(kind="utility", setting=setting, ratio=0.0, classifier=classifier, classifier_seed=seed)
            yield real
            yield from self._outside(real)
            # Two thirds and one third: the real-data learning curve, whose last point is what the oracle is fed on.
            yield real.model_copy(update={"real_share": 2 * few})
            yield real.model_copy(update={"real_share": few})
            yield real.model_copy(update={"arm": "longer"})
        for generator, seed in itertools.product(self.generators, range(self.request.seeds)):
            yield from self._of_generator(setting, generator, seed)

    def _of_generator(self, setting: Setting, generator: PluginRef, seed: int) -> Iterator[Trial]:
        spec = self.request.spec
        pool = Trial(
            kind="fidelity",
            setting=setting,
            generator=generator,
            generator_seed=seed,
            extractors=self.extractors,
            real_share=spec.few_share if generator.control == "oracle" else 1.0,
        )
        yield pool
        yield pool.model_copy(update={"kind": "memorization", "extractors": {}})
        for classifier, repeat in itertools.product(self.classifiers, range(self.request.classifier_seeds)):
            trained = pool.model_copy(
                update={
                    "kind": "utility",
                    "extractors": {},
                    "classifier": classifier,
                    "classifier_seed": seed + SEED_STRIDE * repeat,
                    "ratio": CONTROL_RATIO,
                }
            )
            if not self.request.ratios:
                continue
            if generator.control:
                yield trained
                continue
            for ratio in self.request.ratios:
                arm = trained.model_copy(update={"ratio": ratio})
                yield arm
                yield from self._outside(arm)
                yield arm.model_copy(update={"arm": "copy-adjusted"})
            yield trained.model_copy(update={"arm": "synthetic-only", "ratio": 1.0})

    def _outside(self, utility: Trial) -> Iterator[Trial]:
        """The same classifier on the external films, where there are any."""
        if self.external is not None:
            key, name = self.external.key(self.request.spec.image_size), self.external.index.name
            yield utility.model_copy(update={"kind": "external", "external": key, "external_data": name})


def relative_cost(trial: Trial, spec: BenchSpec) -> float:
    """A trial's share of the work, for the progress bar and for dealing trials out; fits are charged to the fidelity
    trial. One is about a step of ``small-cnn``; the factors are those of results/throughput/plan.json."""
    if trial.kind == "utility":
        return spec.classifier_steps * spec.tuning_trials * (spec.longer if trial.arm == "longer" else 1.0)
    if trial.kind == "external":  # its classifier is trained by the utility trial before it
        return spec.classifier_steps * 0.05
    if trial.kind == "fidelity":
        if trial.generator is None:  # its floor is that of many pairs of halves, and it extracts what others find
            return 7.0 * spec.fidelity_images
        if trial.generator.control in GIVING_BACK:
            return 1.0 * spec.fidelity_images
        return 3.0 * spec.fidelity_images + (5.0 * spec.generator_steps if trial.generator.control is None else 0.0)
    return float(spec.timed_steps)


def _check_roles(request: Request, controls: Sequence[Card], classifiers: Sequence[Card]) -> None:
    for card in controls:
        if card.control is None:
            raise UsageError(f"--controls {card.name}: it is no control; name it in --generators")
    tried = request.spec.tuning_trials
    for card in classifiers:
        if tried > 1 and not card.tunable:
            raise UsageError(f"--tune {tried}: {card.name} proposes no other configurations of itself")
