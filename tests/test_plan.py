"""From a request to trials: what is asked, no more, each with its own identity."""

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


def plan_of(
    generators=("classical",), ratios=(0.5, 1.0), seeds=2, data=None, classifiers=("small-cnn",), external=None
):
    request = Request(spec_of_tier("smoke"), generators, classifiers, ratios, seeds, "cpu")
    return make_plan(request, index_data("phantom", data or Phantom(patients_per_class=8)), external)


def keys(plan, kind="utility"):
    return {trial.key for trial in plan.trials if trial.kind == kind}


def test_the_grid_is_generators_by_ratios_by_seeds_plus_one_baseline_per_seed():
    plan = plan_of(generators=("classical", "cgan"))
    assert len(keys(plan)) == 2 + 2 * 2 * 2
    assert len(keys(plan, "fidelity")) == 1 + 2 * 2
    assert len(keys(plan, "throughput")) == 2  # cgan and small-cnn; classical has no train step
    assert len({trial.key for trial in plan.trials}) == len(plan.trials)


def test_each_utility_trial_is_followed_by_its_external_trial():
    index = index_data("phantom", Phantom(patients_per_class=8))
    external = match_external(index_data("other", Phantom(patients_per_class=4, seed=7)), index.classes)
    plan, plain = plan_of(external=external), plan_of()
    assert [trial for trial in plan.trials if trial.kind != "external"] == plain.trials
    for number, trial in enumerate(plan.trials):
        if trial.kind == "utility":
            behind = plan.trials[number + 1]
            assert (behind.kind, behind.external) == ("external", external.key(32))
            assert behind.model_copy(update={"kind": "utility", "external": ""}).key == trial.key
    assert len(keys(plan, "external")) == len(keys(plain))


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
    monkeypatch.setattr("cxrbench.features.inception.WEIGHTS_URL", "http://127.0.0.1:9/w.pth")
    monkeypatch.setattr("torch.hub.download_url_to_file", _unreachable)
    spec = spec_of_tier("smoke").model_copy(update={"extractors": ("lite0", "inception")})
    plan = make_plan(
        Request(spec, ("classical",), ("small-cnn",), (1.0,), 1, "cpu"), index_data("p", Phantom(patients_per_class=8))
    )
    assert list(plan.extractors) == ["lite0"]
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
