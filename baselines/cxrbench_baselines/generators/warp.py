"""The one affine warp that every augmentation of films uses."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional as F

from cxrbench.contracts import Pixels

BATCH = 256  # films warped at a time: memory


def warp(pixels: Pixels, matrices: NDArray[np.float64]) -> Pixels:
    """Move each film by a matrix of its own: bilinear, and what lies outside a film is filled from its border.

    Args:
        pixels: uint8 ``[N, 1, H, W]``.
        matrices: ``[N, 2, 3]``, from a place (x, y, 1) in the new film to the place in the old film that is shown
            there; x to the right and y down, from the centre, in units of half a side.

    Returns:
        uint8 ``[N, 1, H, W]``.
    """
    parts = [_warp(pixels[i : i + BATCH], matrices[i : i + BATCH]) for i in range(0, len(pixels), BATCH)]
    return np.concatenate(parts)


def _warp(pixels: Pixels, matrices: NDArray[np.float64]) -> Pixels:
    films = torch.from_numpy(pixels).float()
    grid = F.affine_grid(torch.from_numpy(matrices).float(), list(films.shape), align_corners=False)
    moved = F.grid_sample(films, grid, mode="bilinear", padding_mode="border", align_corners=False)
    return moved.round().clamp(0, 255).to(torch.uint8).numpy()
