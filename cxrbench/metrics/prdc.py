"""Precision, recall, density and coverage: whether generated films lie among the real ones, and the real ones
among the generated.

A distance is one number and cannot tell films that look wrong from films that all look alike; these four can.
Each is a mean over the films of one side, which is also what their intervals rest on.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cxrbench.contracts import Features
from cxrbench.metrics.sets import Estimate, centred_interval, check_sets

LEAST_PRDC = 16  # films per side; with fewer, a ball of 5 neighbours holds a third of the set
CHUNK = 512  # rows of the distance matrix held at once: 20 MB against 5,000 films
SLACK = 1e-12  # of the squared norms: what rounding can add to a squared distance taken from products

Floats = NDArray[np.float64]


def precision_recall(generated: Features, reference: Features, neighbours: int = 5) -> tuple[float, float]:
    """Improved precision and recall, each in [0, 1]; higher is better.

    Kynkaanniemi et al. (NeurIPS 2019), equations 1 and 2. A film's ball reaches to its ``neighbours``-th
    nearest neighbour of its own side, itself not counted. Precision is the share of generated films in at
    least one reference film's ball, recall the share of reference films in at least one generated film's
    ball. A film on the edge of a ball is inside (``<=``), as in the paper and in torch-fidelity.

    Films that are equal are at distance zero exactly, and distances equal up to rounding are ties. So a set
    against itself scores (1, 1), and so do two sets that are one film over and over; two different films,
    each over and over, score (0, 0).

    Args:
        generated, reference: float ``[N, D]`` and ``[M, D]``; computed in float64.
        neighbours: from 1 to one less than the films of the smaller side.

    Raises:
        ValueError: different D, fewer than ``LEAST_PRDC`` rows on a side, a value that is not finite, or
            ``neighbours`` out of its range.
    """
    found = _find(generated, reference, neighbours)
    return float(found.inside_reference.mean()), float(found.inside_generated.mean())


def density_coverage(generated: Features, reference: Features, neighbours: int = 5) -> tuple[float, float]:
    """Density (from 0, may exceed 1) and coverage (in [0, 1]); higher is better.

    Naeem et al. (ICML 2020), section 3. Density is the mean number of reference films' balls that a generated
    film is in, over ``neighbours``; coverage the share of reference films with a generated film in their ball.
    A film on the edge of a ball is outside (``<``), as in the authors' own code.

    So a set against itself scores (1, 1) unless it holds duplicates. A film with ``neighbours`` or more equals
    in the reference has a ball of radius zero, which nothing is in: two sets that are one film over and over
    score (0, 0) here, though their precision and recall are 1.

    Args and Raises: as ``precision_recall``.
    """
    found = _find(generated, reference, neighbours)
    return float(found.balls.mean()), float(found.covered.mean())


def prdc_estimates(
    generated: Features, reference: Features, resamples: int = 200, seed: int = 0, neighbours: int = 5
) -> dict[str, Estimate]:
    """``precision``, ``recall``, ``density`` and ``coverage``, each with a 95 % bootstrap interval.

    The films that a value is a mean over are resampled: the generated ones for precision and density, the
    reference ones for recall and coverage. The radii and the films on the other side stay as they are, because
    a film drawn twice would be its own neighbour and shrink the radii to nothing.

    The interval therefore leaves out that another draw of the other side would change the value too (other
    reference films make other balls for precision and density, other generated films make other balls for
    recall and fill others for coverage), and that for coverage a film's radius depends on its fellows. It is
    too narrow by that much: over fresh Gaussians on both sides (64 and 192 films, 4 to 64 dimensions) the true
    spread was 1.1 to 2 times the interval's, and more where the value was within 0.05 of 0 or 1. It says
    nothing of another training run either. A value of exactly 0 or 1 gets an interval of no width: over n
    films, and with the balls as they are, it means "less than 3 / n away, 95 % sure". Intervals are cut to the
    range of the value.

    Args:
        generated, reference, neighbours: as ``precision_recall``.
        resamples: at least 1.
        seed: of the resampling.

    Raises:
        ValueError: as ``precision_recall``, or no resamples.
    """
    if resamples < 1:
        raise ValueError(f"resamples must be at least 1, got {resamples}")
    found = _find(generated, reference, neighbours)
    rng = np.random.default_rng(seed)
    precision, density = _mean_estimates(np.stack([found.inside_reference, found.balls], axis=1), resamples, rng)
    recall, coverage = _mean_estimates(np.stack([found.inside_generated, found.covered], axis=1), resamples, rng)
    return {
        "precision": _cut(precision, 1.0),
        "recall": _cut(recall, 1.0),
        "density": _cut(density, np.inf),
        "coverage": _cut(coverage, 1.0),
    }


@dataclass(frozen=True)
class _Found:
    """For every film, whether (0 or 1) or in how many balls it was found; float64."""

    inside_reference: Floats  # [N] is the generated film in a reference film's ball?
    balls: Floats  # [N] reference films' balls that the generated film is in, over ``neighbours``
    inside_generated: Floats  # [M] is the reference film in a generated film's ball?
    covered: Floats  # [M] is a generated film in the reference film's ball?


def _find(generated: Features, reference: Features, neighbours: int) -> _Found:
    x, y = check_sets(generated, reference, LEAST_PRDC)
    if not 1 <= neighbours < min(len(x), len(y)):
        raise ValueError(f"neighbours must lie in [1, {min(len(x), len(y)) - 1}], got {neighbours}")
    middle = (x.mean(axis=0) + y.mean(axis=0)) / 2  # far from the origin, products lose the distances' digits
    x, y = x - middle, y - middle
    _, edge_x = _radii(x, neighbours)
    inner_y, edge_y = _radii(y, neighbours)
    inside_reference, balls = np.zeros(len(x), dtype=bool), np.zeros(len(x))
    inside_generated, covered = np.zeros(len(y), dtype=bool), np.zeros(len(y), dtype=bool)
    for start in range(0, len(x), CHUNK):
        rows = slice(start, start + CHUNK)
        squares = _squared_distances(x[rows], y)
        inside_reference[rows] = (squares <= edge_y).any(axis=1)
        inside_generated |= (squares <= edge_x[rows, None]).any(axis=0)
        within = squares < inner_y
        balls[rows] = within.sum(axis=1) / neighbours
        covered |= within.any(axis=0)
    return _Found(inside_reference.astype(float), balls, inside_generated.astype(float), covered.astype(float))


def _radii(rows: Floats, neighbours: int) -> tuple[Floats, Floats]:
    """Squared radii, less and plus what rounding may have added, so that ties fall on the right side."""
    squares = np.empty(len(rows))
    for start in range(0, len(rows), CHUNK):
        part = _squared_distances(rows[start : start + CHUNK], rows)
        part.partition(neighbours, axis=1)  # at 0 stands the film itself
        squares[start : start + CHUNK] = part[:, neighbours]
    slack = SLACK * ((rows**2).sum(axis=1) + np.abs(squares))
    return squares - slack, squares + slack


def _squared_distances(x: Floats, y: Floats) -> Floats:
    products = x @ y.T
    products *= -2.0
    products += (x**2).sum(axis=1)[:, None]
    products += (y**2).sum(axis=1)
    return products


def _mean_estimates(columns: Floats, resamples: int, rng: np.random.Generator) -> list[Estimate]:
    """One estimate per column of ``[N, K]``: the mean over the rows, which are resampled together."""
    films = len(columns)
    counts = rng.multinomial(films, np.full(films, 1 / films), size=resamples)
    resampled = counts @ columns / films
    return [centred_interval(columns[:, k].mean(), resampled[:, k]) for k in range(columns.shape[1])]


def _cut(estimate: Estimate, most: float) -> Estimate:
    value = estimate.value
    return Estimate(value, min(max(estimate.low, 0.0), value), max(min(estimate.high, most), value))
