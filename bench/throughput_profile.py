"""Where a train step's time goes, operator by operator: the proof of what limits it."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile

from bench.quality import machine_lines, markdown
from bench.throughput_cells import Cell, draw_films
from bench.throughput_timing import BUDGET, SEED, our_loop, plugin_of
from cxrbench.contracts import RunContext
from cxrbench.machine import describe_machine

SHOWN = 15  # operators
LEAST_STEPS = 4


def profile_page(name: str, cell: Cell, device: str) -> str:
    """Profile whole cycles of our training step, after warm-up.

    Returns:
        A page: the operators with the most time of their own (what they call taken off), per step. On a GPU that is
        time of the device.

    Raises:
        UsageError, Diverged: as ``plugin_of`` and ``our_loop``.
    """
    cuda = torch.device(device).type == "cuda"
    plugin, train = plugin_of(cell), draw_films(cell.size)
    with tempfile.TemporaryDirectory(prefix="cxrbench-") as folder:
        loop = our_loop(plugin, train, RunContext(SEED, device, BUDGET, Path(folder)))
        cycle = plugin.steps_per_cycle()
        steps = cycle * -(-LEAST_STEPS // cycle)
        activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if cuda else [])]
        with profile(activities=activities) as record:
            wall = 1e3 * loop.run(steps)
    taken = sorted(
        ((_own_time(event, cuda) / steps, event.count / steps, event.key) for event in record.key_averages()),
        reverse=True,
    )
    total = sum(own for own, _, _ in taken)
    rest = sum(own for own, _, _ in taken[SHOWN:])
    rows = [[f"`{key}`", f"{own:.2f}", f"{own / total:.1%}", f"{calls:g}"] for own, calls, key in taken[:SHOWN]]
    where = "GPU" if cuda else "CPU"
    return f"""# Where a train step of {name} spends its time

`{cell.plugin}`, {cell.size} px, {plugin.images_per_step()} images per step: {steps} steps under `torch.profiler`,
{wall:.1f} ms of wall time per step, of which operators account for {total:.1f} ms of {where} time.

{markdown(("operator", f"own {where} ms per step", "share", "calls per step"), rows)}

All other operators: {rest:.2f} ms per step. Time of an operator's own is without that of operators it calls.

{machine_lines([describe_machine(device)])}
- `python -m bench.throughput FOLDER --profile {name}` makes this page.
"""


def _own_time(event: Any, cuda: bool) -> float:
    """Milliseconds."""
    return float(event.self_device_time_total if cuda else event.self_cpu_time_total) / 1e3
