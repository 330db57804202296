"""What a generator or classifier costs on this machine: it is tried for a moment, on made-up films."""

from __future__ import annotations

import copy
import statistics
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np

from cxrbench.contracts import Classifier, Generator, Images, Reserved, RunContext, Steppable
from cxrbench.costs.trying import made_up_films, seconds_of

SMALL_SIZES = (32, 64)  # pixels, at which a step is timed that would take too long at full size
FILM_PIXELS = 2**24  # of all films that a fit is tried with, at most
SETUP_FILMS = 256  # that steps are tried with: what a step costs does not depend on their number
APPLIED = 64  # films sampled or predicted
MORE_STEPS = 1000  # a schedule of the budget's length must not end while its steps are timed
FOR_CYCLES = 0.25  # of the share of time: so long the cycle of steps is repeated
MOST_CYCLES = 20
FOR_A_SIZE = 4.0  # shares: a larger size is tried if by its area it takes no longer; it takes far less
STEPS_AT_A_SIZE = 4  # two are counted, two timed
FURTHER_STEPS = 3  # by which two budgets differ that a plug-in without steps of its own is fitted with

P = TypeVar("P", Generator, Classifier)
Fit = Callable[[P, Images, RunContext], object]


@dataclass(frozen=True)
class Task:
    """What the plan asks of a plug-in.

    Attributes:
        size: of the films, in pixels.
        train: training films.
        budget: optimizer steps of a fit.
        share: seconds that trying it may take, about.
    """

    size: int
    classes: tuple[str, ...]
    train: int
    budget: int
    device: str
    share: float


@dataclass(frozen=True)
class PluginCost:
    """What a generator or classifier costs.

    Attributes:
        fit_seconds: of a fit with a budget of one step.
        step_seconds: of each further step.
        film_seconds: of sampling, or predicting, one film.
        cycle: steps after which the work repeats.
        step_flops: of a typical step; 0 where none could be counted.
        peak_bytes: most that its tensors take at once.
    """

    fit_seconds: float
    step_seconds: float
    film_seconds: float
    cycle: int
    step_flops: float
    peak_bytes: float


def probe_generator(generator: Generator, task: Task) -> PluginCost:
    """Raises whatever the generator raises."""

    def fit(plugin: Generator, films: Images, ctx: RunContext) -> None:
        if isinstance(plugin, Reserved):
            plugin.keep(films)
        plugin.fit(films, ctx)

    def apply(plugin: Generator, films: Images, ctx: RunContext) -> None:
        plugin.sample(np.zeros(APPLIED, np.int64), ctx)

    return _probe(generator, task, fit, apply)


def probe_classifier(classifier: Classifier, task: Task) -> PluginCost:
    """Raises whatever the classifier raises."""

    def fit(plugin: Classifier, films: Images, ctx: RunContext) -> None:
        plugin.fit(films, films.subset(np.arange(min(APPLIED, len(films)))), ctx)

    def apply(plugin: Classifier, films: Images, ctx: RunContext) -> None:
        plugin.predict_proba(films.pixels[np.arange(APPLIED) % len(films)], ctx)

    return _probe(classifier, task, fit, apply)


