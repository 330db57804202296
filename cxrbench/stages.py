"""The expensive steps of a run, one function each; every result lies in the cache under its content's key.

Data flows one way: index -> load -> split -> fit -> synthesise -> features -> fidelity, and
split + pool -> train and predict.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

import numpy as np

from cxrbench.cache import MANIFEST, Cache
from cxrbench.contracts import (
    Classifier,
    Dataset,
    FeatureExtractor,
    Features,
    Film,
    Generator,
    Images,
    Labels,
    Pixels,
    Probabilities,
    RunContext,
    no_progress,
)
from cxrbench.datasets.decode import TIFF_SUFFIXES
from cxrbench.datasets.dicom import DICOM_SUFFIXES
from cxrbench.duplicates import near_copies
from cxrbench.errors import DataError
from cxrbench.hashing import canonical_hash, file_sha256
from cxrbench.loading import Decoded, decode_films
from cxrbench.metrics.classification import check_probabilities
from cxrbench.renames import Renames, check_labels, rename_classes
from cxrbench.spec import BenchSpec
from cxrbench.splits import Split, resolve_policy, split_films

Progress = Callable[[int, int], None]

LOAD_VERSION = 2  # raised when decoding changes the pixels
SPLIT_VERSION = 3  # raised when grouping or dealing changes, or what counts as a near-copy
SAMPLE_CHUNK = 64  # films sampled under one seed; a pool's prefix never depends on its length


@dataclass(frozen=True)
class DataIndex:
    """A data set's films before any is decoded.

    Attributes:
        quarantined: file -> reason, of what should be a film and cannot be one.
        left_out: reason -> number of films that were not asked for.
        clean: the policy by which films were removed after an audit; ``none`` where there was none.
        removed: file -> finding, of the films that were removed.
    """

    name: str
    dataset: Dataset
    classes: tuple[str, ...]
    films: list[Film]
    quarantined: Mapping[str, str] = field(default_factory=dict)
    left_out: Mapping[str, int] = field(default_factory=dict)
    clean: str = "none"
    removed: Mapping[str, str] = field(default_factory=dict)

    @property
    def hash(self) -> str:
        """sha256 of every film's content, label, patient, source and official split, in order; and of the
        cleaning, where there was one."""
        rows = [[f.digest, f.label, f.patient_id, f.source, f.split, *_read_by_name(f.file)] for f in self.films]
        return canonical_hash([list(self.classes), rows] + ([self.clean] if self.clean != "none" else []))


@dataclass(frozen=True)
class LoadedData:
    """Decoded films, their groups and their split.

    Attributes:
        images: all readable films; ``groups`` holds the number of the patient or duplicate cluster.
        quarantined: file -> reason, of the films that could not be read.
        copies: pairs of near-copies found (rows of ``images``).
        key: identity of the decoded pixels and the split together.
        decoded: what is known of the films, row by row of ``images``.
    """

    images: Images
    split: Split
    quarantined: dict[str, str]
    copies: int
    key: str
    decoded: Decoded

    @property
    def train(self) -> Images:
        return self.images.subset(self.split.train)

    @property
    def val(self) -> Images:
        return self.images.subset(self.split.val)

    @property
    def test(self) -> Images:
        return self.images.subset(self.split.test)


@dataclass(frozen=True)
class Pool:
    """Synthetic films of one fitted generator, class after class; a prefix of each class is an arm."""

    images: Images
    key: str

    def prefix(self, counts: Mapping[int, int]) -> Images:
        """The first ``counts[label]`` films of each class."""
        rows = [np.flatnonzero(self.images.labels == label)[:count] for label, count in counts.items()]
        return self.images.subset(np.concatenate(rows).astype(np.int64))


def _read_by_name(file: str) -> list[str]:
    """The suffix where it decides how a file is read, so that renaming such a file makes it another film."""
    suffix = PurePosixPath(file).suffix.lower()
    return [suffix] if suffix in DICOM_SUFFIXES | TIFF_SUFFIXES else []


def index_data(
    name: str, dataset: Dataset, labels: Renames | None = None, other_classes: Sequence[str] = ()
) -> DataIndex:
    """List a data set.

    Args:
        labels: own class name -> wanted name, or ``-`` for a class to drop.
        other_classes: further names that ``labels`` may hold: those of the other data set of the run.

    Raises:
        UsageError: ``labels`` names a class that neither data set has; and what the data set raises.
        DataError: ``labels`` leaves fewer than two classes; and what the data set raises.
    """
    if labels:
        check_labels(labels, sorted({*dataset.classes(), *other_classes}))
        dataset = rename_classes(dataset, labels)
    listing = dataset.listing()
    return DataIndex(name, dataset, tuple(dataset.classes()), listing.films, listing.quarantined, listing.left_out)


def load_key(index: DataIndex, size: int) -> str:
    """Identity of the decoded films."""
    return canonical_hash([index.hash, size, LOAD_VERSION])


def split_key(index: DataIndex, spec: BenchSpec) -> str:
    """Identity of a split, known before any film is decoded. Which films can be read is part of it."""
    by = resolve_policy(spec.split_by, index.films)
    return canonical_hash([index.hash, by, list(spec.split), spec.split_seed, LOAD_VERSION, SPLIT_VERSION])


def load_and_split(index: DataIndex, spec: BenchSpec, cache: Cache, progress: Progress = no_progress) -> LoadedData:
    """Decode every film once and deal the films out by the spec's policy.

    Raises:
        DataError: too few readable films, a class that cannot be split, or official parts that share films.
    """
    decoded = decode_films(
        index.dataset, index.films, load_key(index, spec.image_size), spec.image_size, cache, progress
    )
    labels = decoded.labels
    for label, name in enumerate(index.classes):
        if not (labels == label).any():
            raise DataError(f"class {name!r}: none of its films could be read; see the quarantine list")

    key = split_key(index, spec)
    # The policy is settled by all films listed, so that one unreadable file cannot change it.
    by = resolve_policy(spec.split_by, index.films)
    kept = canonical_hash([key, [film.file for film in decoded.films]])  # rows count the films that could be read
    folder = cache.get("split", kept, lambda path: _split_all(decoded, index.classes, by, spec, path))
    facts = json.loads((folder / "facts.json").read_text())
    with np.load(folder / "split.npz") as stored:
        split = Split(
            stored["train"], stored["val"], stored["test"], by, dict(facts["left_out"]), tuple(facts["notes"])
        )
        groups = stored["groups"]
    images = Images(decoded.pixels, labels, index.classes, groups.astype(str))
    quarantined = {**index.quarantined, **decoded.quarantined}
    return LoadedData(images, split, quarantined, facts["copies"], canonical_hash([decoded.key, key]), decoded)


def _split_all(decoded: Decoded, classes: tuple[str, ...], by: str, spec: BenchSpec, folder: Path) -> None:
    pairs = near_copies(decoded.thumbnails)
    split, groups = split_films(by, decoded.films, pairs, classes, spec.split, spec.split_seed)
    np.savez(folder / "split.npz", groups=groups, train=split.train, val=split.val, test=split.test)
    facts = {"copies": len(pairs), "left_out": split.left_out, "notes": split.notes}
    (folder / "facts.json").write_text(json.dumps(facts))


def fit_key(identity: str, data: LoadedData, spec: BenchSpec, seed: int) -> str:
    """Identity of a fitted generator: plug-in, training films, budget and seed."""
    return canonical_hash([identity, data.key, spec.generator_steps, seed])


def fit_generator(
    generator: Generator,
    key: str,
    data: LoadedData,
    ctx: RunContext,
    cache: Cache,
) -> tuple[Generator, str]:
    """Fit on the train split, or load the checkpoint of an equal fit.

    Returns:
        The fitted generator, and the identity of its weights: a GPU does not repeat a fit bit by bit, so
        what is sampled from a checkpoint must be known by its content and not by how it was made.
    """

    def build(folder: Path) -> None:
        generator.fit(data.train, ctx).save(folder)

    folder = cache.get("fit", key, build)
    return generator.load(folder), canonical_hash([key, file_sha256(folder / MANIFEST)])


def synthesise(
    generator: Generator,
    key: str,
    data: LoadedData,
    counts: Mapping[int, int],
    ctx: RunContext,
    cache: Cache,
) -> Pool:
    """Sample ``counts[label]`` films of each class from a fitted generator.

    Chunks of ``SAMPLE_CHUNK`` films of one class have a seed each, so a longer pool begins with the
    shorter one. The returned pool has identity ``key`` whatever its length.

    Raises:
        ValueError: the generator returned something other than uint8 films of the right shape.
    """
    chunks = [(label, start) for label, count in counts.items() for start in range(0, count, SAMPLE_CHUNK)]

    def build(folder: Path) -> None:
        parts = []
        for number, (label, start) in enumerate(chunks):
            seed = int(canonical_hash([ctx.seed, label, start])[:8], 16)
            wanted = np.full(SAMPLE_CHUNK, label, np.int64)
            films = generator.sample(wanted, _reseeded(ctx, seed))
            check_pixels(films, SAMPLE_CHUNK, data.images.size)
            parts.append(films[: counts[label] - start])
            ctx.progress(number + 1, len(chunks))
        np.save(folder / "pixels.npy", np.concatenate(parts))

    pool_key = canonical_hash([key, sorted(counts.items()), SAMPLE_CHUNK])
    pixels = np.load(cache.get("pool", pool_key, build) / "pixels.npy", mmap_mode="r")
    labels = np.repeat(np.fromiter(counts.keys(), np.int64), np.fromiter(counts.values(), np.int64))
    return Pool(Images(pixels, labels, data.images.classes), key)


def check_pixels(films: Pixels, count: int, size: int) -> None:
    """Raises ValueError unless uint8 ``[count, 1, size, size]``."""
    if not isinstance(films, np.ndarray) or films.dtype != np.uint8 or films.shape != (count, 1, size, size):
        found = f"{getattr(films, 'dtype', type(films).__name__)} {getattr(films, 'shape', '')}"
        raise ValueError(f"sample must return uint8 [{count}, 1, {size}, {size}], got {found}")


def extract_features(
    films: Images, key: str, extractor: FeatureExtractor, device: str, cache: Cache, progress: Progress
) -> Features:
    """Features of a set of films; ``key`` is the set's identity.

    Raises:
        ValueError: the extractor returned NaN, infinity or the wrong shape.
    """

    def build(folder: Path) -> None:
        features = extractor.extract(films.pixels, device, progress)
        if features.shape != (len(films), extractor.dim) or not np.isfinite(features).all():
            raise ValueError(
                f"{extractor.name} returned features of shape {features.shape} or with NaN; "
                f"expected finite [{len(films)}, {extractor.dim}]"
            )
        np.save(folder / "features.npy", features.astype(np.float32))

    feature_key = canonical_hash([key, extractor.name, extractor.weights_sha256()])
    stored: Features = np.load(cache.get("features", feature_key, build) / "features.npy")
    return stored


def train_and_predict(
    classifier: Classifier, data: LoadedData, added: Images | None, sets: Sequence[Pixels], ctx: RunContext
) -> list[Probabilities]:
    """Train once on real (and added synthetic) films and predict every set of films.

    Args:
        sets: uint8 ``[N, 1, H, W]`` each: the test films, external films.

    Returns:
        float32 ``[N, classes]`` for each set.

    Raises:
        ValueError: the classifier returned malformed probabilities.
    """
    train = data.train
    if added is not None and len(added):
        train = Images(
            np.concatenate([train.pixels, added.pixels]),
            np.concatenate([train.labels, added.labels]),
            train.classes,
        )
    fitted = classifier.fit(train, data.val, ctx)
    predictions = [fitted.predict_proba(pixels, ctx) for pixels in sets]
    for pixels, probabilities in zip(sets, predictions, strict=True):
        check_probabilities(probabilities, len(pixels), len(train.classes))
    return predictions


def class_counts(labels: Labels, classes: int) -> dict[int, int]:
    """Films per label."""
    return {label: int(count) for label, count in enumerate(np.bincount(labels, minlength=classes))}


def _reseeded(ctx: RunContext, seed: int) -> RunContext:
    return RunContext(seed, ctx.device, ctx.budget, ctx.workdir)
