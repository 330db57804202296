"""A classifier without a net: softmax of the distance to each class's mean film."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Self

import numpy as np

from cxrbench.contracts import Images, Pixels, Probabilities, RunContext


@dataclass
class NearestMean:
    """Args:
    temperature: of the softmax, in mean squared grey levels.
    """

    temperature: float = 50.0

    _means: np.ndarray | None = field(default=None, init=False, repr=False, compare=False)

    def fit(self, train: Images, val: Images, ctx: RunContext) -> Self:
        self._means = np.stack([train.of_class(i).pixels.mean(axis=0) for i in range(len(train.classes))])
        return self

    def predict_proba(self, pixels: Pixels, ctx: RunContext) -> Probabilities:
        assert self._means is not None
        distance = ((pixels[:, None].astype(float) - self._means[None]) ** 2).mean(axis=(2, 3, 4))
        logits = -distance / self.temperature
        weights = np.exp(logits - logits.max(axis=1, keepdims=True))
        return (weights / weights.sum(axis=1, keepdims=True)).astype(np.float32)
