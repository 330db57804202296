"""Classical augmentation: horizontal flips and small rotations of training films.

The arm every learned generator must beat. It is materialised as a pool like any other generator's, so
that all arms see the same number of added films and optimizer steps. A left-right flip moves the heart to
the wrong side; it is here because the published studies use it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from cxrbench.contracts import Labels, Pixels, RunContext
from cxrbench.registry import GENERATORS
from cxrbench_baselines.generators.kept import KeptFilms
from cxrbench_baselines.generators.warp import warp


@GENERATORS.register("classical")
@dataclass
class Classical(KeptFilms):
    """Args:
    flip: probability of a horizontal flip.
    degrees: rotations are drawn uniformly from [-degrees, degrees]; corners are filled from the edge.
    """

    flip: float = 0.5
    degrees: float = 10.0

    def sample(self, labels: Labels, ctx: RunContext) -> Pixels:
        """Row i is a random training film of class ``labels[i]``, flipped and rotated about its centre."""
        rng = np.random.default_rng(ctx.seed)
        films = self.draw(labels, rng)
        mirror = np.where(rng.random(len(labels)) < self.flip, -1.0, 1.0)
        angles = np.deg2rad(rng.uniform(-self.degrees, self.degrees, len(labels)))
        cos, sin, zero = np.cos(angles), np.sin(angles), np.zeros_like(angles)
        rows = [np.stack([mirror * cos, -mirror * sin, zero], 1), np.stack([sin, cos, zero], 1)]
        return warp(films, np.stack(rows, 1))
