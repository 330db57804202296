"""Augmentation that respects anatomy: films moved, turned, scaled and exposed a little differently, never mirrored.

What another radiographer might have taken of the same patient on the same day: the patient stands a little aside,
askew or nearer to the tube, and the exposure differs. No left-right flip: it would put the heart on the wrong side,
which is a disease (dextrocardia) and no variation. A learned generator has to beat this arm before it can be said
to have learned more than how films are taken.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cxrbench.contracts import Labels, Pixels, RunContext
from cxrbench.registry import GENERATORS
from cxrbench_baselines.generators.kept import KeptFilms
from cxrbench_baselines.generators.warp import warp

LARGEST_TURN = 45.0  # degrees: beyond it a film lies on its side
WHITE = 255.0


@GENERATORS.register("classical-strong")
@dataclass
class ClassicalStrong(KeptFilms):
    """Each amount is drawn anew for every film; what a film lacks at its edges is filled from its border.

    Args:
        degrees: rotations are uniform in [-degrees, degrees]; from 0 to 45.
        zoom: scales are log-uniform in [1 / zoom, zoom], the same along both axes; from 1 (none) to 2.
        shift: shifts along either axis are uniform in [-shift, shift] of the film's side; from 0 to 0.5.
        gamma: exponents of the grey levels (0 = black, 1 = white, both kept) are log-uniform in
            [1 / gamma, gamma]; from 1 (none) to 4.
        contrast: factors of a grey level's distance from the film's mean are log-uniform in
            [1 / contrast, contrast]; from 1 (none) to 4. Levels beyond black and white are clipped.
    """

    degrees: float = 10.0
    zoom: float = 1.1
    shift: float = 0.05
    gamma: float = 1.2
    contrast: float = 1.2

    def __post_init__(self) -> None:
        """Raises ValueError for a parameter outside its range."""
        ranges = {
            "degrees": (0.0, LARGEST_TURN),
            "zoom": (1.0, 2.0),
            "shift": (0.0, 0.5),
            "gamma": (1.0, 4.0),
            "contrast": (1.0, 4.0),
        }
        for name, (low, high) in ranges.items():
            value = getattr(self, name)
            if not low <= value <= high:
                raise ValueError(f"{name}={value:g} must lie in [{low:g}, {high:g}]")

    def sample(self, labels: Labels, ctx: RunContext) -> Pixels:
        """Row i is a random training film of class ``labels[i]``, moved and exposed differently."""
        rng = np.random.default_rng(ctx.seed)
        films, count = self.draw(labels, rng), len(labels)
        angles = np.deg2rad(rng.uniform(-self.degrees, self.degrees, count))
        scales = _log_uniform(rng, self.zoom, count)
        shifts = 2 * rng.uniform(-self.shift, self.shift, (count, 2))  # in half sides
        moved = warp(films, _from_new_to_old(angles, scales, shifts))
        return _expose(moved, _log_uniform(rng, self.gamma, count), _log_uniform(rng, self.contrast, count))


def _log_uniform(rng: np.random.Generator, largest: float, count: int) -> NDArray[np.float64]:
    """float64 ``[count]`` in [1 / largest, largest]; as often above 1 as below."""
    return np.asarray(np.exp(rng.uniform(-1, 1, count) * np.log(largest)))


def _from_new_to_old(
    angles: NDArray[np.float64], scales: NDArray[np.float64], shifts: NDArray[np.float64]
) -> NDArray[np.float64]:
    """``[N, 2, 3]`` for ``warp``, of films that are turned and scaled about their centre, then shifted."""
    cos, sin = np.cos(angles) / scales, np.sin(angles) / scales
    back = np.stack([np.stack([cos, -sin], 1), np.stack([sin, cos], 1)], 1)
    return np.concatenate([back, -back @ shifts[:, :, None]], axis=2)


def _expose(films: Pixels, gammas: NDArray[np.float64], contrasts: NDArray[np.float64]) -> Pixels:
    """Change each film's grey levels: by its exponent, then by its contrast about the mean."""
    out = np.empty_like(films)
    for i, film in enumerate(films):
        levels = (np.arange(256) / WHITE) ** gammas[i]
        mean = levels[film].mean()
        levels = mean + contrasts[i] * (levels - mean)
        out[i] = np.rint(np.clip(levels, 0, 1) * WHITE).astype(np.uint8)[film]
    return out
