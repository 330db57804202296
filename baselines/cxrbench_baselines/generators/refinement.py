"""One stage of a cascade: what a coarse film lacks, drawn by a rectified flow of its own.

Ho et al., "Cascaded diffusion models for high fidelity image generation" (JMLR 2022). What is missing is local, so
a small convolutional net learns it from few films: every place of every film is an example.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from cxrbench_baselines.generators.blocks import Condition, ConvBlock, silence
from cxrbench_baselines.generators.rectified_flow import (
    VelocityAt,
    drawn_times,
    followed,
    guided,
    mixed,
    spread_at,
    velocity,
)

CONDITION = 128  # dimensions of the vector that tells time and class
GRID = 32  # the net works on about GRID x GRID places; a place holds patch x patch pixels
COARSE_NOISE = 0.1  # largest noise on coarse films in training: sampled ones are never quite right (Ho et al., 4.1)


class Refinement(nn.Module):
    """Coarse films to fine ones of ``size`` pixels.

    Args:
        size: of the fine films, a multiple of ``patch``.
        width: channels of the net.
        depth: residual blocks of the net.
    """

    spread: Tensor

    def __init__(self, size: int, classes: int, width: int, depth: int) -> None:
        super().__init__()
        self.size = size
        self.patch = 2
        while size // self.patch > 1.5 * GRID:
            self.patch *= 2
        self.condition = Condition(classes, CONDITION)
        self.enter = nn.Conv2d(2 * self.patch**2, width, 3, padding=1)
        side = size // self.patch
        self.place = nn.Parameter(torch.zeros(1, width, side, side))  # the chest is always in the same place
        self.blocks = nn.ModuleList(ConvBlock(width, width, CONDITION) for _ in range(depth))
        self.leave = nn.Conv2d(width, self.patch**2, 3, padding=1)
        silence(self.leave)
        self.register_buffer("spread", torch.ones(()))  # of what is missing, in grey levels of [-1, 1]

    def measure(self, films: Tensor, coarse: Tensor) -> None:
        """Set the scale of what is missing from some training films ``[N, 1, size, size]``."""
        self.spread.fill_((films - self._enlarged(coarse)).std().clamp_min(1e-3))

    def loss(self, films: Tensor, coarse: Tensor, labels: Tensor, noise: Tensor, draws: Tensor) -> Tensor:
        """Mean squared error of the velocity.

        Args:
            films: ``[B, 1, size, size]`` in [-1, 1].
            coarse: ``[B, 1, h, h]``, of which ``films`` is the finer version.
            noise: standard normal ``[B, 2, size, size]``: that of the flow, and that on the coarse films.
            draws: standard normal ``[B, 2]``: of the time, and of how noisy the coarse film is.
        """
        base = self._enlarged(coarse)
        missing, time = (films - base) / self.spread, drawn_times(draws[:, 0])
        doubted = base + COARSE_NOISE * torch.special.ndtr(draws[:, 1])[:, None, None, None] * noise[:, 1:]
        found = self._velocity(mixed(missing, noise[:, :1], time), time, doubted, labels)
        return F.mse_loss(found, missing - noise[:, :1])

    def forward(
        self, coarse: Tensor, labels: Tensor, noise: Tensor, steps: int, earlier: Refinement, guidance: float
    ) -> Tensor:
        """Fine films ``[B, 1, size, size]`` of coarse ones in ``steps``, led away from what ``earlier`` draws."""
        base = self._enlarged(coarse)
        velocity_at = guided(self._flow(base, labels), earlier._flow(base, labels), guidance)
        return base + self.spread * followed(velocity_at, noise, steps)

    def _flow(self, base: Tensor, labels: Tensor) -> VelocityAt:
        return lambda state, time: self._velocity(state, time, base, labels)

    def _velocity(self, state: Tensor, time: Tensor, base: Tensor, labels: Tensor) -> Tensor:
        told = self.condition(time, labels)
        seen = torch.cat([state / spread_at(time, state), base], dim=1).contiguous(memory_format=torch.channels_last)
        maps = self.enter(F.pixel_unshuffle(seen, self.patch)) + self.place
        for block in self.blocks:
            maps = block(maps, told)
        return velocity(F.pixel_shuffle(self.leave(F.silu(maps)), self.patch).float(), state, time)

    def _enlarged(self, coarse: Tensor) -> Tensor:
        if coarse.shape[-1] == self.size:
            return coarse
        return F.interpolate(coarse, size=(self.size, self.size), mode="bilinear", align_corners=False)
