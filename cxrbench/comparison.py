"""Compare synthetic films with real ones: fidelity in the features of every extractor, and memorization."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from cxrbench.contracts import Features, Images, Pixels, Scores
from cxrbench.metrics.distances import LEAST_INFINITY
from cxrbench.metrics.fidelity import abstentions, measure_fidelity, measure_floor
from cxrbench.metrics.label_agreement import NEIGHBOURS, label_agreement
from cxrbench.metrics.memorization import QUANTILE, copy_threshold, held_out_copies, measure_memorization
from cxrbench.metrics.nearest import Nearest, appearance, most_suspicious, nearest
from cxrbench.metrics.parts import measure_parts, part_distances, quarter_details
from cxrbench.spec import BenchSpec
from cxrbench.stages import LoadedData, class_counts

ALL = "all"  # in score keys: the classes together
SHOWN = 8  # films of each class kept for the sample grids, and pairs for the picture of suspicious films
# Of the distance of a near-copy: with 75 held-out films, 7 % of new films have been seen to be near-copies of one, but
# not 1 % to lie as near as this; and a copy of a held-out film disqualifies.
LEAK_REACH = 0.75

Extract = Callable[[Images], dict[str, Features]]  # features of films by extractor


@dataclass(frozen=True)
class RealSets:
    """Real films for fidelity: equally many of each class in ``reference`` and ``held_out``.

    Attributes:
        reference: training films; first those of the smallest share that any generator is given, so that the
            oracle's are others as long as there are enough.
        held_out: validation and test films.
        bank: these and further training films: what the real-vs-real floor is drawn from.
        n: label -> films of that class in ``reference``.
    """

    reference: Images
    held_out: Images
    bank: Images
    n: dict[int, int]


def choose_real_sets(data: LoadedData, spec: BenchSpec) -> RealSets:
    """Draw the films by the split's seed."""
    few = data.train_rows(spec.few_share)
    others = data.split.train[~np.isin(data.split.train, few)]
    held_out = np.concatenate([data.split.val, data.split.test])
    reference: list[NDArray[np.int64]] = []
    compared: list[NDArray[np.int64]] = []
    further: list[NDArray[np.int64]] = []
    n: dict[int, int] = {}
    for label in range(len(data.images.classes)):
        rng = np.random.default_rng([data.split_seed, label])
        first, new, rest = (
            rng.permutation(rows[data.images.labels[rows] == label]) for rows in (few, held_out, others)
        )
        train = np.concatenate([first, rest])
        n[label] = min(spec.fidelity_images, len(train), len(new))
        reference.append(train[: n[label]])
        further.append(train[n[label] : 2 * n[label]])
        compared.append(new[: n[label]])
    every = (reference, compared, reference + compared + further)
    one, other, bank = (data.images.subset(np.concatenate(rows)) for rows in every)
    return RealSets(one, other, bank, n)


def measure_pool_fidelity(films: Images, sets: RealSets, extract: Extract, spec: BenchSpec) -> Scores:
    """``EXTRACTOR/CLASS/METRIC`` of some films against the reference; ``all`` stands for the classes together."""
    scores: Scores = {}
    reference = extract(sets.reference)
    for name, generated in extract(films).items():
        real = reference[name]
        for who, mine, theirs in _per_class_and_overall(films, sets.reference):
            for metric, value in measure_fidelity(generated[mine], real[theirs], spec.resamples, seed=0).items():
                scores[f"{name}/{who}/{metric}"] = value
        if len(real) < NEIGHBOURS:
            continue
        agreement = label_agreement(generated, films.labels, real, sets.reference.labels)
        for label, share in agreement.items():
            scores[f"{name}/{films.classes[label]}/label_agreement"] = share
        scores[f"{name}/{ALL}/label_agreement"] = float(np.mean(list(agreement.values())))
    return scores


def measure_real_floor(sets: RealSets, extract: Extract, spec: BenchSpec) -> Scores:
    """``EXTRACTOR/CLASS/METRIC_floor`` and ``..._floor_sd``: what real films score against real films."""
    scores: Scores = {}
    bank = sets.bank
    assert bank.groups is not None
    for name, features in extract(bank).items():
        wanted = {bank.classes[label]: {label: count} for label, count in sets.n.items()} | {ALL: sets.n}
        for who, films in wanted.items():
            rows = np.isin(bank.labels, list(films))
            floor = measure_floor(features[rows], bank.labels[rows], bank.groups[rows], films, spec.floor_halves, 0)
            scores |= {f"{name}/{who}/{metric}": value for metric, value in floor.items()}
    return scores


def abstention_notes(sets: RealSets, dims: Mapping[str, int]) -> list[str]:
    """Which measures were not taken, and for what lack of films; ``dims``: extractor -> its dimensions."""
    films = sum(sets.n.values())
    wide = [f"{name} ({LEAST_INFINITY * dim})" for name, dim in dims.items() if films < LEAST_INFINITY * dim]
    notes = [f"{films} films are too few for FD-infinity in {', '.join(wide)}"] if wide else []
    for label, count in sets.n.items():
        left_out = abstentions(count)
        if left_out:
            notes.append(
                f"class {sets.reference.classes[label]!r}: {count} films are too few for {', '.join(left_out)}"
            )
    return notes


