"""The films of each training step and its noise: both depend on (seed, step) only, so that a fit can resume."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cxrbench.contracts import Images, Pixels
from cxrbench.errors import UsageError


class FilmBatches:
    """Training films resident on the device as uint8; batch ``step`` depends on (seed, step) only.

    Args:
        batch: films per step, also where there are fewer films than that: every arm must train on equally
            many, or a difference between arms would be one of batch size.
        balanced: draw each class equally often, with replacement, whatever its share of the films.
    """

    def __init__(self, films: Images, batch: int, device: str, seed: int, *, balanced: bool = False) -> None:
        if len(films) == 0:
            raise UsageError("there are no training films")
        self.pixels = torch.from_numpy(films.pixels).to(device)
        self.labels = torch.from_numpy(films.labels).to(device)
        self.batch, self.seed = batch, seed
        share = np.bincount(films.labels, minlength=len(films.classes))[films.labels]
        self._shuffled: tuple[int, NDArray[np.int64]] | None = None
        self._weights = (1.0 / share) / (1.0 / share).sum() if balanced else None

    def at(self, step: int) -> tuple[Tensor, Tensor]:
        """Films (float in [-1, 1], channels-last) and labels of one step.

        Without ``balanced``, every film is seen once before any is seen again.
        """
        n = len(self.labels)
        if self._weights is not None:
            rng = np.random.default_rng([self.seed, step])
            rows = rng.choice(n, self.batch, p=self._weights)
        else:
            places = np.arange(step * self.batch, (step + 1) * self.batch)
            rows = np.concatenate(
                [
                    self._permutation(epoch)[places[places // n == epoch] % n]
                    for epoch in range(int(places[0]) // n, int(places[-1]) // n + 1)
                ]
            )
        index = torch.from_numpy(rows).to(self.pixels.device)
        return to_signed(self.pixels[index]), self.labels[index]

    def _permutation(self, epoch: int) -> NDArray[np.int64]:
        if self._shuffled is None or self._shuffled[0] != epoch:
            order = np.random.default_rng([self.seed, epoch]).permutation(len(self.labels))
            self._shuffled = (epoch, order)
        return self._shuffled[1]


def to_signed(pixels: Tensor) -> Tensor:
    """uint8 in [0, 255] to float32 in [-1, 1], channels-last."""
    return (pixels.float() / 127.5 - 1.0).contiguous(memory_format=torch.channels_last)


def to_pixels(signed: Tensor) -> Pixels:
    """Float in [-1, 1] (clipped) to a uint8 array on the CPU."""
    levels = ((signed.float() + 1.0) * 127.5).round().clamp(0, 255)
    return levels.to(torch.uint8).cpu().numpy()


def step_noise(seed: int, step: int, shape: tuple[int, ...], device: str) -> Tensor:
    """Standard normal noise that depends on (seed, step) only, the same on every device."""
    generator = torch.Generator().manual_seed((seed * 1_000_003 + step) % 2**63)
    return torch.randn(shape, generator=generator).to(device)
