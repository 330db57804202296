"""How long the fidelity stage of a quick run takes: extraction, and linear algebra with intervals.

    python -m bench.fidelity_stage results/metrics/fidelity-stage.json

Three generators and two seeds, three classes, all offline extractors, a cold cache: what `cxrbench run` does after
the generators have been fitted. The pools are flipped and rotated films; their content does not change the work.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path

import numpy as np

from cxrbench.cache import Cache
from cxrbench.comparison import choose_real_sets, measure_pool_fidelity, measure_real_floor
from cxrbench.contracts import Features, Images, RunContext, no_progress
from cxrbench.film_features import extract_features
from cxrbench.machine import describe_machine
from cxrbench.registry import DATASETS, EXTRACTORS, GENERATORS
from cxrbench.spec import spec_of_tier
from cxrbench.stages import index_data, load_and_split

OFFLINE = ("lite0", "radio-texture")
GENERATORS_TIMES_SEEDS = 6


def time_stage() -> dict[str, float]:
    """Seconds in all, and of the two parts."""
    spec = spec_of_tier("quick")
    extractors = {name: EXTRACTORS.create(name) for name in OFFLINE}
    extraction = 0.0
    with tempfile.TemporaryDirectory() as folder:
        cache = Cache(Path(folder))
        data = load_and_split(index_data("phantom", DATASETS.create("phantom")), spec, 0, cache)
        sets = choose_real_sets(data, spec)
        classical = GENERATORS.create("classical").fit(data.train, RunContext(0, "cpu", 1, Path(folder)))

        def extract(films: Images) -> dict[str, Features]:
            nonlocal extraction
            started = time.perf_counter()
            found = {
                name: extract_features(films, extractor, "cpu", cache, no_progress)
                for name, extractor in extractors.items()
            }
            extraction += time.perf_counter() - started
            return found

        warm_up = data.train.subset(np.arange(16))
        extract(warm_up)
        extraction = 0.0
        started = time.perf_counter()
        measure_pool_fidelity(sets.held_out, sets, extract, spec)
        measure_real_floor(sets, extract, spec)
        for number in range(GENERATORS_TIMES_SEEDS):
            ctx = RunContext(number, "cpu", 1, Path(folder))
            pixels = classical.sample(sets.reference.labels, ctx)
            films = Images(pixels, sets.reference.labels, sets.reference.classes)
            measure_pool_fidelity(films, sets, extract, spec)
        total = time.perf_counter() - started
    return {"seconds": total, "extraction_seconds": extraction, "measures_seconds": total - extraction}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", nargs="?", type=Path)
    out = parser.parse_args().out
    spec = spec_of_tier("quick")
    found = {
        **time_stage(),
        "pools": GENERATORS_TIMES_SEEDS,
        "films_per_class": spec.fidelity_images,
        "resamples": spec.resamples,
        "extractors": list(OFFLINE),
        "machine": describe_machine("cpu"),
    }
    text = json.dumps(found, indent=1)
    print(text)
    if out:
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(text + "\n")


if __name__ == "__main__":
    main()
