"""A cascade of rectified flows: a base draws a coarse film, each refinement what is missing on the way to the next.

The stages never meet in training: each learns on real films from which the finer content was taken away. One
optimizer step trains them all.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from cxrbench.contracts import Images, Labels, Pixels, RunContext
from cxrbench_baselines.batches import FilmBatches, step_noise, to_signed
from cxrbench_baselines.generators.guided import Descent, Guided, kernels_of_blocks
from cxrbench_baselines.generators.net import NetGenerator
from cxrbench_baselines.generators.refinement import Refinement
from cxrbench_baselines.nets import on_device, precision, seed_everything
from cxrbench_baselines.training import Stateful

COARSEST = 16  # pixels of the coarsest film, about: lungs, heart and the haze of a disease are there already
LARGEST_LEAP = 4  # of one refinement
MEASURED_FILMS = 512  # from which scales are taken


class Base(nn.Module):
    """What a cascade begins with: draws films of ``size`` pixels.

    A subclass adds ``noise_dims`` and the three methods.
    """

    size: int
    noise_dims: int

    def measure(self, films: Tensor) -> None:
        """Set what is taken from all training films at once, ``[N, 1, size, size]`` in [-1, 1]."""
        raise TypeError(f"{type(self).__name__} does not say what it takes from the films")

    def loss(self, films: Tensor, labels: Tensor, noise: Tensor, draws: Tensor) -> Tensor:
        """Mean squared error of the velocity, for films ``[B, 1, size, size]`` in [-1, 1], standard normal noise
        ``[B, noise_dims]`` and draws ``[B]`` of the time."""
        raise TypeError(f"{type(self).__name__} does not say how it learns")

    def draw(self, noise: Tensor, labels: Tensor, steps: int, earlier: Base, guidance: float) -> Tensor:
        """Films ``[B, 1, size, size]`` from noise ``[B, noise_dims]``, led away from what ``earlier`` draws."""
        raise TypeError(f"{type(self).__name__} does not say how it draws")


class Cascade(nn.Module):
    """Noise ``[B, noise_dims]`` and labels ``[B]`` to films ``[B, 1, size, size]`` in about [-1, 1]; each stage is led
    away from what that of ``earlier`` draws.

    Args:
        size: of the films wanted; the stages work on films padded to ``padded_size(size)``.
        steps: of Heun's method in the base; a refinement, which has less to decide, takes a quarter as many.
    """

    def __init__(self, base: Base, refinements: list[Refinement], size: int, steps: int) -> None:
        super().__init__()
        self.base, self.size, self.steps = base, size, steps
        self.stages = nn.ModuleList(refinements)
        self.noise_dims = base.noise_dims + sum(stage.size**2 for stage in refinements)

    @property
    def refinements(self) -> list[Refinement]:
        """In the order in which films pass them."""
        return [cast(Refinement, stage) for stage in self.stages]

    def forward(self, noise: Tensor, labels: Tensor, earlier: Cascade, guidance: float) -> Tensor:
        own, rest = noise[:, : self.base.noise_dims], noise[:, self.base.noise_dims :]
        films = self.base.draw(own, labels, self.steps, earlier.base, guidance)
        for stage, worse in zip(self.refinements, earlier.refinements, strict=True):
            own, rest = rest[:, : stage.size**2], rest[:, stage.size**2 :]
            own = own.view(-1, 1, stage.size, stage.size)
            films = stage(films, labels, own, max(self.steps // 4, 1), worse, guidance)
        return films[:, :, : self.size, : self.size]


def padded_size(size: int) -> int:
    """The least size that halves without remainder down to a coarse film whose side is a multiple of 4."""
    factor = shrinking(size)
    return -(-size // (4 * factor)) * 4 * factor


def shrinking(size: int) -> int:
    """The power of two by which the coarsest films are smaller than films of ``size`` pixels; at least 2."""
    factor = 2
    while size / (2 * factor) >= 0.7 * COARSEST:
        factor *= 2
    return factor


def stage_sizes(size: int) -> list[int]:
    """Pixels of the films at each stage, coarsest first, for films of ``size`` pixels."""
    full, factor, sizes = padded_size(size), shrinking(size), []
    while factor > 1:
        sizes.append(full // factor)
        factor //= min(LARGEST_LEAP, factor)
    return [*sizes, full]


def shrunk(films: Tensor, size: int) -> Tensor:
    """Films averaged down to ``size`` pixels."""
    return films if films.shape[-1] == size else F.avg_pool2d(films, films.shape[-1] // size)


@dataclass
class _State:
    batches: FilmBatches
    descent: Descent
    seed: int
    device: str


@dataclass
class CascadeGenerator(NetGenerator):
    """Trains a cascade; a subclass says how its base and its refinements are built.

    Args:
        batch: films per step of the base.
        fine_batch: films per step of each refinement (the first of the batch): they cost more and need fewer.
        rate: learning rate of AdamW and Muon after warm-up; it falls to nothing over the second half of the budget.
        steps: of Heun's method when sampling.
        decay: of the moving average of the weights that films are sampled from.
        guidance: how far films are led away from what the nets drew at half of the budget; 1 is not at all.
        width: channels of the refinements.
        depth: residual blocks of the refinements.
    """

    batch: int = 64
    fine_batch: int = 16
    rate: float = 2e-3
    steps: int = 16
    decay: float = 0.995
    guidance: float = 2.4
    width: int = 48
    depth: int = 4

    sampling_batch: ClassVar[int] = 64

    _state: _State | None = field(default=None, init=False, repr=False, compare=False)

    def build_base(self) -> Base:
        """A fresh base, from ``_facts``."""
        raise TypeError(f"{type(self).__name__} does not say what its cascade begins with")

    def noise_dims(self) -> int:
        return cast(Cascade, self._guided().final).noise_dims

    def preview(self, labels: Labels, ctx: RunContext) -> Pixels:
        """As ``sample``, quicker (``Guided.hasty``)."""
        with self._guided().hasty():
            return self.sample(labels, ctx)

    def stages(self) -> list[int]:
        """Sizes of the films that the refinements make."""
        return stage_sizes(self._facts["size"])[1:]

    def build_generator(self) -> Guided:
        return Guided(self._cascade(), self._cascade(), self.guidance)

    def setup(self, train: Images, ctx: RunContext) -> None:
        seed_everything(ctx.seed)
        self._facts = self.describe(train)
        batches = FilmBatches(train, self.batch, ctx.device, ctx.seed, balanced=True)
        cascade = on_device(self._cascade(), ctx.device)
        self._measure(cascade, batches.pixels)
        descent = Descent.of(cascade, kernels_of_blocks(cascade), self.rate, self.decay, ctx.budget)
        self._sampler = descent.guided(self.guidance)
        self._state = _State(batches, descent, ctx.seed, ctx.device)

    def describe(self, train: Images) -> dict[str, int]:
        """What ``build_generator`` needs."""
        return {"size": train.size, "classes": len(train.classes)}

    def images_per_step(self) -> int:
        return self.batch

    def steps_per_cycle(self) -> int:
        return 1

    def parts(self) -> Mapping[str, Stateful]:
        return self._ready().descent.parts()

    def training_step(self, step: int) -> Mapping[str, Tensor]:
        """One optimizer step of all stages."""
        state = self._ready()
        films, labels = state.batches.at(step)
        films = padded(films)
        cascade, few = cast(Cascade, state.descent.net), self.fine_batch
        sorts = 2 + len(cascade.refinements)  # of noise in a step

        def noise(sort: int, *shape: int) -> Tensor:
            return step_noise(state.seed, sorts * step + sort, shape, state.device)

        draws = noise(0, len(films), 1 + 2 * len(cascade.refinements))
        base_noise = noise(1, len(films), cascade.base.noise_dims)
        with precision(state.device):
            losses = [cascade.base.loss(shrunk(films, cascade.base.size), labels, base_noise, draws[:, 0])]
            for number, stage in enumerate(cascade.refinements):
                fine, coarse = shrunk(films[:few], stage.size), self.coarse(cascade, films[:few], number)
                own = noise(2 + number, len(fine), 2, stage.size, stage.size)
                losses.append(stage.loss(fine, coarse, labels[:few], own, draws[:few, 1 + 2 * number :][:, :2]))
        state.descent.descend(torch.stack(losses).sum(), step, (cascade.base, *cascade.refinements))
        names = ["base_loss", *(f"refinement_{number + 1}_loss" for number in range(len(cascade.refinements)))]
        return {name: loss.detach() for name, loss in zip(names, losses, strict=True)}

    def coarse(self, cascade: Cascade, films: Tensor, stage: int) -> Tensor:
        """What refinement number ``stage`` is given of real films ``[B, 1, full, full]``."""
        return shrunk(films, cascade.base.size if stage == 0 else self.stages()[stage - 1])

    def _cascade(self) -> Cascade:
        refinements = [Refinement(s, self._facts["classes"], self.width, self.depth) for s in self.stages()]
        return Cascade(self.build_base(), refinements, self._facts["size"], self.steps)

    def _guided(self) -> Guided:
        assert isinstance(self._sampler, Guided), "call setup or load first"
        return self._sampler

    def _measure(self, cascade: Cascade, pixels: Tensor) -> None:
        cascade.base.measure(coarse_films(pixels, cascade.base.size))
        some = padded(to_signed(pixels[:: -(-len(pixels) // MEASURED_FILMS)]))
        for number, stage in enumerate(cascade.refinements):
            stage.measure(shrunk(some, stage.size), self.coarse(cascade, some, number))

    def _ready(self) -> _State:
        assert self._state is not None, "call setup first"
        return self._state


def coarse_films(pixels: Tensor, size: int) -> Tensor:
    """Films uint8 ``[N, 1, H, H]`` to ``[N, 1, size, size]`` in [-1, 1], in parts: all at once may fill the memory."""
    return torch.cat([shrunk(padded(to_signed(part)), size) for part in pixels.split(MEASURED_FILMS)])


def padded(films: Tensor) -> Tensor:
    """Films continued at the right and lower edge to ``padded_size``."""
    more = padded_size(films.shape[-1]) - films.shape[-1]
    if not more:
        return films
    return F.pad(films.float(), (0, more, 0, more), mode="replicate").to(films.dtype)
