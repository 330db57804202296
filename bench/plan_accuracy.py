"""Does ``cxrbench plan --costs`` tell the truth? A plan's cost is predicted, then the plan is run.

    python -m bench.plan_accuracy results/throughput/plan.json [--data phantom] [--tier quick] [--generators cgan]

Everything is made anew, in a folder that is deleted afterwards. In this process (``--jobs 0``) the truth is counted in
CPU seconds of the trial's one thread, which other programs change little; in others, or on a GPU, in wall seconds, for
which the machine must be idle. Trials of throughput have all cores, whose threads take CPU time while they wait for
each other: they are always counted in wall seconds.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bench.quality import machine_lines, markdown, write_row
from cxrbench.asked import DEFAULT_GENERATORS, Asked, prepare, request_of
from cxrbench.cache import Cache, write_atomically
from cxrbench.costs.prediction import Prediction, predict
from cxrbench.errors import CxrbenchError
from cxrbench.machine import describe_machine
from cxrbench.records import Record, Status, Trial
from cxrbench.runner import run_plan
from cxrbench.store import Store

PAGE = "PLAN.md"
WANTED = 1.5  # factor between prediction and truth, at most
SELF = Path("/proc/self")  # on Linux the peak of the resident memory can be read, and begun anew


@dataclass(frozen=True)
class Truth:
    """What a trial took; ``peak_bytes`` is 0 where it cannot be known."""

    wall_seconds: float
    cpu_seconds: float
    peak_bytes: int


@dataclass
class Meter:
    """A reporter that measures what it is told of. What lies between the word that a trial begins and the word that
    it has ended is the trial's where trials run one after the other, in this process.

    Attributes:
        truths: by key, of the trials that ended well.
        failed: a line for each of the others.
        wall_seconds: from the first trial's begin to the last one's end.
    """

    truths: dict[str, Truth] = field(default_factory=dict)
    failed: list[str] = field(default_factory=list)
    _cpu: float = 0.0
    _wall: dict[str, float] = field(default_factory=dict)
    _first: float | None = None
    _last: float = 0.0

    @property
    def wall_seconds(self) -> float:
        return self._last - self._first if self._first is not None else 0.0

    def begin(self, what: str, work: float) -> None:
        self._cpu, self._wall[what] = time.process_time(), time.perf_counter()
        begin_peak()

    def end(self, what: str, record: Record | None) -> None:
        if record is None:  # films were loaded
            return
        began, self._last = self._wall[what], time.perf_counter()
        self._first = began if self._first is None else min(self._first, began)
        if record.status is Status.OK:
            self.truths[record.key] = Truth(self._last - began, time.process_time() - self._cpu, peak_bytes())
        else:
            self.failed.append(f"{what}: {record.error}")

    def start(self, work: float) -> None:
        """Nothing to measure."""

    def step(self, what: str, done: int, total: int) -> None:
        """Nothing to measure."""

    def say(self, text: str) -> None:
        """Nothing to measure."""

    def close(self) -> None:
        """Nothing to measure."""


def begin_peak() -> None:
    """Count the peak of the resident memory from here on."""
    if (SELF / "clear_refs").exists():
        (SELF / "clear_refs").write_text("5")


def peak_bytes() -> int:
    """The peak of the resident memory since ``begin_peak``; 0 where it cannot be known."""
    if not (SELF / "clear_refs").exists():
        return 0
    lines = (SELF / "status").read_text().splitlines()
    return next(1024 * int(line.split()[1]) for line in lines if line.startswith("VmHWM:"))


def kind_of(trial: Trial) -> str:
    """The row of the table that a trial belongs to."""
    if trial.kind == "fidelity":
        return f"fidelity of {trial.generator.name if trial.generator else 'held-out real films'}"
    if trial.kind == "utility":
        arm = "" if trial.arm in ("augment", "synthetic-only") else f", {trial.arm}"
        return f"{trial.classifier.name if trial.classifier else '?'}{arm}"
    return trial.describe() if trial.kind == "throughput" else trial.kind


def compare(prediction: Prediction, meter: Meter, *, by_cpu: bool) -> list[dict[str, Any]]:
    """A row for each kind of trial: ``what``, ``trials``, and of them ``predicted`` and ``true`` seconds and
    ``predicted_mib`` and ``true_mib`` (largest; true ones only where they can be known).

    Args:
        by_cpu: the truth is CPU seconds, but of trials that have more than one thread; else wall seconds.
    """
    kinds: dict[str, list[Trial]] = {}
    for trial in prediction.plan.trials:
        if prediction.trials[trial.key] is not None and trial.key in meter.truths:
            kinds.setdefault(kind_of(trial), []).append(trial)
    rows = []
    for what, trials in kinds.items():
        costs = [cost for trial in trials if (cost := prediction.trials[trial.key]) is not None]
        truths = [meter.truths[trial.key] for trial in trials]
        one_thread = by_cpu and trials[0].kind != "throughput"
        row = {
            "what": what,
            "trials": len(trials),
            "predicted": round(sum(cost.seconds for cost in costs), 3),
            "true": round(sum(truth.cpu_seconds if one_thread else truth.wall_seconds for truth in truths), 3),
            "predicted_mib": round(max(cost.peak_bytes for cost in costs) / 2**20),
        }
        peak = max(truth.peak_bytes for truth in truths)
        rows.append(row | ({"true_mib": round(peak / 2**20)} if by_cpu and peak else {}))
    return rows


def options_of(asked: Asked) -> list[str]:
    """The command line of what is not a default."""
    defaults = Asked().model_dump()
    changed = {name: value for name, value in asked.model_dump().items() if value != defaults[name]}
    return [text for name, value in changed.items() for text in (f"--{name.replace('_', '-')}", str(value))]


def calibrate_elsewhere(asked: Asked, cache: Path) -> float:
    """Let a process of its own fill the cache, or this one would hold what its calibration left; its wall seconds.

    Raises:
        CalledProcessError: it failed.
    """
    code = "from cxrbench.cli import main; main()"
    with tempfile.TemporaryDirectory(prefix="cxrbench-") as folder:
        command = [sys.executable, "-c", code, "plan", "--costs", "--results", folder, *options_of(asked)]
        started = time.perf_counter()
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, env={**os.environ, "CXRBENCH_CACHE": str(cache)})
        return time.perf_counter() - started


def measure(asked: Asked, jobs: int) -> dict[str, Any]:
    """Predict, run, compare.

    Raises:
        UsageError, DataError: as ``cxrbench run``.
    """
    request = request_of(asked)
    index, plan = prepare(asked, request, lambda found: found)
    with tempfile.TemporaryDirectory(prefix="cxrbench-") as folder:
        cache, store, meter = Cache(Path(folder) / "cache"), Store(Path(folder) / "results"), Meter()
        seconds = calibrate_elsewhere(asked, cache.root)
        prediction = predict(plan, index, cache)
        run_plan(plan, index, store, cache, meter, command="plan_accuracy", jobs=jobs)
    by_cpu = jobs == 0 and request.device == "cpu"
    rows = compare(prediction, meter, by_cpu=by_cpu)
    known = [trial for trial in plan.trials if trial.key in meter.truths]
    return {
        "asked": asked.model_dump(),
        "data": index.name,
        "jobs": max(jobs, 1),
        "seconds": "CPU" if by_cpu else "wall",
        "plan_seconds": round(seconds, 1),
        "predicted": round(prediction.run_seconds(known, max(jobs, 1)), 1),
        "true": round(sum(row["true"] for row in rows) if by_cpu else meter.wall_seconds, 1),
        "rows": rows,
        "broken": list(prediction.broken),
        "failed": meter.failed,
        "machine": describe_machine(request.device),
    }


def factor(predicted: float, true: float) -> str:
    """Predicted over true, as it is shown; nothing for what takes no time."""
    return f"{predicted / true:.2f}" if true >= 0.05 else ""


def _outside(rows: Sequence[Mapping[str, Any]]) -> str:
    """The rows whose seconds are further from the truth than is wanted, in words."""
    far = [
        f"{row['what']} ({shown})"
        for row in rows
        if (shown := factor(row["predicted"], row["true"])) and not 1 / WANTED <= float(shown) <= WANTED
    ]
    return f"Further from the truth than is wanted, row by row: {', '.join(far)}.\n\n" if far else ""


def page(found: Mapping[str, Any]) -> str:
    """``PLAN.md``."""
    table = [
        [
            row["what"],
            str(row["trials"]),
            f"{row['predicted']:.1f}",
            f"{row['true']:.1f}",
            factor(row["predicted"], row["true"]),
            str(row["predicted_mib"]),
            str(row.get("true_mib", "")),
        ]
        for row in found["rows"]
    ]
    head = ["trials", "number", "predicted s", "true s", "predicted / true", "predicted MiB", "true MiB"]
    faults = "".join(f"- {line}\n" for line in [*found["broken"], *found["failed"]])
    asked = found["asked"]
    defaults = Asked().model_dump()
    options = " ".join(
        f"--{name.replace('_', '-')} {value}" for name, value in asked.items() if value != defaults[name]
    )
    return f"""# What `cxrbench plan --costs` predicts, and what a run takes

