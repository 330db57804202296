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
        fidelity_images: films per class that fidelity compares (fewer where a class has fewer).
        resamples: of every bootstrap interval of a fidelity measure.
        floor_halves: pairs of disjoint real halves that the real-vs-real floor is averaged over.
        timed_steps: train steps timed for the throughput, after ``warmup_steps``.
        split: fractions of train, validation and test.
        split_by: how films are divided: ``patient`` (at random, patients whole), ``source`` (test on hospitals
            never trained on), ``official`` (as the data set's origin says); ``auto`` is ``official`` where
            every film has an official part, else ``patient``.
        few_share: share of the training films that counts as "few": the oracle is measured there.
        longer: factor of the budget in the arm that trains longer on real films alone.
        tuning_trials: configurations of the classifier tried in every arm; the best on validation films counts.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    version: int = 3
    tier: str
    image_size: int
    generator_steps: int
    classifier_steps: int
    fidelity_images: int
    resamples: int = 200
    floor_halves: int = 10
    timed_steps: int = 20
    warmup_steps: int = 5
    split: tuple[float, float, float] = (0.6, 0.2, 0.2)
    split_by: SplitBy = "auto"
    few_share: float = 1 / 3
    longer: float = 2.0
    tuning_trials: int = 1

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
            fidelity_images=16,
            resamples=20,
            floor_halves=3,
            timed_steps=2,
            warmup_steps=1,
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
DEFAULT_EXTRACTORS = ("lite0", "radio-texture", "inception")
DEFAULT_CONTROLS = ("oracle", "copy", "shuffle", "noise", "oversample")
# Two seeds leave one degree of freedom: a gain would have to exceed 0.2 to be seen.
DEFAULT_SEEDS = {"smoke": 1, "quick": 3, "cpu": 3, "standard": 3, "full": 3}


def spec_of_tier(tier: str, split_by: str = "auto", tuning_trials: int = 1) -> BenchSpec:
    """Look a tier's spec up; ``split_by`` and ``tuning_trials`` are the parts of it that a user chooses.

    Raises:
        UsageError: there is no such tier, no such way to split, or less than one trial.
    """
    if tier not in TIERS:
        near = difflib.get_close_matches(tier, TIERS, n=1)
        hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(TIERS)}"
        raise UsageError(f"unknown tier {tier!r}; {hint}")
    if split_by not in get_args(SplitBy):
        raise UsageError(f"unknown --split-by {split_by!r}; there are {', '.join(get_args(SplitBy))}")
    if tuning_trials < 1:
        raise UsageError(f"--tune {tuning_trials}: at least one configuration is needed")
    return TIERS[tier].model_copy(update={"split_by": split_by, "tuning_trials": tuning_trials})
