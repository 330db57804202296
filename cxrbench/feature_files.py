"""Features apart from their films: kept in a file, and compared with others.

Films may have to stay where they are, in a hospital or on the machine that drew them; their features can travel.
A file of them names no film and no patient, and no pickle is ever opened: reading one can run code.
"""

from __future__ import annotations

import hashlib
import io
import zipfile
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cxrbench.cache import write_atomically
from cxrbench.contracts import Features, Labels, Scores, no_progress
from cxrbench.errors import DataError, UsageError
from cxrbench.leakage import NO_PAIRS, film_groups
from cxrbench.metrics.distances import LEAST_INFINITY
from cxrbench.metrics.fidelity import LEAST_FILMS, measure_fidelity, measure_floor

ALL = "all"  # in results: the classes together; as the only class of a set: its films have none
HALVES = 10  # pairs of real halves that a floor is the mean over
TEXTS = ("extractor", "weights_sha256", "resize", "films_hash")
DECISIVE = {"extractor": "extractor", "weights_sha256": "sha256 of the weights", "dim": "length", "size": "film size"}
REQUIRED = ("features", "labels", "classes", "size", *TEXTS)
# What numpy and zipfile raise for a file that is torn, encrypted, pickled, or one array and no npz.
UNREADABLE = (OSError, ValueError, EOFError, RuntimeError, TypeError, MemoryError, zipfile.BadZipFile, zlib.error)
MEND = "make it again with `cxrbench compare ... --save-features FOLDER`"


@dataclass(frozen=True)
class FeatureSet:
    """The features of a set of films, and what decides their values.

    Attributes:
        features: float32 ``[N, D]``, finite; N and D at least 1.
        labels: int64 ``[N]``, indices into ``classes``.
        classes: the class names; ``all`` alone where the films have no classes.
        extractor: its name in the registry.
        weights_sha256: of the extractor's weights.
        resize: how a film reaches the net, in words.
        size: height and width in pixels to which the films were decoded before that.
        films_hash: identity of the films.
        groups: int64 ``[N]``, the number of the patient, or None where patients are unknown.

    Raises ValueError where something is not as it should be.
    """

    features: Features
    labels: Labels
    classes: tuple[str, ...]
    extractor: str
    weights_sha256: str
    resize: str
    size: int
    films_hash: str
    groups: NDArray[np.int64] | None = None

    def __post_init__(self) -> None:
        shape = self.features.shape
        if self.features.dtype != np.float32 or len(shape) != 2 or 0 in shape:
            raise ValueError(f"features must be float32 [N, D] with N and D at least 1, got {_what(self.features)}")
        for name, numbers in (("labels", self.labels), ("groups", self.groups)):
            if numbers is not None and (numbers.dtype != np.int64 or numbers.shape != shape[:1]):
                raise ValueError(f"{name} must be int64 [{shape[0]}], got {_what(numbers)}")
        if bad := int((~np.isfinite(self.features).all(axis=1)).sum()):
            raise ValueError(f"{bad} of {shape[0]} rows of features hold NaN or infinity")
        if not 0 <= self.labels.min() <= self.labels.max() < len(self.classes):
            raise ValueError(f"labels must lie in [0, {len(self.classes)}), the number of classes")
        if len(set(self.classes)) < len(self.classes) or (ALL in self.classes and len(self.classes) > 1):
            raise ValueError(f"classes must differ, and none of several may be called {ALL!r}: {list(self.classes)}")
        if unsaid := [name for name in (*TEXTS, "size") if not getattr(self, name)]:
            raise ValueError(f"{unsaid[0]} is empty, but decides what the features mean")

    def __len__(self) -> int:
        return len(self.labels)

    def facts(self) -> dict[str, object]:
        """What is to be published with the numbers, as JSON can say it."""
        facts = {name: getattr(self, name) for name in ("size", "classes", *TEXTS)}
        return {"films": len(self), "dim": self.features.shape[1], **facts}

    def rows_of(self, name: str) -> NDArray[np.int64]:
        """The rows of a class; none where there is no such class."""
        return np.flatnonzero(self.labels == (self.classes.index(name) if name in self.classes else -1))


def save_features(path: Path, features: FeatureSet) -> None:
    """Write a feature file, whole or not at all.

    Raises:
        UsageError: the name does not end in ``.npz``, or it cannot be written.
    """
    if path.suffix != ".npz":
        raise UsageError(f"{path}: a feature file is known by its name; end it in .npz")
    arrays = {name: np.asarray(getattr(features, name)) for name in REQUIRED}
    if features.groups is not None:
        arrays["groups"] = features.groups
    stream = io.BytesIO()
    np.savez(stream, **arrays)  # type: ignore[arg-type]  # numpy's stub takes a name for one of savez's options
    try:
        write_atomically(path, stream.getvalue())
    except OSError as error:
        raise UsageError(f"feature file {path} cannot be written ({error.strerror}); name another folder") from None


