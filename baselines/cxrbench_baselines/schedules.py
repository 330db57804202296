"""How a fit goes through its budget: the learning rate, the reach of an average, the parts of a batch."""

from __future__ import annotations

from torch.optim import Optimizer

from cxrbench.errors import UsageError

WARM_UP = 50  # steps until the rate is reached


def falling(step: int, budget: int) -> float:
    """Share of the learning rate: up over ``WARM_UP`` steps, level, down to nothing over the second half."""
    return min((step + 1) / WARM_UP, 1.0, 2 * (1 - step / max(budget, step + 1)))


def set_rate(optimizer: Optimizer, rate: float) -> None:
    """From the next step on."""
    for group in optimizer.param_groups:
        group["lr"] = rate


def average_decay(share: float, budget: int) -> float:
    """Decay of a moving average that reaches back over ``share`` of the budget.

    An average of a fixed number of steps holds the beginning of a short fit and is restless in a long one.
    """
    return 1 - 1 / max(share * budget, 1)


def require_equal_parts(name: str, batch: int, parts: int) -> None:
    """Raises UsageError where a batch cannot be computed in so many equal parts."""
    if not 1 <= parts <= batch or batch % parts:
        raise UsageError(
            f"{name}:accumulate={parts} does not divide the batch of {batch} films; choose a divisor of it"
        )
