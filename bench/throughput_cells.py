"""What is timed: every steppable plug-in at the size it is trained at on a CPU, on films that are drawn, not read."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from cxrbench.contracts import Images
from cxrbench.datasets.phantom import Phantom
from cxrbench.registry import CLASSIFIERS, GENERATORS, Registry

PATIENTS_PER_CLASS = 40  # 70 films or more of each class: two batches of most reference plug-ins
LARGEST_DRAWN = 64  # pixels; larger films are these enlarged: drawing them takes a quarter of a minute

Kind = Literal["generator", "classifier"]
REGISTRIES: dict[Kind, Registry[Any]] = {"generator": GENERATORS, "classifier": CLASSIFIERS}


@dataclass(frozen=True)
class Cell:
    """One plug-in at one size.

    Attributes:
        plugin: ``name`` or ``name:key=value``.
        size: of its films, in pixels.
        seconds: wall time it may take, set-up and warm-up included; the fewest rounds may take longer.
    """

    kind: Kind
    plugin: str
    size: int = 64
    seconds: float = 25.0

    def create(self) -> Any:
        """The plug-in, not set up yet; raises UsageError for an unknown name or parameter."""
        return REGISTRIES[self.kind].parse(self.plugin)[1]


CELLS = {
    "cgan": Cell("generator", "cgan"),
    "cgan-seed": Cell("generator", "cgan-seed", size=300, seconds=90.0),  # the study's size; a cycle is 10 steps
    "dcgan": Cell("generator", "dcgan", seconds=35.0),  # a cycle is 24 steps
    "acgan": Cell("generator", "acgan", seconds=35.0),
    "wgan-gp": Cell("generator", "wgan-gp:width=32:batch=32", seconds=35.0),  # at its defaults a step takes a CPU 6 s
    "flow": Cell("generator", "flow"),
    "pca-flow": Cell("generator", "pca-flow"),
    "flow-quilt": Cell("generator", "flow-quilt"),
    "small-cnn": Cell("classifier", "small-cnn"),
    "resnet18": Cell("classifier", "resnet18"),
    "squeezenet1_1": Cell("classifier", "squeezenet1_1"),
    "alexnet": Cell("classifier", "alexnet"),
    "googlenet": Cell("classifier", "googlenet"),
}


LARGE_CELLS = {  # more than a CPU has minutes for
    "cgan-seed-64-films": Cell("generator", "cgan-seed:batch=64", size=300),
    "cgan-128px": Cell("generator", "cgan", size=128),
    "cgan-299px": Cell("generator", "cgan", size=299),
    "dcgan-128px": Cell("generator", "dcgan", size=128),
    "flow-128px": Cell("generator", "flow", size=128),
    "flow-299px": Cell("generator", "flow", size=299),
    "resnet18-224px": Cell("classifier", "resnet18", size=224),
}


def cells_of(device: str) -> dict[str, Cell]:
    """What is timed on a device: on a GPU ``LARGE_CELLS``, too."""
    return CELLS if device == "cpu" else CELLS | LARGE_CELLS


@functools.cache
def draw_films(size: int) -> Images:
    """Phantom films of ``size`` pixels. Drawn, not read, so that every machine times the same work."""
    phantom = Phantom(patients_per_class=PATIENTS_PER_CLASS)
    drawn, side = phantom.listing().films, min(size, LARGEST_DRAWN)
    pixels = np.stack([phantom.read(film, side) for film in drawn])[:, None]
    rows = np.arange(size) * side // size
    labels = np.asarray([film.label for film in drawn], np.int64)
    return Images(pixels[:, :, rows[:, None], rows], labels, phantom.classes())
