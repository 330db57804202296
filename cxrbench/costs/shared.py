"""What the harness itself costs: features, fidelity measures and the memorization test, tried on made-up films."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from cxrbench.contracts import FeatureExtractor, Images, no_progress
from cxrbench.costs.trying import made_up_films, seconds_of
from cxrbench.machine import resident_peak

EXTRACTED = 16  # films
FEWEST = 16  # films that warm the measures up: they import what they need


@dataclass(frozen=True)
class ExtractorCost:
    """Seconds for the features of one film, and the most that the tensors take at once."""

    film_seconds: float
    peak_bytes: float


@dataclass(frozen=True)
class MeasuresCost:
    """Seconds of the measures of ``films`` films against as many others, in the features of every extractor.

    Attributes:
        fidelity: with all intervals.
        floor: of one pair of halves.
        resident_bytes: of a process that has imported what trials need.
    """

    films: int
    fidelity: float
    floor: float
    resident_bytes: int


@dataclass(frozen=True)
class MemorizationCost:
    """Seconds of the memorization test of ``films`` films against as many training films.

    Attributes:
        first: with what a process computes once.
        again: of the next pool.
        near_copies: of looking for near-copies alone.
    """

    films: int
    first: float
    again: float
    near_copies: float


def probe_extractor(extractor: FeatureExtractor, size: int, device: str) -> ExtractorCost:
    """Raises whatever the extractor raises."""
    from cxrbench.costs.work import counting

    pixels = made_up_films(EXTRACTED, size, ("any",)).pixels

    def extract() -> None:
        extractor.extract(pixels, device, no_progress)

    with counting() as work:  # and load the net, and warm it up
        extract()
    return ExtractorCost(seconds_of(extract, device) / EXTRACTED, work.peak_bytes)


def probe_measures(dims: Sequence[int], films: int, resamples: int) -> MeasuresCost:
    """Time the measures on made-up features.

    Args:
        dims: of the features of each extractor.
        films: on each side, at least 2.
        resamples: of each bootstrap.
    """
    from cxrbench.metrics.fidelity import measure_fidelity, measure_floor
    from cxrbench.metrics.label_agreement import label_agreement

    rng = np.random.default_rng(0)

    def compare(count: int) -> tuple[float, float]:
        sets = [rng.normal(size=(2 * count, dim)).astype(np.float32) for dim in dims]
        labels, groups = np.arange(2 * count) % 2, np.arange(2 * count).astype(str)
        halves = {0: count // 2, 1: count // 2}

        def fidelity() -> None:
            for films in sets:
                measure_fidelity(films[:count], films[count:], resamples, 0)
                label_agreement(films[:count], labels[:count], films[count:], labels[count:])

        def floor() -> None:
            for films in sets:
                measure_floor(films, labels, groups, halves, 1, 0)

        return seconds_of(fidelity), seconds_of(floor)

    compare(FEWEST)
    return MeasuresCost(films, *compare(films), _loaded_bytes())


def probe_memorization(films: int, size: int) -> MemorizationCost:
    """Time the test with ``films`` training films and two thirds as many held-out ones."""
    from cxrbench.comparison import MemorizationTest

    def some(count: int) -> Images:
        return made_up_films(max(count, FEWEST), size, ("one", "other"))

    def tried(count: int) -> tuple[float, float, float]:
        pool, test = some(count), MemorizationTest(some(count), some(count // 3), some(2 * count // 3))

        def measure() -> None:
            test.measure(pool)
            test.suspicious_pairs(pool)

        return seconds_of(measure), seconds_of(measure), seconds_of(lambda: test.near_copies(pool.pixels))

    tried(FEWEST)
    return MemorizationCost(films, *tried(films))


def _loaded_bytes() -> int:
    """Highest resident memory of this process so far: nothing has been trained, but what trials import is there, which
    for the first optimizer is half of torch."""
    import torch

    torch.optim.Adam([torch.zeros(1)])
    return resident_peak()
