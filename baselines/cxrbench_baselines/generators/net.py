"""What a generator with one sampling net does around its training step."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar, Self

from torch import Tensor, nn

from cxrbench.contracts import Images, Labels, Pixels, RunContext
from cxrbench_baselines.nets import load_facts, load_net, sample_in_batches, save_nets
from cxrbench_baselines.training import run_steps


@dataclass
class NetGenerator:
    """A subclass says how its net is built (``build_generator``), made ready (``setup``) and stepped.

    ``setup`` must set ``_facts`` (what ``build_generator`` needs) and ``_sampler`` (the net to sample from).

    Args:
        latent: dimensions of the noise.
    """

    latent: int = 100

    sampling_batch: ClassVar[int] = 128

    _sampler: nn.Module | None = field(default=None, init=False, repr=False, compare=False)
    _facts: dict[str, int] = field(default_factory=dict, init=False, repr=False, compare=False)

    def build_generator(self) -> nn.Module:
        """A fresh net: noise ``[B, latent]`` and labels ``[B]`` to films ``[B, 1, H, W]`` in [-1, 1]."""
        raise TypeError(f"{type(self).__name__} does not say how its net is built")

    def setup(self, train: Images, ctx: RunContext) -> None:
        raise TypeError(f"{type(self).__name__} does not say how it is made ready")

    def training_step(self, step: int) -> Mapping[str, Tensor]:
        raise TypeError(f"{type(self).__name__} does not say how it is stepped")

    def fit(self, train: Images, ctx: RunContext) -> Self:
        self.setup(train, ctx)
        run_steps(self.training_step, ctx)
        return self

    def sample(self, labels: Labels, ctx: RunContext) -> Pixels:
        assert self._sampler is not None, "call fit or load first"
        net = self._sampler.to(ctx.device).eval()
        return sample_in_batches(net, labels, self.latent, ctx, self.sampling_batch)

    def save(self, path: Path) -> None:
        assert self._sampler is not None, "call fit or load first"
        save_nets(path, {"generator": self._sampler}, self._facts)

    def load(self, path: Path) -> Self:
        self._facts = load_facts(path)
        self._sampler = load_net(path, "generator", self.build_generator())
        return self
