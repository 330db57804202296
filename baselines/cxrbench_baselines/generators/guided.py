"""What the rectified flows share: how they descend, and films that are led away from what they drew halfway.

Karras et al., "Guiding a diffusion model with a bad version of itself" (NeurIPS 2024): where a net and a less
trained version of it disagree, the less trained one errs more in the same direction, so that going further the other
way is better than either. What a flow on a few hundred films lacks is power in fine detail; this brings it back.
"""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, Self, cast

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from cxrbench_baselines.generators.blocks import ConvBlock
from cxrbench_baselines.muon import KernelMuon
from cxrbench_baselines.nets import averaged
from cxrbench_baselines.schedules import falling, set_rate
from cxrbench_baselines.training import Stateful

PREVIEW_STEPS = 3  # of Heun's method: films to look at, soft but of the right kind
WEIGHT_DECAY = 0.01


class Drawing(Protocol):
    """Draws films ``[B, 1, H, W]`` from noise ``[B, D]`` and labels ``[B]``, in ``steps`` of Heun's method."""

    steps: int

    def __call__(self, noise: Tensor, labels: Tensor, earlier: Self, guidance: float) -> Tensor: ...


class Guided(nn.Module):
    """Noise and labels to films, drawn by ``final`` and led away from what ``earlier`` would have drawn.

    Args:
        final: a ``Drawing``.
        earlier: a less trained version of it.
        guidance: the weight of ``rectified_flow.guided``.
    """

    def __init__(self, final: nn.Module, earlier: nn.Module, guidance: float) -> None:
        super().__init__()
        self.final, self.earlier, self.guidance = final, earlier, guidance

    def forward(self, noise: Tensor, labels: Tensor) -> Tensor:
        drawing, earlier = cast(Drawing, self.final), cast(Drawing, self.earlier)
        return drawing(noise, labels, earlier, self.guidance)

    @contextlib.contextmanager
    def hasty(self) -> Iterator[None]:
        """Inside, films are drawn in ``PREVIEW_STEPS``, unguided: up to half of the budget nothing could guide."""
        drawing = cast(Drawing, self.final)
        kept = drawing.steps, self.guidance
        drawing.steps, self.guidance = PREVIEW_STEPS, 1.0
        try:
            yield
        finally:
            drawing.steps, self.guidance = kept


@dataclass
class Descent:
    """A net on its way down, its moving average, and what that average was at half of the budget.

    Attributes:
        optimizers: Muon for some kernels, where there are any, AdamW for all else.
        rate: of both after warm-up; it falls to nothing over the second half of the budget.
        budget: steps in all.
    """

    net: nn.Module
    average: AveragedModel
    earlier: nn.Module
    optimizers: Mapping[str, torch.optim.Optimizer]
    rate: float
    budget: int

    @classmethod
    def of(cls, net: nn.Module, kernels: Sequence[nn.Parameter], rate: float, decay: float, budget: int) -> Self:
        """Args:
        net: on its device already: the optimizers hold on to its weights.
        kernels: those of the net's weights that Muon is for.
        decay: of the moving average.
        """
        apart = {id(kernel) for kernel in kernels}
        rest = [weight for weight in net.parameters() if id(weight) not in apart]
        optimizers: dict[str, torch.optim.Optimizer] = {
            "adamw": torch.optim.AdamW(rest, rate, betas=(0.9, 0.99), weight_decay=WEIGHT_DECAY, fused=True)
        }
        if kernels:
            optimizers["muon"] = KernelMuon(kernels, rate, WEIGHT_DECAY)
        average = averaged(net, decay)
        return cls(net, average, copy.deepcopy(average.module), optimizers, rate, budget)

    def parts(self) -> Mapping[str, Stateful]:
        """By name, everything that a step changes."""
        return {"net": self.net, "average": self.average, "earlier": self.earlier, **self.optimizers}

    def guided(self, guidance: float) -> Guided:
        """The net to sample from."""
        return Guided(self.average.module, self.earlier, guidance)

    def descend(self, loss: Tensor, step: int, parts: Iterable[nn.Module]) -> None:
        """Step number ``step``. The gradients of each of ``parts`` are clipped apart: a wild one must not hold the
        others back."""
        for optimizer in self.optimizers.values():
            set_rate(optimizer, self.rate * falling(step, self.budget))
            optimizer.zero_grad(set_to_none=True)
        loss.backward()
        for part in parts:
            nn.utils.clip_grad_norm_(part.parameters(), 1.0)
        for optimizer in self.optimizers.values():
            optimizer.step()
        self.average.update_parameters(self.net)
        if step == (self.budget - 1) // 2:
            self.earlier.load_state_dict(self.average.module.state_dict())


def kernels_of_blocks(net: nn.Module) -> list[nn.Parameter]:
    """The kernels of a net's ``ConvBlock``s. Muon is not for what films and noise enter and leave by, nor for what is
    told time and class."""
    blocks = [module for module in net.modules() if isinstance(module, ConvBlock)]
    return [cast(nn.Parameter, layer.weight) for block in blocks for layer in (block.conv_in, block.conv_out)]
