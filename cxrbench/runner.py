"""Plan -> records: run what is not yet done, whatever happens on the way."""

from __future__ import annotations

import copy
import tempfile
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cxrbench.cache import Cache
from cxrbench.contracts import Generator, Images, RunContext, Scores, Steppable
from cxrbench.errors import UsageError
from cxrbench.executors.local import Measurement, execute
from cxrbench.hashing import canonical_hash
from cxrbench.machine import describe_machine
from cxrbench.metrics.classification import score_predictions
from cxrbench.metrics.distances import MINIMUM_FILMS, Frechet, Kernel
from cxrbench.plan import Plan, relative_cost
from cxrbench.progress import Reporter
from cxrbench.records import Record, Status, Trial
from cxrbench.stages import (
    DataIndex,
    LoadedData,
    Pool,
    class_counts,
    extract_features,
    fit_generator,
    fit_key,
    load_and_split,
    synthesise,
    train_and_predict,
)
from cxrbench.store import Store
from cxrbench.throughput import time_train_step

SHOWN = 8  # films of each class kept for the sample grids


@dataclass
class Outcome:
    """What a run did."""

    ran: list[Record] = field(default_factory=list)
    cached: int = 0
    interrupted: bool = False

    @property
    def failed(self) -> list[Record]:
        return [record for record in self.ran if record.status is not Status.OK]


def run_plan(
    plan: Plan,
    index: DataIndex,
    store: Store,
    cache: Cache,
    reporter: Reporter,
    *,
    command: str,
    fresh: bool = False,
    fail_fast: bool = False,
) -> Outcome:
    """Run every trial of the plan that the store has no ``ok`` record of.

    Args:
        command: the command line, for the records.
        fresh: run all of them again, and fit every generator anew.
        fail_fast: stop after the first trial that does not end ``ok``.

    Raises:
        DataError: the data cannot be benchmarked (nothing has run then).
    """
    store.prepare()
    todo = [trial for trial in plan.trials if fresh or not store.is_done(trial.key)]
    outcome = Outcome(cached=len(plan.trials) - len(todo))
    if not todo:
        return outcome
    spec = plan.request.spec
    load_work = 0.3 * len(index.films)
    reporter.start(load_work + sum(relative_cost(trial, spec) for trial in todo))
    try:
        reporter.begin(f"load {index.name}", load_work)
        bench = _Workbench(plan, load_and_split(index, spec, cache, reporter.step), cache, reporter, fresh)
        reporter.end(None)
        provenance = {"command": command, **describe_machine(plan.request.device)}
        for trial in todo:
            reporter.begin(trial.describe(), relative_cost(trial, spec))
            record, found = execute(trial, partial(bench.measure, trial), provenance)
            publish = index.dataset.redistributable
            if record.status is not Status.INTERRUPTED or not store.is_done(record.key):
                store.put(record, found.arrays if found else {}, found.pictures if found else {}, publish=publish)
            outcome.ran.append(record)
            reporter.end(record)
            if record.status is Status.INTERRUPTED:
                outcome.interrupted = True
                break
            if fail_fast and record.status is not Status.OK:
                break
    except KeyboardInterrupt:  # while loading, or between two trials
        outcome.interrupted = True
    finally:
        reporter.close()
    return outcome


