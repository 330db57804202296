"""Texture measures of films, many films at a time, by counting: exact, alike on every machine, and fast.

Everything is counted in whole numbers (grey-value histograms, co-occurrences, binary patterns, squared
differences of block sums), so batches, threads and machines cannot change the counts. Scale-like measures are
given as logarithms: a heavy tail would rule every covariance.
"""

from __future__ import annotations

import itertools

import numpy as np
from numpy.typing import NDArray

from cxrbench.contracts import Pixels

Measures = NDArray[np.float64]
Counts = NDArray[np.int64]

GREYS = 256
LEVELS = 32  # of grey, for entropies and co-occurrences
SHIFT = 3  # bits from a grey value to its level
PERCENTILES = (1, 10, 25, 50, 75, 90, 99)
DISTANCES = (1, 2, 4)  # pixels, along rows, columns and diagonals
CO_OCCURRENCE = ("contrast", "dissimilarity", "homogeneity", "energy", "correlation", "entropy")
RADII = (1, 2)  # of the binary patterns
POINTS = 8  # on the circle of a binary pattern
SCALES = (1, 2, 4)  # pixels per side of the blocks whose differences are measured
LEAST_SIDE = 12  # pixels: the third scale still has a block with four neighbours

FIRST_ORDER_NAMES = (
    *("mean", "sd", "skewness", "kurtosis"),
    *(f"percentile/{percent}" for percent in PERCENTILES),
    *("entropy", "uniformity"),
)
CO_OCCURRENCE_NAMES = tuple(
    f"{measure}/{distance}/{what}" for distance in DISTANCES for what in ("mean", "range") for measure in CO_OCCURRENCE
)
PATTERN_NAMES = tuple(f"pattern/{radius}/{code}" for radius in RADII for code in range(POINTS + 2))
EDGE_NAMES = tuple(f"{measure}/{scale}" for scale in SCALES for measure in ("gradient", "laplacian"))


def first_order(films: Pixels) -> Measures:
    """Statistics of the grey values, without regard to where they are.

    Mean and standard deviation (grey values), skewness (as its inverse hyperbolic sine) and kurtosis (its natural
    logarithm; 0 for a constant film, as is the skewness), percentiles (the least grey value that so many percent
    of the pixels do not exceed), entropy (bits) and uniformity (sum of squared shares) of 32 grey levels.

    Args:
        films: uint8 ``[B, H, W]``.

    Returns:
        float64 ``[B, 13]`` in the order of ``FIRST_ORDER_NAMES``.
    """
    counts = _counts(films.reshape(len(films), -1), GREYS)
    pixels = counts.sum(axis=1, keepdims=True)
    share = counts / pixels
    mean = share @ np.arange(GREYS)
    deviation = np.arange(GREYS) - mean[:, None]
    second, third, fourth = ((share * deviation**power).sum(axis=1) for power in (2, 3, 4))
    varied = second > 0
    scale = np.where(varied, second, 1.0)
    skewness = np.where(varied, third / scale**1.5, 0.0)
    kurtosis = np.where(varied, fourth / scale**2, 1.0)
    up_to = counts.cumsum(axis=1)
    percentiles = [(100 * up_to < percent * pixels).sum(axis=1) for percent in PERCENTILES]
    levels = share.reshape(len(films), LEVELS, -1).sum(axis=2)
    columns = [mean, np.sqrt(second), np.arcsinh(skewness), np.log(kurtosis), *percentiles]
    return np.stack([*columns, _entropy(levels), (levels**2).sum(axis=1)], axis=1)


def co_occurrence(films: Pixels) -> Measures:
    """Haralick's measures of which grey levels lie side by side.

    Haralick, Shanmugam & Dinstein, "Textural Features for Image Classification" (IEEE SMC 1973): symmetric
    co-occurrence matrices at 32 levels and 1, 2 and 4 pixels (a diagonal step moves that many rows and columns),
    and of each measure the mean and the range over the four directions. Contrast is given as ``log(1 + x)``,
    energy is the root of the angular second moment, homogeneity their inverse difference moment, and entropy is
    in bits. The correlation of a matrix with one level only is 1.

    Args:
        films: uint8 ``[B, H, W]``.

    Returns:
        float64 ``[B, 36]`` in the order of ``CO_OCCURRENCE_NAMES``.
    """
    columns = []
    for distance in DISTANCES:
        measured = np.stack([_haralick(matrices) for matrices in co_occurrence_matrices(films, distance)])
        columns += [measured.mean(axis=0), np.ptp(measured, axis=0)]
    return np.concatenate(columns, axis=1)


