"""What every measurement by pytest-benchmark shares: the device, films drawn once per size, the machine's facts.

The sizes are small so that the whole folder takes a minute or two on two CPU cores. On a GPU such work only shows
what it costs to launch kernels; ask for the size that is sampled there::

    pytest bench/ --benchmark-only --generator-sizes 128
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from bench.throughput_cells import draw_films
from cxrbench.contracts import Images, RunContext
from cxrbench.machine import choose_device, describe_machine

DEFAULT_SIZES = {
    "generator": "32",  # the size of the quick tier
    "classifier": "64",
}
BUDGET = 10_000  # steps a schedule may plan for: more than any measurement takes


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("cxrbench")
    default = DEFAULT_SIZES["generator"]
    group.addoption("--generator-sizes", default=default, help="size of the films that generators draw, e.g. 64")


@pytest.fixture(scope="session")
def device() -> str:
    """``cuda`` where there is one: a CPU time says nothing about a machine that would train on its GPU."""
    return choose_device("auto")


@pytest.fixture(scope="session")
def films() -> Callable[[int], Images]:
    """Training films of a size."""
    return draw_films


@pytest.fixture
def context(device: str, tmp_path: Path) -> RunContext:
    return RunContext(seed=0, device=device, budget=BUDGET, workdir=tmp_path)


@pytest.fixture(scope="session")
def machine(device: str) -> dict[str, object]:
    """For ``extra_info``: without these a stored time cannot be compared with another."""
    facts = describe_machine(device)
    return {"device": facts["device"], "threads": facts["threads"], "torch": facts["versions"]["torch"]}
