"""What every convolutional reference classifier does around its net."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Self

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from cxrbench.contracts import Images, Pixels, Probabilities, RunContext
from cxrbench.errors import UsageError
from cxrbench_baselines import training
from cxrbench_baselines.batches import FilmBatches, to_signed
from cxrbench_baselines.nets import on_device, precision, seed_everything

RATES = (1.0, 0.5, 2.0, 0.25, 4.0)  # factors of the learning rate, in the order they are tried
CHECKPOINTS = 8  # times the validation loss is looked at during a fit
EVALUATION_BATCH = 256


@dataclass
class _State:
    batches: FilmBatches
    optimizer: torch.optim.Optimizer
    schedule: torch.optim.lr_scheduler.LRScheduler
    class_weights: Tensor
    device: str


@dataclass
class NetClassifier:
    """Cross-entropy with balanced class weights, AdamW, one-cycle rate; the checkpoint of the lowest
    validation loss (real films only) is kept.

    Args:
        batch: films per step.
        rate: peak learning rate.
        weight_decay: of AdamW.
    """

    batch: int = 32
    rate: float = 2e-3
    weight_decay: float = 1e-2

    _net: nn.Module | None = field(default=None, init=False, repr=False, compare=False)
    _state: _State | None = field(default=None, init=False, repr=False, compare=False)

    def build(self, classes: int, size: int) -> nn.Module:
        """The net: float films ``[B, 1, size, size]`` in [-1, 1] to logits ``[B, classes]``."""
        raise TypeError(f"{type(self).__name__} does not say how its net is built")

    def candidates(self, count: int) -> list[Self]:
        """Itself, then other learning rates, the nearest first; then the same with a tenth of the weight decay."""
        found = []
        for number in range(count):
            decay, rate = divmod(number, len(RATES))
            found.append(replace(self, rate=self.rate * RATES[rate], weight_decay=self.weight_decay * 0.1**decay))
        return found

    def setup(self, train: Images, ctx: RunContext) -> None:
        seed_everything(ctx.seed)
        self._net = on_device(self.build(len(train.classes), train.size), ctx.device)
        optimizer = torch.optim.AdamW(self._net.parameters(), self.rate, weight_decay=self.weight_decay, fused=True)
        counts = np.bincount(train.labels, minlength=len(train.classes))
        if (counts == 0).any():
            raise UsageError(f"no training film of class {train.classes[int(counts.argmin())]!r}")
        self._state = _State(
            FilmBatches(train, self.batch, ctx.device, ctx.seed),
            optimizer,
            torch.optim.lr_scheduler.OneCycleLR(optimizer, self.rate, total_steps=max(ctx.budget, 1) + 1),
            torch.from_numpy(len(train) / (len(counts) * counts)).float().to(ctx.device),
            ctx.device,
        )

    def images_per_step(self) -> int:
        return self.batch

    def steps_per_cycle(self) -> int:
        return 1

    def training_step(self, step: int) -> Mapping[str, Tensor]:
        state, net = self._state, self._net
        assert state is not None, "call setup first"
        assert net is not None, "call setup first"
        films, labels = state.batches.at(step)
        net.train()
        with precision(state.device):
            logits = net(films)
        loss = F.cross_entropy(logits.float(), labels, weight=state.class_weights)
        state.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        state.optimizer.step()
        state.schedule.step()
        return {"loss": loss.detach()}

    def fit(self, train: Images, val: Images, ctx: RunContext) -> Self:
        self.setup(train, ctx)
        assert self._net is not None
        best, kept = float("inf"), copy.deepcopy(self._net.state_dict())
        looks = {round(ctx.budget * (i + 1) / CHECKPOINTS) - 1 for i in range(CHECKPOINTS)} | {ctx.budget - 1}

        def step(number: int) -> Mapping[str, Tensor]:
            nonlocal best, kept
            assert self._net is not None
            losses = self.training_step(number)
            if number in looks:
                found = self._validation_loss(val, ctx)
                if found < best:
                    best, kept = found, copy.deepcopy(self._net.state_dict())
            return losses

        training.train(step, ctx)
        self._net.load_state_dict(kept)
        return self

    def predict_proba(self, pixels: Pixels, ctx: RunContext) -> Probabilities:
        return F.softmax(self._logits(pixels, ctx.device), dim=1).cpu().numpy()

    def _logits(self, pixels: Pixels, device: str) -> Tensor:
        assert self._net is not None, "call fit first"
        net = self._net.to(device).eval()
        rows = []
        with torch.inference_mode(), precision(device):
            for start in range(0, len(pixels), EVALUATION_BATCH):
                films = torch.from_numpy(np.asarray(pixels[start : start + EVALUATION_BATCH])).to(device)
                rows.append(net(to_signed(films)).float())
        return torch.cat(rows)

    def _validation_loss(self, val: Images, ctx: RunContext) -> float:
        """Cross-entropy with the training classes weighted equally."""
        logits = self._logits(val.pixels, ctx.device)
        labels = torch.from_numpy(val.labels).to(ctx.device)
        losses = F.cross_entropy(logits, labels, reduction="none")
        return float(torch.stack([losses[labels == c].mean() for c in labels.unique()]).mean())
