"""Ours against a plain loop: both in one process, by turns, in short rounds of whole cycles.

A neighbour on the machine slows a round several times over, so what is compared must be neighbours in time: the order
is ours, plain, plain, ours, and the ratio is taken pair by pair. What drifts slowly then falls on both alike.
"""

from __future__ import annotations

import gc
import itertools
import math
import statistics
import tempfile
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from bench.allocator import settle_memory
from bench.reference.loops import reference_loop
from bench.throughput_cells import Cell, draw_films
from bench.throughput_peaks import share_of_peak, wait_for
from cxrbench.contracts import Images, Preflight, RunContext, Steppable
from cxrbench.costs.work import counting
from cxrbench.errors import CxrbenchError, Diverged, UsageError
from cxrbench_baselines.replay import unreplayed

SEED = 0
BUDGET = 10_000  # steps a schedule may plan for: more than any measurement takes
ROUND_SECONDS = 0.4  # at least; a round is one cycle or more
LEAST_ROUNDS = 4  # of each loop: two times ours, plain, plain, ours
MEMORY = {
    "cuda": "the highest `torch.cuda.max_memory_allocated` over set-up, first step and two cycles",
    "cpu": "of all tensors alive at once in one cycle, without the scratch memory of kernels",
}


@dataclass(frozen=True)
class Ratio:
    """Images per second of ours over plain: median and quartiles over the pairs of neighbouring rounds."""

    median: float
    low: float
    high: float
    pairs: int


@dataclass
class Loop:
    """A training loop that goes on from step to step.

    ``ours``: memory is kept while it runs as the command line keeps it, not as glibc does by itself.
    """

    steps: Iterator[Mapping[str, Any]]
    device: str
    flops: Mapping[str, float]
    memory_bytes: int
    cycle_seconds: float
    ours: bool = True

    def run(self, steps: int) -> float:
        """Seconds per step of so many more steps, ended by waiting for the device."""
        settle_memory(ours=self.ours)
        wait_for(self.device)
        started = time.perf_counter()
        deque(itertools.islice(self.steps, steps), maxlen=0)
        wait_for(self.device)
        return (time.perf_counter() - started) / steps


def warmed_up(make: Callable[[], Iterator[Mapping[str, Any]]], plugin: Steppable, device: str) -> Loop:
    """Make a loop, do one step, which builds what is kept, and a cycle that is counted.

    Args:
        make: returns the loop; ``plugin`` is set up afterwards.

    Raises:
        Diverged: a loss of that cycle is NaN or infinite.
    """
    cuda = torch.device(device).type == "cuda"
    gc.collect()  # the nets of what was timed before
    if cuda:
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated() if cuda else 0
    steps = make()
    next(steps)
    cycle = plugin.steps_per_cycle()
    started = time.perf_counter()
    with counting() as work, unreplayed():  # of a graph's kernels nothing is told of
        seen = list(itertools.islice(steps, cycle))
    wait_for(device)
    if cuda:  # counting takes longer than a GPU does
        started = time.perf_counter()
        seen += itertools.islice(steps, cycle)
        wait_for(device)
    seconds = time.perf_counter() - started
    for name, value in ((name, float(value)) for losses in seen for name, value in losses.items()):
        if not math.isfinite(value):
            raise Diverged(f"{name} became {value} in the first {cycle + 1} steps")
    memory = torch.cuda.max_memory_allocated() - before if cuda else work.peak_bytes
    return Loop(steps, device, {kind: n / cycle for kind, n in work.flops_by_kind.items()}, memory, seconds)


