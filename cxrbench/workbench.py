"""What the trials of one split share: the films, the fitted generators, the trained classifiers."""

from __future__ import annotations

import copy
import gc
import json
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cxrbench.cache import Cache
from cxrbench.comparison import (
    MemorizationTest,
    RealSets,
    abstention_notes,
    choose_real_sets,
    count_films,
    first_of_each,
    measure_pool_fidelity,
    measure_real_floor,
    pool_counts,
)
from cxrbench.contracts import Diagnosed, Features, Images, Probabilities, RunContext, Steppable, no_progress
from cxrbench.errors import UsageError
from cxrbench.executors.local import Measurement
from cxrbench.external import ExternalData
from cxrbench.film_features import extract_features
from cxrbench.hashing import canonical_hash
from cxrbench.learning import join, train_and_predict
from cxrbench.metrics.classification import score_predictions, score_present
from cxrbench.plan import Plan
from cxrbench.records import Trial
from cxrbench.stages import DataIndex, LoadedData, Progress, class_counts, describe_data
from cxrbench.synthesis import Pool, fit_generator, fit_key, synthesise
from cxrbench.throughput import time_train_step


@dataclass(frozen=True)
class _Arm:
    """One trained classifier's predictions, float32 ``[N, classes]``, and what it was trained on."""

    test: Probabilities
    external: Probabilities | None
    counts: dict[str, int]
    notes: list[str]


