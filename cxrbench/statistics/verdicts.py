"""From gains to verdicts: helps, hurts or undetermined, and what could have been found at all."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from cxrbench.statistics.gains import Gain
from cxrbench.statistics.intervals import half_width, matching_df

ALPHA = 0.05  # chance of any wrong "helps" or "hurts" in a family of arms
POWER = 0.8

NO_PARTNER = "no real-only run of the same split and classifier seed to compare with"


@dataclass(frozen=True)
class Verdict:
    """What can be said of an arm.

    Attributes:
        word: ``helps`` or ``hurts`` where the gain differs from 0 after Holm's correction.
        p_holm: adjusted over the family; NaN where the gain has no p-value.
        mde: minimum detectable effect, a gain in AUROC; NaN where the gain has no p-value.
        reason: the word's grounds, in a sentence without a full stop.
    """

    word: Literal["helps", "hurts", "undetermined"]
    p_holm: float
    mde: float
    reason: str


def holm(p_values: Sequence[float]) -> NDArray[np.float64]:
    """Holm's adjusted p-values (1979), float64 ``[M]``; NaN stay NaN and do not count as tests.

    Raises:
        ValueError: a value outside [0, 1].
    """
    p = np.asarray(p_values, dtype=np.float64)
    known = np.flatnonzero(~np.isnan(p))
    if ((p[known] < 0) | (p[known] > 1)).any():
        raise ValueError(f"p-values must lie in [0, 1], got {p[known].min()} to {p[known].max()}")
    adjusted = np.full(p.shape, np.nan)
    order = known[np.argsort(p[known], kind="stable")]
    # statsmodels' multipletests does the same, but collects garbage at every call: 0.15 s once torch is loaded.
    adjusted[order] = np.minimum(np.maximum.accumulate(p[order] * np.arange(len(order), 0, -1)), 1.0)
    return adjusted


def minimum_detectable_effect(gain: Gain, family: int, alpha: float = ALPHA, power: float = POWER) -> float:
    """The true gain that would have been called with probability ``power``, other arms gaining nothing.

    The threshold is Holm's first step, ``alpha / family``. The power is that of the noncentral t distribution with
    the degrees of freedom whose quantile is the one used. The standard error is an estimate that falls short of the
    truth on average (by 20 % with one degree of freedom, 11 % with two), which is put right, so that the effect is
    neither too small nor too large on average.

    Args:
        family: arms with a p-value that are judged together; at least 1.

    Returns:
        In AUROC, so that a value above 0.5 says that no real gain could have been found. NaN where the gain has no
        interval; 0 where nothing varies.

    Raises:
        ValueError: an empty family.
    """
    from scipy.special import gammaln, nctdtrinc

    if family < 1:
        raise ValueError(f"a family has at least one arm, got {family}")
    if gain.reason:
        return float("nan")
    error = gain.standard_error
    if error == 0:
        return 0.0
    threshold = max(half_width(gain.parts, alpha / family), half_width([gain.film], alpha / family)) / error
    df = matching_df(threshold, alpha / family)
    noncentrality = float(nctdtrinc(df, 1 - power, threshold))
    shortfall = math.sqrt(2 / df) * math.exp(gammaln((df + 1) / 2) - gammaln(df / 2))
    return noncentrality * error / shortfall


def judge(gains: Sequence[Gain | None]) -> list[Verdict]:
    """Verdicts over a family of arms, in their order: the chance of any wrong one is at most 5 %.

    Args:
        gains: of ``estimate_gain``; None stays undetermined, and so does a gain without an interval.
    """
    adjusted = holm([gain.p if gain else float("nan") for gain in gains])
    family = int((~np.isnan(adjusted)).sum())
    return [_judge(gain, float(p), family) for gain, p in zip(gains, adjusted, strict=True)]


def _judge(gain: Gain | None, p: float, family: int) -> Verdict:
    if gain is None or gain.reason:
        return Verdict("undetermined", float("nan"), float("nan"), gain.reason if gain else NO_PARTNER)
    mde = minimum_detectable_effect(gain, family)
    arms = f" over {family} arms" if family > 1 else ""
    if p <= ALPHA:
        return Verdict("helps" if gain.gain > 0 else "hurts", p, mde, f"a gain of 0 is excluded (p = {p:.2g}{arms})")
    return Verdict("undetermined", p, mde, f"a gain of 0 is not excluded (p = {p:.2g}{arms}); {_reach(mde, gain)}")


def _reach(mde: float, gain: Gain) -> str:
    if mde > 0.5:
        return f"no real gain could have been found with {gain.units} units ({gain.unit})"
    return f"a gain of {mde:.3f} would have been found in {POWER:.0%} of cases"
