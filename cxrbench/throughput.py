"""How fast a plug-in trains: the third thing a user asks, after fidelity and utility."""

from __future__ import annotations

import statistics
import time

from cxrbench.contracts import Images, RunContext, Scores, Steppable
from cxrbench.machine import resident_peak
from cxrbench.spec import BenchSpec

LEAST_CYCLES = 3  # a median of fewer says nothing


def time_train_step(plugin: Steppable, train: Images, spec: BenchSpec, ctx: RunContext) -> Scores:
    """Time train steps after warm-up, each cycle ended by waiting for the device.

    A plug-in whose steps differ (a discriminator stepped every tenth time) is timed in whole cycles.

    Returns:
        ``step_seconds`` (median over the cycles, per step), ``images_per_second`` (batch over that) and
        ``peak_memory_bytes``: what set-up and steps allocated on the GPU; on a CPU the highest resident
        memory of this process so far, which is an upper bound for the plug-in.
    """
    import torch

    cuda = torch.device(ctx.device).type == "cuda"
    if cuda:
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated() if cuda else 0
    plugin.setup(train, ctx)
    cycle = plugin.steps_per_cycle()
    cycles = max(LEAST_CYCLES, spec.timed_steps // cycle)
    warm_up = -(-spec.warmup_steps // cycle) * cycle
    for step in range(warm_up):
        plugin.training_step(step)
    seconds = []
    for number in range(cycles):
        if cuda:
            torch.cuda.synchronize()
        start = time.perf_counter()
        for step in range(cycle):
            plugin.training_step(warm_up + number * cycle + step)
        if cuda:
            torch.cuda.synchronize()
        seconds.append((time.perf_counter() - start) / cycle)
        ctx.progress(number + 1, cycles)
    median = statistics.median(seconds)
    return {
        "step_seconds": median,
        "images_per_second": plugin.images_per_step() / median,
        "peak_memory_bytes": float(torch.cuda.max_memory_allocated() - before if cuda else resident_peak()),
    }
