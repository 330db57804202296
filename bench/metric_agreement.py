"""Our measures beside other people's code: the same numbers, also where inputs are degenerate, and sooner.

    python -m bench.metric_agreement results/metrics

Writes ``agreement.json`` (everything) and ``AGREEMENT.md`` (its tables). References: torch-fidelity's own
functions on features (so that none of its extractors, caches and defaults takes part), scipy's matrix root, and for
density and coverage, which torch-fidelity does not have, the paper's equations as a double loop. All are given
float64: torch-fidelity computes in the type it is handed. Takes some minutes, nearly all of them scipy's.
"""

from __future__ import annotations

import functools
import json
import math
import sys
import time
import warnings
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cxrbench.machine import describe_machine
from cxrbench.metrics.distances import MINIMUM_FILMS, frechet_distance, kernel_distance
from cxrbench.metrics.prdc import LEAST_PRDC, density_coverage, precision_recall

Floats = NDArray[np.float64]
Value = float | str  # a number, or why there is none
Measure = Callable[[Any, Any], float]
Pair = Callable[[Any, Any], tuple[float, float]]

SEED = 0
DIMENSIONS = 64
NEIGHBOURS = 5
KINDS = ("random, n < D", "random, n > D", "rank one", "fewest films", "one set constant", "identical sets")
FEWEST = {"FD": 2, "KID": MINIMUM_FILMS}  # of the others: LEAST_PRDC
TIMED_DIMENSIONS = 2048
TIMED_FILMS = (500, 1000, 3000)
REPEATS = 3
NEAR_ZERO = 1e-3  # of its terms: a distance below that says nothing of its own digits


def draw_sets(kind: str, fewest: int) -> tuple[Floats, Floats]:
    """Generated and reference, float64 ``[n, 64]`` with n alike on both sides: torch-fidelity's KID wants that."""
    rng = np.random.default_rng([SEED, KINDS.index(kind)])
    films = {"random, n > D": 200, "fewest films": fewest}.get(kind, 40)
    x, y = rng.standard_normal((films, DIMENSIONS)), rng.standard_normal((films, DIMENSIONS)) * 1.2 + 0.1
    if kind == "rank one":
        x, y = x[:, :1] * y[0], y[:, :1] * y[1]
    if kind == "one set constant":
        x[:] = x[0]
    return (x, x.copy()) if kind == "identical sets" else (x, y)


def torch_fidelity_frechet(x: Floats, y: Floats) -> float:
    """torch-fidelity's FID from features: both covariances, then the eigenvalues of their product."""
    import torch
    from torch_fidelity.metric_fid import KEY_METRIC_FID, fid_features_to_statistics, fid_statistics_to_metric

    statistics = [fid_features_to_statistics(torch.from_numpy(side)) for side in (x, y)]
    return float(fid_statistics_to_metric(*statistics, verbose=False)[KEY_METRIC_FID])


def scipy_frechet(x: Floats, y: Floats) -> float:
    """Heusel et al. (2017), equation 6, as it stands: the root of the product by ``scipy.linalg.sqrtm``."""
    from scipy.linalg import sqrtm

    s_x, s_y = np.cov(x, rowvar=False), np.cov(y, rowvar=False)
    gap = x.mean(axis=0) - y.mean(axis=0)
    return float(gap @ gap + np.trace(s_x) + np.trace(s_y) - 2 * np.trace(sqrtm(s_x @ s_y)).real)


def torch_fidelity_kernel(x: Floats, y: Floats) -> float:
    """torch-fidelity's KID over one subset of all films."""
    import torch
    from torch_fidelity.metric_kid import KEY_METRIC_KID_MEAN, kid_features_to_metric

    sides = [torch.from_numpy(side) for side in (x, y)]
    found = kid_features_to_metric(*sides, kid_subsets=1, kid_subset_size=len(x), verbose=False)
    return float(found[KEY_METRIC_KID_MEAN])