@dataclass
class _Workbench:
    """What the trials of one run share."""

    plan: Plan
    data: LoadedData
    cache: Cache
    reporter: Reporter
    fresh: bool
    _refitted: set[str] = field(default_factory=set)
    _failed_fits: dict[str, Exception] = field(default_factory=dict)

    def measure(self, trial: Trial) -> Measurement:
        if trial.kind == "data":
            return self._describe_data()
        if trial.kind == "fidelity":
            return self._fidelity(trial)
        if trial.kind == "utility":
            return self._utility(trial)
        return self._throughput(trial)

    def _describe_data(self) -> Measurement:
        data = self.data
        counts = {
            "films": len(data.images),
            "near_copy_pairs": data.copies,
            "quarantined": len(data.quarantined),
        }
        counts["groups"] = len(np.unique(data.images.groups)) if data.images.groups is not None else 0
        for part, rows in (("train", data.split.train), ("val", data.split.val), ("test", data.split.test)):
            for label, count in class_counts(data.images.labels[rows], len(data.images.classes)).items():
                counts[f"{part}/{data.images.classes[label]}"] = count
        notes = [f"quarantined: {file}: {reason}" for file, reason in data.quarantined.items()]
        return Measurement(data.images.classes, counts=counts, notes=notes)

    def _fidelity(self, trial: Trial) -> Measurement:
        """Distances between the generator's first films and as many training films, per class and overall.

        Without a generator, held-out real films (validation and test) take its place: the value a perfect
        generator could hope for at this n.
        """
        reference, held_out, n = self._real_sets()
        counts = {f"n/{self.data.images.classes[label]}": count for label, count in n.items()}
        if trial.generator is None:
            films, key = held_out, canonical_hash([self.data.key, "held-out", counts])
        else:
            pool = self._pool(trial)
            films, key = pool.prefix(n), canonical_hash([pool.key, "pool", counts])
        reference_key = canonical_hash([self.data.key, "train", counts])
        scores: Scores = {}
        for name, extractor in self.plan.extractors.items():
            generated, real = (
                extract_features(images, image_key, extractor, self.plan.request.device, self.cache, self.reporter.step)
                for images, image_key in ((films, key), (reference, reference_key))
            )
            for who, mine, theirs in _per_class_and_overall(films, reference):
                for metric in (Frechet(), Kernel(self.plan.request.spec.kid_subsets)):
                    for metric_name, value in metric(generated[mine], real[theirs]).items():
                        scores[f"{name}/{who}/{metric_name}"] = value
        pictures = {"generated": _first_of_each(films)}
        if trial.generator is None:
            pictures = {"real": _first_of_each(reference)}
        return Measurement(self.data.images.classes, scores, counts, list(self.plan.notes), pictures=pictures)

    def _utility(self, trial: Trial) -> Measurement:
        assert trial.classifier is not None
        assert trial.classifier_seed is not None
        classes = self.data.images.classes
        added = None
        if trial.generator is not None:
            counts = self._added_counts(trial.ratio or 0.0)
            empty = [classes[label] for label, count in counts.items() if count == 0]
            if empty:
                raise UsageError(f"ratio {trial.ratio:g} adds no film of {', '.join(empty)}; choose a larger one")
            added = self._pool(trial).prefix(counts)
        classifier = copy.deepcopy(self.plan.classifiers[trial.classifier.name])
        with self._context(trial.classifier_seed, self.plan.request.spec.classifier_steps) as ctx:
            probabilities = train_and_predict(classifier, self.data, added, ctx)
        test = self.data.test
        groups = test.groups if test.groups is not None else np.arange(len(test)).astype(str)
        return Measurement(
            classes,
            score_predictions(test.labels, probabilities, classes),
            {
                "train_real": len(self.data.split.train),
                "train_synthetic": len(added) if added is not None else 0,
                "test": len(test),
            },
            arrays={"probabilities": probabilities, "labels": test.labels, "groups": groups},
        )

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
        spec, seed = self.plan.request.spec, trial.generator_seed
        key = fit_key(trial.generator.identity, self.data, spec, seed)
        if self.fresh and key not in self._refitted:
            self.cache.drop("fit", key)
            self._refitted.add(key)
        needed = self._added_counts(self.plan.largest_ratio)
        counts = {label: max(count, spec.fidelity_images) for label, count in needed.items()}
        with self._context(seed, spec.generator_steps) as ctx:
            fitted, weights_key = self._fit(trial.generator.name, key, ctx)
            return synthesise(fitted, weights_key, self.data, counts, ctx, self.cache)

    def _fit(self, name: str, key: str, ctx: RunContext) -> tuple[Generator, str]:
        """Fit a copy: what a fit leaves behind (nets, optimizers, films on the device) goes with the trial."""
        if key in self._failed_fits:  # every trial of this fit fails alike; fitting again costs hours
            raise self._failed_fits[key]
        try:
            return fit_generator(copy.deepcopy(self.plan.generators[name]), key, self.data, ctx, self.cache)
        except Exception as error:
            # The error is kept, so its frames must not keep the nets that failed, or a GPU stays full.
            traceback.clear_frames(error.__traceback__)
            self._failed_fits[key] = error
            raise

    def _added_counts(self, ratio: float) -> dict[int, int]:
        real = class_counts(self.data.images.labels[self.data.split.train], len(self.data.images.classes))
        return {label: round(ratio * count) for label, count in real.items()}

    def _real_sets(self) -> tuple[Images, Images, dict[int, int]]:
        """Equally many training and held-out films per class, drawn with the split's seed."""
        data, spec = self.data, self.plan.request.spec
        held_out = np.concatenate([data.split.val, data.split.test])
        picked: tuple[list[NDArray[np.int64]], list[NDArray[np.int64]]] = ([], [])
        n = {}
        for label in range(len(data.images.classes)):
            parts = [rows[data.images.labels[rows] == label] for rows in (data.split.train, held_out)]
            n[label] = min(spec.fidelity_images, *(len(rows) for rows in parts))
            for rows, chosen in zip(parts, picked, strict=True):
                rng = np.random.default_rng([spec.split_seed, label])
                chosen.append(rng.permutation(rows)[: n[label]])
        reference, other = (data.images.subset(np.concatenate(chosen)) for chosen in picked)
        return reference, other, n

    @contextmanager
    def _context(self, seed: int, budget: int) -> Iterator[RunContext]:
        with tempfile.TemporaryDirectory(prefix="cxrbench-") as workdir:
            yield RunContext(seed, self.plan.request.device, budget, Path(workdir), self.reporter.step)


def _per_class_and_overall(
    films: Images, reference: Images
) -> Iterator[tuple[str, NDArray[np.bool_], NDArray[np.bool_]]]:
    """(class name or ``all``, rows of ``films``, rows of ``reference``); classes too small are passed over."""
    for label, name in enumerate(films.classes):
        mine, theirs = films.labels == label, reference.labels == label
        if min(mine.sum(), theirs.sum()) >= MINIMUM_FILMS:
            yield name, mine, theirs
    yield "all", np.ones(len(films), bool), np.ones(len(reference), bool)


def _first_of_each(films: Images) -> NDArray[np.uint8]:
    """uint8 ``[classes * SHOWN, 1, H, W]``, class after class; a class with fewer films repeats them."""
    rows = [np.resize(np.flatnonzero(films.labels == label), SHOWN) for label in range(len(films.classes))]
    return films.pixels[np.concatenate(rows)]
