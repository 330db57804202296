"""Plan -> records: run what is not yet done, whatever happens on the way."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from cxrbench.cache import Cache
from cxrbench.executors.local import execute
from cxrbench.external import ExternalData, ExternalIndex, load_external
from cxrbench.machine import describe_machine
from cxrbench.plan import Plan, relative_cost
from cxrbench.progress import Reporter
from cxrbench.records import Record, Status
from cxrbench.stages import DataIndex, load_and_split
from cxrbench.store import Store
from cxrbench.workbench import Workbench

LOAD_WORK = 0.3  # of one film, in the units of relative_cost


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
    fresh: bool = False,
    fail_fast: bool = False,
) -> Outcome:
    """Run every trial of the plan that the store has no ``ok`` record of.

    Args:
        command: the command line, for the records.
        asked: its options, for ``verify``.
        fresh: run all of them again, and fit every generator anew.
        fail_fast: stop after the first trial that does not end ``ok``.

    Raises:
        DataError: the data cannot be benchmarked, or an external film is tied to a training film (nothing
            has run then).
    """
    store.prepare()
    todo = [trial for trial in plan.trials if fresh or not store.is_done(trial.key)]
    outcome = Outcome(cached=len(plan.trials) - len(todo))
    if not todo:
        return outcome
    spec, splits = plan.request.spec, sorted({trial.setting.split_seed for trial in todo})
    wants_external = plan.external if any(trial.kind == "external" for trial in todo) else None
    films = len(index.films) + (len(wants_external.index.films) if wants_external else 0)
    reporter.start(LOAD_WORK * films * len(splits) + sum(relative_cost(trial, spec) for trial in todo))
    provenance = {"command": command, "request": dict(asked or {}), **describe_machine(plan.request.device)}
    try:
        # Every split first: what its gate refuses must not be found after hours of another split.
        benches = {seed: _prepare(plan, index, wants_external, seed, cache, reporter, fresh) for seed in splits}
        for split_seed, bench in benches.items():
            for trial in [trial for trial in todo if trial.setting.split_seed == split_seed]:
                reporter.begin(trial.describe(), relative_cost(trial, spec))
                record, found = execute(trial, partial(bench.measure, trial), provenance)
                publish = index.dataset.redistributable
                if record.status is not Status.INTERRUPTED or not store.is_done(record.key):
                    store.put(record, found.arrays if found else {}, found.pictures if found else {}, publish=publish)
                outcome.ran.append(record)
                reporter.end(record)
                if record.status is Status.INTERRUPTED:
                    outcome.interrupted = True
                    return outcome
                if fail_fast and record.status is not Status.OK:
                    return outcome
    except KeyboardInterrupt:  # while loading, or between two trials
        outcome.interrupted = True
    finally:
        reporter.close()
    return outcome


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
    spec = plan.request.spec
    reporter.begin(f"load {index.name}", LOAD_WORK * len(index.films))
    data = load_and_split(index, spec, split_seed, cache, reporter.step)
    reporter.end(None)
    external: ExternalData | None = None
    if wants_external:
        reporter.begin(f"load {wants_external.index.name}", LOAD_WORK * len(wants_external.index.films))
        external = load_external(wants_external, data, spec.image_size, cache, reporter.step)
        reporter.end(None)
    return Workbench(plan, index, data, external, cache, reporter, fresh)
