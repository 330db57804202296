"""What a generator with one sampling net does around its training step."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
from torch import Tensor, nn

from cxrbench.contracts import Images, Labels, Pixels, RunContext
from cxrbench.hashing import canonical_hash, plugin_identity
from cxrbench_baselines import training
from cxrbench_baselines.monitors import Watch
from cxrbench_baselines.nets import load_facts, load_net, sample_in_batches, save_nets
from cxrbench_baselines.training import Stateful

DIAGNOSIS = "diagnosis.json"
STORY = ("history.csv", "evolution.png")  # what the monitors leave in the workdir; kept beside the nets


@dataclass
class NetGenerator:
    """A subclass says how its net is built (``build_generator``), made ready (``setup``) and stepped, and what its
    steps change (``parts``).

    ``setup`` must set ``_facts`` (what ``build_generator`` needs) and ``_sampler`` (the net to sample from).
    """

    sampling_batch: ClassVar[int] = 128

    _sampler: nn.Module | None = field(default=None, init=False, repr=False, compare=False)
    _facts: dict[str, int] = field(default_factory=dict, init=False, repr=False, compare=False)
    _diagnosis: list[str] = field(default_factory=list, init=False, repr=False, compare=False)
    _story: dict[str, bytes] = field(default_factory=dict, init=False, repr=False, compare=False)

    def build_generator(self) -> nn.Module:
        """A fresh net: noise ``[B, noise_dims]`` and labels ``[B]`` to films ``[B, 1, H, W]`` in [-1, 1]."""
        raise TypeError(f"{type(self).__name__} does not say how its net is built")

    def noise_dims(self) -> int:
        """Dimensions of the noise that one film is made from; after ``setup`` or ``load``."""
        raise TypeError(f"{type(self).__name__} does not say what noise it takes")

    def setup(self, train: Images, ctx: RunContext) -> None:
        raise TypeError(f"{type(self).__name__} does not say how it is made ready")

    def training_step(self, step: int) -> Mapping[str, Tensor]:
        raise TypeError(f"{type(self).__name__} does not say how it is stepped")

    def parts(self) -> Mapping[str, Stateful]:
        """By name, everything that a training step changes: nets, moving averages, optimizers; after ``setup``."""
        raise TypeError(f"{type(self).__name__} does not say what its training changes")

    def finish(self, train: Images, ctx: RunContext) -> None:
        """What remains to be done after the last step; most need nothing."""

    def fit(self, train: Images, ctx: RunContext) -> Self:
        """Train, from the checkpoint where an interrupted fit of the same films left one in ``ctx.workdir``.

        Raises:
            Diverged, UsageError, KeyboardInterrupt: as ``training.train``.
        """
        self.setup(train, ctx)
        parts = self.parts()
        nets = {name: part for name, part in parts.items() if isinstance(part, nn.Module)}
        watch = Watch(train, lambda labels: self.preview(labels, ctx), nets, ctx.workdir)
        training.train(self.training_step, ctx, parts=parts, facts=self._identity(train), watch=watch)
        self.finish(train, ctx)
        self._diagnosis = watch.findings()
        told = (ctx.workdir / name for name in STORY)
        self._story = {path.name: path.read_bytes() for path in told if path.is_file()}
        return self

    def diagnosis(self) -> list[str]:
        """What the monitors found in the fit, in plain sentences; empty where all was well."""
        return list(self._diagnosis)

    def sample(self, labels: Labels, ctx: RunContext) -> Pixels:
        assert self._sampler is not None, "call fit or load first"
        net = self._sampler.to(ctx.device).eval()
        return sample_in_batches(net, labels, self.noise_dims(), ctx, self.sampling_batch)

    def preview(self, labels: Labels, ctx: RunContext) -> Pixels:
        """Films for the monitors, which look often; a generator whose sampling is slow has a quicker way here."""
        return self.sample(labels, ctx)

    def save(self, path: Path) -> None:
        assert self._sampler is not None, "call fit or load first"
        save_nets(path, {"generator": self._sampler}, self._facts)
        (path / DIAGNOSIS).write_text(json.dumps(self._diagnosis, indent=1))
        for name, content in self._story.items():
            (path / name).write_bytes(content)

    def load(self, path: Path) -> Self:
        self._facts = load_facts(path)
        self._sampler = load_net(path, "generator", self.build_generator())
        self._diagnosis = json.loads((path / DIAGNOSIS).read_text())
        return self

    def _identity(self, train: Images) -> dict[str, Any]:
        """What a checkpoint of this fit must have in common with it, beside seed and budget."""
        identity = plugin_identity(type(self).__name__, self)
        return {
            "generator": identity["name"],
            **{f"parameter {name}": value for name, value in identity["params"].items()},
            "source of the plug-in": canonical_hash(identity["source"]),
            "classes": list(train.classes),
            "size": train.size,
            "content of the training films": films_sha256(train),
        }


@dataclass
class LatentGenerator(NetGenerator):
    """A generator whose films are each made from one vector of noise, as a GAN's are.

    Args:
        latent: dimensions of the noise.
    """

    latent: int = 100

    def noise_dims(self) -> int:
        return self.latent


def films_sha256(films: Images) -> str:
    """sha256 (hex) of the pixels and labels, in their order."""
    digest = hashlib.sha256(np.ascontiguousarray(films.pixels).data)
    digest.update(np.ascontiguousarray(films.labels).data)
    return digest.hexdigest()