def torch_fidelity_precision_recall(x: Floats, y: Floats) -> tuple[float, float]:
    """torch-fidelity's improved precision and recall; its input 1 is the generated set."""
    import torch
    from torch_fidelity.metric_prc import KEY_METRIC_PRECISION, KEY_METRIC_RECALL, prc_features_to_metric

    sides = [torch.from_numpy(side) for side in (x, y)]
    found = prc_features_to_metric(*sides, prc_neighborhood=NEIGHBOURS, verbose=False)
    return found[KEY_METRIC_PRECISION], found[KEY_METRIC_RECALL]


def looped_density_coverage(x: Floats, y: Floats) -> tuple[float, float]:
    """Naeem et al. (ICML 2020), section 3, film by film; a ball does not hold its edge, as in the authors' code."""
    radii = []
    for i in range(len(y)):
        radii.append(sorted(math.dist(y[i], y[j]) for j in range(len(y)) if j != i)[NEIGHBOURS - 1])
    balls, covered = 0, 0
    for i in range(len(y)):
        inside = sum(math.dist(y[i], film) < radii[i] for film in x)
        balls += inside
        covered += inside > 0
    return balls / (NEIGHBOURS * len(x)), covered / len(y)


def first(pair: Pair) -> Measure:
    """Only the first of the two values."""
    return lambda x, y: pair(x, y)[0]


def second(pair: Pair) -> Measure:
    """Only the second of the two values."""
    return lambda x, y: pair(x, y)[1]


our_precision_recall = functools.partial(precision_recall, neighbours=NEIGHBOURS)
our_density_coverage = functools.partial(density_coverage, neighbours=NEIGHBOURS)
PAIRS: list[tuple[str, Measure, str, Measure]] = [
    ("FD", frechet_distance, "torch-fidelity", torch_fidelity_frechet),
    ("FD", frechet_distance, "scipy sqrtm", scipy_frechet),
    ("KID", first(kernel_distance), "torch-fidelity", torch_fidelity_kernel),
    ("precision", first(our_precision_recall), "torch-fidelity", first(torch_fidelity_precision_recall)),
    ("recall", second(our_precision_recall), "torch-fidelity", second(torch_fidelity_precision_recall)),
    ("density", first(our_density_coverage), "double loop", first(looped_density_coverage)),
    ("coverage", second(our_density_coverage), "double loop", second(looped_density_coverage)),
]


def value_of(measure: Measure, x: Floats, y: Floats) -> Value:
    """What a measure says, or the class of its error; a program that breaks must not end the comparison."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            found = float(measure(x, y))
    except Exception as error:  # noqa: BLE001 - other people's code may raise anything, and that is the finding
        return type(error).__name__
    return found if math.isfinite(found) else "not finite"


def difference(ours: Value, theirs: Value, x: Floats, y: Floats, metric: str) -> tuple[Value, str]:
    """Relative to the reference's value; for a Frechet distance near zero, to the terms it is the difference of."""
    if isinstance(ours, str):
        return f"ours: {ours}", ""
    if isinstance(theirs, str):
        return theirs, ""
    gap, base, unit = abs(ours - theirs), abs(theirs), "value"
    if metric == "FD":
        means = ((x.mean(axis=0) - y.mean(axis=0)) ** 2).sum()
        terms = float(means + x.var(axis=0, ddof=1).sum() + y.var(axis=0, ddof=1).sum())
        if base < NEAR_ZERO * terms:
            base, unit = terms, "terms"
    if gap == 0:
        return 0.0, unit
    return (gap / base if base else "reference is 0"), unit


def compare_values() -> list[dict[str, Any]]:
    """One row per measure, reference and kind of input."""
    rows = []
    for metric, our_measure, reference, their_measure in PAIRS:
        for kind in KINDS:
            x, y = draw_sets(kind, FEWEST.get(metric, LEAST_PRDC))
            ours, theirs = value_of(our_measure, x, y), value_of(their_measure, x, y)
            relative, unit = difference(ours, theirs, x, y, metric)
            row = {"metric": metric, "reference": reference, "input": kind, "films": len(x), "ours": ours}
            rows.append(row | {"theirs": theirs, "relative_difference": relative, "relative_to": unit})
    return rows


