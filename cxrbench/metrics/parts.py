"""Is a film put together from parts of training films? Quarters are compared by their detail alone.

A film whose detail is that of a patient's film under new grey levels, or that of four patients, is near to no training
film as a whole, so ``nearest`` sees nothing. Here every quarter is laid beside the same quarter of every training film,
after all that is broad was taken away.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from cxrbench.contracts import Features, Pixels
from cxrbench.metrics.memorization import FEWEST_CALLED, copy_threshold
from cxrbench.metrics.nearest import area_averaged, nearest, unit_vectors

SIDE = 64  # pixels of the pictures that are cut in quarters, at most
BROAD = 8  # of a side are this many windows; a window's mean is not detail
FAINT = 0.5  # grey levels, root mean square; detail below is the rounding to whole grey levels
APART = 2.0  # the largest distance there is; of quarters without detail, which are nobody's


def quarter_details(pixels: Pixels) -> Features:
    """The detail of each quarter, as vectors of length 1.

    Each film is averaged over the areas of 64 x 64 pixels, the mean over a window of an eighth of the side is taken
    away, and what is left of each quarter is scaled to length 1. Two such vectors lie ``sqrt(2 - 2 r)`` apart, where r
    is the correlation of the two details.

    Args:
        pixels: uint8 ``[N, 1, H, W]``, H and W at least 2.

    Returns:
        float32 ``[N, 4, D]``: upper left, upper right, lower left, lower right. A quarter without detail is zeros.

    Raises:
        ValueError: another shape or type, or films without quarters.
    """
    small = area_averaged(pixels, SIDE).astype(np.float64)
    high, wide = (side // 2 for side in small.shape[1:])
    if not high or not wide:
        raise ValueError(f"films of {pixels.shape[2]} x {pixels.shape[3]} pixels have no quarters")
    detail = small - _smoothing(small.shape[1]) @ small @ _smoothing(small.shape[2]).T
    quarters = [detail[:, y : y + high, x : x + wide] for y in (0, high) for x in (0, wide)]
    return unit_vectors(np.stack([quarter.reshape(len(detail), high * wide) for quarter in quarters], axis=1), FAINT)


def part_distances(films: Features, train: Features, mirrored: Features) -> NDArray[np.float64]:
    """float64 ``[N]``: how near each film's nearest quarter lies to that quarter of a training film.

    Args:
        films: float ``[N, 4, D]`` of ``quarter_details``.
        train, mirrored: float ``[M, 4, D]``, M > 0; row i of ``mirrored`` is the mirror image of training film i.

    Raises:
        ValueError: shapes that do not fit, no training film, or a value that is not finite.
    """
    distances = np.full(len(films), APART)
    for quarter in range(4):
        own = films[:, quarter]
        found = nearest(own, train[:, quarter], mirrored[:, quarter]).distance
        distances = np.minimum(distances, np.where(own.any(axis=1), found, APART))
    return distances


def measure_parts(generated: NDArray[np.float64], held_out: NDArray[np.float64]) -> dict[str, float]:
    """``copied_parts``: the share of films with a quarter that is nearer to a training film's than those of 99 % of new
    real films are (see ``copy_threshold``); empty for fewer than 20 held-out films.

    Films that are made from training films have such quarters without being copies: mixtures, flips. It tells what a
    film is made of, and a film with a patient's quarter in it is not anonymous.

    Args:
        generated, held_out: float64 ``[N]`` and ``[K]`` of ``part_distances``.
    """
    if len(held_out) < FEWEST_CALLED:
        return {}
    return {"copied_parts": float((generated < copy_threshold(held_out)).mean())}


def _smoothing(side: int) -> NDArray[np.float64]:
    """``[side, side]``: the mean over a window about each pixel, cut off at the edges."""
    half = max(side // BROAD // 2, 1)
    pixel = np.arange(side)
    window = (np.abs(pixel[:, None] - pixel) <= half).astype(np.float64)
    return window / window.sum(axis=1, keepdims=True)
