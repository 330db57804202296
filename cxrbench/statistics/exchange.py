"""What synthetic films are worth in real ones: the gain they bring, read off the real-data learning curve."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from cxrbench.metrics.sets import COVERAGE

FARTHEST = 4.0  # times the real films: beyond that the curve is guesswork
PER = 1000  # synthetic films that a rate is stated for


class GainLike(Protocol):
    """A gain in macro AUROC with its symmetrical 95 % interval; NaN bounds where it has none."""

    @property
    def gain(self) -> float: ...
    @property
    def low(self) -> float: ...
    @property
    def high(self) -> float: ...


@dataclass(frozen=True)
class Curve:
    """Score as a linear function of the logarithm of the number of real films.

    Attributes:
        slope: AUROC per unit of the natural logarithm, with its 95 % interval; the bounds are NaN without at least
            three points.
        intercept: AUROC at one film; of use within the measured sizes only.
        smallest, largest: sizes measured, in films; ``largest`` is what the arms' real films are.
        points: runs the curve rests on.
    """

    slope: float
    low: float
    high: float
    intercept: float
    smallest: int
    largest: int
    points: int


@dataclass(frozen=True)
class Exchange:
    """What 1,000 synthetic films were worth, in real films.

    Attributes:
        per_thousand: real films, negative where the synthetic ones do harm; None where ``reason`` says why the
            question has no answer.
        low, high: its 95 % interval; minus or plus infinity for a bound beyond the range of the curve.
        reason: empty where there is an answer.
    """

    per_thousand: float | None
    low: float
    high: float
    reason: str = ""


def learning_curve(points: Sequence[tuple[int, float]]) -> Curve | None:
    """Fit ``score = intercept + slope log(films)`` by least squares; every run is a point.

    The interval of the slope is Student's, with two degrees of freedom less than there are points. Runs of one seed
    at several sizes share their test films and, in part, their training films, which makes sizes differ less by
    chance than the interval allows for.

    Args:
        points: real training films and the test score, of every real-only run of every size.

    Returns:
        None with fewer than two sizes.

    Raises:
        ValueError: fewer than one film, or a score that is not finite.
    """
    from scipy.special import stdtrit

    if not points:
        return None
    films, scores = np.asarray(points, dtype=np.float64).T
    if films.min() < 1 or not (np.isfinite(films).all() and np.isfinite(scores).all()):
        raise ValueError("a learning curve needs at least one film at every point, and finite scores")
    if films.min() == films.max():
        return None
    x = np.log(films) - np.log(films).mean()
    spread = float(x @ x)
    slope = float(x @ scores) / spread
    intercept = float(scores.mean()) - slope * float(np.log(films).mean())
    wide, df = float("nan"), len(points) - 2
    if df > 0:
        residuals = scores - scores.mean() - slope * x
        wide = -float(stdtrit(df, (1 - COVERAGE) / 2)) * math.sqrt(float(residuals @ residuals) / df / spread)
    return Curve(slope, slope - wide, slope + wide, intercept, int(films.min()), int(films.max()), len(points))


def exchange_rate(gain: GainLike, added: int, curve: Curve | None) -> Exchange:
    """How many real films would have brought the gain: ``N (exp(gain / slope) - 1)`` of them, per 1,000 synthetic.

    The interval of ``gain / slope`` is Fieller's (1954): all ratios r for which ``gain - r slope`` cannot be told
    from 0. The gain's and the slope's squared half widths are added, each with its own quantile, so that it covers in
    at least 95 % (see ``intervals``), if the two are independent. They share real-only runs of the largest size:
    a lucky one lowers the gain and raises the slope, and the interval is somewhat too narrow for that.

    Args:
        gain: over real films alone, of an arm with ``curve.largest`` real films.
        added: synthetic films of the arm.
        curve: of real-only runs; None where there are not two sizes.

    Returns:
        An answer, or the reason why there is none: no interval of the gain, a slope that may be 0, or a gain that
        lies off the curve (more than 4 N real films in all, or fewer than the smallest size measured).

    Raises:
        ValueError: no synthetic films.
    """
    if added < 1:
        raise ValueError(f"an exchange needs synthetic films, got {added}")
    if curve is None:
        return _abstain("real films alone were not measured at two sizes")
    if not math.isfinite(gain.low) or not math.isfinite(gain.high):
        return _abstain("the gain has no interval")
    if not curve.low > 0:
        return _abstain("more real films are not known to help, so that films have no price")
    nearest, farthest = math.log(curve.smallest / curve.largest), math.log(FARTHEST)
    ratio = gain.gain / curve.slope
    if ratio > farthest:
        return _abstain(f"as much as more than {FARTHEST:g} times the real films, which is beyond the learning curve")
    if ratio < nearest:
        return _abstain("worse than with the fewest real films measured, which is beyond the learning curve")
    low, high = _fieller(gain, curve)

    def worth(log_ratio: float) -> float:
        return PER * curve.largest * math.expm1(log_ratio) / added

    return Exchange(
        worth(ratio),
        worth(low) if low >= nearest else -math.inf,
        worth(high) if high <= farthest else math.inf,
    )


def sentence(exchange: Exchange) -> str:
    """``1,000 synthetic = 37 real (95 % interval -20 to 95)``, or why there is no such number."""
    if exchange.per_thousand is None:
        return f"no exchange rate: {exchange.reason}"
    low = f"{_whole(exchange.low)} to " if math.isfinite(exchange.low) else "below the curve to "
    high = _whole(exchange.high) if math.isfinite(exchange.high) else "beyond the curve"
    return f"{PER:,} synthetic = {_whole(exchange.per_thousand)} real (95 % interval {low}{high})"


def _fieller(gain: GainLike, curve: Curve) -> tuple[float, float]:
    """Roots of ``(g - r b)^2 = G^2 + r^2 B^2``, with the half widths G and B; b > B, so that both are real."""
    g, b = gain.gain, curve.slope
    wide_g, wide_b = (gain.high - gain.low) / 2, (curve.high - curve.low) / 2
    squared = b**2 - wide_b**2
    root = math.sqrt((g * b) ** 2 - squared * (g**2 - wide_g**2))
    return (g * b - root) / squared, (g * b + root) / squared


def _whole(films: float) -> str:
    return f"{round(films):,}"


def _abstain(reason: str) -> Exchange:
    return Exchange(None, float("nan"), float("nan"), reason)
