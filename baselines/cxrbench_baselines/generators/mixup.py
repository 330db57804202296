"""Mixup within a class: convex combinations of two training films that carry the same label.

Zhang, Cissé, Dauphin and Lopez-Paz, "mixup: Beyond empirical risk minimization", ICLR 2018, arXiv:1710.09412, mix
films of any classes and their labels alike. The rows of a pool carry one hard label, so only films of one class can
be mixed here (``SC`` in the paper's ablation, where it helps less than mixing across classes): nothing is said of
what lies between the classes. The mixtures are drawn once for the pool, each with a weight of its own, and no film
is mixed with itself.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import numpy as np

from cxrbench.contracts import Images, Labels, Pixels, RunContext
from cxrbench.errors import UsageError
from cxrbench.registry import GENERATORS
from cxrbench_baselines.generators.kept import KeptFilms

LARGEST_ALPHA = 1e6  # there the weight is 1/2 to three digits; far above it the sampling of Beta fails


@GENERATORS.register("mixup")
@dataclass
class Mixup(KeptFilms):
    """Args:
    alpha: of the weight's Beta(alpha, alpha) distribution, above 0 and up to 1e6. 1 is the paper's value for CIFAR
        and makes the weight uniform; below it most mixtures are near one of their two films, above it near their
        mean.
    """

    alpha: float = 1.0

    def __post_init__(self) -> None:
        """Raises ValueError where ``alpha`` is outside its range."""
        if not 0 < self.alpha <= LARGEST_ALPHA:
            raise ValueError(f"alpha={self.alpha:g} must be above 0 and at most {LARGEST_ALPHA:g}")

    def fit(self, train: Images, ctx: RunContext) -> Self:
        """Nothing is learned: the films are kept.

        Raises:
            UsageError: a class has fewer than two films.
        """
        for label, name in enumerate(train.classes):
            if (train.labels == label).sum() < 2:
                raise UsageError(f"mixup needs two training films of class {name!r}; add films or drop the class")
        return super().fit(train, ctx)

    def sample(self, labels: Labels, ctx: RunContext) -> Pixels:
        """Row i is ``w a + (1 - w) b`` (the paper's section 2) of two films a, b of class ``labels[i]``, rounded to
        whole grey levels."""
        rng = np.random.default_rng(ctx.seed)
        counts = self.counts(labels)
        one = rng.integers(0, counts)
        other = (one + rng.integers(1, counts)) % counts
        weight = rng.beta(self.alpha, self.alpha, len(labels))[:, None, None, None]
        mixed = weight * self.take(labels, one) + (1 - weight) * self.take(labels, other)
        return np.rint(mixed).astype(np.uint8)
