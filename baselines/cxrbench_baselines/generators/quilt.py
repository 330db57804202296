"""Cut and paste, the comparator that learns nothing: new coarse films, the detail of real ones.

A coarse film of 8 pixels is drawn by the smoothed bootstrap that keeps mean and covariance (Silverman, "Density
estimation for statistics and data analysis", 1986, section 6.4.1): a real one moved towards the class mean, plus
Gaussian noise with the class's covariance. Its detail is quilted from real films, every piece from another one and
none from the film it was drawn around (``quilting``).

Its films hold pieces of patients' films as they are. What is said of memorization looks at whole films and does not
see that: do not take these films for anonymous. A generator that is trained for hours should beat this one.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Self

import numpy as np
import torch

from cxrbench.contracts import Images, Labels, Pixels, RunContext
from cxrbench.errors import UsageError
from cxrbench.registry import GENERATORS
from cxrbench_baselines.batches import to_pixels, to_signed
from cxrbench_baselines.generators.cascade import coarse_films, padded
from cxrbench_baselines.generators.kept import KeptFilms
from cxrbench_baselines.generators.quilting import films_needed, quilted

COARSE = 8  # pixels of a coarse film: chest, heart and haze, and few enough numbers for a Gaussian


@GENERATORS.register("quilt")
@dataclass
class Quilt(KeptFilms):
    """Args:
    pieces: along each side of a film; every one of the ``pieces**2`` is taken from another real film.
    bandwidth: of the coarse films, 0 to 1. At 0 they are real ones, at 1 they are drawn from a Gaussian.
    agreement: weight of how well pieces continue each other, against how well they fit the coarse film.
    """

    pieces: int = 2
    bandwidth: float = 0.7
    agreement: float = 3.0

    def __post_init__(self) -> None:
        """Raises ValueError where a parameter is outside its range."""
        if not 0 <= self.bandwidth <= 1:
            raise ValueError(f"bandwidth={self.bandwidth:g} must lie in [0, 1]")
        if self.pieces < 1:
            raise ValueError(f"pieces={self.pieces} must be at least 1")
        if not 0 <= self.agreement < math.inf:
            raise ValueError(f"agreement={self.agreement:g} must be 0 or more, and finite")

    def fit(self, train: Images, ctx: RunContext) -> Self:
        """Nothing is learned: the films are kept.

        Raises:
            UsageError: a class has too few films for as many pieces.
        """
        refuse_few(train, self.pieces)
        return super().fit(train, ctx)

    def sample(self, labels: Labels, ctx: RunContext) -> Pixels:
        """Row i depends on ``ctx.seed`` and the labels up to row i."""
        rng = np.random.default_rng(ctx.seed)
        rows = (rng.random(len(labels)) * self.counts(labels)).astype(np.int64)
        films = {label: torch.from_numpy(self._films[str(label)]).to(ctx.device) for label in np.unique(labels)}
        size = next(iter(self._films.values())).shape[-1]
        drawn = np.zeros((len(labels), 1, size, size), np.uint8)
        noise = {label: np.random.default_rng([ctx.seed, label]) for label in films}
        for label, pixels in films.items():
            of_class = np.flatnonzero(labels == label)
            around = torch.from_numpy(rows[of_class]).to(ctx.device)
            draws = noise[label].standard_normal((len(of_class), len(pixels)), np.float32)
            coarse = self._coarse(coarse_films(pixels, COARSE), around, torch.from_numpy(draws).to(ctx.device))
            fine = quilted(coarse, padded(to_signed(pixels)), self.pieces, self.agreement, banned=around)
            drawn[of_class] = to_pixels(fine[:, :, :size, :size])
        return drawn

    def _coarse(self, real: torch.Tensor, around: torch.Tensor, draws: torch.Tensor) -> torch.Tensor:
        """New coarse films ``[B, 1, h, h]`` of real ones ``[N, 1, h, h]``; ``draws`` are ``[B, N]``."""
        middle = real.mean(dim=0)
        apart = (real - middle).flatten(1)
        gaussian = (draws @ apart / math.sqrt(len(real))).view(-1, *middle.shape)
        kept = math.sqrt(1 - self.bandwidth**2)
        return middle + kept * (real[around] - middle) + self.bandwidth * gaussian


def refuse_few(train: Images, pieces: int) -> None:
    """Raises UsageError where a class has too few films for a quilt of ``pieces`` along a side."""
    for label, name in enumerate(train.classes):
        count, needed = int((train.labels == label).sum()), films_needed(pieces)
        if count < needed:
            raise UsageError(
                f"quilting {pieces} x {pieces} pieces needs {needed} training films of class {name!r}, "
                f"there are {count}; add films, drop the class, or ask for fewer pieces"
            )
