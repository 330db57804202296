"""Seconds per train step of every registered steppable plug-in, beside a plain PyTorch loop of the same model.

In pytest-benchmark's table a group is one plug-in at one size; ``ours`` is its ``training_step`` and ``plain``
the loop of ``reference_loops``, where there is one. All columns are per step. A round is one or more whole
cycles (``steps_per_cycle``), so that steps which differ, such as a penalty at every eighth, weigh in every
round what they weigh in training; it ends by waiting for the device.

Not covered: reading films from disk (both loops start from memory) and more than one process. The two loops of
a group run one after the other, so a neighbour's burst of work can fall on one of them: compare medians, and
look at the spread first.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import pytest
import torch
from pytest_benchmark.fixture import BenchmarkFixture

from bench.conftest import DEFAULT_SIZES
from bench.reference_loops import reference_loop
from cxrbench.contracts import Images, Preflight, RunContext, Steppable
from cxrbench.errors import UsageError
from cxrbench.registry import CLASSIFIERS, GENERATORS, Registry

REGISTRIES: dict[str, Registry[Any]] = {"generator": GENERATORS, "classifier": CLASSIFIERS}
LEAST_STEPS = 4  # per round: one step alone is too short to time
WARM_UP_ROUNDS, ROUNDS = 1, 5


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    cells = []
    for kind, registry in REGISTRIES.items():
        sizes = str(metafunc.config.getoption(f"--{kind}-sizes", DEFAULT_SIZES[kind]))
        for name, size in itertools.product(registry.names(), map(int, sizes.split(","))):
            cells += [
                pytest.param(kind, name, size, loop, id=f"{name}-{size}px-{loop}") for loop in _loops(registry, name)
            ]
    metafunc.parametrize(("kind", "name", "size", "loop"), cells)


def _loops(registry: Registry[Any], name: str) -> list[str]:
    """Which loops of a plug-in can be timed: none, ``ours``, or both."""
    try:
        plugin_class = registry.get(name)
    except UsageError:
        return ["ours"]  # broken: its own test fails with the reason, the others run
    if not issubclass(plugin_class, Steppable):
        return []
    return ["ours"] if reference_loop(plugin_class) is None else ["ours", "plain"]


def test_train_step(
    kind: str,
    name: str,
    size: int,
    loop: str,
    benchmark: BenchmarkFixture,
    films: Callable[[int], Images],
    context: RunContext,
    machine: dict[str, object],
) -> None:
    plugin = REGISTRIES[kind].create(name)
    if isinstance(plugin, Preflight):
        try:
            plugin.preflight(size)
        except UsageError as error:
            pytest.skip(str(error))
    train = films(size)
    plugin.setup(train, context)  # also where ``plain`` is timed: a cycle may depend on the films
    cycle = plugin.steps_per_cycle()
    steps = -(-LEAST_STEPS // cycle) * cycle
    losses = _steps(plugin, train, context, loop)
    seen: list[Mapping[str, Any]] = []

    def one_step() -> None:
        seen.append(next(losses))
        if len(seen) % steps == 0 and torch.device(context.device).type == "cuda":
            torch.cuda.synchronize()

    batch = plugin.images_per_step()
    benchmark.group = f"{kind} {name}: train step, {size} px, batch {batch}, rounds of {steps} steps"
    benchmark.extra_info.update(machine, images_per_step=batch, steps_per_round=steps)
    benchmark.pedantic(one_step, rounds=ROUNDS, iterations=steps, warmup_rounds=WARM_UP_ROUNDS)

    values = [(number, key, float(value)) for number, found in enumerate(seen) for key, value in found.items()]
    assert values, "no step returned a loss"
    assert [found for found in values if not math.isfinite(found[2])] == []


def _steps(plugin: Steppable, train: Images, context: RunContext, loop: str) -> Iterator[Mapping[str, Any]]:
    """The losses of step 0, 1, ...; each step is done when its losses are asked for."""
    if loop == "ours":
        return (plugin.training_step(step) for step in itertools.count())
    reference = reference_loop(type(plugin))
    assert reference is not None
    torch.manual_seed(context.seed)
    return reference(plugin, train, context)
