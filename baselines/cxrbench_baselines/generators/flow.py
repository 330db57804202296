"""Class-conditional rectified flow, the modern comparator: diffusion's successor, with a small U-Net.

See ``rectified_flow`` for the method and its papers. A U-Net (Ronneberger et al., 2015) draws the coarse film,
where all that must agree across the chest is decided at little cost; refinements add the detail.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from cxrbench.registry import GENERATORS
from cxrbench_baselines.generators.blocks import Condition, ConvBlock, silence
from cxrbench_baselines.generators.cascade import Base, CascadeGenerator, stage_sizes
from cxrbench_baselines.generators.rectified_flow import (
    VelocityAt,
    drawn_times,
    followed,
    guided,
    mixed,
    spread_at,
    velocity,
)

CONDITION = 128


@GENERATORS.register("flow")
@dataclass
class Flow(CascadeGenerator):
    """Args, besides those of ``CascadeGenerator``:
    base_width: channels of the U-Net at its full resolution; twice and three times as many below.
    dropout: in the U-Net's blocks; small data are soon known by heart.
    """

    batch: int = 32
    base_width: int = 32
    dropout: float = 0.1

    def build_base(self) -> Base:
        size = stage_sizes(self._facts["size"])[0]
        return UNet(size, self._facts["classes"], self.base_width, self.dropout)


class UNet(Base):
    """Velocity of coarse films: three resolutions, two blocks at each on the way down and up, attention below."""

    middle: Tensor
    spread: Tensor

    def __init__(self, size: int, classes: int, width: int, dropout: float) -> None:
        super().__init__()
        self.size, self.noise_dims = size, size**2
        self.register_buffer("middle", torch.zeros(1, 1, size, size))
        self.register_buffer("spread", torch.ones(()))
        self.condition = Condition(classes, CONDITION)
        self.enter = nn.Conv2d(1, width, 3, padding=1)
        self.place = nn.Parameter(torch.zeros(1, width, size, size))
        channels = [width, 2 * width, 3 * width]
        self.down, self.up = nn.ModuleList(), nn.ModuleList()
        self.halve, self.enlarge = nn.ModuleList(), nn.ModuleList()
        for level, c in enumerate(channels):
            attention = level > 0
            self.down.extend(ConvBlock(c, c, CONDITION, attention=attention, dropout=dropout) for _ in range(2))
            if level < 2:
                self.halve.append(nn.Conv2d(c, channels[level + 1], 2, stride=2))
        for level in (2, 1, 0):
            c = channels[level]
            self.up.extend(ConvBlock(2 * c, c, CONDITION, attention=level > 0, dropout=dropout) for _ in range(2))
            if level > 0:
                self.enlarge.append(nn.ConvTranspose2d(c, channels[level - 1], 2, stride=2))
        self.leave = nn.Conv2d(width, 1, 3, padding=1)
        silence(self.leave)

    def measure(self, films: Tensor) -> None:
        """Set middle and spread from all training films ``[N, 1, size, size]`` in [-1, 1]."""
        self.middle.copy_(films.mean(dim=0, keepdim=True))
        self.spread.fill_((films - self.middle).std().clamp_min(1e-3))

    def loss(self, films: Tensor, labels: Tensor, noise: Tensor, draws: Tensor) -> Tensor:
        data, time, e = (films - self.middle) / self.spread, drawn_times(draws), noise.view_as(films)
        return F.mse_loss(self._velocity(mixed(data, e, time), time, labels), data - e)

    def draw(self, noise: Tensor, labels: Tensor, steps: int, earlier: Base, guidance: float) -> Tensor:
        assert isinstance(earlier, UNet)
        velocity_at = guided(self._flow(labels), earlier._flow(labels), guidance)
        drawn = followed(velocity_at, noise.view(-1, 1, self.size, self.size), steps)
        return self.middle + self.spread * drawn

    def _flow(self, labels: Tensor) -> VelocityAt:
        return lambda state, time: self._velocity(state, time, labels)

    def _velocity(self, state: Tensor, time: Tensor, labels: Tensor) -> Tensor:
        told = self.condition(time, labels)
        maps = (state / spread_at(time, state)).contiguous(memory_format=torch.channels_last)
        maps = self.enter(maps) + self.place
        kept = []
        for number, block in enumerate(self.down):
            maps = block(maps, told)
            kept.append(maps)
            if number % 2 and number < 5:
                maps = self.halve[number // 2](maps)
        for number, block in enumerate(self.up):
            maps = block(torch.cat([maps, kept.pop()], dim=1), told)
            if number % 2 and number < 5:
                maps = self.enlarge[number // 2](maps)
        return velocity(self.leave(F.silu(maps)).float(), state, time)
