"""From a request to trials: what is asked, no more, each with its own identity."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cxrbench.datasets.phantom import Phantom
from cxrbench.errors import UsageError
from cxrbench.external import match_external
from cxrbench.machine import choose_device
from cxrbench.plan import Request, make_plan, parse_names, parse_ratios
from cxrbench.spec import spec_of_tier
from cxrbench.stages import index_data

SPEC = spec_of_tier("smoke")


def plan_of(generators=("classical",), ratios=(0.5, 1.0), seeds=2, data=None, external=None, **more):
    asked = {"controls": (), "extractors": ("radio-texture",), **more}
    request = Request(spec_of_tier("smoke"), generators, ("small-cnn",), ratios, seeds, "cpu", **asked)
    return make_plan(request, index_data("phantom", data or Phantom(patients_per_class=8)), external)


def keys(plan, kind="utility"):
    return {trial.key for trial in plan.trials if trial.kind == kind}


def arms(plan):
    """Utility trials as (generator, arm, ratio, share of the real films), counted."""
    return Counter(
        (t.generator.name if t.generator else "", t.arm, t.ratio, round(t.real_share, 2))
        for t in plan.trials
        if t.kind == "utility"
    )


def test_the_grid_holds_every_arm_once_per_seed():
    plan = plan_of(generators=("classical", "cgan"))
    real = [("", "augment", 0.0, 1.0), ("", "augment", 0.0, 0.67), ("", "augment", 0.0, 0.33), ("", "longer", 0.0, 1.0)]
    learned = [(arm, ratio) for arm in ("augment", "copy-adjusted") for ratio in (0.5, 1.0)] + [("synthetic-only", 1.0)]
    wanted = real + [(name, arm, ratio, 1.0) for name in ("classical", "cgan") for arm, ratio in learned]
    assert arms(plan) == dict.fromkeys(wanted, 2)
    assert len(keys(plan, "fidelity")) == 1 + 2 * 2
    assert len(keys(plan, "memorization")) == 2 * 2
    assert len(keys(plan, "throughput")) == 2  # cgan and small-cnn; classical has no train step
    assert len({trial.key for trial in plan.trials}) == len(plan.trials)


def test_controls_run_at_ratio_one_and_the_oracle_where_films_are_few():
    plan = plan_of(ratios=(0.5,), controls=("oracle", "noise"))
    assert arms(plan) - arms(plan_of(ratios=(0.5,))) == {
        ("oracle", "augment", 1.0, 0.33): 2,
        ("noise", "augment", 1.0, 1.0): 2,
    }
    roles = {t.generator.name: t.generator.control for t in plan.trials if t.generator}
    assert roles == {"classical": None, "oracle": "oracle", "noise": "noise"}
    assert {t.real_share for t in plan.trials if t.generator and t.generator.name == "oracle"} == {SPEC.few_share}


def test_a_control_that_is_named_among_the_generators_stays_a_control():
    assert keys(plan_of(generators=("classical", "noise"))) == keys(plan_of(controls=("noise",)))


def test_without_a_ratio_pools_are_measured_and_nothing_is_augmented():
    plan = plan_of(ratios=(), controls=("noise",))
    assert {t.arm for t in plan.trials if t.kind == "utility" and t.generator} == set()
    assert len(keys(plan, "memorization")) == 2 * 2


def test_classifier_seeds_are_nested_in_generator_seeds_and_the_baseline_runs_all():
    plan = plan_of(classifier_seeds=3, ratios=(1.0,))
    found = {(t.generator_seed, t.classifier_seed) for t in plan.trials if t.kind == "utility" and t.generator}
    assert found == {(0, 0), (0, 1000), (0, 2000), (1, 1), (1, 1001), (1, 2001)}
    baseline = {t.classifier_seed for t in plan.trials if t.kind == "utility" and not t.generator}
    assert baseline == {classifier for _, classifier in found}


def test_every_split_repeats_the_grid_under_its_own_key():
    one, two = plan_of(), plan_of(splits=2)
    assert keys(one) < keys(two)
    assert len(keys(two)) == 2 * len(keys(one))
    assert len(keys(two, "throughput")) == len(keys(one, "throughput"))
    by_row = {}
    for trial in two.trials:
        by_row.setdefault(trial.row, set()).add((trial.setting.split_seed, trial.generator_seed, trial.classifier_seed))
    utility = next(t for t in two.trials if t.kind == "utility" and t.generator)
    assert by_row[utility.row] == {(0, 0, 0), (0, 1, 1), (1, 0, 0), (1, 1, 1)}


def test_each_arm_that_is_ranked_is_followed_by_its_external_trial():
    index = index_data("phantom", Phantom(patients_per_class=8))
    external = match_external(index_data("other", Phantom(patients_per_class=4, seed=7)), index.classes)
    plan, plain = plan_of(external=external, controls=("noise",)), plan_of(controls=("noise",))
    assert [trial for trial in plan.trials if trial.kind != "external"] == plain.trials
    outside = 0
    for number, trial in enumerate(plan.trials):
        control = trial.generator.control if trial.generator else None
        if trial.kind == "utility" and trial.arm == "augment" and trial.real_share == 1 and not control:
            behind = plan.trials[number + 1]
            assert (behind.kind, behind.external) == ("external", external.key(32))
            assert behind.model_copy(update={"kind": "utility", "external": "", "external_data": ""}) == trial
            outside += 1
    assert len(keys(plan, "external")) == outside == 2 + 2 * 2


def test_other_external_films_are_other_trials():
    index = index_data("phantom", Phantom(patients_per_class=8))
    found = [
        keys(plan_of(external=match_external(index_data("o", Phantom(patients_per_class=4, seed=s)), index.classes)), k)
        for s in (7, 8)
        for k in ("utility", "external")
    ]
    assert found[0] == found[2]
    assert not found[1] & found[3]


def test_the_setting_names_how_the_films_are_divided():
    assert {trial.setting.split_by for trial in plan_of().trials} == {"patient"}


def test_another_ratio_or_generator_or_seed_only_adds_trials():
    small = plan_of()
    for larger in (plan_of(ratios=(0.5, 1.0, 2.0)), plan_of(generators=("classical", "cgan")), plan_of(seeds=3)):
        assert keys(small) < keys(larger)


def test_the_baseline_has_no_generator_in_its_key():
    def baseline(plan):
        return {t.key for t in plan.trials if t.kind == "utility" and t.generator is None}

    assert baseline(plan_of(generators=("classical",))) == baseline(plan_of(generators=("cgan",)))


def test_parameters_and_data_change_the_keys():
    assert not keys(plan_of()) & keys(plan_of(generators=("classical:degrees=5",))) - keys(
        plan_of(generators=("cgan",))
    )
    assert not keys(plan_of()) & keys(plan_of(data=Phantom(patients_per_class=8, shortcut=0.5)))


def test_missing_inception_weights_leave_fid_out_with_a_reason(monkeypatch, tmp_path):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.delenv("CXRBENCH_WEIGHTS", raising=False)
    monkeypatch.setattr("urllib.request.urlopen", _unreachable)
    plan = plan_of(extractors=("lite0", "inception"))
    assert list(plan.extractors) == ["lite0"]
    (reference,) = {t.extractors["lite0"].fd_label for t in plan.trials if t.extractors}
    assert reference == "FD-lite0"
    assert "FID is left out" in plan.notes[0]


def _unreachable(*args, **kwargs):
    raise OSError("no network")


@given(st.lists(st.floats(0, 100, allow_nan=False), min_size=1, max_size=6))
def test_ratios_are_sorted_distinct_and_without_the_baseline(values):
    found = parse_ratios(",".join(repr(value) for value in values))
    assert list(found) == sorted({value for value in values if value > 0})


@pytest.mark.parametrize("text", ["-0.5", "nan", "inf", "abc", "", "1,,2", "0.5,-1"])
def test_ratios_that_make_no_sense_are_refused(text):
    with pytest.raises(UsageError, match="ratio"):
        parse_ratios(text)


def test_names_lose_repeats_and_blanks():
    assert parse_names("cgan, dcgan,cgan", "generator") == ("cgan", "dcgan")
    with pytest.raises(UsageError, match="no generator given"):
        parse_names(" , ", "generator")


def test_devices():
    assert choose_device("cpu") == "cpu"
    with pytest.raises(UsageError, match="did you mean cuda"):
        choose_device("cude")


def test_cuda_that_is_not_there_is_a_usage_error(monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    with pytest.raises(UsageError, match="sees no CUDA device"):
        choose_device("cuda")
    assert choose_device("auto") == "cpu"