def compare_times() -> list[dict[str, Any]]:
    """Seconds from features to the Frechet distance, by turns, so that a busy moment falls on all of them."""
    ways: dict[str, Measure] = {
        "ours": frechet_distance,
        "torch-fidelity": torch_fidelity_frechet,
        "scipy sqrtm": scipy_frechet,
    }
    rows = []
    for films in TIMED_FILMS:
        rng = np.random.default_rng([SEED, films])
        x, y = rng.standard_normal((2, films, TIMED_DIMENSIONS))
        seconds: dict[str, list[float]] = {name: [] for name in ways}
        for _ in range(REPEATS):
            for name, measure in ways.items():
                started = time.perf_counter()
                value_of(measure, x, y)
                seconds[name].append(time.perf_counter() - started)
        median = {name: float(np.median(taken)) for name, taken in seconds.items()}
        rows.append({"films": films, "seconds": seconds, "median": median})
        print(f"{films} films: " + ", ".join(f"{name} {taken:.3g} s" for name, taken in median.items()))
    return rows


def draw_page(record: dict[str, Any]) -> str:
    """The text of ``AGREEMENT.md``."""
    machine = record["machine"]
    lines = ["# Our measures beside other people's code", "", "## Relative differences", ""]
    lines += ["| measure | against | " + " | ".join(KINDS) + " |", "| --- " * (len(KINDS) + 2) + "|"]
    values = ["| measure | " + " | ".join(KINDS) + " |", "| --- " * (len(KINDS) + 1) + "|"]
    for number, (metric, _, reference, _) in enumerate(PAIRS):
        cells = record["values"][number * len(KINDS) : (number + 1) * len(KINDS)]
        lines.append(f"| {metric} | {reference} | " + " | ".join(_difference_cell(cell) for cell in cells) + " |")
        if number == 0 or PAIRS[number - 1][0] != metric:
            values.append(f"| {metric} | " + " | ".join(_number(cell["ours"], "{:.6g}") for cell in cells) + " |")
    lines += [
        "",
        f"Of the reference's value; † of the terms the distance is the difference of, where it is near zero. D = "
        f"{DIMENSIONS}, {NEIGHBOURS} neighbours, 40 films per side (200 where n > D; fewest: FD {FEWEST['FD']}, KID "
        f"{FEWEST['KID']}, the others {LEAST_PRDC}). A word in place of a number is the error that was raised.",
        "",
        "## Our values",
        "",
        *values,
        "",
        f"## Seconds from features to the Frechet distance, D = {TIMED_DIMENSIONS}",
        "",
        "| films per side | ours | torch-fidelity | scipy sqrtm | ours is faster than torch-fidelity |",
        "| --- | --- | --- | --- | --- |",
    ]
    for row in record["times"]:
        median = row["median"]
        cells = " | ".join(f"{median[name]:.3g}" for name in ("ours", "torch-fidelity", "scipy sqrtm"))
        lines.append(f"| {row['films']} | {cells} | {median['torch-fidelity'] / median['ours']:.1f} x |")
    versions = ", ".join(f"{name} {number}" for name, number in machine["versions"].items())
    lines += [
        "",
        f"Median of {REPEATS} repeats by turns. {machine['device']}, {machine['threads']} threads; {versions}. Seed "
        f"{SEED}. `python -m bench.metric_agreement FOLDER` makes this page.",
    ]
    return "\n".join(lines) + "\n"


def _difference_cell(cell: dict[str, Any]) -> str:
    return _number(cell["relative_difference"], "{:.1e}") + ("†" if cell["relative_to"] == "terms" else "")


def _number(value: Value, form: str) -> str:
    if isinstance(value, str):
        return value
    return form.format(value) if value else "0"


def main(folder: Path) -> None:
    """Compare, and write both files into ``folder``."""
    machine = describe_machine("cpu")
    machine["versions"]["scipy"] = version("scipy")
    record = {"machine": machine, "seed": SEED, "values": compare_values(), "times": compare_times()}
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "agreement.json").write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    (folder / "AGREEMENT.md").write_text(draw_page(record), encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
