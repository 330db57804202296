"""Differentiable augmentation: both nets of a GAN see real and generated films only as they are after it.

Zhao et al., "Differentiable augmentation for data-efficient GAN training" (NeurIPS 2020), equations 4 to 6: since
generated films are changed alike, the changes do not leak into them, and the discriminator cannot learn a few
hundred films by heart. No flips: the heart stays on its side.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from cxrbench_baselines.nets import full_precision

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
    """Films moved by whole pixels ``[B, 2]``; zeros, a middle grey, come in at the edge."""
    with full_precision(films.device):  # rounded places would double rows and drop others
        matrix = torch.zeros(len(films), 2, 3, device=films.device)
        matrix[:, 0, 0] = matrix[:, 1, 1] = 1.0
        matrix[:, :, 2] = pixels * 2 / films.shape[-1]
        grid = F.affine_grid(matrix, list(films.shape), align_corners=False)
        return F.grid_sample(films.float(), grid, mode="nearest", padding_mode="zeros", align_corners=False)
