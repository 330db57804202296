"""How soon does a command answer that has nothing to compute?

    python -m bench.startup results/throughput

Every command runs in a process of its own, with a results folder in which a small run has ended and the page is
current, by turns. ``import torch`` stands beside them: it is what a command would take at the least that needed it.
"""

from __future__ import annotations

import argparse
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from bench.quality import machine_lines, markdown, write_row
from cxrbench.cache import write_atomically
from cxrbench.machine import describe_machine

PAGE, RECORD = "STARTUP.md", "startup.json"
ROUNDS = 7
RUN = ("--tier", "quick", "--data", "phantom:patients_per_class=24", "--seeds", "2", "--device", "auto")
COMMAND = (sys.executable, "-c", "from cxrbench.cli import main; main()")


def commands(results: Path) -> dict[str, tuple[str, ...]]:
    """What is timed, by name."""
    asked = (*RUN, "--results", str(results))
    return {
        "cxrbench --help": (*COMMAND, "--help"),
        "cxrbench plan": (*COMMAND, "plan", *asked),
        "cxrbench run, all done": (*COMMAND, "run", *asked),
        "python -c 'import torch'": (sys.executable, "-c", "import torch"),
    }


def timed_process(command: tuple[str, ...]) -> tuple[float, float]:
    """Wall seconds and CPU seconds of a process.

    Raises:
        subprocess.CalledProcessError: it did not end well.
    """
    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    subprocess.run(command, check=True, capture_output=True)
    wall, after = time.perf_counter() - began, resource.getrusage(resource.RUSAGE_CHILDREN)
    return wall, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def measure(rounds: int) -> dict[str, dict[str, Any]]:
    """Seconds of every command in every round, after one that is not counted."""
    with tempfile.TemporaryDirectory(prefix="cxrbench-") as folder:
        os.environ["CXRBENCH_CACHE"] = f"{folder}/cache"
        results = Path(folder) / "results"
        subprocess.run([*COMMAND, "run", *RUN, "--results", str(results), "--quiet"], check=True)
        asked = commands(results)
        times: dict[str, list[tuple[float, float]]] = {name: [] for name in asked}
        for number in range(rounds + 1):
            for name, command in asked.items():
                found = timed_process(command)
                if number:
                    times[name].append(found)
    return {
        name: {"wall_seconds": [round(wall, 3) for wall, _ in runs], "cpu_seconds": [round(cpu, 3) for _, cpu in runs]}
        for name, runs in times.items()
    }


def page(record: dict[str, Any]) -> str:
    """``STARTUP.md``."""
    rows = [
        [f"`{name}`", *(f"{statistics.median(found[kind]):.2f}" for kind in ("wall_seconds", "cpu_seconds"))]
        for name, found in record["commands"].items()
    ]
    return f"""# How soon a command answers that has nothing to compute

{markdown(["command", "seconds", "CPU seconds"], rows)}

Medians of {record["rounds"]} processes each, by turns, after one that is not counted. The run is
`cxrbench run {" ".join(RUN)}`
with its default generators, controls and extractors; all its trials are done and its page is current.

{machine_lines([record["machine"]])}
- `python -m bench.startup FOLDER` makes this page.
"""


def main() -> int:
    """Measure, and write the record and the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    asked = parser.parse_args()
    record = {"rounds": asked.rounds, "commands": measure(asked.rounds), "machine": describe_machine("cpu")}
    write_row(asked.folder / RECORD, record)
    write_atomically(asked.folder / PAGE, page(record).encode())
    print(f"wrote {asked.folder / PAGE}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
