"""Learned coarse films, the detail of real ones: ``quilt`` with a rectified flow in place of its bootstrap.

What decides a film's class, shape and haze is learned at 8 pixels, where a U-Net's step costs little; what a net needs
hours for on a CPU, sharp detail, is quilted from real films (``quilting``), every piece of a film from another one.
What this is worth beyond ``quilt`` is what the learning is worth.

As with ``quilt``, films hold pieces of patients' films, and a checkpoint holds the training films.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar, Self, cast

import torch
from torch import Tensor, nn

from cxrbench.contracts import Images, Labels, Pixels, RunContext
from cxrbench.registry import GENERATORS
from cxrbench_baselines.batches import FilmBatches, step_noise, to_pixels, to_signed
from cxrbench_baselines.generators.cascade import coarse_films
from cxrbench_baselines.generators.flow import UNet
from cxrbench_baselines.generators.guided import Descent, Guided
from cxrbench_baselines.generators.net import NetGenerator
from cxrbench_baselines.generators.quilt import COARSE, QuiltedFilms
from cxrbench_baselines.nets import on_device, seed_everything
from cxrbench_baselines.training import Stateful


class CoarseFlow(nn.Module):
    """Noise ``[B, COARSE**2]`` and labels ``[B]`` to coarse films ``[B, 1, COARSE, COARSE]`` in about [-1, 1].

    Args:
        steps: of Heun's method.
    """

    def __init__(self, classes: int, width: int, dropout: float, steps: int) -> None:
        super().__init__()
        self.unet, self.steps = UNet(COARSE, classes, width, dropout), steps

    def forward(self, noise: Tensor, labels: Tensor, earlier: CoarseFlow, guidance: float) -> Tensor:
        return self.unet.draw(noise, labels, self.steps, earlier.unet, guidance)


@dataclass
class _State:
    batches: FilmBatches
    descent: Descent
    seed: int
    device: str


@GENERATORS.register("flow-quilt")
@dataclass
class FlowQuilt(NetGenerator):
    """Args:
    batch: films per step.
    rate: learning rate of AdamW after warm-up; it falls to nothing over the second half of the budget.
    decay: of the moving average of the weights that films are sampled from.
    guidance: how far films are led away from what the net drew at half of the budget; 1 is not at all, and more
        brings films nearer to training films.
    width: channels of the U-Net at its full resolution; twice and three times as many below.
    dropout: in the U-Net's blocks; small data are soon known by heart.
    steps: of Heun's method when sampling.
    pieces: along each side of a film; every one of the ``pieces**2`` is taken from another real film.
    agreement: weight of how well pieces continue each other, against how well they fit the coarse film.
    """

    batch: int = 32
    rate: float = 2e-3
    decay: float = 0.995
    guidance: float = 1.0
    width: int = 32
    dropout: float = 0.1
    steps: int = 16
    pieces: int = 2
    agreement: float = 3.0

    sampling_batch: ClassVar[int] = 512

    _kept: QuiltedFilms = field(init=False, repr=False, compare=False)
    _state: _State | None = field(default=None, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        """Raises ValueError where ``pieces`` or ``agreement`` is outside its range."""
        self._kept = QuiltedFilms(self.pieces, self.agreement)

    def build_generator(self) -> Guided:
        return Guided(self._flow(), self._flow(), self.guidance)

    def noise_dims(self) -> int:
        return COARSE**2

    def setup(self, train: Images, ctx: RunContext) -> None:
        """Raises UsageError where a class has too few films for as many pieces."""
        self._kept.fit(train, ctx)
        seed_everything(ctx.seed)
        self._facts = {"classes": len(train.classes)}
        coarse = to_pixels(coarse_films(torch.from_numpy(train.pixels), COARSE))
        batches = FilmBatches(
            Images(coarse, train.labels, train.classes), self.batch, ctx.device, ctx.seed, balanced=True
        )
        flow = on_device(self._flow(), ctx.device)
        flow.unet.measure(to_signed(batches.pixels))
        # No Muon: on maps of 8 pixels a step with it takes a fifth longer and is worth no more.
        descent = Descent.of(flow, [], self.rate, self.decay, ctx.budget)
        self._sampler = descent.guided(self.guidance)
        self._state = _State(batches, descent, ctx.seed, ctx.device)

    def images_per_step(self) -> int:
        return self.batch

    def steps_per_cycle(self) -> int:
        return 1

    def parts(self) -> Mapping[str, Stateful]:
        return self._ready().descent.parts()

    def training_step(self, step: int) -> Mapping[str, Tensor]:
        state = self._ready()
        films, labels = state.batches.at(step)
        noise = step_noise(state.seed, 2 * step, (len(films), COARSE**2), state.device)
        draws = step_noise(state.seed, 2 * step + 1, (len(films),), state.device)
        # Not in bf16: on maps of 8 pixels the casts cost more than it saves.
        flow = cast(CoarseFlow, state.descent.net)
        loss = flow.unet.loss(films, labels, noise, draws)
        state.descent.descend(loss, step, (flow,))
        return {"loss": loss.detach()}

    def sample(self, labels: Labels, ctx: RunContext) -> Pixels:
        coarse = to_signed(torch.from_numpy(super().sample(labels, ctx)))
        return self._kept.finished(coarse.to(ctx.device), labels)

    def preview(self, labels: Labels, ctx: RunContext) -> Pixels:
        """As ``sample``, quicker (``Guided.hasty``)."""
        assert isinstance(self._sampler, Guided), "call setup or load first"
        with self._sampler.hasty():
            return self.sample(labels, ctx)

    def save(self, path: Path) -> None:
        super().save(path)
        self._kept.save(path)

    def load(self, path: Path) -> Self:
        self._kept.load(path)
        return super().load(path)

    def _flow(self) -> CoarseFlow:
        return CoarseFlow(self._facts["classes"], self.width, self.dropout, self.steps)

    def _ready(self) -> _State:
        assert self._state is not None, "call setup first"
        return self._state
