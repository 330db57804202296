"""The frozen protocol and its tiers."""

import os
import subprocess
import sys
from itertools import pairwise

import pytest
from pydantic import ValidationError

from cxrbench.errors import UsageError
from cxrbench.spec import DEFAULT_SEEDS, TIERS, BenchSpec, spec_of_tier

SPEC = BenchSpec(tier="smoke", image_size=32, generator_steps=6, classifier_steps=8, fidelity_images=8)
CHANGES = {
    "version": 4,
    "tier": "other",
    "image_size": 64,
    "generator_steps": 7,
    "classifier_steps": 9,
    "fidelity_images": 9,
    "resamples": 49,
    "floor_halves": 9,
    "few_share": 0.5,
    "longer": 3.0,
    "tuning_trials": 2,
    "timed_steps": 21,
    "warmup_steps": 6,
    "split": (0.7, 0.1, 0.2),
    "split_by": "source",
}


def test_every_field_has_a_change_to_try():
    assert CHANGES.keys() == BenchSpec.model_fields.keys()


@pytest.mark.parametrize("field", CHANGES)
def test_the_hash_depends_on_each_field(field):
    assert SPEC.model_copy(update={field: CHANGES[field]}).hash != SPEC.hash


def test_equal_specs_have_equal_hashes_also_after_json():
    assert BenchSpec.model_validate_json(SPEC.model_dump_json()).hash == SPEC.hash


def test_the_hash_is_the_same_in_every_process():
    code = f"from cxrbench.spec import BenchSpec; print(BenchSpec.model_validate_json({SPEC.model_dump_json()!r}).hash)"
    printed = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
        env={**os.environ, "PYTHONHASHSEED": "1"},
    )
    assert printed.stdout.strip() == SPEC.hash


def test_a_spec_cannot_be_changed():
    with pytest.raises(ValidationError, match="frozen"):
        SPEC.image_size = 64


def test_unknown_fields_are_refused():
    with pytest.raises(ValidationError, match="Extra inputs"):
        BenchSpec(**SPEC.model_dump(), epochs=500)


def test_the_tiers_of_the_design_exist_and_know_their_names():
    assert list(TIERS) == ["smoke", "quick", "cpu", "standard", "full"] == list(DEFAULT_SEEDS)
    assert all(spec_of_tier(name).tier == name for name in TIERS)


def test_tiers_grow_in_size_and_budget():
    specs = list(TIERS.values())
    for smaller, larger in pairwise(specs):
        assert smaller.image_size <= larger.image_size
        assert smaller.generator_steps < larger.generator_steps
        assert smaller.classifier_steps < larger.classifier_steps


def test_no_two_tiers_are_ranked_together():
    assert len({spec.hash for spec in TIERS.values()}) == len(TIERS)


@pytest.mark.parametrize("spec", TIERS.values(), ids=TIERS)
def test_the_split_of_a_tier_deals_out_every_film(spec):
    assert sum(spec.split) == pytest.approx(1)


def test_an_unknown_tier_suggests_the_nearest():
    with pytest.raises(UsageError, match=r"unknown tier 'qick'; did you mean quick\?"):
        spec_of_tier("qick")


def test_an_unknown_tier_far_from_all_lists_what_there_is():
    with pytest.raises(UsageError, match="there are smoke, quick, cpu, standard, full"):
        spec_of_tier("zzzz")


def test_the_way_to_split_is_part_of_the_spec_and_checked():
    assert spec_of_tier("smoke") == TIERS["smoke"]
    assert spec_of_tier("smoke", "official").split_by == "official"
    assert spec_of_tier("smoke", "official").hash != TIERS["smoke"].hash
    with pytest.raises(UsageError, match="unknown --split-by 'site'; there are auto, patient, source, official"):
        spec_of_tier("smoke", "site")
