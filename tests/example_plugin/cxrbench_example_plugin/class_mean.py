"""A generator without a net: the mean film of the class plus pixel noise."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

import numpy as np

from cxrbench.contracts import Images, Labels, Pixels, RunContext


@dataclass
class ClassMean:
    """Args:
    noise: standard deviation of the noise, in grey levels.
    """

    noise: float = 12.0

    _means: np.ndarray | None = field(default=None, init=False, repr=False, compare=False)

    def fit(self, train: Images, ctx: RunContext) -> Self:
        self._means = np.stack([train.of_class(i).pixels.mean(axis=0) for i in range(len(train.classes))])
        return self

    def sample(self, labels: Labels, ctx: RunContext) -> Pixels:
        assert self._means is not None
        means = self._means[labels]
        noisy = means + np.random.default_rng(ctx.seed).normal(0.0, self.noise, means.shape)
        return np.clip(np.rint(noisy), 0, 255).astype(np.uint8)

    def save(self, path: Path) -> None:
        np.save(path / "means.npy", self._means)

    def load(self, path: Path) -> Self:
        self._means = np.load(path / "means.npy")
        return self
