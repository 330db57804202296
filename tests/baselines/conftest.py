"""Fits for the monitors: nobody trains, the films and losses of each look are given."""

import numpy as np
import pytest
import torch

from cxrbench.checks import toy_films
from cxrbench_baselines.monitors import Watch

BUDGET, EVERY = 200, 10
TRAIN = toy_films(16, per_class=20)
PER_CLASS = 16


def fresh(seed, per_class=PER_CLASS):
    """Films like the training films, and none of them, in the order of their classes."""
    films = toy_films(16, per_class, seed)
    return films.pixels[np.argsort(films.labels, kind="stable")]


def net(gradient=1.0):
    """10 weights of norm 1 with a gradient of the wanted norm."""
    made = torch.nn.Linear(10, 1, bias=False)
    torch.nn.init.constant_(made.weight, 10**-0.5)
    made.weight.grad = torch.full_like(made.weight, gradient * 10**-0.5)
    return made


class Fit:
    """A fit whose films and losses are given, look by look."""

    def __init__(self, folder, train=TRAIN, **nets):
        self.nets = nets or {"generator": net(), "discriminator": net()}
        self.films, self.done = [], 0
        self.watch = Watch(train, self.sample, self.nets, folder)
        self.watch.due(0, BUDGET)

    def sample(self, labels):
        self.asked = labels
        return self.films[-1]

    def look(self, films=None, gradient=None, **losses):
        self.films.append(fresh(1) if films is None else films)
        if gradient is not None:
            self.nets["generator"].weight.grad.fill_(gradient * 10**-0.5)
        self.watch.look(EVERY * self.done, {name: torch.tensor(value) for name, value in losses.items()})
        self.done += 1
        return self.watch.findings()


@pytest.fixture(name="fresh")
def fresh_fixture():
    """``fresh``, for tests."""
    return fresh


@pytest.fixture(name="net")
def net_fixture():
    """``net``, for tests."""
    return net


@pytest.fixture(name="Fit")
def fit_fixture():
    """``Fit``, for tests."""
    return Fit
