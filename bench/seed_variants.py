"""The study's choices, and generators in which they are undone."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from cxrbench_baselines.generators.cgan_seed import SeedCGAN


@dataclass(frozen=True)
class Choice:
    """One of the study's choices, and a parameter of ``SeedCGAN`` that undoes it."""

    study: str
    undone: str
    parameter: str
    value: Any


CHOICES = {
    "discriminator": Choice("a discriminator step per 10 of the generator", "one per step", "discriminator_every", 1),
    "norm": Choice("batch norm, over 4 films", "group norm, film by film", "normalise", "group"),
    "label": Choice("the label as one map", "the label beside the noise, and projected", "conditioning", "projection"),
    "dropout": Choice("dropout of 0.5 before the sigmoid", "none", "dropout", 0.0),
}
BATCH = 16  # batch norm's other cure; no part of "all undone", where it would quadruple the work
FIFTHS = 5  # stretches of training that the discriminator's accuracy is averaged over


def variants(width: int) -> dict[str, SeedCGAN]:
    """Name -> unfitted generator: nothing undone, each choice alone, all, and all but one."""
    study = SeedCGAN(width=width)
    undo = {name: {choice.parameter: choice.value} for name, choice in CHOICES.items()}
    keep = {name: {choice.parameter: getattr(study, choice.parameter)} for name, choice in CHOICES.items()}
    every = {choice.parameter: choice.value for choice in CHOICES.values()}
    return {
        "study": study,
        f"batch-{BATCH}": replace(study, batch=BATCH),
        **{f"undo-{name}": replace(study, **undo[name]) for name in CHOICES},
        "undo-all": replace(study, **every),
        **{f"keep-{name}": replace(study, **{**every, **keep[name]}) for name in CHOICES},
    }


def title(name: str) -> str:
    """A variant's name in words."""
    act, _, choice = name.partition("-")
    if choice in CHOICES:
        return f"undone: {CHOICES[choice].study}" if act == "undo" else f"all undone but: {CHOICES[choice].study}"
    return {"study": "as the study has it", "undo-all": "all undone"}.get(name, f"undone: batch of 4 (now {BATCH})")