def is_feature_file(path: Path) -> bool:
    """Is it an ``.npz`` that is not MedMNIST's? Also where it is torn or missing: ``load_features`` says so."""
    try:
        with zipfile.ZipFile(path) as archive:
            return path.suffix == ".npz" and "train_images.npy" not in archive.namelist()
    except (OSError, zipfile.BadZipFile):
        return path.suffix == ".npz"


def load_features(path: Path) -> FeatureSet:
    """Read a feature file.

    One made by other means needs the arrays ``REQUIRED`` (texts as 0-d strings); ``groups`` may be missing.

    Raises:
        UsageError: there is no such file.
        DataError: it is torn or pickled, or what it holds is no ``FeatureSet``.
    """
    if not path.is_file():
        raise UsageError(f"feature file {path} {'is no file' if path.exists() else 'does not exist'}")
    try:
        with np.load(path, allow_pickle=False) as stored:
            held = {name: np.asarray(stored[name]) for name in (*REQUIRED, "groups") if name in stored.files}
    except UNREADABLE as error:
        why = f"it is torn, or holds pickled objects, which are never opened ({type(error).__name__})"
        raise DataError(f"{path} is no feature file: {why}; {MEND}") from None
    if missing := [name for name in REQUIRED if name not in held]:
        raise DataError(f"{path} is no feature file: it lacks {', '.join(missing)}; {MEND}")
    try:
        said = {name: _said(held[name], name) for name in (*TEXTS, "size")}
        classes = tuple(_said(held["classes"], "classes"))
        return FeatureSet(held["features"], held["labels"], classes, groups=held.get("groups"), **said)
    except ValueError as error:
        raise DataError(f"{path}: {error}; {MEND}") from None


def check_same_extractor(generated: FeatureSet, reference: FeatureSet) -> None:
    """Distances mean something only between features that were made in one way.

    ``resize`` is for people and may be worded differently; ``oddities`` tells of that.

    Raises:
        UsageError: another extractor, other weights, another D, or films decoded to another size.
    """
    for name, what in DECISIVE.items():
        if (mine := generated.facts()[name]) != (theirs := reference.facts()[name]):
            differ = f"their {what} differs, {mine} and {theirs}; extract the features of both in one way"
            raise UsageError(f"GENERATED and REFERENCE cannot be compared: {differ}")


@dataclass(frozen=True)
class Compared:
    """One class of two sets, or their common classes together.

    Attributes:
        generated, reference: films there are.
        n: films compared, on either side.
        scores: as ``measure_fidelity`` and ``measure_floor`` name them; ``METRIC_excess`` is the value less the floor.
        abstained: measure -> the least n that it needs.
        notes: why there is no floor.
    """

    generated: int
    reference: int
    n: int
    scores: Scores
    abstained: Mapping[str, int]
    notes: tuple[str, ...] = ()


def compare_features(
    generated: FeatureSet,
    reference: FeatureSet,
    resamples: int = 200,
    seed: int = 0,
    progress: Callable[[int, int], None] = no_progress,
) -> dict[str, Compared]:
    """Every measure of each class that both sets have, and of these classes together (``all``).

    Values depend on the number of films, so both sides are cut to the same n, the smaller number of each class; the
    seed draws which. The floor is of halves of all reference films: no patient is in both, nor two films of equal
    features. The films' order changes nothing. Where a set has no classes, all films are compared with all. There
    are at least 2 ``resamples`` in each bootstrap. The results are sorted by class name; ``all`` is the last.

    Raises:
        UsageError: as ``check_same_extractor``.
        DataError: no class in common, or films whose features are all zero (they have no direction).
    """
    check_same_extractor(generated, reference)
    for who, side in (("GENERATED", generated), ("REFERENCE", reference)):
        if zeros := int((~side.features.any(axis=1)).sum()):
            raise DataError(f"{who}: {zeros} of {len(side)} films have features that are all zero; take them out")
    names = _common_classes(generated, reference)
    x, y = (_in_order(side, names) for side in (generated, reference))
    n = {name: min(len(x.rows_of(name)), len(y.rows_of(name))) for name in names}
    results: dict[str, Compared] = {}
    for done, name in enumerate(names):
        progress(done, len(names) + 1)
        results[name] = _compare(x, y, {name: n[name]}, resamples, seed)
    return results | {ALL: results[names[0]] if len(names) == 1 else _compare(x, y, n, resamples, seed)}


