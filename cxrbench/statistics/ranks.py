"""Do two measures put the generators in the same order?"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cxrbench.metrics.sets import COVERAGE

LEAST_UNITS = 4  # with three, a sixth of all orders agree perfectly by chance
LEAST_USABLE = 0.5  # share of resamples in which both measures vary

ROUNDING = 1e-6  # ranks are whole or half numbers, so that what varies at all varies more


@dataclass(frozen=True)
class RankCorrelation:
    """Spearman's rank correlation with its 95 % interval.

    Attributes:
        rho: in [-1, 1]; -1 where a distance orders generators just as a score does.
        low, high: percentile bootstrap over the independent units.
        n: independent units: groups where they were given, else points.
    """

    rho: float
    low: float
    high: float
    n: int


def rank_correlation(
    x: Sequence[float],
    y: Sequence[float],
    groups: Sequence[str] | None = None,
    resamples: int = 2000,
    seed: int = 0,
) -> RankCorrelation | None:
    """Spearman's correlation of two measures of the same things; average ranks for ties.

    Whole groups are drawn with replacement, since seeds of one generator are not independent evidence. With few
    groups such an interval is too short: take it for the least uncertainty there is.

    Args:
        x, y: finite, of equal length.
        groups: of every point, e.g. its generator; None where points are independent.

    Returns:
        None with fewer than 4 independent units, or where a measure is constant, be it only in half of the resamples.

    Raises:
        ValueError: different lengths, or a value that is not finite.
    """
    from scipy.stats import spearmanr

    a, b = np.asarray(x, dtype=np.float64), np.asarray(y, dtype=np.float64)
    if a.ndim != 1 or a.shape != b.shape or (groups is not None and len(groups) != len(a)):
        raise ValueError(f"x, y and groups must be of equal length, got {a.shape} and {b.shape}")
    if not (np.isfinite(a).all() and np.isfinite(b).all()):
        raise ValueError("a rank correlation needs finite values")
    member = np.unique(groups, return_inverse=True)[1] if groups is not None else np.arange(len(a))
    units = int(member.max(initial=-1)) + 1
    if units < LEAST_UNITS or np.ptp(a) == 0 or np.ptp(b) == 0:
        return None
    rng = np.random.default_rng(seed)
    drawn = rng.multinomial(units, np.full(units, 1 / units), size=resamples)  # times each group is drawn
    resampled = _weighted_spearman(a, b, drawn[:, member].astype(np.float64))
    resampled = resampled[np.isfinite(resampled)]
    if len(resampled) < LEAST_USABLE * resamples:
        return None
    tail = (1 - COVERAGE) / 2
    low, high = np.quantile(resampled, [tail, 1 - tail])
    return RankCorrelation(float(spearmanr(a, b).statistic), float(low), float(high), units)


def rank_agreement(a: Sequence[float], b: Sequence[float]) -> float | None:
    """Kendall's tau-b of two sets of scores of the same arms, in [-1, 1]; None where one of them is constant.

    Raises:
        ValueError: different lengths, or a value that is not finite.
    """
    from scipy.stats import kendalltau

    if len(a) != len(b):
        raise ValueError(f"scores of the same arms are needed, got {len(a)} and {len(b)}")
    if not (np.isfinite(a).all() and np.isfinite(b).all()):
        raise ValueError("a rank agreement needs finite values")
    tau = float(kendalltau(a, b).statistic) if len(a) > 1 else float("nan")
    return None if math.isnan(tau) else tau


def _weighted_spearman(
    a: NDArray[np.float64], b: NDArray[np.float64], weights: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Spearman's correlation with each point as often as its weight says: float64 ``[B]``; NaN for a constant."""

    def centred(values: NDArray[np.float64]) -> NDArray[np.float64]:
        below = (values[:, None] < values).astype(np.float64) + 0.5 * (values[:, None] == values)
        ranks = weights @ below  # average ranks, but for a constant
        return ranks - (weights * ranks).sum(axis=1, keepdims=True) / weights.sum(axis=1, keepdims=True)

    p, q = centred(a), centred(b)
    spread = (weights * p**2).sum(axis=1) * (weights * q**2).sum(axis=1)
    varies = spread > ROUNDING
    together = (weights * p * q).sum(axis=1)
    return np.where(varies, together / np.sqrt(np.where(varies, spread, 1.0)), np.nan)
