"""How fast plug-ins train, against plain PyTorch loops and against the machine: one table, one record.

    python -m bench.throughput results/throughput [--only cgan,dcgan] [--kind generator] [--device cuda] [--seconds 10]
    python -m bench.throughput results/throughput --profile cgan-seed

Writes ``throughput.json`` and ``THROUGHPUT.md``, in less than 10 minutes on 2 quiet cores; with ``--profile`` only
``profiles/NAME.md``. A record is of one run: where it is there, a run of fewer plug-ins does not replace it.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bench.quality import chosen_names, write_row
from bench.throughput_cells import REGISTRIES, Cell, cells_of, draw_films
from bench.throughput_page import page
from bench.throughput_peaks import measure_peaks
from bench.throughput_profile import profile_page
from bench.throughput_timing import BUDGET, LEAST_ROUNDS, ROUND_SECONDS, SEED, measure_cell
from cxrbench.cache import write_atomically
from cxrbench.errors import CxrbenchError, UsageError
from cxrbench.machine import choose_device, describe_machine

RECORD, PAGE = "throughput.json", "THROUGHPUT.md"


def chosen_cells(only: str | None, kinds: str | None, device: str) -> dict[str, Cell]:
    """The cells of a device that ``--only`` and ``--kind`` leave.

    Raises:
        UsageError: an unknown name or kind, or none is left.
    """
    wanted = kinds.split(",") if kinds else list(REGISTRIES)
    if unknown := set(wanted) - set(REGISTRIES):
        raise UsageError(f"--kind {', '.join(sorted(unknown))}: there are {', '.join(REGISTRIES)}")
    cells = cells_of(device)
    names = chosen_names(only, list(cells))
    found = {name: cell for name, cell in cells.items() if name in names and cell.kind in wanted}
    if not found:
        raise UsageError(f"--kind {kinds} leaves none of --only {only}; leave one of them out")
    return found


def refuse_to_lose_rows(folder: Path, cells: Mapping[str, Cell], device: str) -> None:
    """Raises UsageError where a record is there and holds what this run would not measure."""
    path = folder / RECORD
    if not path.exists():
        return
    stored = json.loads(path.read_text(encoding="utf-8"))
    missing = sorted(set(stored["rows"]) - set(cells))
    if missing or stored["device"] != device:
        lost = f"rows for {', '.join(missing)}" if missing else f"a record of device {stored['device']}"
        raise UsageError(f"{path} holds {lost}, which this run would not measure; give another folder")


def measure(cells: Mapping[str, Cell], device: str, seconds: float | None) -> dict[str, Any]:
    """The record of a run.

    Args:
        seconds: for each cell; None: what each cell says.
    """
    load, started = os.getloadavg()[0], time.monotonic()
    peaks = measure_peaks(device)
    print(", ".join(f"{kind} {speed:.0f} GFLOP/s" for kind, speed in peaks.items()), flush=True)
    rows = {}
    for name, cell in cells.items():
        rows[name] = row = measure_cell(cell, device, peaks, cell.seconds if seconds is None else seconds)
        print(f"{name}: {_in_short(row)}", flush=True)
    return {
        "device": device,
        "machine": describe_machine(device),
        "load_average": load,
        "seconds": round(time.monotonic() - started),
        "settings": {
            "seed": SEED,
            "scheduled_steps": BUDGET,
            "least_round_seconds": ROUND_SECONDS,
            "least_rounds": LEAST_ROUNDS,
            "films": {str(size): len(draw_films(size)) for size in sorted({cell.size for cell in cells.values()})},
        },
        "peaks_gflops": peaks,
        "rows": rows,
    }


def _in_short(row: Mapping[str, Any]) -> str:
    if row["status"] != "ok":
        return str(row["error"])
    ours = f"{1e3 * row['ours']['step_seconds']:.1f} ms per step"
    return ours + (f", {row['ratio']['median']:.2f} times plain" if "ratio" in row else ", no plain loop")


def main() -> int:
    """Time the cells that were asked for, or profile some."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--only", help="names of cells, with commas between them")
    parser.add_argument("--kind", help=f"{' or '.join(REGISTRIES)}")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--seconds", type=float, help="for each cell; at least a few rounds are timed whatever it says")
    parser.add_argument("--profile", help="names of cells to profile instead, with commas between them")
    asked = parser.parse_args()
    try:
        device = choose_device(asked.device)
        if asked.profile:
            cells = cells_of(device)
            for name in chosen_names(asked.profile, list(cells)):
                path = asked.folder / "profiles" / f"{name}.md"
                text = profile_page(name, cells[name], device)
                write_atomically(path, text.encode())
                print(f"{text}\nwrote {path}", flush=True)
            return 0
        cells = chosen_cells(asked.only, asked.kind, device)
        refuse_to_lose_rows(asked.folder, cells, device)
        record = measure(cells, device, asked.seconds)
        write_row(asked.folder / RECORD, record)
        write_atomically(asked.folder / PAGE, page(record).encode())
        print(f"wrote {asked.folder / PAGE}")
    except CxrbenchError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    return 0 if all(row["status"] == "ok" for row in record["rows"].values()) else 1


if __name__ == "__main__":
    sys.exit(main())
