"""The arms of one whole run: what each was given, and which of them must come out equal."""

import numpy as np
import pytest

from cxrbench.asked import Asked, prepare, request_of
from cxrbench.cache import Cache
from cxrbench.progress import make_reporter
from cxrbench.runner import run_plan
from cxrbench.store import Store


@pytest.fixture(scope="module")
def ran(tmp_path_factory):
    """Records of a run with two splits, by (kind, split, generator, arm, ratio, share of the real films)."""
    folder = tmp_path_factory.mktemp("arms")
    asked = Asked(
        data="phantom:patients_per_class=16",
        generators="classical",
        ratios="0,0.5,1",
        tier="smoke",
        controls="oracle,noise",
        device="cpu",
        splits=2,
    )
    request = request_of(asked)
    index, plan = prepare(asked, request, lambda found: found)
    store = Store(folder / "results")
    outcome = run_plan(plan, index, store, Cache(folder / "cache"), make_reporter(True), command="cxrbench run")
    assert not outcome.failed
    found = {}
    for record in store:
        trial = record.trial
        name = trial.generator.name if trial.generator else ""
        where = (trial.kind, trial.setting.split_seed, name, trial.arm, trial.ratio, round(trial.real_share, 2))
        assert where not in found
        found[where] = record
    return found, store


def counts(ran, generator="", arm="augment", ratio=0.0, share=1.0, split=0):
    return ran[0]["utility", split, generator, arm, ratio, share].counts


def probabilities(ran, generator="", arm="augment", ratio=0.0, share=1.0, split=0):
    found, store = ran
    return store.arrays(found["utility", split, generator, arm, ratio, share].key)["probabilities"]


def test_every_arm_trains_on_the_films_it_names(ran):
    real = counts(ran)["train_real"]
    assert counts(ran, "classical", ratio=1.0)["train_synthetic"] == real
    assert counts(ran, "classical", ratio=0.5)["train_synthetic"] == pytest.approx(real / 2, abs=2)
    alone = counts(ran, "classical", "synthetic-only", 1.0)
    assert (alone["train_real"], alone["train_synthetic"]) == (0, real)
    few = counts(ran, share=0.33)["train_real"]
    assert real / 3 <= few < counts(ran, share=0.67)["train_real"] < real
    oracle = counts(ran, "oracle", ratio=1.0, share=0.33)
    assert (oracle["train_real"], oracle["train_synthetic"]) == (few, few)


def test_every_arm_takes_the_same_steps_but_the_one_that_trains_longer(ran):
    steps = {
        record.counts["steps"] for where, record in ran[0].items() if where[0] == "utility" and where[3] != "longer"
    }
    assert steps == {8}
    assert counts(ran, arm="longer")["steps"] == 16


def test_without_copies_the_adjusted_arm_is_the_arm_itself(ran):
    """Flipped and rotated films are copies in part; the first half of the pool holds some of them."""
    record = ran[0]["utility", 0, "classical", "copy-adjusted", 1.0, 1.0]
    removed = int(record.notes[0].split()[0])
    synthetic = counts(ran, "classical", ratio=1.0)["train_synthetic"]
    assert record.counts["train_synthetic"] == synthetic - removed
    same = np.array_equal(
        probabilities(ran, "classical", "copy-adjusted", 1.0), probabilities(ran, "classical", "augment", 1.0)
    )
    assert same == (removed == 0)


def test_splits_test_on_other_patients_under_the_same_names(ran):
    found, store = ran
    groups = [set(store.arrays(found["utility", split, "", "augment", 0.0, 1.0].key)["groups"]) for split in (0, 1)]
    assert groups[0] != groups[1]
    rows = {found["utility", split, "classical", "augment", 1.0, 1.0].trial.row for split in (0, 1)}
    assert len(rows) == 1


def test_pools_are_tested_for_copies_against_what_their_generator_was_given(ran):
    oracle = ran[0]["memorization", 0, "oracle", "augment", None, 0.33]
    classical = ran[0]["memorization", 0, "classical", "augment", None, 1.0]
    assert oracle.scores["all/nn_ratio"] > 0.8
    assert classical.scores["all/nn_ratio"] < oracle.scores["all/nn_ratio"] + 1
    assert "all/authpct_expected" in classical.scores
