"""What every probe uses: made-up films, and a clock.

On a CPU a trial computes with one thread, so its cost is counted in CPU seconds: programs that run beside the probe
hardly change them, and where every process has a core of its own they are seconds.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

import numpy as np

from cxrbench.contracts import Images

COARSE = 8  # shades along a side of a made-up film


def made_up_films(count: int, size: int, classes: Sequence[str]) -> Images:
    """Films of coarse shades, the classes in turn: they have neighbours at many distances, as real films have."""
    rng = np.random.default_rng(0)
    pixels = rng.normal(128, 40, (count, 1, COARSE, COARSE)).clip(0, 255).astype(np.uint8)
    for axis in (2, 3):
        pixels = np.repeat(pixels, -(-size // COARSE), axis=axis)
    labels = np.arange(count, dtype=np.int64) % len(classes)
    groups = np.arange(count).astype(str)
    return Images(np.ascontiguousarray(pixels[..., :size, :size]), labels, tuple(classes), groups)


def seconds_of(work: Callable[[], object], device: str = "cpu") -> float:
    """CPU seconds of this process for the work; on a GPU wall seconds, until it has done it."""
    if device == "cpu":
        start = time.process_time()
        work()
        return time.process_time() - start
    import torch

    torch.cuda.synchronize()
    start = time.perf_counter()
    work()
    torch.cuda.synchronize()
    return time.perf_counter() - start