def interleaved(loops: Mapping[str, Loop], steps: int, seconds: float) -> dict[str, list[float]]:
    """Seconds per step of every round of ``steps`` steps, in the order A B B A A B B A ...

    Args:
        seconds: that it may take; ``LEAST_ROUNDS`` are done whatever they take.
    """
    rounds: dict[str, list[float]] = {name: [] for name in loops}
    turns = [*loops, *list(loops)[::-1]]
    started = time.perf_counter()
    while True:
        before = time.perf_counter()
        for name in turns:
            rounds[name].append(loops[name].run(steps))
        now = time.perf_counter()
        enough = min(map(len, rounds.values())) >= LEAST_ROUNDS
        if enough and now - started + (now - before) > seconds:
            return rounds


def ratio_of(ours: Sequence[float], plain: Sequence[float]) -> Ratio:
    """From seconds per step; round i of both were neighbours in time."""
    pairs = np.asarray(plain) / np.asarray(ours)
    low, median, high = map(float, np.quantile(pairs, (0.25, 0.5, 0.75)))
    return Ratio(median, low, high, len(pairs))


def plugin_of(cell: Cell) -> Steppable:
    """The plug-in, not set up yet.

    Raises:
        UsageError: it cannot be had, cannot work at this size, or has no training step.
    """
    plugin = cell.create()
    if not isinstance(plugin, Steppable):
        raise UsageError(f"{cell.plugin} has no training_step: there is nothing to time")
    if isinstance(plugin, Preflight):
        plugin.preflight(cell.size)
    return plugin


def our_loop(plugin: Steppable, train: Images, ctx: RunContext) -> Loop:
    """Set the plug-in up and warm it up."""

    def make() -> Iterator[Mapping[str, Any]]:
        plugin.setup(train, ctx)
        return (plugin.training_step(step) for step in itertools.count())

    return warmed_up(make, plugin, ctx.device)


def plain_loop(plugin: Steppable, train: Images, ctx: RunContext) -> Loop | None:
    """The plain loop of a plug-in that is set up; None where nobody has written one."""
    reference = reference_loop(type(plugin))
    if reference is None:
        return None
    torch.manual_seed(ctx.seed)
    return replace(warmed_up(lambda: reference(plugin, train, ctx), plugin, ctx.device), ours=False)


def measure_cell(cell: Cell, device: str, peaks: Mapping[str, float], seconds: float) -> dict[str, Any]:
    """A row of the record: ``status`` and, where that is ``ok``, what was measured of each loop, and ``ratio``."""
    started = time.perf_counter()
    row: dict[str, Any] = asdict(cell) | {"seconds": seconds}
    try:
        train = draw_films(cell.size)
        with tempfile.TemporaryDirectory(prefix="cxrbench-") as folder:
            plugin, ctx = plugin_of(cell), RunContext(SEED, device, BUDGET, Path(folder))
            loops = {"ours": our_loop(plugin, train, ctx)}
            if (plain := plain_loop(plugin, train, ctx)) is not None:
                loops["plain"] = plain
            cycle = plugin.steps_per_cycle()
            fastest = min(loop.cycle_seconds for loop in loops.values())
            steps = cycle * math.ceil(ROUND_SECONDS / fastest)
            rounds = interleaved(loops, steps, seconds - (time.perf_counter() - started))
    except CxrbenchError as error:
        return row | {"status": "failed", "error": str(error)}
    except Exception as error:  # noqa: BLE001 - out of memory, say: the other cells' minutes must not be lost
        return row | {"status": "failed", "error": f"{type(error).__name__}: {error}"}
    batch = plugin.images_per_step()
    row |= {"status": "ok", "images_per_step": batch, "steps_per_cycle": cycle, "steps_per_round": steps}
    for name, loop in loops.items():
        median = statistics.median(rounds[name])
        row[name] = {
            "step_seconds": median,
            "images_per_second": batch / median,
            "flops_per_step": loop.flops,
            "share_of_peak": share_of_peak(loop.flops, median, peaks),
            "memory_bytes": loop.memory_bytes,
            "rounds": rounds[name],
        }
    return row | ({"ratio": asdict(ratio_of(rounds["ours"], rounds["plain"]))} if "plain" in loops else {})
