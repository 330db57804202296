"""Where a train step's time goes, operator by operator, and how fast it could be at most: the proof of what limits it.

The nets decide what convolutions and products of matrices there are, and they are torch's own. What is ours is all the
rest, and which precision they are done in. So if all the rest took no time, the step would take what they take.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import torch
from torch.autograd import DeviceType
from torch.profiler import ProfilerActivity, profile

from bench.quality import machine_lines, markdown
from bench.throughput_cells import Cell, draw_films
from bench.throughput_timing import BUDGET, SEED, interleaved, our_loop, plain_loop, plugin_of, ratio_of
from cxrbench.contracts import RunContext
from cxrbench.machine import describe_machine
from cxrbench_baselines.replay import unreplayed

SHOWN = 15  # operators
LEAST_STEPS = 4
BY_TURNS = 10.0  # seconds
ARITHMETIC = ("convolution", "mm", "attention")  # in the name of an operator that convolves or multiplies matrices


def profile_page(name: str, cell: Cell, device: str, seconds: float = BY_TURNS) -> str:
    """Profile whole cycles of our training step, after warm-up.

    Args:
        seconds: that ours and plain are timed for, about.

    Returns:
        A page: the operators with the most time of their own (what they call taken off), per step, and the ratio to
        the plain loop that would be left if all but arithmetic were free. On a GPU that is time of the device.

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
        with profile(activities=activities) as record, unreplayed():
            wall = 1e3 * loop.run(steps)
        plain = plain_loop(plugin, train, RunContext(SEED, device, BUDGET, Path(folder)))
        rounds = interleaved({"ours": loop, "plain": plain}, steps, seconds) if plain else None
    # A GPU's kernels are events, too, whose time torch gives to the operators that sent them off: not twice.
    operators = [event for event in record.key_averages() if event.device_type == DeviceType.CPU]
    taken = sorted(
        ((_own_time(event, cuda) / steps, event.count / steps, event.key) for event in operators), reverse=True
    )
    total = sum(own for own, _, _ in taken)
    rest = sum(own for own, _, _ in taken[SHOWN:])
    rows = [[f"`{key}`", f"{own:.2f}", f"{own / total:.1%}", f"{calls:g}"] for own, calls, key in taken[:SHOWN]]
    where = "GPU" if cuda else "CPU"
    arithmetic = sum(own for own, _, key in taken if any(part in key for part in ARITHMETIC))
    limit = f"""Convolutions and products of matrices alone
take {arithmetic:.1f} ms, {arithmetic / wall:.0%} of the wall time."""
    if rounds is not None:
        ratio = ratio_of(rounds["ours"], rounds["plain"]).median
        limit += f""" By turns, without the profiler, ours is {ratio:.2f} times as
fast as the plain loop. Were all the rest free, it would be **{ratio * wall / arithmetic:.2f} times** as fast: more
there is not, by these operators in this precision."""
    return f"""# Where a train step of {name} spends its time

`{cell.plugin}`, {cell.size} px, {plugin.images_per_step()} images per step: {steps} steps under `torch.profiler`,
{wall:.1f} ms of wall time per step, of which operators account for {total:.1f} ms of {where} time. {limit}

{markdown(("operator", f"own {where} ms per step", "share", "calls per step"), rows)}

All other operators: {rest:.2f} ms per step. Time of an operator's own is without that of operators it calls.

{machine_lines([describe_machine(device)])}
- `python -m bench.throughput FOLDER --profile {name}` makes this page.
"""


def _own_time(event: Any, cuda: bool) -> float:
    """Milliseconds."""
    return float(event.self_device_time_total if cuda else event.self_cpu_time_total) / 1e3
