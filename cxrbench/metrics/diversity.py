"""Diversity: to how many different films a set amounts.

Mode collapse is the usual way for a small GAN to fail. This number shows it without any reference, in a unit
that needs no explaining: films.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from cxrbench.contracts import Features
from cxrbench.metrics.sets import Estimate, centred_interval

Floats = NDArray[np.float64]


def vendi_score(features: Features) -> float:
    """The Vendi score: the number of films, each unlike all others, that would be as diverse; in [1, min(N, D)].

    Friedman & Dieng, "The Vendi Score" (TMLR 2023), definition 3.1: the exponential of the Shannon entropy of
    the eigenvalues of ``K / N``, where ``K`` holds the cosines between the films. Copies add nothing, so the
    score of a set and of the set twice over are equal. It grows with N: compare sets of equal N, and with the
    score of real films.

    The features are taken as they are, as in the paper. Features that cannot be negative point much the same
    way, which presses the scores together but keeps their order: lite0 gives 192 real films (64 px) 8.3,
    averages of two films 7.3, eight films over and over 3.3, one film with pixel noise 1.8, and 96
    films of uniform noise 1.2. Do not centre a set on its own mean: what is left of a collapsed set points
    everywhere, and it would score 48. A high score is not a good one by itself: nothing here asks whether
    the films look real.

    Args:
        features: float ``[N, D]``; computed in float64.

    Raises:
        ValueError: not a matrix, fewer than 2 rows, a value that is not finite, or a row of zeros (which has
            no direction).
    """
    return _score(_directions(features) / np.sqrt(len(features)))


def vendi_interval(features: Features, resamples: int = 200, seed: int = 0) -> Estimate:
    """The Vendi score with a 95 % bootstrap interval over the films, cut to [1, min(N, D)].

    A bootstrap sample is the set with weights ``w`` that count how often a film was drawn: its score comes
    from the eigenvalues of ``diag(sqrt w) K diag(sqrt w) / N``. Its repeated films make it less diverse than
    the set; ``centred_interval`` takes that shift out. Cost: ``resamples`` times the eigenvalues of a matrix
    as wide as the smaller of 0.63 N and D.

    Args:
        features: as ``vendi_score``.
        resamples: at least 1.
        seed: of the resampling.

    Raises:
        ValueError: as ``vendi_score``, or no resamples.
    """
    if resamples < 1:
        raise ValueError(f"resamples must be at least 1, got {resamples}")
    rows = _directions(features)
    films, width = rows.shape
    value = _score(rows / np.sqrt(films))
    if films < width:
        rows = np.linalg.qr(rows.T).R.T  # N numbers per film instead of D, with the same cosines
    rng = np.random.default_rng(seed)
    scores = np.empty(resamples)
    for i, counts in enumerate(rng.multinomial(films, np.full(films, 1 / films), size=resamples)):
        drawn = counts > 0
        scores[i] = _score(rows[drawn] * np.sqrt(counts[drawn] / films)[:, None])
    estimate = centred_interval(value, scores)
    most = float(min(films, width))
    return Estimate(value, min(max(estimate.low, 1.0), value), max(min(estimate.high, most), value))


def _directions(features: Features) -> Floats:
    rows = np.asarray(features, dtype=np.float64)
    if rows.ndim != 2:
        raise ValueError(f"features must be [N, D], got {rows.shape}")
    if len(rows) < 2:
        raise ValueError(f"at least 2 films are needed, got {len(rows)}")
    if not np.isfinite(rows).all():
        raise ValueError("features hold NaN or infinity")
    norms = np.linalg.norm(rows, axis=1, keepdims=True)
    if not norms.all():
        raise ValueError(f"the features of film {int(norms.argmin())} are all zero: it has no direction")
    return rows / norms


def _score(weighted: Floats) -> float:
    """Of rows whose squared norms are the films' weights and sum to one."""
    films, width = weighted.shape
    matrix = weighted @ weighted.T if films < width else weighted.T @ weighted
    eigenvalues = np.linalg.eigvalsh(matrix)
    eigenvalues = eigenvalues[eigenvalues > 0]  # 0 log 0 is 0
    entropy = -(eigenvalues * np.log(eigenvalues)).sum()
    return float(np.clip(np.exp(entropy), 1.0, min(films, width)))
