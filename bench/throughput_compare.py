"""Did training get slower? Two records of ``bench.throughput``, compared by ratio.

    python -m bench.throughput_compare OLD.json [OLD.json ...] NEW.json

Of several old records the first counts that is of such a machine as the new one.

What is compared is how many times as fast ours is as a plain loop that was timed by turns with it, not seconds: those
change with the machine and its neighbours. A ratio fell where the new median is lower by more than ``MARGIN`` of the
old one and, besides, twice the standard error of the difference. Exit 1, with a line for each, where any fell.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cxrbench.errors import CxrbenchError, UsageError

MARGIN = 0.10  # of the old ratio: what another machine, build or order of memory may change
ERRORS = 2.0  # standard errors


def standard_error(ratio: Mapping[str, float]) -> float:
    """Of the median of normal pairs, from their quartiles: sqrt(pi / 2) sd / sqrt(n), sd = (high - low) / 1.349."""
    return math.sqrt(math.pi / 2 / ratio["pairs"]) * (ratio["high"] - ratio["low"]) / 1.349


def allowed_fall(old: Mapping[str, float], new: Mapping[str, float]) -> float:
    """By how much the median may be lower."""
    return MARGIN * old["median"] + ERRORS * math.hypot(standard_error(old), standard_error(new))


def compare(old: Mapping[str, Any], new: Mapping[str, Any]) -> tuple[list[str], list[str]]:
    """Lines on what fell, and lines on what else is worth knowing.

    Raises:
        UsageError: the records are of different devices, or of CPUs of which one has bf16: their ratios mean different
            things.
    """
    if not alike(old, new):
        raise UsageError(f"one record is of {kind_of(old)}, the other of {kind_of(new)}; compare like with like")
    fallen: list[str] = []
    told: list[str] = []
    for fact in ("device", "threads"):
        if old["machine"][fact] != new["machine"][fact]:
            told.append(f"{fact}: {old['machine'][fact]} before, {new['machine'][fact]} now")
    for name in dict.fromkeys([*old["rows"], *new["rows"]]):
        rows = [record["rows"].get(name) for record in (old, new)]
        if None in rows:
            told.append(f"{name}: only in the {'new' if rows[0] is None else 'old'} record")
            continue
        first, second = (f"{row['plugin']} at {row['size']} px" for row in rows)
        if first != second:
            told.append(f"{name}: {first} before, {second} now")
            continue
        before, now = (row.get("ratio") for row in rows)
        if before is None or now is None:
            missing = " and the ".join(word for word, ratio in (("old", before), ("new", now)) if ratio is None)
            (fallen if before is not None else told).append(f"{name}: no ratio in the {missing} record")
            continue
        allowed = allowed_fall(before, now)
        line = f"{name}: ours / plain {before['median']:.2f} before, {now['median']:.2f} now"
        if before["median"] - now["median"] > allowed:
            fallen.append(f"{line}: fell by more than the {allowed:.2f} allowed")
        else:
            told.append(line)
    return fallen, told


def alike(old: Mapping[str, Any], new: Mapping[str, Any]) -> bool:
    """Are both of a device that computes in the same precisions?"""
    return kind_of(old) == kind_of(new)


def kind_of(record: Mapping[str, Any]) -> str:
    """The device and the precisions whose peaks were measured on it."""
    return f"{record['device']} with {' and '.join(sorted({kind.split()[-1] for kind in record['peaks_gflops']}))}"


def read_record(path: Path) -> dict[str, Any]:
    """Raises UsageError for what is no record of ``bench.throughput``."""
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise UsageError(f"{path} cannot be read: {error}") from None
    if not isinstance(record, dict) or not {"device", "machine", "rows", "peaks_gflops"} <= set(record):
        raise UsageError(f"{path} is no record of bench.throughput; give its throughput.json")
    return record


def main() -> int:
    """Compare and say so."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("old", type=Path, nargs="+")
    parser.add_argument("new", type=Path)
    asked = parser.parse_args()
    try:
        olds, new = [read_record(path) for path in asked.old], read_record(asked.new)
        fallen, told = compare(next((old for old in olds if alike(old, new)), olds[0]), new)
    except CxrbenchError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    for line in told:
        print(line)
    for line in fallen:
        print(line, file=sys.stderr)
    return 1 if fallen else 0


if __name__ == "__main__":
    sys.exit(main())
