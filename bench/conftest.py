"""What every measurement shares: the device, films drawn once per size, and the facts of the machine.

The sizes are small so that the whole folder takes a minute or two on two CPU cores. On a GPU such steps only
show what it costs to launch kernels; ask for the sizes that are trained there::

    pytest bench/ --benchmark-only --generator-sizes 128 --classifier-sizes 128,224
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from cxrbench.contracts import Images, RunContext
from cxrbench.datasets.phantom import Phantom
from cxrbench.machine import choose_device, describe_machine

DEFAULT_SIZES = {
    "generator": "32",  # the size of the quick tier
    "classifier": "64",  # AlexNet takes nothing smaller
}
PATIENTS_PER_CLASS = 40  # 70 films or more of each class: two batches of the reference plug-ins
BUDGET = 10_000  # steps a schedule may plan for: more than any measurement takes


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("cxrbench")
    for kind, sizes in DEFAULT_SIZES.items():
        group.addoption(f"--{kind}-sizes", default=sizes, help=f"film sizes {kind}s are timed at, e.g. 32,64")


@pytest.fixture(scope="session")
def device() -> str:
    """``cuda`` where there is one: a CPU time says nothing about a machine that would train on its GPU."""
    return choose_device("auto")


@pytest.fixture(scope="session")
def films() -> Callable[[int], Images]:
    """Training films of a size. Drawn, not read, so that every machine times the same work."""

    @functools.cache
    def draw(size: int) -> Images:
        phantom = Phantom(patients_per_class=PATIENTS_PER_CLASS)
        drawn = phantom.listing().films
        pixels = np.stack([phantom.read(film, size) for film in drawn])[:, None]
        return Images(pixels, np.asarray([film.label for film in drawn], np.int64), phantom.classes())

    return draw


@pytest.fixture
def context(device: str, tmp_path: Path) -> RunContext:
    return RunContext(seed=0, device=device, budget=BUDGET, workdir=tmp_path)


@pytest.fixture(scope="session")
def machine(device: str) -> dict[str, object]:
    """For ``extra_info``: without these a stored time cannot be compared with another."""
    facts = describe_machine(device)
    return {"device": facts["device"], "threads": facts["threads"], "torch": facts["versions"]["torch"]}