def co_occurrence_matrices(films: Pixels, distance: int) -> list[Counts]:
    """Symmetric counts of neighbouring grey levels at 0, 45, 90 and 135 degrees: int64 ``[B, 32, 32]`` each."""
    levels = (films >> SHIFT).astype(np.int64)
    own = levels * LEVELS + np.arange(len(films))[:, None, None] * LEVELS**2
    d, (height, width) = distance, films.shape[1:]
    here_and_there = [
        (np.s_[:, :, : width - d], np.s_[:, :, d:]),
        (np.s_[:, d:, : width - d], np.s_[:, : height - d, d:]),
        (np.s_[:, d:, :], np.s_[:, : height - d, :]),
        (np.s_[:, d:, d:], np.s_[:, : height - d, : width - d]),
    ]
    matrices = []
    for here, there in here_and_there:
        pairs = np.bincount((own[here] + levels[there]).ravel(), minlength=len(films) * LEVELS**2)
        matrix = pairs.reshape(-1, LEVELS, LEVELS)
        matrices.append(matrix + matrix.transpose(0, 2, 1))
    return matrices


def binary_patterns(films: Pixels) -> Measures:
    """Shares of the uniform local binary patterns, at radius 1 and 2 with 8 points.

    Ojala, Pietikainen & Maenpaa, "Multiresolution Gray-Scale and Rotation Invariant Texture Classification with
    Local Binary Patterns" (PAMI 2002), equation 9: how many points of the circle are not darker than its centre,
    where they lie side by side (0 to 8), else 9. Pixels whose circle leaves the film are left out.

    Args:
        films: uint8 ``[B, H, W]``.

    Returns:
        float64 ``[B, 20]`` in the order of ``PATTERN_NAMES``; each radius sums to 1.
    """
    columns = []
    for radius in RADII:
        codes = pattern_codes(films, radius)
        shares = _counts(codes.reshape(len(films), -1), 2**POINTS) / (codes.shape[1] * codes.shape[2])
        columns.append(shares @ _UNIFORM)
    return np.concatenate(columns, axis=1)


def pattern_codes(films: Pixels, radius: int) -> NDArray[np.uint8]:
    """Which points of the circle about a pixel are not darker than it: bit i for the point at i * 45 degrees.

    The points on the diagonals lie between pixels. Their bilinear values are compared in a form in which equal
    greys cancel exactly, so flat regions do not turn on rounding: with ``x`` and ``y`` whole numbers made of
    differences from the centre, the sign is that of ``x + y * sqrt(2)``, and it is 0 only where both are.

    Args:
        films: uint8 ``[B, H, W]``.
        radius: 1 or 2 pixels.

    Returns:
        uint8 ``[B, H - 2 * radius, W - 2 * radius]``.
    """
    grey = films.astype(np.int16)
    height, width = films.shape[1:]
    root = np.float32(np.sqrt(2.0))

    def shifted(down: int, right: int) -> NDArray[np.int16]:
        rows = slice(radius + down, height - radius + down)
        return grey[:, rows, radius + right : width - radius + right]

    centre = shifted(0, 0)
    codes = np.zeros(centre.shape, np.uint8)
    circle = [(0, 1), (-1, 1), (-1, 0), (-1, -1), (0, -1), (1, -1), (1, 0), (1, 1)]
    for bit, (down, right) in enumerate(circle):
        if not down or not right:
            reached = shifted(radius * down, radius * right) >= centre
        elif radius == 1:  # f = 1 / sqrt(2); the two beside weigh f (1 - f), the corner f^2: as sqrt(2) - 1 to 1
            beside = shifted(0, right) + shifted(down, 0) - 2 * centre
            corner = shifted(down, right) - centre
            reached = (corner - beside) + beside * root >= 0
        else:  # f = sqrt(2) - 1 between 1 and 2 pixels: weights as 2 to sqrt(2) (twice) to 1
            corners = 2 * shifted(down, right) + shifted(2 * down, 2 * right) - 3 * centre
            beside = shifted(down, 2 * right) + shifted(2 * down, right) - 2 * centre
            reached = corners + beside * root >= 0
        codes |= reached.view(np.uint8) << bit
    return codes