`cxrbench run {options}`, {found["data"]}, {found["jobs"]} at a time. In all {found["predicted"]:.0f} s were predicted
and {found["true"]:.0f} s taken: {factor(found["predicted"], found["true"])} of the truth, where {1 / WANTED:.2f} to
{WANTED} is wanted. The command took {found["plan_seconds"]:.0f} s, with its calibration.

{markdown(head, table)}

{_outside(found["rows"])}Seconds are {found["seconds"]} seconds (of throughput, which has all cores: wall seconds),
of all trials of a row together. What a process computes once (a fit, the
features of the reference) belongs to the trial that needs it first. A copy-adjusted arm is predicted as if its
generator had made copies: without any, its training is that of another arm, and costs nothing. MiB are the most that
the process holds in a trial of the row; what earlier trials left in it is included in the truth.

{faults}{machine_lines([found["machine"]])}
- `python -m bench.plan_accuracy FILE` makes this page.
"""


def main() -> int:
    """Measure, and write FILE and the page beside it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", type=Path)
    parser.add_argument("--data", default="phantom")
    parser.add_argument("--tier", default="quick")
    parser.add_argument("--generators", default=DEFAULT_GENERATORS)
    parser.add_argument("--classifiers", default="small-cnn")
    parser.add_argument("--ratios", default="0,0.5,1")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--controls", default="all")
    parser.add_argument("--extractors", default="auto")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--jobs", type=int, default=0)
    options = vars(parser.parse_args())
    file, jobs = options.pop("file"), options.pop("jobs")
    try:
        found = measure(Asked(**options), jobs)
    except CxrbenchError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    write_row(file, found)
    write_atomically(file.with_name(PAGE), page(found).encode())
    print(f"wrote {file.with_name(PAGE)}: predicted {found['predicted']} s, true {found['true']} s")
    return 0


if __name__ == "__main__":
    sys.exit(main())
