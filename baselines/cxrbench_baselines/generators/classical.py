"""Classical augmentation: horizontal flips and small rotations of training films.

The arm every learned generator must beat. It is materialised as a pool like any other generator's, so
that all arms see the same number of added films and optimizer steps. A left-right flip moves the heart to
the wrong side; it is here because the published studies use it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

import numpy as np
import torch
from safetensors.numpy import load_file, save_file
from torch.nn import functional as F

from cxrbench.contracts import Images, Labels, Pixels, RunContext
from cxrbench.registry import GENERATORS

BATCH = 256


@GENERATORS.register("classical")
@dataclass
class Classical:
    """Args:
    flip: probability of a horizontal flip.
    degrees: rotations are drawn uniformly from [-degrees, degrees]; corners are filled from the edge.
    """

    flip: float = 0.5
    degrees: float = 10.0

    _films: dict[str, np.ndarray] = field(default_factory=dict, init=False, repr=False, compare=False)

    def fit(self, train: Images, ctx: RunContext) -> Self:
        """Nothing is learned: the films are kept."""
        self._films = {
            str(label): np.ascontiguousarray(train.of_class(label).pixels) for label in range(len(train.classes))
        }
        return self

    def sample(self, labels: Labels, ctx: RunContext) -> Pixels:
        """Row i is a random training film of class ``labels[i]``, flipped and rotated."""
        rng = np.random.default_rng(ctx.seed)
        draws = rng.random(len(labels))
        chosen = np.stack(
            [
                self._films[str(label)][int(u * len(self._films[str(label)]))]
                for label, u in zip(labels, draws, strict=True)
            ]
        )
        flipped = rng.random(len(labels)) < self.flip
        angles = np.deg2rad(rng.uniform(-self.degrees, self.degrees, len(labels)))
        parts = [
            _transform(chosen[i : i + BATCH], flipped[i : i + BATCH], angles[i : i + BATCH])
            for i in range(0, len(labels), BATCH)
        ]
        return np.concatenate(parts)

    def save(self, path: Path) -> None:
        save_file(self._films, path / "films.safetensors")

    def load(self, path: Path) -> Self:
        self._films = load_file(path / "films.safetensors")
        return self


def _transform(pixels: Pixels, flipped: np.ndarray, angles: np.ndarray) -> Pixels:
    """Flip, then rotate about the centre, bilinear."""
    cos, sin, zero = np.cos(angles), np.sin(angles), np.zeros_like(angles)
    mirror = np.where(flipped, -1.0, 1.0)
    matrix = np.stack([np.stack([mirror * cos, -mirror * sin, zero], 1), np.stack([sin, cos, zero], 1)], 1)
    films = torch.from_numpy(pixels).float()
    grid = F.affine_grid(torch.from_numpy(matrix).float(), list(films.shape), align_corners=False)
    turned = F.grid_sample(films, grid, mode="bilinear", padding_mode="border", align_corners=False)
    return turned.round().clamp(0, 255).to(torch.uint8).numpy()
