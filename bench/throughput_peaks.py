"""How fast this machine multiplies: what a train step's speed is a share of."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from cxrbench.costs.work import SHORT
from cxrbench_baselines.nets import precision

PEAK_SECONDS = 1.0  # for each peak
LEAST_REPEATS = 3


@dataclass(frozen=True)
class Sizes:
    """Products large enough to reach the peak.

    Attributes:
        side: of the square matrices.
        films, channels, pixels: of the maps that a 3x3 convolution keeps in size and number.
    """

    side: int
    films: int
    channels: int
    pixels: int


SIZES = {"cpu": Sizes(2048, 16, 128, 28), "cuda": Sizes(8192, 64, 512, 28)}


def measure_peaks(device: str, sizes: Sizes | None = None, seconds: float = PEAK_SECONDS) -> dict[str, float]:
    """GFLOP/s of the fastest repeat, by kind and precision as ``Work.flops_by_kind`` names them.

    bf16 only where the plug-ins use it: hardware without it takes very long.
    """
    kind = torch.device(device).type
    sizes = sizes or SIZES[kind]
    with precision(device):
        types = list(SHORT) if torch.is_autocast_enabled(kind) else [torch.float32]
    return {
        f"{name} {SHORT[dtype]}": speed
        for dtype in types
        for name, speed in _peaks_of(dtype, device, sizes, seconds).items()
    }


def _peaks_of(dtype: torch.dtype, device: str, sizes: Sizes, seconds: float) -> dict[str, float]:
    side, films, channels, pixels = sizes.side, sizes.films, sizes.channels, sizes.pixels

    def drawn(*shape: int) -> Tensor:
        values = torch.randn(shape, device=device).to(dtype)
        return values.contiguous(memory_format=torch.channels_last) if len(shape) == 4 else values

    a, b = drawn(side, side), drawn(side, side)
    maps, weight = drawn(films, channels, pixels, pixels), drawn(channels, channels, 3, 3)
    return {
        "matmul": 2e-9 * side**3 / _fastest(lambda: a @ b, device, seconds),
        "conv": 2e-9
        * films
        * (channels * pixels) ** 2
        * 9
        / _fastest(lambda: F.conv2d(maps, weight, padding=1), device, seconds),
    }


def share_of_peak(flops: Mapping[str, float], seconds: float, peaks: Mapping[str, float]) -> float | None:
    """The time that a step's operations would take at the peaks, as a share of the time it takes.

    Args:
        flops: of a step, by kind and precision; None is returned where one of them has no peak.
        seconds: of a step.
        peaks: GFLOP/s.
    """
    if not set(flops) <= set(peaks):
        return None
    return sum(count / (1e9 * peaks[kind]) for kind, count in flops.items()) / seconds


def _fastest(work: Callable[[], Tensor], device: str, seconds: float) -> float:
    """Seconds of the fastest of as many repeats as fit, after one to warm up."""
    found: list[float] = []
    work()
    started = time.perf_counter()
    while len(found) < LEAST_REPEATS or time.perf_counter() - started < seconds:
        wait_for(device)
        before = time.perf_counter()
        work()
        wait_for(device)
        found.append(time.perf_counter() - before)
    return min(found)


def wait_for(device: str) -> None:
    """Until the device has done what it was given; a CPU has."""
    if torch.device(device).type == "cuda":
        torch.cuda.synchronize()
