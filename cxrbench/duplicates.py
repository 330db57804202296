"""Near-copies among films: candidates by perceptual hash, confirmed by correlation."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

HASH_BITS = 64
CANDIDATE_BITS = 10  # two films whose hashes differ in at most this many bits are looked at closely
COPY_CORRELATION = 0.97  # and are near-copies if their thumbnails correlate at least this much
FINE_CORRELATION = 0.93  # and do so in their fine structure, too:
COARSE = 4  # without the lowest frequencies per axis, since all chest films show two dark lungs in a bright body


def perceptual_hashes(thumbnails: NDArray[np.uint8]) -> NDArray[np.uint64]:
    """64-bit DCT hash of each thumbnail (uint8 ``[N, T, T]``), after Zauner, "Implementation and
    benchmarking of perceptual image hash functions" (2010), section 3.2.1: the sign of the 8x8 lowest
    frequencies (without the constant row and column) against their median.
    """
    from scipy.fft import dctn

    low = dctn(thumbnails.astype(np.float32), axes=(1, 2), norm="ortho")[:, 1:9, 1:9].reshape(-1, HASH_BITS)
    bits = low > np.median(low, axis=1, keepdims=True)
    return np.packbits(bits, axis=1).view(np.uint64)[:, 0]


def near_copies(thumbnails: NDArray[np.uint8], block: int = 1024) -> NDArray[np.int64]:
    """Pairs of near-copies among ``thumbnails`` (uint8 ``[N, T, T]``), as int64 ``[P, 2]``, i < j.

    Candidates by Hamming distance of the perceptual hashes, in blocks, so memory stays linear in N; each
    candidate is confirmed by the correlation of the two thumbnails and of their fine structure, since chest
    films look alike and a hash alone would join strangers. Recompressed, resized, brightened and slightly
    cropped copies are found; copies cropped by more than 1 % per side, rotated or mirrored ones are not.
    """
    from scipy.fft import dctn

    n = len(thumbnails)
    if n == 0:
        return np.empty((0, 2), np.int64)
    hashes = perceptual_hashes(thumbnails)
    spectrum = dctn(thumbnails.astype(np.float32), axes=(1, 2), norm="ortho")
    spectrum[:, 0, 0] = 0.0  # orthonormal, so correlations may be taken here; without the mean grey level
    whole = _unit_rows(spectrum)
    spectrum[:, :COARSE, :COARSE] = 0.0
    fine = _unit_rows(spectrum)
    found = []
    for start in range(0, n, block):
        distance = np.bitwise_count(hashes[start : start + block, None] ^ hashes[None, start:])
        i, j = np.nonzero(distance <= CANDIDATE_BITS)
        i, j = i + start, j + start
        i, j = i[i < j], j[i < j]
        alike = (np.einsum("pd,pd->p", whole[i], whole[j]) >= COPY_CORRELATION) & (
            np.einsum("pd,pd->p", fine[i], fine[j]) >= FINE_CORRELATION
        )
        found.append(np.stack([i[alike], j[alike]], axis=1))
    return np.concatenate(found).astype(np.int64)


def _unit_rows(images: NDArray[np.float32]) -> NDArray[np.float32]:
    """Flattened to ``[N, D]``, each row of length one."""
    rows = images.reshape(len(images), -1)
    return rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-6)
