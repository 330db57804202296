"""Rectified flow on the principal components of the films: recognisable films after minutes on a CPU.

Principal components (Turk & Pentland, "Eigenfaces for recognition", 1991) suit films that are all taken alike: a
few dozen of 4,096 numbers hold its shape. A small perceptron learns to draw those numbers for a class
(``rectified_flow``). Alone they give soft films; a refinement draws what they leave out.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

import torch
from sklearn.decomposition import PCA
from torch import Tensor, nn
from torch.nn import functional as F

from cxrbench.contracts import Images, RunContext
from cxrbench.registry import GENERATORS
from cxrbench_baselines.batches import step_noise
from cxrbench_baselines.generators.blocks import Condition, silence
from cxrbench_baselines.generators.cascade import Base, Cascade, CascadeGenerator, coarse_films, padded_size, shrunk
from cxrbench_baselines.generators.rectified_flow import drawn_times, followed, mixed, spread_at, velocity
from cxrbench_baselines.nets import precision

CONDITION = 256
DRAWN_TO_MATCH = 512  # films of each class from which the spread of what is drawn is known
LARGEST = 64  # pixels of the films whose components are taken, about: more components would be needed for more


@GENERATORS.register("pca-flow")
@dataclass
class PCAFlow(CascadeGenerator):
    """Args, besides those of ``CascadeGenerator`` (``guidance`` is the refinement's alone):
    components: principal components drawn (fewer where there are fewer films). Of more, the perceptron learns the
        training films by heart; the refinement, which sees every place of every film as an example, does not.
    hidden: units of the perceptron's layers.
    layers: of the perceptron, each with two matrices.
    """

    batch: int = 128
    fine_batch: int = 24
    guidance: float = 2.0
    components: int = 64
    hidden: int = 512
    layers: int = 3

    def finish(self, train: Images, ctx: RunContext) -> None:
        """Bring what is drawn to the mean and spread of the training films, class by class."""
        cascade = cast(Cascade, self._guided().final)
        base, batches = cast(Perceptron, cascade.base.eval()), self._ready().batches
        numbers = base.numbers(coarse_films(batches.pixels, base.size))
        with torch.no_grad(), precision(ctx.device):
            for label in range(len(train.classes)):
                noise = step_noise(ctx.seed, label, (DRAWN_TO_MATCH, base.noise_dims), ctx.device)
                wanted = torch.full((DRAWN_TO_MATCH,), label, device=ctx.device)
                base.match(label, base.raw(noise, wanted, self.steps), numbers[batches.labels == label])

    def describe(self, train: Images) -> dict[str, int]:
        components = min(self.components, len(train) - 1, base_size(train.size) ** 2)
        return {**super().describe(train), "components": components}

    def stages(self) -> list[int]:
        """The first refinement adds at the same size what the components leave out; the others enlarge."""
        size, sizes = base_size(self._facts["size"]), []
        full = padded_size(self._facts["size"])
        while size < full:
            sizes.append(size)
            size *= min(4, full // size)
        return [*sizes, full]

    def build_base(self) -> Base:
        facts = self._facts
        return Perceptron(base_size(facts["size"]), facts["classes"], facts["components"], self.hidden, self.layers)

    def coarse(self, cascade: Cascade, films: Tensor, stage: int) -> Tensor:
        if stage > 0:
            return super().coarse(cascade, films, stage)
        base = cast(Perceptron, cascade.base)
        return base.drawn(base.numbers(shrunk(films, base.size)))


def base_size(size: int) -> int:
    """Pixels of the films whose components are taken."""
    base = padded_size(size)
    while base > 1.5 * LARGEST:
        base //= 2
    return base


class Perceptron(Base):
    """Velocity of the films' principal components, each scaled to unit variance."""

    middle: Tensor
    axes: Tensor
    spread: Tensor
    scale: Tensor
    shift: Tensor

    def __init__(self, size: int, classes: int, components: int, hidden: int, layers: int) -> None:
        super().__init__()
        self.size, self.noise_dims = size, components
        self.register_buffer("middle", torch.zeros(size**2))
        self.register_buffer("axes", torch.zeros(components, size**2))
        self.register_buffer("spread", torch.ones(components))
        self.register_buffer("scale", torch.ones(classes, components))
        self.register_buffer("shift", torch.zeros(classes, components))
        self.condition = Condition(classes, CONDITION)
        self.enter, self.leave = nn.Linear(components, hidden), nn.Linear(hidden, components)
        self.layers = nn.ModuleList(_Layer(hidden) for _ in range(layers))
        silence(self.leave)

    def measure(self, films: Tensor) -> None:
        """Set the components from all training films ``[N, 1, size, size]`` in [-1, 1]."""
        flat = films.flatten(1).cpu().numpy()
        found = PCA(self.noise_dims, svd_solver="randomized", random_state=0).fit(flat)
        self.middle.copy_(torch.from_numpy(found.mean_))
        self.axes.copy_(torch.from_numpy(found.components_))
        self.spread.copy_(torch.from_numpy(found.explained_variance_).sqrt().clamp_min(1e-4))

    def numbers(self, films: Tensor) -> Tensor:
        """Films ``[B, 1, size, size]`` to scaled components ``[B, components]``."""
        return ((films.flatten(1) - self.middle) @ self.axes.T) / self.spread

    def drawn(self, numbers: Tensor) -> Tensor:
        """Scaled components to films: the inverse of ``numbers``, but for what the components leave out."""
        return ((numbers * self.spread) @ self.axes + self.middle).view(-1, 1, self.size, self.size)

    def loss(self, films: Tensor, labels: Tensor, noise: Tensor, draws: Tensor) -> Tensor:
        data, time = self.numbers(films), drawn_times(draws)
        error = self._velocity(mixed(data, noise, time), time, labels) - (data - noise)
        # The first components are what is seen; equal weights would spend the net on the many small ones.
        weight = self.spread.sqrt() / self.spread.sqrt().mean()
        return (weight * error.square()).mean()

    def draw(self, noise: Tensor, labels: Tensor, steps: int, earlier: Base, guidance: float) -> Tensor:
        """Unguided: what this net learns in its second half is the training films by heart, and guidance would go on
        from there."""
        return self.drawn(self.raw(noise, labels, steps) * self.scale[labels] + self.shift[labels])

    def raw(self, noise: Tensor, labels: Tensor, steps: int) -> Tensor:
        """Scaled components ``[B, components]`` as the flow draws them, not yet matched."""
        return followed(lambda state, time: self._velocity(state, time, labels), noise, steps)

    def match(self, label: int, drawn: Tensor, numbers: Tensor) -> None:
        """Set scale and shift of a class so that ``drawn`` gets the mean and spread of the real ``numbers``.

        A flow that was trained on few films draws too near their mean: what it learned by heart of the way to each
        film pulls a new way to several of them at once.
        """
        if len(numbers) < 2:
            return
        self.scale[label] = numbers.std(dim=0) / drawn.std(dim=0).clamp_min(1e-3)
        self.shift[label] = numbers.mean(dim=0) - self.scale[label] * drawn.mean(dim=0)

    def _velocity(self, state: Tensor, time: Tensor, labels: Tensor) -> Tensor:
        told = self.condition(time, labels)
        values = self.enter(state / spread_at(time, state))
        for layer in self.layers:
            values = layer(values, told)
        return velocity(self.leave(F.silu(values)).float(), state, time)


class _Layer(nn.Module):
    """A residual layer that the condition scales, shifts and gates (Peebles & Xie, "Scalable diffusion models with
    transformers", ICCV 2023, section 3.2, adaLN-Zero)."""

    def __init__(self, hidden: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(hidden, elementwise_affine=False)
        self.film = nn.Linear(CONDITION, 3 * hidden)
        self.inner, self.outer = nn.Linear(hidden, hidden), nn.Linear(hidden, hidden)
        silence(self.film)

    def forward(self, values: Tensor, condition: Tensor) -> Tensor:
        scale, shift, gate = self.film(condition).chunk(3, dim=1)
        inner = F.silu(self.inner(torch.addcmul(shift, self.norm(values), 1 + scale)))
        passed: Tensor = torch.addcmul(values, gate, self.outer(inner))
        return passed
