"""Controls that come out as they must, and each of them broken on purpose."""

import pytest

from cxrbench.report.validity import judge_validity

FEW = 1 / 3


def validity_of(results):
    return results.analysis().validity


def test_a_sound_benchmark_is_valid_and_every_control_was_checked(results):
    results.benchmark()
    validity = validity_of(results)
    assert validity.status == "VALID"
    assert validity.reasons == []
    assert all(check.holds and not check.weak for check in validity.checks)
    assert {check.control for check in validity.checks} == {"oracle", "copy", "shuffle", "noise", "oversample"}


@pytest.mark.parametrize(
    ("broken", "reason"),
    [
        ({"distances": {"oracle": 40.0}}, "oracle: expected FD of lite0 within"),
        ({"distances": {"noise": 4.0}}, "noise: expected FD of lite0 larger"),
        ({"distances": {"copy": 80.0}}, "copy: expected FD of lite0 no larger than any generator's; found 80, and 60"),
        ({"copies": {"copy": 0.3}}, "copy: expected caught by the memorization test; found 30% near-copies"),
        ({"copies": {"oracle": 0.3}}, "oracle: expected passed by the memorization test; found 30% near-copies"),
        ({"aurocs": {"shuffle": 0.85}}, "shuffle: expected does not help; found helps (+0.1"),
        ({"aurocs": {"noise": 0.85}}, "noise: expected does not help; found helps (+0.1"),
        ({"aurocs": {"oracle": 0.50}}, "oracle: expected real films help where they are few; found hurts (-0.1"),
    ],
)
def test_a_control_that_comes_out_wrong_makes_the_run_invalid_and_says_which(results, broken, reason):
    results.benchmark(**broken)
    validity = validity_of(results)
    assert validity.status == "INVALID"
    assert len(validity.reasons) == 1
    assert validity.reasons[0].startswith(reason)


@pytest.mark.parametrize(
    ("shares", "reason"),
    [
        ({"copy": 0.3, "oracle": 0.01}, "copy: expected caught by the memorization test of parts; found 30% made from"),
        (
            {"copy": 1.0, "oracle": 0.3},
            "oracle: expected passed by the memorization test of parts; found 30% made from",
        ),
    ],
)
def test_controls_whose_parts_come_out_wrong_make_the_run_invalid(results, shares, reason):
    results.benchmark()
    for record in list(results.store):
        share = shares.get(record.trial.generator.name if record.trial.generator else "")
        if record.trial.kind == "memorization" and share is not None:
            results.store.replace(record.model_copy(update={"scores": record.scores | {"all/copied_parts": share}}))
    validity = validity_of(results)
    assert validity.status == "INVALID"
    assert len(validity.reasons) == 1
    assert validity.reasons[0].startswith(reason)


def test_a_generator_may_be_as_good_as_its_training_films(results):
    results.benchmark(distances={"cgan": 4.5})
    assert validity_of(results).status == "VALID"  # within four standard deviations of the floor


def test_without_controls_nothing_is_validated(results):
    results.runs(0.7)
    results.runs(0.8, "cgan")
    results.fidelity("cgan", {"fid": 1.0})
    results.memorization("cgan")
    assert validity_of(results).status == "NOT VALIDATED"


def test_an_oracle_that_does_not_help_is_weak_not_broken(results):
    results.benchmark(aurocs={"oracle": 0.60})
    validity = validity_of(results)
    assert validity.status == "VALID"
    (weak,) = [check for check in validity.checks if check.weak]
    assert weak.control == "oracle"
    assert "too small to see even what real films do" in weak.found


def test_controls_of_one_seed_cannot_be_checked_by_what_they_do_to_the_classifier(results):
    results.benchmark(seeds=1)
    unknown = [check for check in validity_of(results).checks if check.holds is None]
    assert sorted(check.control for check in unknown) == ["noise", "oracle", "oversample", "shuffle"]
    assert all("one classifier seed" in check.found for check in unknown)


def test_controls_without_real_only_runs_cannot_be_checked(results):
    results.runs(0.7, "shuffle")
    validity = validity_of(results)
    assert validity.status == "NOT VALIDATED"
    assert "no real-only run" in validity.checks[0].found


def test_an_oracle_without_a_floor_is_not_checked_by_distance(results):
    results.fidelity("oracle", {"fid": 10.0})
    (check,) = validity_of(results).checks
    assert (check.control, check.holds) == ("oracle", None)
    assert "too few real films" in check.found


def test_every_extractor_is_checked(results):
    for name, one, other in (("oracle", 10.0, 10.0), ("noise", 900.0, 4.0)):
        results.fidelity(name, {"lite0:fid": one, "inception:fid": other}, extractors=("lite0", "inception"))
    (reason,) = validity_of(results).reasons
    assert "inception" in reason


def test_noise_is_not_compared_with_generators_which_may_collapse(results):
    results.benchmark(distances={"cgan": 2000.0})
    analysis = results.analysis()
    assert analysis.validity.status == "VALID"
    assert "farther off than noise" in analysis.board.set_index("generator").loc["cgan", "flags"]


def test_splits_of_different_size_can_be_checked(results):
    for split, n in enumerate((100, 98)):
        results.fidelity(None, {"fid": 10.0, "fid_floor": 10.0, "fid_floor_sd": 0.5}, split=split, n=n)
        results.fidelity("oracle", {"fid": 10.0, "fid_low": 9.0, "fid_high": 11.0}, split=split, n=n)
    validity = validity_of(results)
    assert validity.status == "PARTLY VALIDATED"
    assert validity.missing == ["copy", "shuffle", "noise", "oversample"]


def test_a_control_that_failed_is_named(results):
    results.benchmark()
    results.run(0.0, "copy", seed=9, error="out of memory", kept=False)
    (check,) = [check for check in validity_of(results).checks if check.holds is None]
    assert check.control == "copy"
    assert "out of memory" in check.found


def test_nothing_measured_is_nothing_validated(results):
    results.put("data", counts={"films": 1})
    analysis = results.analysis()
    assert judge_validity(analysis.fidelity, analysis.copies, [], 2).status == "NOT VALIDATED"


@pytest.mark.parametrize(("auroc", "holds"), [(0.70, True), (0.90, False), (0.50, False)])
def test_more_of_the_same_films_must_do_nothing(results, auroc, holds):
    results.benchmark(aurocs={"oversample": auroc})
    (check,) = [check for check in validity_of(results).checks if check.control == "oversample"]
    assert check.holds == holds
