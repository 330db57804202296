"""The fixed protocol: what is the same for every generator and classifier that are compared."""

from __future__ import annotations

import difflib
from typing import Literal, get_args

from pydantic import BaseModel, ConfigDict

from cxrbench.errors import UsageError
from cxrbench.hashing import canonical_hash

SplitBy = Literal["auto", "patient", "source", "official"]


class BenchSpec(BaseModel):
    """One frozen protocol. Rows measured under different specs are never ranked together.

    Attributes:
        version: of the protocol's meaning; raised when the same fields come to mean something else, e.g. when
            the harness samples pools, trains or extracts features in another way.
        tier: the size class this spec belongs to.
        image_size: height and width of every film, in pixels.
        generator_steps: the budget of one generator fit, in generator optimizer steps. A generator that
            trains a net per class divides it among them.
        classifier_steps: the budget of one classifier fit, in optimizer steps; equal at every ratio.
        fidelity_images: films per class compared by FD and KID (fewer where a class has fewer).
        kid_subsets: random subsets the KID is averaged over.
        timed_steps: train steps timed for the throughput, after ``warmup_steps``.
        split: fractions of train, validation and test.
        split_seed: of the split's shuffle.
        split_by: how films are divided: ``patient`` (at random, patients whole), ``source`` (test on hospitals
            never trained on), ``official`` (as the data set's origin says); ``auto`` is ``official`` where
            every film has an official part, else ``patient``.
        extractors: feature extractors the fidelity is measured in, where their weights can be had.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    version: int = 2
    tier: str
    image_size: int
    generator_steps: int
    classifier_steps: int
    fidelity_images: int
    kid_subsets: int = 50
    timed_steps: int = 20
    warmup_steps: int = 5
    split: tuple[float, float, float] = (0.6, 0.2, 0.2)
    split_seed: int = 0
    split_by: SplitBy = "auto"
    extractors: tuple[str, ...] = ("lite0", "inception")

    @property
    def hash(self) -> str:
        """sha256 of all fields."""
        return canonical_hash(self.model_dump(mode="json"))


TIERS: dict[str, BenchSpec] = {
    spec.tier: spec
    for spec in (
        BenchSpec(
            tier="smoke",
            image_size=32,
            generator_steps=6,
            classifier_steps=8,
            fidelity_images=8,
            kid_subsets=5,
            timed_steps=2,
            warmup_steps=1,
            extractors=("lite0",),
        ),
        BenchSpec(tier="quick", image_size=32, generator_steps=1500, classifier_steps=300, fidelity_images=64),
        BenchSpec(tier="cpu", image_size=64, generator_steps=8000, classifier_steps=1500, fidelity_images=400),
        BenchSpec(
            tier="standard",
            image_size=128,
            generator_steps=30000,
            classifier_steps=3000,
            fidelity_images=1000,
        ),
        BenchSpec(tier="full", image_size=299, generator_steps=100000, classifier_steps=6000, fidelity_images=1000),
    )
}
DEFAULT_SEEDS = {"smoke": 1, "quick": 2, "cpu": 3, "standard": 3, "full": 3}


def spec_of_tier(tier: str, split_by: str = "auto") -> BenchSpec:
    """Look a tier's spec up; ``split_by`` is the one part of it that a user chooses.

    Raises:
        UsageError: there is no such tier, or no such way to split.
    """
    if tier not in TIERS:
        near = difflib.get_close_matches(tier, TIERS, n=1)
        hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(TIERS)}"
        raise UsageError(f"unknown tier {tier!r}; {hint}")
    if split_by not in get_args(SplitBy):
        raise UsageError(f"unknown --split-by {split_by!r}; there are {', '.join(get_args(SplitBy))}")
    return TIERS[tier].model_copy(update={"split_by": split_by})
