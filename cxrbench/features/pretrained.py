"""What the extractors with published weights share: finding the file, and films to features in batches."""

from __future__ import annotations

import contextlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, TypeAlias
from urllib.parse import urlsplit

import numpy as np

from cxrbench.contracts import Features, Pixels, no_progress
from cxrbench.features.weights import find_weights, weights_digest

if TYPE_CHECKING:  # imported where films are computed with: a plan asks for the weights alone
    import torch

BATCH = 16  # larger batches fall out of the cache and are slower on a CPU
DEVICE_BATCH = 128  # a GPU has no use for so few

Network: TypeAlias = "Callable[[torch.Tensor], torch.Tensor]"


@dataclass
class PretrainedNet(ABC):
    """An extractor whose weights are a file of known sha256.

    Args:
        url: where the weights are fetched from when they are nowhere on this machine.
        sha256_prefix: what their sha256 must begin with.
    """

    url: str
    sha256_prefix: str

    name: ClassVar[str]
    dim: ClassVar[int]
    fd_label: ClassVar[str]
    kd_label: ClassVar[str]
    resize: ClassVar[str]

    @property
    def filename(self) -> str:
        """What the file of weights is called."""
        return Path(urlsplit(self.url).path).name

    def weights_file(self) -> Path:
        """Find the weights, or fetch them once; checked by sha256.

        Raises:
            UsageError: ``$CXRBENCH_WEIGHTS`` names something that does not exist.
            WeightsUnavailable: they are another file, or cannot be had.
        """
        return find_weights(self.filename, self.url, self.sha256_prefix)

    def weights_sha256(self) -> str:
        """The sha256 of the weights in use; raises as ``weights_file``."""
        return weights_digest(self.weights_file())

    @abstractmethod
    def network(self, weights: Path, device: str) -> Network:
        """Read the weights (their sha256 is the known one).

        Returns:
            A function from uint8 ``[B, 1, H, W]`` on the device to floats ``[B, dim]``.
        """

    def extract(self, pixels: Pixels, device: str, progress: Callable[[int, int], None] = no_progress) -> Features:
        """uint8 ``[N, 1, H, W]`` to float32 ``[N, dim]``; raises as ``weights_file``."""
        batch = BATCH if device == "cpu" else DEVICE_BATCH
        return in_batches(self.network(self.weights_file(), device), pixels, batch, self.dim, device, progress)


def in_batches(
    network: Network, pixels: Pixels, batch: int, dim: int, device: str, progress: Callable[[int, int], None]
) -> Features:
    """Features of films, ``batch`` of them at a time.

    They stay on the device until the last is there: the loop waits for nothing, so films are read while others are
    computed. The last films are computed among as many as the others, zeros if need be: how a film is rounded depends
    on how many are computed at once, and must not depend on which.

    Args:
        network: from uint8 ``[B, C, H, W]`` on the device to floats ``[B, dim]``.
        pixels: uint8 ``[N, C, H, W]``.

    Returns:
        float32 ``[N, dim]``.
    """
    import torch

    rows = torch.empty((len(pixels), dim), dtype=torch.float32, device=device)
    with torch.inference_mode(), _whole_float32():
        for start in range(0, len(pixels), batch):
            some = np.array(pixels[start : start + batch])
            short = [(0, batch - len(some)), *[(0, 0)] * (some.ndim - 1)]
            films = torch.from_numpy(np.pad(some, short))
            if rows.is_cuda:  # else the copy would wait for what is being computed
                films = films.pin_memory()
            rows[start : start + batch] = network(films.to(device, non_blocking=True))[: len(some)]
            progress(min(start + batch, len(pixels)), len(pixels))
    return rows.cpu().numpy()


@contextlib.contextmanager
def _whole_float32() -> Iterator[None]:
    """No TF32 inside, in which a GPU convolves by default: it has 10 bits of float32's 23."""
    import torch

    settings = (torch.backends.cudnn.conv, torch.backends.cuda.matmul)  # type: ignore[attr-defined]
    before = [each.fp32_precision for each in settings]
    for each in settings:
        each.fp32_precision = "ieee"
    try:
        yield
    finally:
        for each, precision in zip(settings, before, strict=True):
            each.fp32_precision = precision


def in_colour(films: torch.Tensor) -> torch.Tensor:
    """``[B, 1, H, W]`` to ``[B, 3, H, W]``: the one channel three times, for networks that saw photographs."""
    return films.expand(-1, 3, -1, -1).contiguous()
