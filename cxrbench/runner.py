"""Plan -> records: run what is not yet done, whatever happens on the way."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from cxrbench.cache import Cache
from cxrbench.errors import UsageError
from cxrbench.executors.local import Measure, Measurement, run_here
from cxrbench.executors.packing import packed
from cxrbench.executors.processes import can_fork, run_side_by_side
from cxrbench.external import ExternalData, ExternalIndex, load_external
from cxrbench.machine import computing_with, describe_machine, memory_bytes, slow_precision_note, usable_cores
from cxrbench.plan import Plan, relative_cost
from cxrbench.progress import Reporter
from cxrbench.records import Record, Status, Trial
from cxrbench.spec import BenchSpec
from cxrbench.stages import DataIndex, Progress, load_and_split
from cxrbench.store import Store
from cxrbench.workbench import Workbench

LOAD_WORK = 0.3  # of one film, in the units of relative_cost
MEMORY_OF_A_TRIAL = 2 * 1024**3  # bytes, about: torch itself, films, nets and maps at the sizes a CPU is for


@dataclass
class Outcome:
    """What a run did."""

    ran: list[Record] = field(default_factory=list)
    cached: int = 0
    interrupted: bool = False

    @property
    def failed(self) -> list[Record]:
        return [record for record in self.ran if record.status is not Status.OK]


def run_plan(
    plan: Plan,
    index: DataIndex,
    store: Store,
    cache: Cache,
    reporter: Reporter,
    *,
    command: str,
    asked: Mapping[str, Any] | None = None,
    jobs: int | None = None,
    fresh: bool = False,
    fail_fast: bool = False,
) -> Outcome:
    """Run every trial of the plan that the store has no ``ok`` record of.

    Args:
        command: the command line, for the records.
        asked: its options, for ``verify``.
        jobs: as for ``chosen_jobs``. Scores do not depend on it.
        fresh: run all of them again, and fit every generator anew.
        fail_fast: stop after the first trial that does not end ``ok``.

    Raises:
        DataError: the data cannot be benchmarked, or an external film is tied to a training film (nothing
            has run then).
        UsageError: more than one job where processes cannot run side by side.
    """
    device = plan.request.device
    jobs = chosen_jobs(jobs, device)
    store.prepare()
    todo = [trial for trial in plan.trials if fresh or not store.is_done(trial.key)]
    outcome = Outcome(cached=len(plan.trials) - len(todo))
    if not todo:
        return outcome
    plan.import_all()
    spec, splits = plan.request.spec, sorted({trial.setting.split_seed for trial in todo})
    wants_external = plan.external if any(trial.kind == "external" for trial in todo) else None
    films = len(index.films) + (len(wants_external.index.films) if wants_external else 0)
    reporter.start(LOAD_WORK * films * len(splits) + sum(relative_cost(trial, spec) for trial in todo))
    provenance = {"command": command, "request": dict(asked or {}), **describe_machine(device), "jobs": max(jobs, 1)}
    try:
        # Every split first: what its gate refuses must not be found after hours of another split.
        benches = {seed: _prepare(plan, index, wants_external, seed, cache, reporter, fresh) for seed in splits}
        if slow := slow_precision_note(device):
            reporter.say(f"note: {slow}")

        def measure(trial: Trial, progress: Progress) -> Measurement:
            for bench in benches.values():
                bench.let_go()
            return benches[trial.setting.split_seed].measure(trial, progress)

        keeper = _Keeper(spec, store, reporter, outcome, index.dataset.redistributable, fail_fast)
        groups, timed = packed(todo, lambda trial: relative_cost(trial, spec))
        if jobs:
            for seed, bench in benches.items():
                bench.prepare([trial for trial in todo if trial.setting.split_seed == seed])
            going = run_side_by_side(groups, measure, {**provenance, "threads": 1}, keeper, jobs)
        else:
            going = _run_in_order([trial for trial in todo if trial not in timed], measure, provenance, keeper, device)
        if going:  # timed with all cores, and with nothing beside them
            run_here(timed, measure, provenance, keeper)
    except KeyboardInterrupt:  # while loading, or between two trials
        outcome.interrupted = True
    finally:
        reporter.close()
    return outcome


def chosen_jobs(jobs: int | None, device: str) -> int:
    """How many trials will have a process of their own at a time, where ``jobs`` were asked for; ``best_jobs`` where
    nobody asked.

    Returns:
        0: they run one after the other in this process, so that a debugger sees them. What kills it, for memory or by
        native code, ends the run.

    Raises:
        UsageError: more than one where processes cannot run side by side; or as ``best_jobs``.
    """
    if jobs is None:
        return best_jobs(device)
    if jobs > 1 and device != "cpu":
        raise UsageError(f"--jobs {jobs}: on {device} one trial runs at a time; leave --jobs out")
    if jobs > 1 and not can_fork():
        raise UsageError(
            f"--jobs {jobs}: trials cannot run side by side here (no fork, or torch sees a CUDA device); leave it out"
        )
    return jobs if device == "cpu" and can_fork() else 0


def best_jobs(device: str) -> int:
    """Trials to run side by side: ``$CXRBENCH_JOBS``, else one for each core of a CPU, if there is memory for them;
    0, as ``chosen_jobs`` has it, on a GPU and where processes cannot be forked.

    Raises:
        UsageError: ``$CXRBENCH_JOBS`` is no number.
    """
    if device != "cpu" or not can_fork():
        return 0
    if named := os.environ.get("CXRBENCH_JOBS"):
        if not named.isdecimal():
            raise UsageError(f"$CXRBENCH_JOBS is {named!r}; set it to a number, or not at all")
        return int(named)
    return max(1, min(usable_cores(), memory_bytes() // MEMORY_OF_A_TRIAL))


def _run_in_order(
    trials: Sequence[Trial], measure: Measure, provenance: Mapping[str, Any], keeper: _Keeper, device: str
) -> bool:
    if device != "cpu":
        return run_here(trials, measure, provenance, keeper)
    with computing_with(threads=1):  # as side by side, so that the scores are the same
        return run_here(trials, measure, {**provenance, "threads": 1}, keeper)


@dataclass
class _Keeper:
    """Keeps the records of a run, and shows its course."""

    spec: BenchSpec
    store: Store
    reporter: Reporter
    outcome: Outcome
    publish: bool
    fail_fast: bool

    def begin(self, trial: Trial) -> None:
        self.reporter.begin(_what(trial), relative_cost(trial, self.spec))

    def step(self, trial: Trial, done: int, total: int) -> None:
        self.reporter.step(_what(trial), done, total)

    def end(self, record: Record, found: Measurement | None) -> bool:
        interrupted = record.status is Status.INTERRUPTED
        if not interrupted or not self.store.is_done(record.key):
            arrays, pictures = (found.arrays, found.pictures) if found else ({}, {})
            self.store.put(record, arrays, pictures, publish=self.publish)
        self.outcome.ran.append(record)
        self.outcome.interrupted |= interrupted
        self.reporter.end(_what(record.trial), record)
        return not interrupted and not (self.fail_fast and record.status is not Status.OK)


def _what(trial: Trial) -> str:
    """A trial's description: no two trials that are under way at a time have the same."""
    split = trial.setting.split_seed
    return trial.describe() + (f", split {split}" if split else "")


def _prepare(
    plan: Plan,
    index: DataIndex,
    wants_external: ExternalIndex | None,
    split_seed: int,
    cache: Cache,
    reporter: Reporter,
    fresh: bool,
) -> Workbench:
    """Load the films of one split, and the external films, which must not be tied to its training films."""
    spec, what = plan.request.spec, f"load {index.name}"
    reporter.begin(what, LOAD_WORK * len(index.films))
    data = load_and_split(index, spec, split_seed, cache, partial(reporter.step, what))
    reporter.end(what, None)
    external: ExternalData | None = None
    if wants_external:
        what = f"load {wants_external.index.name}"
        reporter.begin(what, LOAD_WORK * len(wants_external.index.films))
        external = load_external(wants_external, data, spec.image_size, cache, partial(reporter.step, what))
        reporter.end(what, None)
    return Workbench(plan, index, data, external, cache, fresh)
