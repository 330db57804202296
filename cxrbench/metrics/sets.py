"""What every measure of two sets of features shares: the checks, and how an estimate is given."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cxrbench.contracts import Features

COVERAGE = 0.95  # of every interval


@dataclass(frozen=True)
class Estimate:
    """A value with its 95 % interval."""

    value: float
    low: float
    high: float


def check_sets(
    generated: Features, reference: Features, least: int = 2
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Both sets as float64.

    Args:
        generated, reference: float ``[N, D]`` and ``[M, D]``.
        least: rows that each side must have.

    Raises:
        ValueError: different D, fewer than ``least`` rows, or a value that is not finite.
    """
    x, y = np.asarray(generated, dtype=np.float64), np.asarray(reference, dtype=np.float64)
    if x.ndim != 2 or y.ndim != 2 or x.shape[1] != y.shape[1]:
        raise ValueError(f"features must be [N, D] and [M, D], got {x.shape} and {y.shape}")
    if min(len(x), len(y)) < least:
        raise ValueError(f"at least {least} films per side are needed, got {len(x)} and {len(y)}")
    if not (np.isfinite(x).all() and np.isfinite(y).all()):
        raise ValueError("features hold NaN or infinity")
    return x, y


def centred_interval(value: float, resampled: NDArray[np.float64]) -> Estimate:
    """The spread of resampled values about their mean, laid about ``value``.

    A bootstrap sample holds films twice, which shifts statistics that depend on n (the Frechet distance goes
    up, diversity goes down). That shift is an artefact of resampling and is taken out; the spread is kept.
    """
    tail = (1 - COVERAGE) / 2
    low, high = np.quantile(resampled - resampled.mean(), [tail, 1 - tail])
    return Estimate(float(value), float(value + low), float(value + high))
