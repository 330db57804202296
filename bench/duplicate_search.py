"""How the search for near-copies grows: seconds for 20,000, 50,000 and 100,000 descriptors.

    python -m bench.duplicate_search results/audit/duplicate-search.json [COUNT ...]

Descriptors are drawn like those of phantom films, with the radius learned from them, so the share of pairs that
become candidates is the phantom's. One pass compares all pairs under one symmetry; a whole search makes sixteen.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

import numpy as np

from cxrbench import duplicates
from cxrbench.datasets.phantom import Phantom
from cxrbench.machine import describe_machine


def main(path: Path, counts: list[int]) -> None:
    """Time one pass for each count, and write the record."""
    phantom = Phantom(max_films=1)
    films = np.stack([phantom.read(film, duplicates.THUMBNAIL) for film in phantom.listing().films])
    spectrum = duplicates._spectrum(films)
    projection, radius = duplicates._learn_metric(films, spectrum)
    known = duplicates._project(spectrum, projection)
    rng = np.random.default_rng(0)
    factor = np.linalg.cholesky(np.cov(known.T) + 1e-6 * np.eye(known.shape[1]))
    rows = []
    for count in counts:
        drawn = (rng.normal(size=(count, known.shape[1])) @ factor.T).astype(np.float32)
        started = time.perf_counter()
        candidates = sum(len(pairs) for pairs in duplicates._neighbours(drawn, drawn, radius))
        seconds = time.perf_counter() - started
        rows.append({"films": count, "seconds_per_pass": round(seconds, 2), "candidates": candidates})
        print(f"{count:>7} films: {seconds:6.1f} s a pass, {16 * seconds:6.0f} s for sixteen, {candidates} candidates")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"machine": describe_machine("cpu"), "rows": rows}, indent=1))


if __name__ == "__main__":
    main(Path(sys.argv[1]), [int(count) for count in sys.argv[2:]] or [20_000, 50_000, 100_000])
