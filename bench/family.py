"""Every generator of the family, fitted once and measured against real films: one table, one picture.

    python -m bench.family results/family --data DIR [--only cgan,dcgan]

A row's result is a file of its own, so rows can be made one by one and by several processes at once. A row that is
there and was asked for with the same settings, on the same data, is kept; delete its file to measure changed code.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from bench.quality import (
    FIT_SEED,
    MEASURES,
    PER_CLASS,
    SAMPLING_SEED,
    Yardstick,
    cells,
    chosen_names,
    draw_pictures,
    headings,
    index_real,
    load_yardstick,
    machine_lines,
    markdown,
    read_row,
    sample_set,
    shrunk,
    timed,
    write_picture,
    write_row,
)
from cxrbench.cache import Cache, default_cache_root, write_atomically
from cxrbench.contracts import Generator, Images, RunContext
from cxrbench.errors import CxrbenchError, Diverged
from cxrbench.hashing import plugin_parameters
from cxrbench.machine import choose_device, describe_machine
from cxrbench.registry import GENERATORS
from cxrbench.stages import DataIndex


@dataclass(frozen=True)
class Row:
    """One fit.

    Attributes:
        generator: ``name`` or ``name:key=value``.
        steps: optimizer steps of the fit; 0 for a generator that learns nothing by steps.
        size: of the films it is fitted on, in pixels.
        measured_at: sizes its films are measured at; at a smaller one than their own they are averaged over areas.
        pictured: False where its films are real ones or hold pieces of them: those are not ours to publish.
    """

    generator: str
    steps: int
    size: int = 64
    measured_at: tuple[int, ...] = (64,)
    pictured: bool = True


BY_CLASS = ("precision", "recall", "coverage", "diversity")  # shown class by class, too
FAMILY = {  # a row's name is that of its files
    "cgan-seed-300px": Row("cgan-seed", 1000, size=300, measured_at=(64, 300)),
    "cgan": Row("cgan", 16000),
    "dcgan": Row("dcgan", 5000),
    "acgan": Row("acgan", 600),
    "wgan-gp": Row("wgan-gp:width=32:batch=32", 800),
    "flow": Row("flow", 12000),
    "pca-flow": Row("pca-flow", 1200),
    "flow-quilt": Row("flow-quilt", 3000, pictured=False),
    "quilt": Row("quilt", 0, pictured=False),
    "mixup": Row("mixup", 0, pictured=False),
    "classical": Row("classical", 0, pictured=False),
    "classical-strong": Row("classical-strong", 0, pictured=False),
    "oversample": Row("oversample", 0, pictured=False),
}


def measure_row(row: Row, generator: Generator, sticks: dict[int, Yardstick], device: str) -> dict[str, Any]:
    """Fit, sample and measure; where the fit diverges, say so.

    Args:
        sticks: by size: of the fit, and of every measurement.

    Returns:
        ``status``, ``cost``, ``scores`` (size in pixels -> class -> scores), and ``films`` where there are any.
    """
    own = sticks[row.size]
    with tempfile.TemporaryDirectory(prefix="cxrbench-") as folder:
        ctx = RunContext(FIT_SEED, device, row.steps, Path(folder))
        try:
            fitted, cost = timed(lambda: generator.fit(own.data.train, ctx))
        except Diverged as error:
            return {"status": "diverged", "error": str(error)}
        sampling = RunContext(SAMPLING_SEED, device, row.steps, Path(folder))
        films, sampled = timed(lambda: sample_set(fitted, own.sets, sampling))
    scores = {str(size): sticks[size].measure(shrunk(films, size)) for size in row.measured_at}
    return {"status": "ok", "cost": asdict(cost), "sampling": asdict(sampled), "scores": scores, "films": films}


def asked_of(row: Row, index: DataIndex, per_class: int) -> dict[str, Any]:
    """What decides a row's result, but for the code."""
    data = {"data": index.name, "data_hash": index.hash, "per_class": per_class}
    data["params"] = plugin_parameters(GENERATORS.parse(row.generator)[1])
    return {**asdict(row), **data, "seed": FIT_SEED, "sampling_seed": SAMPLING_SEED}


def files_of(folder: Path, name: str) -> tuple[Path, Path]:
    """A row's result and its picture."""
    return folder / "rows" / f"{name}.json", folder / "rows" / f"{name}.png"


