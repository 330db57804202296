"""Can the probabilities be believed? Their squared error, and how far confidence is from accuracy.

A classifier that ranks well may still be far too sure of itself, and training on synthetic films can make it
so: AUROC cannot see that.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cxrbench.contracts import Labels, Probabilities

BINS = 15  # Guo et al. (2017), section 4


@dataclass(frozen=True)
class Reliability:
    """Films sorted into bins of equal width by their top probability.

    Attributes:
        confidence: float64 ``[bins]``, mean top probability of a bin's films; NaN in an empty bin.
        accuracy: float64 ``[bins]``, share of a bin's films whose top class is right; NaN in an empty bin.
        share: float64 ``[bins]``, share of all films that lie in a bin; sums to one.
    """

    confidence: NDArray[np.float64]
    accuracy: NDArray[np.float64]
    share: NDArray[np.float64]

    @property
    def ece(self) -> float:
        """Expected calibration error (Guo et al. 2017, equation 3), from 0 (best) to 1."""
        return float(np.nansum(self.share * np.abs(self.accuracy - self.confidence)))


def brier_score(labels: Labels, probabilities: Probabilities) -> float:
    """Squared error summed over the classes, averaged over the films, from 0 (best) to 2 (sure and wrong).

    Brier (Monthly Weather Review 78, 1950), equation 2. With two classes it is twice the score that is usual
    for a binary outcome.

    Args:
        labels: int64 ``[N]`` in ``[0, C)``.
        probabilities: float32 ``[N, C]``, rows sum to one; a column may be of a class without a film.

    Raises:
        ValueError: no film.
    """
    _check_films(labels)
    errors = probabilities.astype(np.float64)
    errors[np.arange(len(labels)), labels] -= 1.0
    return float((errors**2).sum(axis=1).mean())


def reliability_bins(labels: Labels, probabilities: Probabilities, bins: int = BINS) -> Reliability:
    """Accuracy against confidence, the top probability (Guo et al., ICML 2017, section 2).

    Bin m of M holds the films whose top probability lies in ``((m - 1) / M, m / M]``. Where classes tie for the
    top, the first is taken, as it is for the accuracy.

    Args:
        labels: int64 ``[N]`` in ``[0, C)``.
        probabilities: float32 ``[N, C]``, rows sum to one.
        bins: how many.

    Raises:
        ValueError: no film.
    """
    _check_films(labels)
    confidence = probabilities.max(axis=1)
    right = probabilities.argmax(axis=1) == labels
    # The edges are float32 like the probabilities, so that 0.6 lies on the edge 9/15 and not above it.
    edges = np.linspace(0, 1, bins + 1, dtype=np.float32)
    rows = np.clip(np.searchsorted(edges, confidence, side="left") - 1, 0, bins - 1)
    films = np.bincount(rows, minlength=bins)
    with np.errstate(invalid="ignore"):  # 0 / 0 is what an empty bin is
        return Reliability(
            np.bincount(rows, confidence.astype(np.float64), bins) / films,
            np.bincount(rows, right, bins) / films,
            films / len(labels),
        )


def expected_calibration_error(labels: Labels, probabilities: Probabilities, bins: int = BINS) -> float:
    """Mean distance of accuracy from confidence over the bins of ``reliability_bins``, weighted by their films.

    It is biased upwards where bins hold few films (Kumar et al., NeurIPS 2019), so values from test sets of
    different size must not be compared.

    Raises:
        ValueError: no film.
    """
    return reliability_bins(labels, probabilities, bins).ece


def _check_films(labels: Labels) -> None:
    if len(labels) == 0:
        raise ValueError("no film: its calibration is undefined")
