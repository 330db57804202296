"""What several plain loops share: their films, a moving average, R1, and the default memory format."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from torch.utils.data import DataLoader, TensorDataset, WeightedRandomSampler

from cxrbench.contracts import Images, RunContext

Losses = dict[str, float]
ReferenceLoop = Callable[[Any, Images, RunContext], Iterator[Losses]]


def normalised(train: Images) -> Tensor:
    """All films as float32 ``[N, 1, H, W]`` in [-1, 1]."""
    return torch.from_numpy(train.pixels).float() / 127.5 - 1.0


def endless(
    films: Tensor, labels: np.ndarray, batch: int, *, balanced: bool = False
) -> Iterator[tuple[Tensor, Tensor]]:
    """Shuffled whole batches, epoch after epoch; ``balanced`` draws every class equally often."""
    targets = torch.from_numpy(labels)
    data = TensorDataset(films, targets)
    batch = min(batch, len(data))
    if balanced:
        share = torch.bincount(targets)[targets]
        sampler = WeightedRandomSampler((1.0 / share).tolist(), len(data))
        loader = DataLoader(data, batch, sampler=sampler, drop_last=True)
    else:
        loader = DataLoader(data, batch, shuffle=True, drop_last=True)
    while True:
        yield from loader


def averaged(net: nn.Module, decay: float) -> AveragedModel:
    """Moving average of weights and buffers, by torch's own class."""
    return AveragedModel(net, multi_avg_fn=get_ema_multi_avg_fn(decay), use_buffers=True)


def r1(logits: Tensor, real: Tensor) -> Tensor:
    """Mescheder et al. (2018), equation 9: mean squared gradient of the discriminator at real films."""
    (gradient,) = torch.autograd.grad(logits.sum(), real, create_graph=True)
    return gradient.square().sum(dim=(1, 2, 3)).mean()


def keep_default_layout(layer: nn.Module) -> None:
    """Undo a plug-in's switch to channels-last on maps that enter ``layer``: all that follow would keep it.

    It costs a copy of the net's first maps, which are its smallest.
    """

    def undo(_: nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
        return tuple(value.contiguous() if isinstance(value, Tensor) else value for value in inputs)

    layer.register_forward_pre_hook(undo)
