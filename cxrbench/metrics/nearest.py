"""Which training film is a film nearest to? Films are compared as small pictures of fixed brightness and contrast.

So every film of a set can be laid beside every training film, and beside its mirror image, in a second and without
a network.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cxrbench.contracts import Features, Pixels

SIDE = 32  # pixels of the small pictures
BLANK = 1e-3  # grey levels, root mean square; less is the rounding of an even film
PIXELS_AT_ONCE = 2**24  # enlarged to float32 together
ROWS_AT_ONCE = 512


@dataclass(frozen=True)
class Nearest:
    """The training film that each film is nearest to.

    Attributes:
        distance: float64 ``[N]``, Euclidean.
        index: int64 ``[N]``, rows of the training films.
    """

    distance: NDArray[np.float64]
    index: NDArray[np.int64]


def appearance(pixels: Pixels) -> Features:
    """Small pictures of fixed brightness and contrast, as vectors of length 1.

    Each film is averaged over the areas of 32 x 32 pixels (along an axis that is shorter it is left as it is), its
    mean is taken away and it is scaled to length 1. Two such vectors lie ``sqrt(2 - 2 r)`` apart, where r is the
    correlation of the small pictures: 0 for copies, 1.41 for films that have nothing in common, 2 for a negative.

    Args:
        pixels: uint8 ``[N, 1, H, W]``; may be mapped from a file. ``pixels[..., ::-1]`` gives the mirror images.

    Returns:
        float32 ``[N, D]``, D = min(H, 32) min(W, 32). An even film, which has no contrast, becomes zeros.

    Raises:
        ValueError: another shape or type, or films without pixels.
    """
    down, across = small_shape(pixels, SIDE)
    pictures = np.empty((len(pixels), down * across), np.float32)
    for rows, small in small_pictures(pixels, SIDE):
        flat = small.reshape(len(small), down * across)
        pictures[rows] = unit_vectors(flat - flat.mean(axis=1, keepdims=True), BLANK)
    return pictures


def small_shape(pixels: Pixels, side: int) -> tuple[int, int]:
    """Height and width of ``small_pictures``.

    Raises:
        ValueError: not uint8 ``[N, 1, H, W]``, or films without pixels.
    """
    if pixels.dtype != np.uint8 or pixels.ndim != 4 or pixels.shape[1] != 1 or 0 in pixels.shape[2:]:
        raise ValueError(f"pixels must be uint8 [N, 1, H, W], got {pixels.dtype} {pixels.shape}")
    return min(pixels.shape[2], side), min(pixels.shape[3], side)


def small_pictures(pixels: Pixels, side: int) -> Iterator[tuple[slice, NDArray[np.float64]]]:
    """Films averaged over the areas of ``side`` x ``side`` pixels, some at a time: all at once may fill the memory.

    Along an axis that is shorter than ``side`` they are left as they are.

    Args:
        pixels: uint8 ``[N, 1, H, W]``; may be mapped from a file.

    Yields:
        Which films, and float64 ``[n, min(H, side), min(W, side)]`` in grey levels.

    Raises:
        ValueError: as ``small_shape``.
    """
    small_shape(pixels, side)
    count, _, height, width = pixels.shape
    down, across = _averaging(height, side), _averaging(width, side).T
    step = max(1, PIXELS_AT_ONCE // (height * width))
    for start in range(0, count, step):
        films = np.asarray(pixels[start : start + step, 0], dtype=np.float32)
        yield slice(start, start + step), (down @ films @ across).astype(np.float64)


def unit_vectors(rows: NDArray[np.float64], blank: float) -> Features:
    """Rows ``[..., D]`` scaled to length 1, as float32; zeros where their root mean square is ``blank`` or less."""
    length = np.linalg.norm(rows, axis=-1, keepdims=True)
    seen = length > blank * np.sqrt(rows.shape[-1])
    return np.divide(rows, length, out=np.zeros_like(rows), where=seen).astype(np.float32)


def nearest(films: Features, train: Features, mirrored: Features) -> Nearest:
    """The nearest training film of each film, or the one whose left-right mirror image is nearest.

    Candidates come from a matrix product in float32, in which two films that lie within 0.001 of a film of length 1
    are equally near; the distance is taken from the difference itself in float64, so that a copy lies at 0.

    Args:
        films: float ``[N, D]``.
        train, mirrored: float ``[M, D]``, M > 0; row i of ``mirrored`` is the mirror image of training film i.

    Raises:
        ValueError: shapes that do not fit, no training film, or a value that is not finite.
    """
    return _nearest(films, train, mirrored, among_themselves=False)


def nearest_other(train: Features, mirrored: Features) -> Nearest:
    """``nearest`` of every training film among the others: neither itself nor its own mirror image.

    Raises:
        ValueError: as ``nearest``; or fewer than 2 films.
    """
    if len(train) < 2:
        raise ValueError(f"at least 2 training films are needed, got {len(train)}")
    return _nearest(train, train, mirrored, among_themselves=True)


def most_suspicious(found: Nearest, count: int) -> NDArray[np.int64]:
    """int64 ``[<= count]``: the rows of the films nearest to a training film, nearest first.

    Each training film is shown once, with the film nearest to it, so that one film copied a hundred times does not
    hide the others. Fewer than ``count`` are returned where the films are near to fewer training films.

    Raises:
        ValueError: a negative ``count``.
    """
    if count < 0:
        raise ValueError(f"count must not be negative, got {count}")
    order = np.argsort(found.distance, kind="stable")
    _, first = np.unique(found.index[order], return_index=True)
    return order[np.sort(first)][:count].astype(np.int64)


def _averaging(side: int, most: int) -> NDArray[np.float32]:
    """``[min(side, most), side]``: row i holds the share that each pixel has in the i-th of equal stretches."""
    count = min(side, most)
    edges = np.arange(count + 1) * side / count
    left, pixel = edges[:-1, None], np.arange(side)
    overlap = np.minimum(edges[1:, None], pixel + 1) - np.maximum(left, pixel)
    return (np.clip(overlap, 0, None) * count / side).astype(np.float32)


def _nearest(films: Features, train: Features, mirrored: Features, among_themselves: bool) -> Nearest:
    films, train, mirrored = (np.asarray(part, np.float32) for part in (films, train, mirrored))
    if films.ndim != 2 or train.ndim != 2 or films.shape[1] != train.shape[1] or train.shape != mirrored.shape:
        shapes = f"{films.shape}, {train.shape} and {mirrored.shape}"
        raise ValueError(f"films must be [N, D], training films and their mirror images [M, D], got {shapes}")
    if not len(train):
        raise ValueError("there are no training films")
    if not all(np.isfinite(part).all() for part in (films, train, mirrored)):
        raise ValueError("films hold NaN or infinity")
    distance, index = np.empty(len(films), np.float64), np.empty(len(films), np.int64)
    half_squares = [(others**2).sum(axis=1) / 2 for others in (train, mirrored)]
    for start in range(0, len(films), ROWS_AT_ONCE):
        rows = films[start : start + ROWS_AT_ONCE]
        each = np.arange(len(rows))
        apart, choice = np.full(len(rows), np.inf), np.zeros(len(rows), np.int64)
        for others, half_square in zip((train, mirrored), half_squares, strict=True):
            closeness = rows @ others.T - half_square  # greatest where the distance is least
            if among_themselves:
                closeness[each, start + each] = -np.inf
            best = closeness.argmax(axis=1)
            away = np.linalg.norm(rows.astype(np.float64) - others[best], axis=1)
            nearer = away < apart
            apart[nearer], choice[nearer] = away[nearer], best[nearer]
        distance[start : start + ROWS_AT_ONCE], index[start : start + ROWS_AT_ONCE] = apart, choice
    return Nearest(distance, index)
