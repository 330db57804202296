"""Cut and paste, the comparator that learns nothing: new coarse films, the detail of real ones.

A coarse film of 8 pixels is drawn by the smoothed bootstrap that keeps mean and covariance (Silverman, "Density
estimation for statistics and data analysis", 1986, section 6.4.1): a real one moved towards the class mean, plus
Gaussian noise with the class's covariance. Its detail is quilted from real films, every piece from another one and
none from the film it was drawn around (``quilting``).

Its films hold pieces of patients' films as they are, and its checkpoint the training films: neither is anonymous. A
generator that is trained for hours should beat this one.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Self

import numpy as np
import torch
from torch import Tensor

from cxrbench.contracts import Images, Labels, Pixels, RunContext
from cxrbench.errors import UsageError
from cxrbench.registry import GENERATORS
from cxrbench_baselines.batches import to_pixels
from cxrbench_baselines.generators.cascade import coarse_films, padded
from cxrbench_baselines.generators.kept import KeptFilms
from cxrbench_baselines.generators.quilting import MOST_PIECES, Library, films_needed, library, quilted

COARSE = 8  # pixels of a coarse film: chest, heart and haze, and few enough numbers for a Gaussian


@dataclass
class QuiltedFilms(KeptFilms):
    """Real films to take detail from.

    Args:
        pieces: along each side of a film; every one of the ``pieces**2`` is taken from another real film.
        agreement: weight of how well pieces continue each other, against how well they fit the coarse film.
    """

    pieces: int = 2
    agreement: float = 3.0

    # Of the class asked for last: films are asked for class by class, some at a time, and detail may fill gigabytes.
    _last: tuple[Pixels, str, Library] | None = field(default=None, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        """Raises ValueError where a parameter is outside its range."""
        if not 1 <= self.pieces <= MOST_PIECES:
            raise ValueError(f"pieces={self.pieces} must be at least 1 and at most {MOST_PIECES}")
        if not 0 <= self.agreement < math.inf:
            raise ValueError(f"agreement={self.agreement:g} must be 0 or more, and finite")

    def fit(self, train: Images, ctx: RunContext) -> Self:
        """Nothing is learned: the films are kept.

        Raises:
            UsageError: a class has too few films for as many pieces.
        """
        needed = films_needed(self.pieces)
        for label, name in enumerate(train.classes):
            if (count := int((train.labels == label).sum())) < needed:
                raise UsageError(
                    f"quilting {self.pieces} x {self.pieces} pieces needs {needed} training films of class {name!r}, "
                    f"there are {count}; add films, drop the class, or ask for fewer pieces"
                )
        return super().fit(train, ctx)

    def of_class(self, label: int, device: str) -> Tensor:
        """uint8 ``[N, 1, H, W]``."""
        return torch.from_numpy(self._films[str(label)]).to(device)

    def finished(self, coarse: Tensor, labels: Labels, banned: Labels | None = None) -> Pixels:
        """Coarse films ``[M, 1, COARSE, COARSE]`` in about [-1, 1] with detail: uint8 ``[M, 1, H, W]``.

        Row i takes pieces of the films of class ``labels[i]``, and nothing of number ``banned[i]`` of them.
        """
        films = np.empty((len(labels), *next(iter(self._films.values())).shape[1:]), np.uint8)
        for label in np.unique(labels):
            rows, size, forbidden = np.flatnonzero(labels == label), films.shape[-1], None
            if banned is not None:
                forbidden = torch.from_numpy(banned[rows]).to(coarse.device)
            real = self._library(int(label), str(coarse.device))
            fine = quilted(coarse[rows], real, self.pieces, self.agreement, forbidden)
            films[rows] = to_pixels(fine[:, :, :size, :size])
        return films

    def _library(self, label: int, device: str) -> Library:
        films = self._films[str(label)]
        if self._last is None or self._last[0] is not films or self._last[1] != device:
            self._last = None  # before the next is made: two may not fit
            self._last = (films, device, library(padded(self.of_class(label, device)), COARSE))
        return self._last[2]


@GENERATORS.register("quilt")
@dataclass
class Quilt(QuiltedFilms):
    """Args, besides those of ``QuiltedFilms``:
    bandwidth: of the coarse films, 0 to 1. At 0 they are real ones, at 1 they are drawn from a Gaussian.
    """

    bandwidth: float = 0.7

    def __post_init__(self) -> None:
        """Raises ValueError where a parameter is outside its range."""
        super().__post_init__()
        if not 0 <= self.bandwidth <= 1:
            raise ValueError(f"bandwidth={self.bandwidth:g} must lie in [0, 1]")

    def sample(self, labels: Labels, ctx: RunContext) -> Pixels:
        """Row i depends on ``ctx.seed``, its class, and how many rows of its class come before it."""
        coarse, around = torch.empty(len(labels), 1, COARSE, COARSE), np.empty(len(labels), np.int64)
        for label in np.unique(labels):
            rows, rng = np.flatnonzero(labels == label), np.random.default_rng([ctx.seed, label])
            real = coarse_films(self.of_class(label, "cpu"), COARSE)
            draws = torch.empty(len(rows), len(real))
            for row, draw in zip(rows, draws, strict=True):
                around[row] = rng.integers(len(real))
                draw.copy_(torch.from_numpy(rng.standard_normal(len(real), np.float32)))
            coarse[rows] = self._coarse(real, torch.from_numpy(around[rows]), draws)
        return self.finished(coarse.to(ctx.device), labels, around)

    def _coarse(self, real: Tensor, around: Tensor, draws: Tensor) -> Tensor:
        """New coarse films ``[B, 1, h, h]`` of real ones ``[N, 1, h, h]``; ``draws`` are ``[B, N]``."""
        middle = real.mean(dim=0)
        apart = (real - middle).flatten(1)
        gaussian = (draws @ apart / math.sqrt(len(real))).view(-1, *middle.shape)
        kept = math.sqrt(1 - self.bandwidth**2)
        return middle + kept * (real[around] - middle) + self.bandwidth * gaussian
