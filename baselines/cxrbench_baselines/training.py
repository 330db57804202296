"""The training loop the reference plug-ins share."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

from torch import Tensor

from cxrbench.contracts import RunContext
from cxrbench.errors import Diverged

CHECK_EVERY = 50  # steps between looks at the losses: looking waits for the device


def run_steps(step: Callable[[int], Mapping[str, Tensor]], ctx: RunContext) -> None:
    """Run ``ctx.budget`` training steps, numbered from 0.

    Raises:
        Diverged: a loss is NaN or infinite.
    """
    for number in range(ctx.budget):
        losses = step(number)
        if number % CHECK_EVERY == 0 or number == ctx.budget - 1:
            for name, value in losses.items():
                if not math.isfinite(float(value)):
                    raise Diverged(f"{name} became {float(value)} at step {number + 1} of {ctx.budget}")
        ctx.progress(number + 1, ctx.budget)
