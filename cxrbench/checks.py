"""Does a plug-in keep its contract? For the authors of plug-ins, and for this project's own tests.

Use it in a test of your package::

    from cxrbench.checks import check_generator
    check_generator(MyGenerator())
"""

from __future__ import annotations

import copy
import dataclasses
import tempfile
from pathlib import Path
from typing import TypeVar

import numpy as np

from cxrbench.contracts import Classifier, Generator, Images, Reserved, RunContext, Steppable, Tunable
from cxrbench.hashing import canonical_hash, plugin_parameters
from cxrbench.metrics.classification import check_probabilities
from cxrbench.synthesis import check_pixels

P = TypeVar("P", Generator, Classifier)

BUDGET = 3  # optimizer steps: contracts are checked, not quality
GPU_LEVELS = 8  # grey levels of 255 that bf16 sums in another order may change
CLASSES = ("a", "b", "c")


class ContractBroken(AssertionError):
    """The plug-in breaks its contract; the message says which clause."""


def check_generator(generator: Generator, size: int = 32, device: str = "cpu") -> None:
    """Fit, sample, save and load a generator on a few random films.

    Raises:
        ContractBroken: a clause of the ``Generator`` contract does not hold.
    """
    _check_parameters(generator)
    train = toy_films(size)
    before = train.pixels.copy()
    with tempfile.TemporaryDirectory() as folder:
        workdir = Path(folder)
        fitting, sampling = (RunContext(seed, device, BUDGET, workdir) for seed in (0, 1))
        twin = _clone(generator)
        for made in (generator, twin):
            if isinstance(made, Reserved):
                made.keep(toy_films(size, seed=5))
        _require(generator.fit(train, fitting) is generator, "fit must return self")
        _require(np.array_equal(train.pixels, before), "fit must not change the training films")

        labels = np.asarray([2, 0, 1, 1, 0, 2, 2], np.int64)
        films = _sample(generator, labels, sampling, size)
        again = _sample(generator, labels, sampling, size)
        _require(_same(films, again, device), "sample must give the same films for the same seed")
        other = _sample(generator, labels, RunContext(2, device, BUDGET, workdir), size)
        _require(not np.array_equal(films, other), "sample must give other films for another seed")

        if device == "cpu":  # a GPU adds in no fixed order, so two fits drift apart
            twin = twin.fit(train, fitting)
            _require(_same(films, _sample(twin, labels, sampling, size), device), "fit must depend on ctx.seed alone")

        saved = workdir / "saved"
        saved.mkdir()
        generator.save(saved)
        _require(any(saved.iterdir()), "save must write into the folder it is given")
        loaded = _clone(generator).load(saved)
        _require(
            _same(films, _sample(loaded, labels, sampling, size), device),
            "load must restore a generator that samples the same films",
        )
        stepped = _clone(generator)
        if isinstance(stepped, Steppable):
            _check_steps(stepped, train, fitting)


def check_classifier(classifier: Classifier, size: int = 32, device: str = "cpu") -> None:
    """Fit a classifier on a few random films and predict.

    Raises:
        ContractBroken: a clause of the ``Classifier`` contract does not hold.
    """
    _check_parameters(classifier)
    train, val = toy_films(size), toy_films(size, seed=1)
    before = train.pixels.copy()
    with tempfile.TemporaryDirectory() as folder:
        ctx = RunContext(0, device, BUDGET, Path(folder))
        twin = _clone(classifier)
        _require(classifier.fit(train, val, ctx) is classifier, "fit must return self")
        _require(np.array_equal(train.pixels, before), "fit must not change the training films")
        probabilities = classifier.predict_proba(val.pixels, ctx)
        try:
            check_probabilities(probabilities, len(val), len(CLASSES))
            check_probabilities(classifier.predict_proba(val.pixels[:1], ctx), 1, len(CLASSES))
        except ValueError as error:
            raise ContractBroken(str(error)) from None
        if device == "cpu":
            again = twin.fit(train, val, ctx).predict_proba(val.pixels, ctx)
            _require(np.array_equal(probabilities, again), "fit must depend on ctx.seed alone")
        if isinstance(classifier, Tunable):
            proposed = [plugin_parameters(candidate) for candidate in classifier.candidates(3)]
            _require(len(proposed) == 3, "candidates must return as many configurations as asked for")
            _require(proposed[0] == plugin_parameters(classifier), "candidates must begin with itself")
            _require(proposed[1] != proposed[0] != proposed[2] != proposed[1], "candidates must differ")
        stepped = _clone(classifier)
        if isinstance(stepped, Steppable):
            _check_steps(stepped, train, ctx)


def toy_films(size: int, per_class: int = 8, seed: int = 0) -> Images:
    """Random films whose class shows in their mean grey level: enough to exercise a plug-in."""
    rng = np.random.default_rng(seed)
    labels = np.tile(np.arange(len(CLASSES)), per_class).astype(np.int64)
    noise = rng.integers(0, 120, (len(labels), 1, size, size))
    return Images((noise + 60 * labels[:, None, None, None]).astype(np.uint8), labels, CLASSES)


def _check_parameters(plugin: Generator | Classifier) -> None:
    _require(dataclasses.is_dataclass(plugin), "a plug-in must be a dataclass whose fields are its parameters")
    try:
        canonical_hash(plugin_parameters(plugin))
    except (TypeError, ValueError) as error:
        raise ContractBroken(f"parameters must be plain JSON values: {error}") from None


def _check_steps(plugin: Steppable, train: Images, ctx: RunContext) -> None:
    plugin.setup(train, ctx)
    _require(plugin.images_per_step() > 0, "images_per_step must be positive")
    _require(plugin.steps_per_cycle() > 0, "steps_per_cycle must be positive")
    losses = plugin.training_step(0)
    _require(bool(losses), "training_step must return its losses")
    for name, value in losses.items():
        _require(bool(np.isfinite(float(value))), f"training_step returned {name} = {float(value)}")


def _clone(plugin: P) -> P:
    """An unfitted plug-in with the same parameters."""
    return type(plugin)(**copy.deepcopy(plugin_parameters(plugin)))


def _sample(generator: Generator, labels: np.ndarray, ctx: RunContext, size: int) -> np.ndarray:
    films = generator.sample(labels, ctx)
    try:
        check_pixels(films, len(labels), size)
    except ValueError as error:
        raise ContractBroken(str(error)) from None
    return films


def _same(films: np.ndarray, others: np.ndarray, device: str) -> bool:
    """Equal on a CPU; on a GPU within the rounding of a sum taken in another order."""
    largest = np.abs(films.astype(int) - others.astype(int)).max()
    return bool(largest <= (0 if device == "cpu" else GPU_LEVELS))


def _require(holds: bool, clause: str) -> None:
    if not holds:
        raise ContractBroken(clause)
