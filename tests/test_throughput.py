"""Throughput is timed in whole cycles after a warm-up, and counts what a step trains on."""

import time
from dataclasses import dataclass

import pytest
import torch

from cxrbench.checks import toy_films
from cxrbench.contracts import RunContext
from cxrbench.spec import spec_of_tier
from cxrbench.throughput import time_train_step


@dataclass
class Sleeper:
    """Every tenth step is slow, as with a discriminator stepped once per ten."""

    def setup(self, train, ctx):
        self.steps = []

    def images_per_step(self):
        return 4

    def steps_per_cycle(self):
        return 10

    def training_step(self, step):
        self.steps.append(step)
        time.sleep(0.011 if step % 10 == 0 else 0.001)
        return {"loss": torch.tensor(0.0)}


def test_slow_steps_of_a_cycle_are_counted_in(tmp_path):
    sleeper = Sleeper()
    scores = time_train_step(sleeper, toy_films(8), spec_of_tier("smoke"), RunContext(0, "cpu", 0, tmp_path))
    assert sleeper.steps == list(range(40))  # one cycle of warm-up, three timed
    assert 0.002 <= scores["step_seconds"] < 0.02  # the mean over the cycle, not the fast step
    assert scores["images_per_second"] == pytest.approx(4 / scores["step_seconds"])
    assert scores["peak_memory_bytes"] > 10e6