class MemorizationTest:
    """Nearest training films of anything, against what new real films have; the real films are prepared once.

    Validation films alone decide what counts as a near-copy, since an arm trains without near-copies: test films must
    have no part in that. The other measures compare with validation and test films.
    """

    def __init__(self, train: Images, val: Images, held_out: Images) -> None:
        self.train, self.val, self.held_out = train, val, held_out
        self._authentic: dict[str, float] = {}  # what held-out real films score, by class

    @cached_property
    def _train(self) -> tuple[Features, Features]:
        return appearance(self.train.pixels), appearance(_mirrored(self.train.pixels))

    @cached_property
    def _held_out(self) -> tuple[Features, Features]:
        return appearance(self.held_out.pixels), appearance(_mirrored(self.held_out.pixels))

    @cached_property
    def _train_parts(self) -> tuple[Features, Features]:
        return quarter_details(self.train.pixels), quarter_details(_mirrored(self.train.pixels))

    @cached_property
    def _held_out_parts(self) -> NDArray[np.float64]:
        return part_distances(quarter_details(self.held_out.pixels), *self._train_parts)

    @cached_property
    def threshold(self) -> float:
        """The distance below which a film counts as a near-copy."""
        return copy_threshold(nearest(appearance(self.val.pixels), *self._train).distance)

    def nearest_train(self, pixels: Pixels) -> Nearest:
        return nearest(appearance(pixels), *self._train)

    def near_copies(self, pixels: Pixels) -> NDArray[np.bool_]:
        """Which films are near-copies of training films."""
        return self.nearest_train(pixels).distance < self.threshold

    def measure(self, films: Images) -> Scores:
        """``CLASS/METRIC`` for the films of a pool; ``all`` stands for the classes together."""
        seen, new = appearance(films.pixels), self._held_out[0]
        parts = part_distances(quarter_details(films.pixels), *self._train_parts)
        scores: Scores = {}
        for who, mine, theirs in _per_class_and_overall(films, self.held_out):
            found = measure_memorization(seen[mine], new[theirs], *self._train, seed=0)
            if who not in self._authentic:
                real = measure_memorization(new[theirs], new[theirs], *self._train, seed=0)
                self._authentic[who] = real["authpct"]
            found["authpct_expected"] = self._authentic[who]
            # Below a hundred held-out films the 1st percentile is their smallest distance: see ``copy_threshold``.
            found["copies_limit"] = max(QUANTILE, 2 / (int(theirs.sum()) + 1))
            found |= measure_parts(parts[mine], self._held_out_parts[theirs])
            scores |= {f"{who}/{metric}": value for metric, value in found.items()}
        leaked = self._leaked(seen)
        for who, mine, known in _per_class_and_overall(films, self.train):
            scores[f"{who}/held_out_copies"] = float(leaked[mine].mean())
            scores[f"{who}/held_out_copies_expected"] = float(self._leaked_by_chance[known].mean())
        return scores | {f"{ALL}/threshold": self.threshold}

    def _leaked(self, films: Features) -> NDArray[np.bool_]:
        """Which films are copies of held-out ones."""
        return held_out_copies(films, *self._held_out, LEAK_REACH * self.threshold)

    @cached_property
    def _leaked_by_chance(self) -> NDArray[np.bool_]:
        """The same of the training films, which are none."""
        return self._leaked(self._train[0])

    def suspicious_pairs(self, films: Images) -> NDArray[np.uint8]:
        """uint8 ``[pairs, 2, 1, H, W]``: the synthetic films nearest to a training film, and that film."""
        found = self.nearest_train(films.pixels)
        rows = most_suspicious(found, SHOWN)
        return np.stack([films.pixels[rows], self.train.pixels[found.index[rows]]], axis=1)


def first_of_each(films: Images) -> NDArray[np.uint8]:
    """uint8 ``[classes * SHOWN, 1, H, W]``, class after class; a class with fewer films repeats them."""
    rows = [np.resize(np.flatnonzero(films.labels == label), SHOWN) for label in range(len(films.classes))]
    return films.pixels[np.concatenate(rows)]


def count_films(n: dict[int, int], classes: tuple[str, ...]) -> dict[str, int]:
    """Films compared, by class, for a record."""
    return {f"n/{classes[label]}": count for label, count in n.items()} | {f"n/{ALL}": sum(n.values())}


def pool_counts(films: Images) -> dict[str, int]:
    """As ``count_films``, of a pool."""
    return count_films(class_counts(films.labels, len(films.classes)), films.classes)


def _mirrored(pixels: Pixels) -> Pixels:
    return np.ascontiguousarray(pixels[..., ::-1])


def _per_class_and_overall(films: Images, others: Images) -> Iterator[tuple[str, NDArray[np.bool_], NDArray[np.bool_]]]:
    """(class name or ``all``, rows of ``films``, rows of ``others``); classes too small are passed over."""
    for label, name in enumerate(films.classes):
        mine, theirs = films.labels == label, others.labels == label
        if min(mine.sum(), theirs.sum()) >= 2:
            yield name, mine, theirs
    yield ALL, np.ones(len(films), bool), np.ones(len(others), bool)
