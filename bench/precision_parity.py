"""Do nets that are trained in bf16 end where nets end that are trained in float32? Both, seed by seed.

    python -m bench.precision_parity results/precision --data DIR [--seeds 3] [--only cgan,small-cnn] [--device cuda]

Writes ``parity.json`` and ``PARITY.md``. Generators are scored by KID-lite0 against training films, mean over the
classes; classifiers by macro AUROC on validation films. No test film is looked at. In a class that is trained by the
same seed both ways share start, order of films and noise; after some hundred steps rounding has led them apart, so
what must agree is where they end on average, beside what another seed changes.

A CPU without instructions for bf16 rounds to it by way of float32: with ``--rounded`` scores are compared there, too,
and times mean nothing.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import torch

from bench.quality import (
    MEAN,
    SAMPLING_SEED,
    Yardstick,
    chosen_names,
    index_real,
    load_yardstick,
    machine_lines,
    markdown,
    sample_set,
    timed,
    write_row,
)
from cxrbench.cache import Cache, default_cache_root, write_atomically
from cxrbench.contracts import RunContext
from cxrbench.errors import CxrbenchError, UsageError
from cxrbench.machine import choose_device, computing_with, cpu_has_bf16, describe_machine
from cxrbench.metrics.classification import score_predictions
from cxrbench.metrics.sets import COVERAGE
from cxrbench.registry import CLASSIFIERS, GENERATORS
from cxrbench.statistics.intervals import Part, half_width
from cxrbench_baselines import nets

SIZE = 32  # pixels
PER_CLASS = 200  # films measured
FEWEST_SEEDS = 2


@dataclass(frozen=True)
class Fit:
    """A plug-in that is fitted both ways."""

    plugin: str
    kind: str
    steps: int


FITS = {
    "cgan": Fit("cgan", "generator", 600),
    "dcgan": Fit("dcgan", "generator", 600),
    "cgan-seed": Fit("cgan-seed:width=32", "generator", 600),
    "acgan": Fit("acgan", "generator", 150),
    "wgan-gp": Fit("wgan-gp:width=32:batch=32", "generator", 100),
    "flow": Fit("flow", "generator", 200),
    "pca-flow": Fit("pca-flow", "generator", 300),
    "small-cnn": Fit("small-cnn", "classifier", 300),
    "resnet18": Fit("resnet18", "classifier", 100),
}
WAYS = ("bf16", "float32")
RECORD, PAGE = "parity.json", "PARITY.md"


def score_of(fit: Fit, stick: Yardstick, seed: int, device: str) -> float:
    """KID x 1000 of a fitted generator's films, or the macro AUROC of a fitted classifier."""
    with tempfile.TemporaryDirectory(prefix="cxrbench-") as folder:
        ctx = RunContext(seed, device, fit.steps, Path(folder))
        if fit.kind == "generator":
            generator = GENERATORS.parse(fit.plugin)[1].fit(stick.data.train, ctx)
            films = sample_set(generator, stick.sets, RunContext(SAMPLING_SEED, device, fit.steps, Path(folder)))
            return 1000 * stick.measure(films)[MEAN]["kid_mean"]
        classifier = CLASSIFIERS.parse(fit.plugin)[1].fit(stick.data.train, stick.data.val, ctx)
        found = classifier.predict_proba(stick.data.val.pixels, ctx)
        return score_predictions(stick.data.val.labels, found, stick.data.val.classes)["auroc_macro"]


@contextlib.contextmanager
def trained_in(way: str) -> Iterator[None]:
    """Whatever the hardware has, plug-ins find that it has bf16, or that it has not."""
    has = way == "bf16"
    with patch.object(nets, "_cpu_has_bf16", lambda: has), patch.object(torch.cuda, "is_bf16_supported", lambda: has):
        yield


def measure(fit: Fit, stick: Yardstick, seeds: int, device: str) -> dict[str, Any]:
    """Scores and seconds (of a CPU's time, or by the clock where there is a GPU) of both ways, by turns."""
    scores: dict[str, list[float]] = {way: [] for way in WAYS}
    seconds: dict[str, list[float]] = {way: [] for way in WAYS}
    for seed in range(seeds):
        for way in WAYS if seed % 2 == 0 else WAYS[::-1]:
            with trained_in(way), computing_with(threads=1):
                score, cost = timed(partial(score_of, fit, stick, seed, device))
            scores[way].append(score)
            seconds[way].append(cost.cpu_seconds if device == "cpu" else cost.wall_seconds)
    return {"fit": asdict(fit), "scores": scores, "seconds": seconds}


