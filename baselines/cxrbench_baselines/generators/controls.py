"""Controls: generators whose place in the ranking is known before they are measured.

If the harness puts one of them elsewhere, the harness is wrong, or the run is too small; no row of it may be
believed. They are ordinary plug-ins; the harness asks for all films of a class at once, so that none comes twice.

* ``oracle`` returns real films that nothing else is trained on: as good as a generator can get.
* ``copy`` returns the training films: best in fidelity, and caught by the memorization test.
* ``shuffle`` returns training films under labels of other classes: good films that must not help.
* ``noise`` returns uniform noise: worst in fidelity, and must not help.
* ``oversample`` draws training films again: what more of the same is worth.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar, Self

import numpy as np

from cxrbench.contracts import Images, Labels, Pixels, Role, RunContext
from cxrbench.errors import UsageError
from cxrbench.registry import GENERATORS
from cxrbench_baselines.generators.kept import KeptFilms, films_by_class


@dataclass
class _Resampler(KeptFilms):
    """Keeps films of each class and gives them back."""

    asked_once: ClassVar[bool] = True

    def sample(self, labels: Labels, ctx: RunContext) -> Pixels:
        """Row i is a film of class ``labels[i]``; none twice until all films of the class have been given."""
        rng = np.random.default_rng(ctx.seed)
        out = np.empty((len(labels), *next(iter(self._films.values())).shape[1:]), np.uint8)
        for label in np.unique(labels):
            rows, films = np.flatnonzero(labels == label), self._films[str(label)]
            rounds = -(-len(rows) // len(films))
            order = np.concatenate([rng.permutation(len(films)) for _ in range(rounds)])
            out[rows] = films[order[: len(rows)]]
        return out


@GENERATORS.register("oracle")
@dataclass
class Oracle(_Resampler):
    """Real films from the reserve: training films that neither it nor the classifier beside it was given."""

    control: ClassVar[Role] = "oracle"

    _reserve: Images | None = field(default=None, init=False, repr=False, compare=False)

    def keep(self, reserve: Images) -> None:
        self._reserve = reserve

    def fit(self, train: Images, ctx: RunContext) -> Self:
        """Learns nothing from ``train``.

        Raises:
            UsageError: no reserve was handed over, or it lacks a class.
        """
        reserve = self._reserve
        if reserve is None or len(np.unique(reserve.labels)) < len(train.classes):
            raise UsageError("the oracle needs a reserve with films of every class: there are too few training films")
        self._films = films_by_class(reserve)
        return self


@GENERATORS.register("copy")
@dataclass
class Copy(_Resampler):
    """The training films themselves."""

    control: ClassVar[Role] = "copy"


@GENERATORS.register("shuffle")
@dataclass
class Shuffle(_Resampler):
    """Training films of every class but the one that was asked for."""

    control: ClassVar[Role] = "shuffle"

    def fit(self, train: Images, ctx: RunContext) -> Self:
        self._films = {
            str(label): np.ascontiguousarray(train.pixels[train.labels != label]) for label in range(len(train.classes))
        }
        return self


@GENERATORS.register("noise")
@dataclass
class Noise(_Resampler):
    """Every pixel uniform over the grey levels."""

    control: ClassVar[Role] = "noise"

    def fit(self, train: Images, ctx: RunContext) -> Self:
        """Only the size of the films is kept."""
        self._films = {"size": np.zeros((1, 1, train.size, train.size), np.uint8)}
        return self

    def sample(self, labels: Labels, ctx: RunContext) -> Pixels:
        shape = self._films["size"].shape[1:]
        return np.random.default_rng(ctx.seed).integers(0, 256, (len(labels), *shape), dtype=np.uint8)


@GENERATORS.register("oversample")
@dataclass
class Oversample(_Resampler):
    """Training films drawn at random, with replacement."""

    control: ClassVar[Role] = "oversample"

    def sample(self, labels: Labels, ctx: RunContext) -> Pixels:
        return self.draw(labels, np.random.default_rng(ctx.seed))
