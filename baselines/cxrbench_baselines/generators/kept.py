"""What the generators without a net share: they keep films of each class and give them back in some form."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load_file, save_file

from cxrbench.contracts import Images, Labels, Pixels, RunContext


@dataclass
class KeptFilms:
    """A generator whose checkpoint is films: uint8 ``[N, 1, H, W]`` for each label (as text)."""

    _films: dict[str, Pixels] = field(default_factory=dict, init=False, repr=False, compare=False)

    def fit(self, train: Images, ctx: RunContext) -> Self:
        """Nothing is learned: the films are kept."""
        self._films = films_by_class(train)
        return self

    def counts(self, labels: Labels) -> NDArray[np.int64]:
        """int64 ``[M]``: how many films of class ``labels[i]`` are kept."""
        return np.asarray([len(self._films[str(label)]) for label in labels], np.int64)

    def take(self, labels: Labels, rows: NDArray[np.int64]) -> Pixels:
        """uint8 ``[M, 1, H, W]``: row i is film number ``rows[i]`` of class ``labels[i]``."""
        return np.stack([self._films[str(label)][row] for label, row in zip(labels, rows, strict=True)])

    def draw(self, labels: Labels, rng: np.random.Generator) -> Pixels:
        """uint8 ``[M, 1, H, W]``: row i is a film of class ``labels[i]``, drawn with replacement."""
        return self.take(labels, (rng.random(len(labels)) * self.counts(labels)).astype(np.int64))

    def save(self, path: Path) -> None:
        save_file(self._films, path / "films.safetensors")

    def load(self, path: Path) -> Self:
        self._films = load_file(path / "films.safetensors")
        return self


def films_by_class(films: Images) -> dict[str, Pixels]:
    """Label (as text) -> uint8 ``[N, 1, H, W]``, copied."""
    return {str(label): np.ascontiguousarray(films.of_class(label).pixels) for label in range(len(films.classes))}