def make_rows(family: dict[str, Row], index: DataIndex, folder: Path, per_class: int, device: str) -> None:
    """Measure the rows that are not there yet.

    Raises:
        UsageError: a generator is unknown; before any is fitted.
    """
    generators = {name: GENERATORS.parse(row.generator)[1] for name, row in family.items()}
    cache, sticks = Cache(default_cache_root()), dict[int, Yardstick]()
    for name, row in family.items():
        (result, picture), asked = files_of(folder, name), asked_of(row, index, per_class)
        if read_row(result, asked):
            print(f"{name}: kept")
            continue
        for size in {row.size, *row.measured_at} - set(sticks):
            sticks[size] = load_yardstick(index, size, per_class, device, cache)
        found = measure_row(row, generators[name], sticks, device)
        films: Images | None = found.pop("films", None)
        if films is not None and row.pictured:
            write_picture(films, picture)
        facts = {
            "n": {films.classes[label]: n for label, n in sticks[row.size].sets.n.items()} if films else {},
            "floor": {str(size): sticks[size].floor() for size in row.measured_at},
            "machine": describe_machine(device),
        }
        write_row(result, {"row": name, "asked": asked, **found, **facts})
        print(f"{name}: {found['status']}, {found.get('cost', found.get('error'))}", flush=True)


def page(rows: Sequence[dict[str, Any]], family: dict[str, Row]) -> str:
    """``FAMILY.md``, of the rows that are there."""
    classes = [name for name in next(iter(rows[0]["floor"].values())) if name != "mean"]
    table, floors = [], dict[str, list[str]]()
    for row in rows:
        asked = row["asked"]
        for size, floor in row["floor"].items():
            floors[size] = ["held-out real films", "", size, "", "", *cells(floor, classes)]
            first = [f"`{asked['generator']}`", str(asked["size"]), size, str(asked["steps"])]
            if row["status"] == "ok":
                minutes = f"{row['cost']['cpu_seconds'] / 60:.1f}"
                table.append([*first, minutes, *cells(row["scores"][size], classes)])
            else:
                table.append([*first, "", row["error"], *[""] * (len(headings(classes)) - 1)])
    head = ["generator", "fitted at px", "measured at px", "steps", "CPU minutes", *headings(classes)]
    n = ", ".join(f"{count} {name}" for name, count in next((row["n"] for row in rows if row["n"]), {}).items())
    missing = ", ".join(sorted(set(family) - {row["row"] for row in rows})) or "none"
    pictured = any(family[row["row"]].pictured and row["status"] == "ok" for row in rows)
    shown = "![The first films of each generator, class by class](family.png)\n\n" if pictured else ""
    shown += "Films that are real ones, altered at most, or hold pieces of them are not shown."
    return f"""# The family of generators, film against film

{rows[0]["asked"]["data"]}; films measured: {n}. Rows still to be made: {missing}.

{markdown(head, [*floors.values(), *table])}

{MEASURES}

Class by class ({" / ".join(classes)}):

{markdown(["generator", "measured at px", *BY_CLASS], by_class(rows, classes))}

{shown}

{machine_lines([row["machine"] for row in rows])}
- `python -m bench.family FOLDER --data DIR` makes this page.
"""


def by_class(rows: Sequence[dict[str, Any]], classes: Sequence[str]) -> list[list[str]]:
    """A line for each measurement: means hide a class that a generator does not cover."""
    lines = []
    for row in rows:
        for size, scores in row["scores"].items() if row["status"] == "ok" else ():
            shown = [" / ".join(f"{scores[name][measure]:.2f}" for name in classes) for measure in BY_CLASS]
            lines.append([f"`{row['asked']['generator']}`", size, *shown])
    return lines


def write_page(family: dict[str, Row], index: DataIndex, folder: Path, per_class: int) -> None:
    """``FAMILY.md`` and ``family.png`` of all rows of the table that are there."""
    rows, pictures = [], {}
    for name, row in family.items():
        result, picture = files_of(folder, name)
        if found := read_row(result, asked_of(row, index, per_class)):
            rows.append(found)
            if row.pictured and found["status"] == "ok":
                pictures[f"{name}, {row.steps} steps"] = picture
    if pictures:
        draw_pictures(pictures, index.classes, folder / "family.png")
    if rows:
        write_atomically(folder / "FAMILY.md", page(rows, family).encode())
        print(f"wrote {folder / 'FAMILY.md'}")


def main() -> int:
    """Make the rows that were asked for, then the page of all that are there."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--data", required=True)
    parser.add_argument("--only", help="names of rows, with commas between them")
    parser.add_argument("--per-class", type=int, default=PER_CLASS)
    parser.add_argument("--device", default="cpu")
    asked = parser.parse_args()
    try:
        wanted = chosen_names(asked.only, list(FAMILY))
        index = index_real(asked.data)
        chosen = {name: row for name, row in FAMILY.items() if name in wanted}
        make_rows(chosen, index, asked.folder, asked.per_class, choose_device(asked.device))
        write_page(FAMILY, index, asked.folder, asked.per_class)
    except CxrbenchError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
