"""The expensive steps of a run, one function each; every result lies in the cache under its content's key.

Data flows one way: index -> load -> split here, then fit -> synthesise (synthesis.py) and train -> predict
(learning.py); features of any films are film_features.py's.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

import numpy as np

from cxrbench.cache import Cache
from cxrbench.contracts import (
    Dataset,
    Film,
    Images,
    Labels,
    no_progress,
)
from cxrbench.datasets.decode import TIFF_SUFFIXES
from cxrbench.datasets.dicom import DICOM_SUFFIXES
from cxrbench.duplicates import near_copies
from cxrbench.errors import DataError, UsageError
from cxrbench.hashing import canonical_hash
from cxrbench.leakage import Rows
from cxrbench.loading import Decoded, decode_films
from cxrbench.records import REMOVED
from cxrbench.renames import Renames, check_labels, rename_classes
from cxrbench.spec import BenchSpec
from cxrbench.splits import Split, nested_share, resolve_policy, split_films

Progress = Callable[[int, int], None]

LOAD_VERSION = 2  # raised when decoding changes the pixels
SPLIT_VERSION = 3  # raised when grouping or dealing changes, or what counts as a near-copy


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
        split_seed: of the shuffle that made the split.
        copies: pairs of near-copies found (rows of ``images``).
        key: identity of the decoded pixels and the split together.
        decoded: what is known of the films, row by row of ``images``.
    """

    images: Images
    split: Split
    split_seed: int
    quarantined: dict[str, str]
    copies: int
    key: str
    decoded: Decoded

    def train_rows(self, share: float = 1.0) -> Rows:
        """A share of the training films of each class; a smaller share is part of a larger one."""
        assert self.images.groups is not None
        return nested_share(self.split.train, self.images.labels, self.images.groups, share, self.split_seed)

    def train_and_reserve(self, share: float = 1.0) -> tuple[Images, Images]:
        """A share of the training films, and the others: no patient is in both."""
        rows = self.train_rows(share)
        others = self.split.train[~np.isin(self.split.train, rows)]
        return self.images.subset(rows), self.images.subset(others)

    @property
    def train(self) -> Images:
        return self.images.subset(self.split.train)

    @property
    def held_out(self) -> Images:
        """Validation and test films: no generator has seen them."""
        return self.images.subset(np.concatenate([self.split.val, self.split.test]))

    @property
    def val(self) -> Images:
        return self.images.subset(self.split.val)

    @property
    def test(self) -> Images:
        return self.images.subset(self.split.test)


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
    if "all" in dataset.classes():  # stands for the classes together in every score
        raise UsageError(f"{name}: no class may be called 'all'; rename it with --labels all=OTHER")
    return DataIndex(name, dataset, tuple(dataset.classes()), listing.films, listing.quarantined, listing.left_out)


def load_key(index: DataIndex, size: int) -> str:
    """Identity of the decoded films."""
    return canonical_hash([index.hash, size, LOAD_VERSION])


def split_key(index: DataIndex, spec: BenchSpec, seed: int) -> str:
    """Identity of a split, known before any film is decoded (which can be read follows from their content)."""
    by = resolve_policy(spec.split_by, index.films)
    return canonical_hash([index.hash, by, list(spec.split), seed, LOAD_VERSION, SPLIT_VERSION])


def load_and_split(
    index: DataIndex, spec: BenchSpec, split_seed: int, cache: Cache, progress: Progress = no_progress
) -> LoadedData:
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

    key = split_key(index, spec, split_seed)
    # The policy is settled by all films listed, so that one unreadable file cannot change it.
    by = resolve_policy(spec.split_by, index.films)
    kept = canonical_hash([key, [film.file for film in decoded.films]])  # rows count the films that could be read
    folder = cache.get("split", kept, lambda path: _split_all(decoded, index.classes, by, spec, split_seed, path))
    facts = json.loads((folder / "facts.json").read_text())
    with np.load(folder / "split.npz") as stored:
        split = Split(
            stored["train"], stored["val"], stored["test"], by, dict(facts["left_out"]), tuple(facts["notes"])
        )
        groups = stored["groups"]
    images = Images(decoded.pixels, labels, index.classes, groups.astype(str))
    quarantined = {**index.quarantined, **decoded.quarantined}
    return LoadedData(
        images, split, split_seed, quarantined, facts["copies"], canonical_hash([decoded.key, key]), decoded
    )


def _split_all(decoded: Decoded, classes: tuple[str, ...], by: str, spec: BenchSpec, seed: int, folder: Path) -> None:
    pairs = near_copies(decoded.thumbnails)
    split, groups = split_films(by, decoded.films, pairs, classes, spec.split, seed)
    np.savez(folder / "split.npz", groups=groups, train=split.train, val=split.val, test=split.test)
    facts = {"copies": len(pairs), "left_out": split.left_out, "notes": split.notes}
    (folder / "facts.json").write_text(json.dumps(facts))


def describe_data(index: DataIndex, data: LoadedData) -> tuple[dict[str, int], list[str]]:
    """What was read and how it was split, for a record: counts, and notes in words."""
    split, classes = data.split, data.images.classes
    left_out = {**index.left_out, **split.left_out}
    rows = np.concatenate(list(split.parts().values()))
    counts = {
        "films": len(rows),
        "near_copy_pairs": data.copies,
        "quarantined": len(data.quarantined),
        "left_out": sum(left_out.values()),
        "removed": len(index.removed),
        "groups": len(np.unique(data.images.groups[rows])) if data.images.groups is not None else 0,
    }
    for part, chosen in split.parts().items():
        for label, count in class_counts(data.images.labels[chosen], len(classes)).items():
            counts[f"{part}/{classes[label]}"] = count
    notes = [f"split: {split.by}", *(f"split: {note}" for note in split.notes)]
    notes += [f"left out: {count}: {reason}" for reason, count in left_out.items()]
    notes += [f"{REMOVED}{file}: {finding}" for file, finding in index.removed.items()]
    notes += [f"quarantined: {file}: {reason}" for file, reason in data.quarantined.items()]
    return counts, notes


def class_counts(labels: Labels, classes: int) -> dict[int, int]:
    """Films per label."""
    return {label: int(count) for label, count in enumerate(np.bincount(labels, minlength=classes))}
