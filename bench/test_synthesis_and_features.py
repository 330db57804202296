"""Films per second: drawn by each generator, and mapped to features by the offline extractor.

Generators are fitted for two steps only: how long a film takes to draw does not depend on how well it is drawn.
``extra_info`` holds the films per second; the table's columns are seconds per call.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable

import numpy as np
import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from bench.conftest import DEFAULT_SIZES
from cxrbench.contracts import Images, Preflight, Reserved, RunContext, no_progress
from cxrbench.errors import UsageError
from cxrbench.registry import EXTRACTORS, GENERATORS

FILMS = {"sample": 96, "extract": 32}
FIT_STEPS = 2
ROUNDS = {"sample": 15, "extract": 5}  # most calls of sample take milliseconds: a few rounds are noise
LEAST_ROUNDS, SECONDS = 2, 2.0  # of calls that take long
WARM_UP_ROUNDS = 2


@pytest.mark.parametrize("name", GENERATORS.names())
def test_sample(
    name: str,
    benchmark: BenchmarkFixture,
    films: Callable[[int], Images],
    context: RunContext,
    machine: dict[str, object],
    request: pytest.FixtureRequest,
) -> None:
    size = int(str(request.config.getoption("--generator-sizes", DEFAULT_SIZES["generator"])).split(",")[0])
    generator = GENERATORS.create(name)
    if isinstance(generator, Preflight):
        try:
            generator.preflight(size)
        except UsageError as error:
            pytest.skip(str(error))
    train = films(size)
    if isinstance(generator, Reserved):
        generator.keep(train)
    generator.fit(train, dataclasses.replace(context, budget=FIT_STEPS))
    labels = np.arange(FILMS["sample"], dtype=np.int64) % len(train.classes)

    started = time.perf_counter()
    generator.sample(labels, context)
    rounds = round(SECONDS / (time.perf_counter() - started))
    benchmark.group = f"synthesis: {len(labels)} films of {size} px"
    pixels = benchmark.pedantic(
        generator.sample, args=(labels, context), rounds=min(max(rounds, LEAST_ROUNDS), ROUNDS["sample"])
    )  # uint8 on the CPU: nothing is left to wait for
    _note(benchmark, machine, len(labels))

    assert pixels.dtype == np.uint8
    assert pixels.shape == (len(labels), 1, size, size)
    assert len(np.unique(pixels, axis=0)) > 1, "every film is the same film"


def test_extract_lite0(
    benchmark: BenchmarkFixture, films: Callable[[int], Images], device: str, machine: dict[str, object]
) -> None:
    extractor = EXTRACTORS.create("lite0")
    pixels = films(int(DEFAULT_SIZES["classifier"])).pixels[: FILMS["extract"]]

    benchmark.group = f"features: lite0 of {len(pixels)} films"
    features = benchmark.pedantic(
        extractor.extract, args=(pixels, device, no_progress), rounds=ROUNDS["extract"], warmup_rounds=WARM_UP_ROUNDS
    )
    _note(benchmark, machine, len(pixels))

    assert features.shape == (len(pixels), extractor.dim)
    assert np.isfinite(features).all()


def _note(benchmark: BenchmarkFixture, machine: dict[str, object], films: int) -> None:
    """Record the rate; there is none where benchmarks are disabled."""
    benchmark.extra_info.update(machine, films_per_call=films)
    if benchmark.stats is not None:
        benchmark.extra_info["films_per_second"] = films / benchmark.stats.stats.median
