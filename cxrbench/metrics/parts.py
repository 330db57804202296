"""Is a film put together from parts of training films? Quarters are compared by their detail alone.

A film whose detail is that of a patient's film under new grey levels, or that of four patients, is near to no training
film as a whole, so ``nearest`` sees nothing. Here every quarter is laid beside the same quarter of every training film,
after all that is broad was taken away. Pieces smaller than quarters, or moved, go unseen: on films of 64 pixels those
of a third of a side are found in three films of ten, those of a quarter of a side hardly ever.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from cxrbench.contracts import Features, Pixels
from cxrbench.metrics.memorization import FEWEST_CALLED, copy_threshold
from cxrbench.metrics.nearest import nearest, small_pictures, small_shape, unit_vectors

SIDE = 64  # pixels of the pictures that are cut in quarters, at most
BROAD = 8  # of a side are about this many windows; a window's mean is not detail
FAINT = 0.5  # grey levels, root mean square; detail below is the rounding to whole grey levels
APART = 2.0  # the largest distance there is; of films without detail, which are nobody's


def quarter_details(pixels: Pixels) -> Features:
    """The detail of each quarter, as vectors of length 1.

    Each film is averaged over the areas of 64 x 64 pixels, the mean over a window of about an eighth of the side is
    taken away, and what is left of each quarter is scaled to length 1. Two such vectors lie ``sqrt(2 - 2 r)`` apart,
    where r is the correlation of the two details.

    Args:
        pixels: uint8 ``[N, 1, H, W]``, H and W at least 2.

    Returns:
        float32 ``[N, 4, D]``: upper left, upper right, lower left, lower right. A quarter without detail is zeros.

    Raises:
        ValueError: another shape or type, or films without quarters.
    """
    down, across = small_shape(pixels, SIDE)
    high, wide = down // 2, across // 2
    if not high or not wide:
        raise ValueError(f"films of {pixels.shape[2]} x {pixels.shape[3]} pixels have no quarters")
    smooth_down, smooth_across = _smoothing(down), _smoothing(across).T
    found = np.empty((len(pixels), 4, high * wide), np.float32)
    for rows, small in small_pictures(pixels, SIDE):
        detail = small - smooth_down @ small @ smooth_across
        corners = [(y, x) for y in (0, high) for x in (0, wide)]
        for number, (y, x) in enumerate(corners):
            quarter = detail[:, y : y + high, x : x + wide].reshape(len(small), high * wide)
            found[rows, number] = unit_vectors(quarter, FAINT)
    return found


def part_distances(films: Features, train: Features, mirrored: Features) -> NDArray[np.float64]:
    """float64 ``[N]``: the mean distance of a film's quarters to the nearest such quarters of training films.

    Args:
        films: float ``[N, 4, D]`` of ``quarter_details``; quarters without detail do not count.
        train, mirrored: float ``[M, 4, D]``, M > 0; row i of ``mirrored`` is the mirror image of training film i.

    Raises:
        ValueError: shapes that do not fit, no training film, or a value that is not finite.
    """
    distances = [nearest(films[:, q], train[:, q], mirrored[:, q]).distance for q in range(films.shape[1])]
    detailed = films.any(axis=2)
    total, count = (np.stack(distances, axis=1) * detailed).sum(axis=1), detailed.sum(axis=1)
    return np.divide(total, count, out=np.full(len(films), APART), where=count > 0)


def measure_parts(generated: NDArray[np.float64], held_out: NDArray[np.float64]) -> dict[str, float]:
    """``copied_parts``: the share of films whose quarters lie nearer to those of training films than 99 % of new real
    films' do (see ``copy_threshold``); empty for fewer than 20 held-out films.

    Films that are made from training films have such quarters without being copies: mixtures, flips. It tells what a
    film is made of.

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