def edges(films: Pixels) -> Measures:
    """Energy of the gradient and of the Laplacian, at three scales.

    Mean squared difference of neighbours (down plus across) and mean squared difference of a pixel from its four
    neighbours' sum, of the film averaged over blocks of 1, 2 and 4 pixels; as ``log(1 + x)``, x in squared greys.

    Args:
        films: uint8 ``[B, H, W]``.

    Returns:
        float64 ``[B, 6]`` in the order of ``EDGE_NAMES``.
    """
    columns = []
    for scale in SCALES:
        rows, width = films.shape[1] // scale, films.shape[2] // scale
        blocks = films[:, : rows * scale, : width * scale].reshape(len(films), rows, scale, width, scale)
        sums = blocks.sum(axis=(2, 4), dtype=np.int32)
        down, across = np.diff(sums, axis=1), np.diff(sums, axis=2)
        laplacian = np.diff(down, axis=1)[:, :, 1:-1] + np.diff(across, axis=2)[:, 1:-1]
        columns += [(_energy(down) + _energy(across)) / scale**4, _energy(laplacian) / scale**4]
    return np.log1p(np.stack(columns, axis=1))


def _counts(values: NDArray[np.uint8], bins: int) -> Counts:
    """How often each value occurs in each row: uint8 ``[B, n]`` to int64 ``[B, bins]``."""
    rows = values + (np.arange(len(values)) * bins)[:, None]
    return np.bincount(rows.ravel(), minlength=len(values) * bins).reshape(-1, bins)


def _entropy(share: NDArray[np.float64]) -> Measures:
    """Bits, over the last axis."""
    return -(share * np.log2(np.where(share > 0, share, 1.0))).sum(axis=-1)


def _haralick(matrices: Counts) -> Measures:
    """``CO_OCCURRENCE`` of each matrix: int64 ``[B, 32, 32]`` to float64 ``[B, 6]``."""
    share = matrices.reshape(len(matrices), -1) / matrices.sum(axis=(1, 2))[:, None]
    contrast, dissimilarity, homogeneity, mean, square, product = (share @ _WEIGHTS).T
    variance = square - mean**2
    varied = share.max(axis=1) < 1.0  # a symmetric matrix with one level only has all its counts in one place
    correlation = np.where(varied, (product - mean**2) / np.where(varied, variance, 1.0), 1.0)
    energy = np.sqrt((share**2).sum(axis=1))
    columns = [np.log1p(contrast), dissimilarity, homogeneity, energy, correlation, _entropy(share)]
    return np.stack(columns, axis=1)


def _energy(differences: NDArray[np.int32]) -> Measures:
    """Mean square of each film's differences."""
    return (differences**2).sum(axis=(1, 2), dtype=np.int64) / differences[0].size


def _co_occurrence_weights() -> NDArray[np.float64]:
    """What each place of a matrix adds to the measures that are sums: float64 ``[1024, 6]``."""
    i, j = np.meshgrid(np.arange(LEVELS), np.arange(LEVELS), indexing="ij")
    apart = (i - j) ** 2
    return np.stack([apart, abs(i - j), 1 / (1 + apart), i, i**2, i * j], axis=-1).reshape(-1, 6).astype(np.float64)


def _uniform_patterns() -> NDArray[np.float64]:
    """Which of the ten shares each code counts for: float64 ``[256, 10]`` of zeros and ones."""
    table = np.zeros((2**POINTS, POINTS + 2))
    for code in range(2**POINTS):
        bits = [code >> bit & 1 for bit in range(POINTS)]
        turns = sum(a != b for a, b in itertools.pairwise([*bits, bits[0]]))
        table[code, sum(bits) if turns <= 2 else POINTS + 1] = 1.0
    return table


_WEIGHTS = _co_occurrence_weights()
_UNIFORM = _uniform_patterns()
