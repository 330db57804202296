"""Differentiable augmentation: both nets of a GAN see real and generated films only as they are after it.

Zhao et al., "Differentiable augmentation for data-efficient GAN training" (NeurIPS 2020), equations 4 to 6: since
generated films are changed alike, the changes do not leak into them, and the discriminator cannot learn a few
hundred films by heart. No flips: the heart stays on its side.
"""

from __future__ import annotations

import torch
from torch import Tensor

DRAWS = 6  # numbers that one film's augmentation takes
BRIGHTNESS = 0.5  # range of the shift, of grey levels in [-1, 1]
CONTRAST = (0.7, 1.3)
SHIFT = 1 / 8  # of the film's side, at most
CUTOUT = 1 / 2  # side of the square that is blanked, of the film's


def augmented(films: Tensor, draws: Tensor) -> Tensor:
    """Brightness, contrast, shift and cutout, each film by its own draws.

    Args:
        films: ``[B, 1, H, H]`` in [-1, 1].
        draws: standard normal ``[B, DRAWS]``.
    """
    size = films.shape[-1]
    uniform = torch.special.ndtr(draws.float())
    shift = (uniform[:, 0] - 0.5) * BRIGHTNESS
    contrast = CONTRAST[0] + uniform[:, 1] * (CONTRAST[1] - CONTRAST[0])
    mean = films.mean(dim=(1, 2, 3), keepdim=True)
    films = (films - mean) * contrast[:, None, None, None] + mean + shift[:, None, None, None]
    films = _moved(films, ((uniform[:, 2:4] * 2 - 1) * SHIFT * size).round())
    place = torch.arange(size, device=films.device)
    near = (place[None, None] - uniform[:, 4:6, None] * size).abs() < CUTOUT * size / 2
    return films * ~(near[:, 0, None, :, None] & near[:, 1, None, None, :])


def _moved(films: Tensor, pixels: Tensor) -> Tensor:
    """Films moved by whole pixels ``[B, 2]``; zeros, a middle grey, come in at the edge.

    Pixels are gathered, not sampled from a grid: R1 differentiates this twice, which torch has learnt for grids only
    after 2.11.
    """
    size = films.shape[-1]
    place = torch.arange(size, device=films.device)
    across, down = (place + pixels[:, axis, None].long() for axis in (0, 1))  # where each pixel comes from: [B, size]
    inside = _within(down, size)[:, :, None] & _within(across, size)[:, None]
    source = down.clamp(0, size - 1)[:, :, None] * size + across.clamp(0, size - 1)[:, None]
    moved = films.float().flatten(1).gather(1, source.flatten(1)).view_as(films)
    return moved * inside[:, None]


def _within(places: Tensor, size: int) -> Tensor:
    return (places >= 0) & (places < size)