def kept_rows(path: Path, record: Mapping[str, Any]) -> dict[str, Any]:
    """Rows of an earlier record, where it is of the same films and the same machine."""
    earlier: dict[str, Any] = json.loads(path.read_text()) if path.is_file() else {}
    same = all(earlier.get(fact) == record[fact] for fact in ("data", "data_hash", "n", "rounded", "machine"))
    return dict(earlier["rows"]) if same else {}


def paired(scores: Mapping[str, Sequence[float]]) -> tuple[float, float]:
    """Mean difference of bf16 from float32, and half the width of its 95 % interval (Student's, over seeds)."""
    apart = np.asarray(scores["bf16"]) - np.asarray(scores["float32"])
    of_mean = Part("seed", float(apart.var(ddof=1)) / len(apart), len(apart) - 1)
    return float(apart.mean()), half_width([of_mean], 1 - COVERAGE)


def page(record: Mapping[str, Any]) -> str:
    """``PARITY.md``."""
    table = []
    for row in record["rows"].values():
        digits = 1 if row["fit"]["kind"] == "generator" else 3
        what = "KID-lite0 x 1000" if row["fit"]["kind"] == "generator" else "AUROC, validation"
        shown = [", ".join(f"{score:.{digits}f}" for score in row["scores"][way]) for way in WAYS]
        apart, reach = paired(row["scores"])
        verdict = "no difference seen" if abs(apart) <= reach else "**differs**"
        spread = np.std(row["scores"]["float32"], ddof=1)
        ratio = sum(row["seconds"]["float32"]) / sum(row["seconds"]["bf16"])
        times = "" if record["rounded"] else f"{ratio:.2f}"
        numbers = [f"{apart:+.{digits}f} ± {reach:.{digits}f}", f"{spread:.{digits}f}", times]
        table.append([f"`{row['fit']['plugin']}`", str(row["fit"]["steps"]), what, *shown, *numbers, verdict])
    head = ["plug-in", "steps", "score", *(f"{way}, by seed" for way in WAYS)]
    head += ["bf16 - float32, 95 %", "spread of seeds", "float32 / bf16, time", "verdict"]
    option = " --rounded" if record["rounded"] else ""
    rounded = "This CPU has no bf16: torch rounds to it by way of float32, so times say nothing and are not shown."
    return "\n".join(
        [
            "# Training in bf16 against training in float32",
            "",
            f"{record['data']}, {SIZE} px, patient split 0; KID of {record['n']} films against as many training films.",
            "",
            markdown(head, table),
            "",
            "Both ways share seed, start, order of films and noise. The interval is Student's over the seeds: with few",
            "it is wide, and *no difference seen* says no more than that. *Spread of seeds* is the standard deviation",
            "over seeds in float32: what chance does anyway. Time holds a fit and its measuring, one thread.",
            *([rounded] if record["rounded"] else []),
            "",
            machine_lines([record["machine"]]),
            f"- `python -m bench.precision_parity FOLDER --data DIR{option}` makes this page.",
            "",
        ]
    )


def write(folder: Path, record: Mapping[str, Any]) -> None:
    """The record and its page."""
    ordered = {**record, "rows": {name: record["rows"][name] for name in FITS if name in record["rows"]}}
    write_row(folder / RECORD, ordered)
    write_atomically(folder / PAGE, page(ordered).encode())


def main(words: Sequence[str]) -> int:
    """Returns the exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--data", required=True, help="folder of a radiography data set, or phantom")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--only", help=f"comma-separated, of {', '.join(FITS)}")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--rounded", action="store_true", help="also on a CPU that has no bf16")
    asked = parser.parse_args(words)
    try:
        if asked.seeds < FEWEST_SEEDS:
            raise UsageError(f"--seeds {asked.seeds}: at least {FEWEST_SEEDS} are needed for an interval")
        device = choose_device(asked.device)
        rounded = device == "cpu" and not cpu_has_bf16()
        if rounded and not asked.rounded:
            raise UsageError("this CPU does not compute in bf16; --rounded compares scores all the same, and no times")
        chosen = chosen_names(asked.only, list(FITS))
        index = index_real(asked.data)
        stick = load_yardstick(index, SIZE, PER_CLASS, device, Cache(default_cache_root()))
        record: dict[str, Any] = {"data": index.name, "data_hash": index.hash, "rounded": rounded, "rows": {}}
        record["n"] = sum(stick.sets.n.values())
        with computing_with(threads=1):
            record["machine"] = describe_machine(device)
        record["rows"] = kept_rows(asked.folder / RECORD, record)
        for name in chosen:
            record["rows"][name] = measure(FITS[name], stick, asked.seeds, device)
            print(f"{name}: {json.dumps(record['rows'][name]['scores'])}", flush=True)
            write(asked.folder, record)  # each is minutes of work
    except CxrbenchError as error:
        print(f"precision_parity: {error}", file=sys.stderr)
        return error.exit_code
    print(f"wrote {asked.folder / PAGE}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
