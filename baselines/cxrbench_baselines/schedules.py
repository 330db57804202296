"""How a learning rate goes through a fit."""

from __future__ import annotations

from torch.optim import Optimizer

WARM_UP = 50  # steps until the rate is reached


def falling(step: int, budget: int) -> float:
    """Share of the learning rate: up over ``WARM_UP`` steps, level, down to nothing over the second half."""
    return min((step + 1) / WARM_UP, 1.0, 2 * (1 - step / max(budget, step + 1)))


def set_rate(optimizer: Optimizer, rate: float) -> None:
    """From the next step on."""
    for group in optimizer.param_groups:
        group["lr"] = rate
