"""What the trials of one run share: the films, the fitted generators, the classifier trained last."""

from __future__ import annotations

import copy
import tempfile
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cxrbench.cache import Cache
from cxrbench.contracts import Generator, Images, Probabilities, RunContext, Scores, Steppable
from cxrbench.errors import UsageError
from cxrbench.executors.local import Measurement
from cxrbench.external import ExternalData
from cxrbench.hashing import canonical_hash
from cxrbench.metrics.classification import score_predictions, score_present
from cxrbench.metrics.distances import MINIMUM_FILMS, Frechet, Kernel
from cxrbench.plan import Plan
from cxrbench.progress import Reporter
from cxrbench.records import Trial
from cxrbench.stages import (
    DataIndex,
    LoadedData,
    Pool,
    class_counts,
    extract_features,
    fit_generator,
    fit_key,
    synthesise,
    train_and_predict,
)
from cxrbench.throughput import time_train_step

SHOWN = 8  # films of each class kept for the sample grids


@dataclass(frozen=True)
class _Arm:
    """One trained classifier's predictions, float32 ``[N, classes]``, and what it was trained on."""

    test: Probabilities
    external: Probabilities | None
    counts: dict[str, int]


@dataclass
class Workbench:
    """Measures one trial after the other.

    Attributes:
        external: None where no trial asks for it.
        fresh: fit every generator anew, once.
    """

    plan: Plan
    index: DataIndex
    data: LoadedData
    external: ExternalData | None
    cache: Cache
    reporter: Reporter
    fresh: bool
    _refitted: set[str] = field(default_factory=set)
    _failed_fits: dict[str, Exception] = field(default_factory=dict)
    # Only the last one: a utility trial is followed by its external trial, and memory stays bounded.
    _last_arm: tuple[str, _Arm | Exception] | None = None

    def measure(self, trial: Trial) -> Measurement:
        """Do what the trial says.

        Raises:
            Exception: whatever a plug-in raises; UsageError for a ratio that adds nothing.
        """
        if trial.kind == "data":
            return self._describe_data()
        if trial.kind == "fidelity":
            return self._fidelity(trial)
        if trial.kind == "utility":
            return self._utility(trial)
        if trial.kind == "external":
            return self._on_external(trial)
        return self._throughput(trial)

    def _describe_data(self) -> Measurement:
        data, split = self.data, self.data.split
        left_out = {**self.index.left_out, **split.left_out}
        rows = np.concatenate(list(split.parts().values()))
        counts = {
            "films": len(rows),
            "near_copy_pairs": data.copies,
            "quarantined": len(data.quarantined),
            "left_out": sum(left_out.values()),
            "removed": len(self.index.removed),
        }
        counts["groups"] = len(np.unique(data.images.groups[rows])) if data.images.groups is not None else 0
        for part, chosen in split.parts().items():
            for label, count in class_counts(data.images.labels[chosen], len(data.images.classes)).items():
                counts[f"{part}/{data.images.classes[label]}"] = count
        notes = [f"split: {split.by}", *(f"split: {note}" for note in split.notes)]
        notes += [f"left out: {count}: {reason}" for reason, count in left_out.items()]
        notes += [f"removed: {file}: {finding}" for file, finding in self.index.removed.items()]
        notes += [f"quarantined: {file}: {reason}" for file, reason in data.quarantined.items()]
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
        arm, classes, test = self._arm(trial), self.data.images.classes, self.data.test
        return Measurement(
            classes,
            score_predictions(test.labels, arm.test, classes),
            {**arm.counts, "test": len(test)},
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
            list(self.external.notes),
            arrays={"probabilities": arm.external, "labels": images.labels, "groups": _groups(images)},
        )

    def _arm(self, trial: Trial) -> _Arm:
        """Train the trial's classifier, unless the trial before this one did; it predicts both test sets."""
        key = trial.model_copy(update={"kind": "utility", "external": ""}).key
        if self._last_arm is not None and self._last_arm[0] == key:
            arm = self._last_arm[1]
            if isinstance(arm, Exception):  # the external trial fails as its utility trial did
                raise arm
            return arm
        self._last_arm = None
        try:
            trained = self._train(trial)
        except Exception as error:
            traceback.clear_frames(error.__traceback__)  # as for a failed fit
            self._last_arm = (key, error)
            raise
        self._last_arm = (key, trained)
        return trained

    def _train(self, trial: Trial) -> _Arm:
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
        # Copied, as the test films are: what is mapped from the cache cannot be written to, and torch warns.
        sets = [self.data.test.pixels] + ([np.array(self.external.images.pixels)] if self.external else [])
        with self._context(trial.classifier_seed, self.plan.request.spec.classifier_steps) as ctx:
            predictions = train_and_predict(classifier, self.data, added, sets, ctx)
        trained_on = {
            "train_real": len(self.data.split.train),
            "train_synthetic": len(added) if added is not None else 0,
        }
        return _Arm(predictions[0], predictions[1] if self.external else None, trained_on)

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


def _groups(films: Images) -> NDArray[np.str_]:
    return films.groups if films.groups is not None else np.arange(len(films)).astype(str)


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