def oddities(generated: FeatureSet, reference: FeatureSet) -> list[str]:
    """What a reader of the numbers should know of the two sets."""
    notes, known = [], {row.tobytes() for row in reference.features}
    for who, side in (("GENERATED", generated), ("REFERENCE", reference)):
        if len(side) > 1 and (side.features == side.features[0]).all():
            notes.append(f"{who}: the features of all {len(side)} films are equal, as of one film over and over")
    if copies := sum(row.tobytes() in known for row in generated.features):
        notes.append(f"{copies} of {len(generated)} GENERATED films have the very features of a REFERENCE film: copies")
    if generated.resize != reference.resize:
        both = f"{generated.resize!r} and {reference.resize!r}"
        notes.append(f"films were resized as {both}: if these are two ways, the numbers mean nothing")
    if (common := _common_classes(generated, reference)) != [ALL]:
        alone = sorted({*generated.classes, *reference.classes} - {*common})
        notes += [f"class {name!r} is not compared: only one side has it" for name in alone]
    elif generated.classes != reference.classes:
        notes.append("only one side has classes: all films are compared with all, in whatever shares of the classes")
    return notes


def _common_classes(generated: FeatureSet, reference: FeatureSet) -> list[str]:
    if (ALL,) in (generated.classes, reference.classes):
        return [ALL]
    if common := sorted({*generated.classes} & {*reference.classes}):
        return common
    mine, theirs = (", ".join(map(repr, side.classes)) for side in (generated, reference))
    raise DataError(f"no class in common: GENERATED has {mine}, REFERENCE has {theirs}; give them the same names")


def _compare(x: FeatureSet, y: FeatureSet, n: Mapping[str, int], resamples: int, seed: int) -> Compared:
    total = sum(n.values())
    there = [sum(len(side.rows_of(name)) for name in n) for side in (x, y)]
    least = {**LEAST_FILMS, "fid_infinity": max(LEAST_FILMS["fid"], LEAST_INFINITY * x.features.shape[1])}
    abstained = {metric: count for metric, count in least.items() if total < count}
    if len(abstained) == len(least):
        return Compared(there[0], there[1], total, {}, abstained)
    mine, theirs = (side.features[_drawn(side, n, seed)] for side in (x, y))
    scores = measure_fidelity(mine, theirs, resamples, seed)
    floor, notes = _floor(y, n, seed)
    excess = {f"{name}_excess": scores[name] - floor[f"{name}_floor"] for name in least if f"{name}_floor" in floor}
    return Compared(there[0], there[1], total, scores | floor | excess, abstained, notes)


def _floor(real: FeatureSet, n: Mapping[str, int], seed: int) -> tuple[Scores, tuple[str, ...]]:
    lacking = {name: len(real.rows_of(name)) for name, count in n.items() if len(real.rows_of(name)) < 2 * count}
    if lacking:
        short = ", ".join(f"{count} of {2 * n[name]} {name!r}" for name, count in lacking.items())
        return {}, (f"no floor: REFERENCE has fewer than 2 n films ({short})",)
    rows = np.concatenate([real.rows_of(name) for name in n])
    films = {real.classes.index(name): count for name, count in n.items()}
    assert real.groups is not None
    groups = real.groups[rows].astype(str)
    if floor := measure_floor(real.features[rows], real.labels[rows], groups, films, HALVES, seed):
        return floor, ()
    return {}, ("no floor: REFERENCE has 2 n films, but no two halves without a patient or equal films in both",)


def _drawn(side: FeatureSet, n: Mapping[str, int], seed: int) -> NDArray[np.int64]:
    """Rows of ``n`` films of each class."""
    rng = np.random.default_rng(seed)
    return np.concatenate([np.sort(rng.permutation(side.rows_of(name))[:count]) for name, count in n.items()])


def _in_order(side: FeatureSet, names: list[str]) -> FeatureSet:
    """The films by class and features, without classes if ``names`` is ``all``; ``groups`` joins the films of one
    patient, and films of equal features."""
    if names == [ALL]:
        side = replace(side, labels=np.zeros_like(side.labels), classes=(ALL,))
    content = [row.tobytes() for row in side.features]
    order = sorted(range(len(side)), key=lambda i: (side.classes[side.labels[i]], content[i]))
    patients = [None if side.groups is None else str(side.groups[i]) for i in order]
    groups = film_groups(patients, NO_PAIRS, [hashlib.sha256(content[i]).hexdigest() for i in order])
    return replace(side, features=side.features[order], labels=side.labels[order], groups=groups)


def _said(array: NDArray[Any], name: str) -> Any:
    """The class names, the size or one text."""
    kind, axes, what = {"classes": ("U", 1, "texts"), "size": ("i", 0, "a whole number")}.get(name, ("U", 0, "a text"))
    if array.dtype.kind != kind or array.ndim != axes:
        raise ValueError(f"{name} must be {what}, got {_what(array)}")
    return array.tolist()


def _what(array: NDArray[Any]) -> str:
    return f"{array.dtype} {list(array.shape)}"