def _probe(plugin: P, task: Task, fit: Fit[P], apply: Fit[P]) -> PluginCost:
    from cxrbench.costs.work import counting

    steps = _probe_steps(plugin, task) if isinstance(plugin, Steppable) else None
    size = steps.timed_at if steps else task.size
    count = max(2 * len(task.classes), min(task.train, FILM_PIXELS // size**2))
    films = made_up_films(count, size, task.classes)

    def fitted(budget: int) -> P:
        fresh = copy.deepcopy(plugin)
        with _context(task, budget) as ctx:
            fit(fresh, films, ctx)
        return fresh

    peak = 0.0
    if steps is None:  # its first fit warms it up
        with counting() as work:
            fitted(1)
        peak = work.peak_bytes
    ready: list[P] = []
    fit_seconds = seconds_of(lambda: ready.append(fitted(1)), task.device)
    with _context(task, 1) as ctx:
        with counting() as work:
            apply(ready[0], films, ctx)
        film_seconds = seconds_of(lambda: apply(ready[0], films, ctx), task.device) / APPLIED
    peak = max(peak, work.peak_bytes)
    if steps is None:
        longer = seconds_of(lambda: fitted(1 + FURTHER_STEPS), task.device)
        step_seconds = max(0.0, longer - fit_seconds) / FURTHER_STEPS
        return PluginCost(fit_seconds, step_seconds, film_seconds, 1, 0.0, peak)
    larger = steps.seconds / steps.timed_seconds
    return PluginCost(
        fit_seconds * larger,
        steps.seconds,
        film_seconds * larger,
        steps.cycle,
        steps.flops,
        max(steps.peak_bytes, peak * (task.size / size) ** 2),
    )


@dataclass(frozen=True)
class _Steps:
    """Seconds of a step, the mean over a cycle: at the size where every step was timed, and at full size; of a typical
    step there, its FLOPs, and the most that its tensors take."""

    timed_at: int
    timed_seconds: float
    seconds: float
    cycle: int
    flops: float
    peak_bytes: float


def _probe_steps(plugin: Steppable, task: Task) -> _Steps:
    """Time a cycle of steps on small films, and the typical step on larger ones as long as there is time for it; from
    there to full size, seconds grow with the FLOPs."""
    smallest, *larger = [size for size in SMALL_SIZES if size < task.size] + [task.size]
    with _ready(plugin, smallest, task) as stepped:
        by_number = _time_cycles(stepped, task)
        typical = sorted(range(len(by_number)), key=by_number.__getitem__)[len(by_number) // 2]
        flops, peak = _count(stepped, typical)
    size, timed = smallest, [(flops, by_number[typical])]
    for tried in larger:
        if STEPS_AT_A_SIZE * timed[-1][1] * (tried / size) ** 2 > FOR_A_SIZE * task.share:
            break
        with _ready(plugin, tried, task) as stepped:
            flops, peak = _count(stepped, typical)
            timed.append((flops, min(_time_step(stepped, typical, task) for _ in range(2))))
        size = tried
    seconds = timed[-1][1]
    if size != task.size:
        with _ready(plugin, task.size, task) as stepped:
            flops, peak = _count(stepped, typical, imagined=True)
        seconds = extrapolated(timed, flops, (task.size / size) ** 2)
    mean = statistics.mean(by_number)
    return _Steps(smallest, mean, seconds * mean / by_number[typical], len(by_number), flops, peak)


def extrapolated(timed: Sequence[tuple[float, float]], flops: float, area: float) -> float:
    """Seconds of a step of so many FLOPs: what every step takes, and FLOPs over the rate, through the last two steps
    timed (FLOPs, seconds). With one step timed, all is thought to grow with the FLOPs; without FLOPs, with the area."""
    last_flops, last = timed[-1]
    if not last_flops:
        return last * area
    if len(timed) == 1 or timed[-2][0] >= last_flops:
        return last * flops / last_flops
    rise = (last - timed[-2][1]) / (last_flops - timed[-2][0])
    return last + max(0.0, rise) * (flops - last_flops)


def _time_cycles(plugin: Steppable, task: Task) -> list[float]:
    """Seconds of each step of a cycle."""
    plugin.training_step(0)
    seconds: list[list[float]] = [[] for _ in range(max(1, plugin.steps_per_cycle()))]
    for _ in range(MOST_CYCLES):
        for number, found in enumerate(seconds):
            found.append(_time_step(plugin, number, task))
        if sum(map(sum, seconds)) > FOR_CYCLES * task.share:
            break
    return [statistics.median(found) for found in seconds]


def _time_step(plugin: Steppable, number: int, task: Task) -> float:
    return seconds_of(lambda: plugin.training_step(number), task.device)


def _count(plugin: Steppable, typical: int, *, imagined: bool = False) -> tuple[float, float]:
    """FLOPs of a typical step, and the most that the tensors of it and of step 0, where penalties tend to be, take."""
    from cxrbench.costs.work import counting

    with counting(imagined=imagined) as work:
        plugin.training_step(0)
        before = work.flops
        plugin.training_step(typical)
    return work.flops - before, work.peak_bytes


@contextmanager
def _ready(plugin: Steppable, size: int, task: Task) -> Iterator[Steppable]:
    fresh = copy.deepcopy(plugin)
    with _context(task, task.budget + MORE_STEPS) as ctx:
        fresh.setup(made_up_films(SETUP_FILMS, size, task.classes), ctx)
        yield fresh


@contextmanager
def _context(task: Task, budget: int) -> Iterator[RunContext]:
    with tempfile.TemporaryDirectory(prefix="cxrbench-") as workdir:
        yield RunContext(0, task.device, budget, Path(workdir))
