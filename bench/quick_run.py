"""How long does the quick run take, and how long did it take with earlier code?

    python -m bench.quick_run results/throughput [--before REV] [--rounds 2]

Both run by turns, each time in a fresh cache and a fresh folder, with as many jobs as they take by themselves. The
earlier code is a git work tree of its own, which imports the packages that are installed here. ``BEFORE`` is the last
commit before speed was worked on; generators have changed since, and so what is computed.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from bench.quality import machine_lines, markdown, write_row
from bench.startup import COMMAND, timed_process
from cxrbench.cache import write_atomically
from cxrbench.errors import CxrbenchError, UsageError
from cxrbench.machine import describe_machine

PAGE, RECORD = "QUICK.md", "quick.json"
BEFORE = "9b2d3cb"
# Extractors that need no network: fetching weights into each fresh cache would be timed, too.
RUN = ("run", "--seeds", "2", "--controls", "none", "--device", "cpu", "--extractors", "lite0,radio-texture")
HERE = Path(__file__).resolve().parent.parent


@contextmanager
def work_tree(revision: str) -> Iterator[Path]:
    """The code of a revision, in a folder that is deleted afterwards.

    Raises:
        UsageError: git does not know it (a shallow clone has the last commits alone).
    """
    with tempfile.TemporaryDirectory(prefix="cxrbench-") as folder:
        tree = Path(folder) / "code"
        added = git("worktree", "add", "--detach", str(tree), revision)
        if added.returncode:
            raise UsageError(f"--before {revision}: {added.stderr.strip().splitlines()[-1]}")
        try:
            yield tree
        finally:
            git("worktree", "remove", "--force", str(tree))


def git(*words: str) -> subprocess.CompletedProcess[str]:
    """Runs git in this repository."""
    return subprocess.run(["git", "-C", str(HERE), *words], capture_output=True, text=True)


@contextmanager
def with_code_of(tree: Path) -> Iterator[Path]:
    """Processes started inside import cxrbench and its plug-ins from ``tree``, and find nothing that was done before;
    yields a folder for their results."""
    with tempfile.TemporaryDirectory(prefix="cxrbench-") as folder:
        wanted = {
            "PYTHONPATH": os.pathsep.join([str(tree), str(tree / "baselines")]),
            "PYTHONSAFEPATH": "1",  # the folder that the bench was started in comes after them
            "CXRBENCH_CACHE": f"{folder}/cache",
        }
        before = {name: os.environ.get(name) for name in wanted}
        os.environ.update(wanted)
        try:
            yield Path(folder) / "results"
        finally:
            for name, value in before.items():
                if value is None:
                    del os.environ[name]
                else:
                    os.environ[name] = value


def measure(trees: dict[str, Path], rounds: int) -> dict[str, list[float]]:
    """Wall seconds of the run by each code, by turns: one, other, other, one."""
    seconds: dict[str, list[float]] = {name: [] for name in trees}
    for number in range(rounds):
        for name in list(trees) if number % 2 == 0 else list(trees)[::-1]:
            with with_code_of(trees[name]) as results:
                wall, _ = timed_process((*COMMAND, *RUN, "--results", str(results)))
            seconds[name].append(round(wall, 1))
            print(f"{name}: {wall:.0f} s", flush=True)
    return seconds


def page(record: dict[str, Any]) -> str:
    """``QUICK.md``."""
    rows = [
        [name, f"`{record['revisions'][name]}`", ", ".join(f"{value:.0f}" for value in found)]
        for name, found in record["seconds"].items()
    ]
    before, now = (statistics.median(record["seconds"][name]) for name in ("before", "now"))
    return f"""# How long the quick run takes

{markdown(["code", "commit", "seconds, run by run"], rows)}

Of medians, it took {before / now:.2f} times as long before. The run is `cxrbench {" ".join(RUN)}` with its default
generators on the phantom (cgan, dcgan, classical; ratios 0, 0.5, 1), everything made anew in every run, by turns.
The generators have changed in between, so the two do not compute the same.

{machine_lines([record["machine"]])}
- `python -m bench.quick_run FOLDER` makes this page.
"""


def main() -> int:
    """Measure, and write the record and the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--before", default=BEFORE, help="a git revision")
    parser.add_argument("--rounds", type=int, default=2)
    asked = parser.parse_args()
    try:
        if asked.rounds < 1:
            raise UsageError(f"--rounds {asked.rounds}: at least one is needed")
        with work_tree(asked.before) as tree:
            seconds = measure({"before": tree, "now": HERE}, asked.rounds)
    except CxrbenchError as error:
        print(f"quick_run: {error}", file=sys.stderr)
        return error.exit_code
    except subprocess.CalledProcessError as error:
        print(
            f"quick_run: a run ended with {error.returncode}: {error.stderr.decode().strip()[-300:]}", file=sys.stderr
        )
        return 1
    revisions = {"before": asked.before, "now": git("rev-parse", "--short", "HEAD").stdout.strip()}
    record = {"seconds": seconds, "revisions": revisions, "run": list(RUN), "machine": describe_machine("cpu")}
    write_row(asked.folder / RECORD, record)
    write_atomically(asked.folder / PAGE, page(record).encode())
    print(f"wrote {asked.folder / PAGE}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
