"""The expensive steps of a run, one function each; every result lies in the cache under its content's key.

Data flows one way: index -> load -> split -> fit -> synthesise -> features -> fidelity, and
split + pool -> train and predict.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

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
from cxrbench.duplicates import near_copies
from cxrbench.errors import DataError, UnreadableFilm
from cxrbench.hashing import canonical_hash, file_sha256
from cxrbench.metrics.classification import check_probabilities
from cxrbench.spec import BenchSpec
from cxrbench.splits import Split, film_groups, split_films

Progress = Callable[[int, int], None]

LOAD_VERSION = 1  # raised when decoding changes the pixels
SPLIT_VERSION = 1  # raised when grouping or dealing changes
THUMBNAIL = 32  # pixels; near-copies are sought among thumbnails of this size
SAMPLE_CHUNK = 64  # films sampled under one seed; a pool's prefix never depends on its length


@dataclass(frozen=True)
class DataIndex:
    """A data set's films before any is decoded."""

    name: str
    dataset: Dataset
    classes: tuple[str, ...]
    films: list[Film]
    quarantined: Mapping[str, str] = field(default_factory=dict)
    left_out: Mapping[str, int] = field(default_factory=dict)

    @property
    def hash(self) -> str:
        """sha256 of every film's content, label, patient, source and official split, in order."""
        rows = [[f.digest, f.label, f.patient_id, f.source, f.split] for f in self.films]
        return canonical_hash([list(self.classes), rows])


@dataclass(frozen=True)
class LoadedData:
    """Decoded films, their groups and their split.

    Attributes:
        images: all readable films; ``groups`` holds the number of the patient or duplicate cluster.
        quarantined: file -> reason, of the films that could not be read.
        copies: pairs of near-copies found (rows of ``images``).
        key: identity of the decoded pixels and the split together.
    """

    images: Images
    split: Split
    quarantined: dict[str, str]
    copies: int
    key: str

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


def index_data(name: str, dataset: Dataset) -> DataIndex:
    """List a data set. Raises whatever the data set raises for bad paths or bad metadata."""
    listing = dataset.listing()
    return DataIndex(name, dataset, tuple(dataset.classes()), listing.films, listing.quarantined, listing.left_out)


def split_key(data_hash: str, spec: BenchSpec) -> str:
    """Identity of a split, known before any film is decoded. Which films can be read is part of it."""
    return canonical_hash([data_hash, list(spec.split), spec.split_seed, LOAD_VERSION, SPLIT_VERSION])


def load_and_split(index: DataIndex, spec: BenchSpec, cache: Cache, progress: Progress = no_progress) -> LoadedData:
    """Decode every film once and deal the films out.

    Raises:
        DataError: too few readable films, or a class that cannot be split.
    """
    load_key = canonical_hash([index.hash, spec.image_size, LOAD_VERSION])
    folder = cache.get("load", load_key, lambda path: _decode_all(index, spec.image_size, path, progress))
    facts = json.loads((folder / "facts.json").read_text())
    kept = np.asarray(facts["kept"], dtype=np.int64)
    labels = np.asarray([index.films[i].label for i in kept], dtype=np.int64)
    for label, name in enumerate(index.classes):
        if not (labels == label).any():
            raise DataError(f"class {name!r}: none of its films could be read; see the quarantine list")

    key = split_key(index.hash, spec)
    split_folder = cache.get("split", key, lambda path: _split_all(index, kept, labels, folder, spec, path))
    with np.load(split_folder / "split.npz") as stored:
        split = Split(stored["train"], stored["val"], stored["test"])
        groups, copies = stored["groups"], int(stored["copies"])
    pixels = np.load(folder / "pixels.npy", mmap_mode="r")
    images = Images(pixels, labels, index.classes, groups.astype(str))
    quarantined = {**index.quarantined, **facts["quarantined"]}
    return LoadedData(images, split, quarantined, copies, canonical_hash([load_key, key]))


def _decode_all(index: DataIndex, size: int, folder: Path, progress: Progress) -> None:
    count = len(index.films)
    pixels = np.lib.format.open_memmap(
        folder / "pixels.tmp.npy", mode="w+", dtype=np.uint8, shape=(count, 1, size, size)
    )
    thumbnails = np.empty((count, THUMBNAIL, THUMBNAIL), np.uint8)
    reasons: dict[int, str] = {}

    def decode(i: int) -> None:
        try:
            pixels[i, 0] = index.dataset.read(index.films[i], size)
            thumbnails[i] = pixels[i, 0] if size == THUMBNAIL else index.dataset.read(index.films[i], THUMBNAIL)
        except UnreadableFilm as error:
            reasons[i] = str(error)

    with ThreadPoolExecutor(max_workers=os.cpu_count()) as pool:
        for done, _ in enumerate(pool.map(decode, range(count)), start=1):
            progress(done, count)
    kept = [i for i in range(count) if i not in reasons]
    if reasons:
        np.save(folder / "pixels.npy", pixels[kept])
        del pixels
        (folder / "pixels.tmp.npy").unlink()
    else:
        pixels.flush()
        del pixels
        (folder / "pixels.tmp.npy").rename(folder / "pixels.npy")
    np.save(folder / "thumbnails.npy", thumbnails[kept])
    quarantined = {index.films[i].file: reasons[i] for i in sorted(reasons)}
    (folder / "facts.json").write_text(json.dumps({"kept": kept, "quarantined": quarantined}))


def _split_all(
    index: DataIndex, kept: NDArray[np.int64], labels: Labels, loaded: Path, spec: BenchSpec, folder: Path
) -> None:
    pairs = near_copies(np.load(loaded / "thumbnails.npy"))
    groups = film_groups([index.films[i].patient_id for i in kept], pairs)
    split = split_films(labels, groups, index.classes, spec.split, spec.split_seed)
    np.savez(folder / "split.npz", groups=groups, copies=len(pairs), **asdict(split))


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


def train_and_predict(classifier: Classifier, data: LoadedData, added: Images | None, ctx: RunContext) -> Probabilities:
    """Train on real (and added synthetic) films and predict the test films.

    Returns:
        float32 ``[test films, classes]``.

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
    probabilities = classifier.fit(train, data.val, ctx).predict_proba(data.test.pixels, ctx)
    check_probabilities(probabilities, len(data.test), len(train.classes))
    return probabilities


def class_counts(labels: Labels, classes: int) -> dict[int, int]:
    """Films per label."""
    return {label: int(count) for label, count in enumerate(np.bincount(labels, minlength=classes))}


def _reseeded(ctx: RunContext, seed: int) -> RunContext:
    return RunContext(seed, ctx.device, ctx.budget, ctx.workdir)