@dataclass
class Workbench:
    """Measures one trial after the other.

    Attributes:
        external: None where no trial asks for it.
        fresh: fit every generator and train every classifier anew, once.
    """

    plan: Plan
    index: DataIndex
    data: LoadedData
    external: ExternalData | None
    cache: Cache
    fresh: bool
    _progress: Progress = no_progress
    _began: float = field(default_factory=time.time)
    _failures: dict[str, Exception] = field(default_factory=dict)
    _memorization: dict[float, MemorizationTest] = field(default_factory=dict)
    _diagnoses: dict[str, list[str]] = field(default_factory=dict)

    def let_go(self) -> None:
        """Keep the errors of what failed, but not the frames that they came through, and so not the nets: a GPU is full
        of them. To be called between trials, since a record tells of the frames."""
        held, waiting, seen = False, list[BaseException | None](self._failures.values()), set[int]()
        while waiting:
            error = waiting.pop()
            if error is not None and id(error) not in seen:
                seen.add(id(error))
                held |= error.__traceback__ is not None
                error.__traceback__ = None
                waiting += [error.__cause__, error.__context__]
        if held:
            gc.collect()  # nets and what holds them go round in circles

    def prepare(self, trials: Sequence[Trial]) -> None:
        """Make what many of the trials need and the cache does not keep, once for all processes forked from here."""
        for share in sorted({trial.real_share for trial in trials if trial.kind == "memorization"}):
            self._memorization_test(share).measure(self.data.held_out)

    def measure(self, trial: Trial, progress: Progress) -> Measurement:
        """Do what the trial says.

        Args:
            progress: told (done, total) of whatever counts its steps.

        Raises:
            Exception: whatever a plug-in raises; UsageError for a ratio that adds nothing.
        """
        self._progress = progress
        if trial.kind == "data":
            counts, notes = describe_data(self.index, self.data)
            return Measurement(self.data.images.classes, counts=counts, notes=notes)
        if trial.kind == "fidelity":
            return self._fidelity(trial)
        if trial.kind == "memorization":
            return self._memorize(trial)
        if trial.kind == "utility":
            return self._utility(trial)
        if trial.kind == "external":
            return self._on_external(trial)
        return self._throughput(trial)

    def _fidelity(self, trial: Trial) -> Measurement:
        """Measures of the generator's first films against as many training films, per class and overall.

        Without a generator, held-out real films (validation and test) take its place, and the real-vs-real floor at
        this n is measured.
        """
        sets, spec, classes = self._real_sets, self.plan.request.spec, self.data.images.classes
        dims = {name: extractor.dim for name, extractor in self.plan.extractors.items()}
        notes = [*self.plan.notes, *abstention_notes(sets, dims)]
        if trial.generator is None:
            scores = measure_real_floor(sets, self._extract, spec)
            scores |= measure_pool_fidelity(sets.held_out, sets, self._extract, spec)
            pictures = {"real": first_of_each(sets.reference)}
        else:
            pool = self._pool(trial)
            films = pool.prefix(sets.n)
            scores = measure_pool_fidelity(films, sets, self._extract, spec)
            pictures = {"generated": first_of_each(films)}
            notes += [f"diagnosis: {sentence}" for sentence in self._diagnoses.get(pool.key, [])]
        return Measurement(classes, scores, count_films(sets.n, classes), notes, pictures=pictures)

    def _memorize(self, trial: Trial) -> Measurement:
        # Always as many films as ratio 1 adds: further ratios must not change what is measured.
        counts = self._counts_at_least(1.0, trial.real_share)
        films, test = self._pool(trial).prefix(counts), self._memorization_test(trial.real_share)
        return Measurement(
            films.classes,
            test.measure(films),
            pool_counts(films),
            pictures={"suspicious": test.suspicious_pairs(films)},
        )

    def _utility(self, trial: Trial) -> Measurement:
        arm, classes, test = self._arm(trial), self.data.images.classes, self.data.test
        return Measurement(
            classes,
            score_predictions(test.labels, arm.test, classes),
            {**arm.counts, "test": len(test)},
            arm.notes,
            arrays={"probabilities": arm.test, "labels": test.labels, "groups": _groups(test)},
        )

    def _on_external(self, trial: Trial) -> Measurement:
        arm, classes = self._arm(trial), self.data.images.classes
        assert self.external is not None
        assert arm.external is not None
        images = self.external.images
        return Measurement(
            classes,
            score_present(images.labels, arm.external, classes),
            {**arm.counts, "test": len(images)},
            [*self.external.notes, *arm.notes],
            arrays={"probabilities": arm.external, "labels": images.labels, "groups": _groups(images)},
        )

    def _arm(self, trial: Trial) -> _Arm:
        """Train the trial's classifier, unless an equal training's predictions are there.

        Two trials are equal trainings if they train on the same films: an external trial and its utility trial, or
        a copy-adjusted arm without copies and the arm it adjusts.
        """
        assert trial.classifier is not None
        assert trial.classifier_seed is not None
        spec = self.plan.request.spec
        steps = round(spec.classifier_steps * (spec.longer if trial.arm == "longer" else 1.0))
        added, added_key, notes = self._added(trial)
        real = self.data.train_and_reserve(trial.real_share)[0] if trial.arm != "synthetic-only" else None
        key = canonical_hash(
            [
                spec.version,
                trial.classifier.identity,
                self.data.key,
                trial.real_share if real is not None else 0.0,
                added_key,
                [trial.classifier_seed, steps, spec.tuning_trials],
                self.plan.external.key(spec.image_size) if self.external and self.plan.external else "",
            ]
        )
        self._renew("predict", key)
        if key in self._failures:  # the external trial fails as its utility trial did
            raise self._failures[key]
        classifier = copy.deepcopy(self.plan.classifiers[trial.classifier.name])

        def build(folder: Path) -> None:
            # Copied: what is mapped from the cache cannot be written to, and torch warns.
            sets = [self.data.test.pixels] + ([np.array(self.external.images.pixels)] if self.external else [])
            with self._context(trial.classifier_seed or 0, steps) as ctx:
                trained = train_and_predict(classifier, join(real, added), self.data.val, sets, ctx, spec.tuning_trials)
            np.savez(folder / "predictions.npz", *trained.predictions)
            (folder / "tried.json").write_text(json.dumps(trained.tried))

        try:
            folder = self.cache.get("predict", key, build)
        except Exception as error:
            self._failures[key] = error
            raise
        with np.load(folder / "predictions.npz") as stored:
            predictions = [stored[name] for name in stored.files]
        tried = json.loads((folder / "tried.json").read_text())
        counts = {
            "train_real": len(real) if real is not None else 0,
            "train_synthetic": len(added) if added is not None else 0,
            "steps": steps,
            "tuning_trials": len(tried),
        }
        if len(tried) > 1:
            notes += [f"tried {params}: validation AUROC {score:.4f}" for params, score in tried]
        return _Arm(predictions[0], predictions[1] if self.external else None, counts, notes)

    def _added(self, trial: Trial) -> tuple[Images | None, str, list[str]]:
        """The synthetic films an arm trains on, their identity, and what is to be said of them."""
        if trial.generator is None:
            return None, "", []
        classes, pool = self.data.images.classes, self._pool(trial)
        counts = self._added_counts(trial.ratio or 0.0, trial.real_share)
        empty = [classes[label] for label, count in counts.items() if count == 0]
        if empty:
            raise UsageError(f"ratio {trial.ratio:g} adds no film of {', '.join(empty)}; choose a larger one")
        added = pool.prefix(counts)
        content = [pool.key, sorted(counts.items())]
        if trial.arm != "copy-adjusted":
            return added, canonical_hash(content), []
        copies = self._memorization_test(trial.real_share).near_copies(added.pixels)
        notes = [
            f"{int(copies.sum())} of {len(added)} synthetic films are near-copies of training films and were removed"
        ]
        if not copies.any():
            return added, canonical_hash(content), notes
        if copies.all():
            return None, "", notes
        return added.subset(np.flatnonzero(~copies)), canonical_hash([*content, copies.tolist()]), notes

    def _throughput(self, trial: Trial) -> Measurement:
        plugin = copy.deepcopy(
            self.plan.generators[trial.generator.name]
            if trial.generator
            else self.plan.classifiers[trial.classifier.name if trial.classifier else ""]
        )
        assert isinstance(plugin, Steppable)
        with self._context(0, self.plan.request.spec.timed_steps + 1000) as ctx:
            scores = time_train_step(plugin, self.data.train, self.plan.request.spec, ctx)
        return Measurement(self.data.images.classes, scores, {"images_per_step": plugin.images_per_step()})

    def _pool(self, trial: Trial) -> Pool:
        """Fit and synthesise, each at most once: enough films for every ratio of the plan and for FD."""
        assert trial.generator is not None
        assert trial.generator_seed is not None
        spec, seed, share = self.plan.request.spec, trial.generator_seed, trial.real_share
        key = fit_key(trial.generator.identity, self.data, share, spec, seed)
        self._renew("fit", key)
        if key in self._failures:  # every trial of this fit fails alike; fitting again costs hours
            raise self._failures[key]
        counts = self._counts_at_least(self.plan.request.largest_ratio, share)
        # A copy: what a fit leaves behind (nets, optimizers, films on the device) goes with the trial.
        generator = copy.deepcopy(self.plan.generators[trial.generator.name])
        try:
            with self._context(seed, spec.generator_steps) as ctx:
                fitted, weights_key = fit_generator(generator, key, self.data, share, ctx, self.cache)
                if isinstance(fitted, Diagnosed):
                    self._diagnoses[weights_key] = list(fitted.diagnosis())
                return synthesise(fitted, weights_key, self.data, counts, ctx, self.cache)
        except Exception as error:
            self._failures[key] = error
            raise

    def _extract(self, films: Images) -> dict[str, Features]:
        device = self.plan.request.device
        return {
            name: extract_features(films, extractor, device, self.cache, self._progress)
            for name, extractor in self.plan.extractors.items()
        }

    def _memorization_test(self, share: float) -> MemorizationTest:
        if share not in self._memorization:
            train, _ = self.data.train_and_reserve(share)
            self._memorization[share] = MemorizationTest(train, self.data.val, self.data.held_out)
        return self._memorization[share]

    def _counts_at_least(self, ratio: float, share: float) -> dict[int, int]:
        """Films of each class that ratio 1 (or a larger one) and fidelity need."""
        needed = self._added_counts(max(ratio, 1.0), share)
        return {label: max(count, self.plan.request.spec.fidelity_images) for label, count in needed.items()}

    def _added_counts(self, ratio: float, share: float) -> dict[int, int]:
        rows = self.data.train_rows(share)
        real = class_counts(self.data.images.labels[rows], len(self.data.images.classes))
        return {label: round(ratio * count) for label, count in real.items()}

    @cached_property
    def _real_sets(self) -> RealSets:
        return choose_real_sets(self.data, self.plan.request.spec)

    def _renew(self, stage: str, key: str) -> None:
        """Where all is to be done afresh, forget what an earlier run left; not what this run, perhaps in a process
        that has ended, has made."""
        if self.fresh and not self.cache.begun_since(stage, key, self._began):
            self.cache.drop(stage, key)

    @contextmanager
    def _context(self, seed: int, budget: int) -> Iterator[RunContext]:
        with tempfile.TemporaryDirectory(prefix="cxrbench-") as workdir:
            yield RunContext(seed, self.plan.request.device, budget, Path(workdir), self._progress)


def _groups(films: Images) -> NDArray[np.str_]:
    return films.groups if films.groups is not None else np.arange(len(films)).astype(str)
