"""Does the audit of the measures find what was put in?"""

import pytest

GENERATORS = ("cgan", "dcgan", "flow", "diffusion", "vae")


def with_generators(results, distances, recalls, ratio=1.0, names=GENERATORS):
    """Generators of rising gain, and what is measured of their pools."""
    results.runs(0.70, seeds=2)
    for i, name in enumerate(names):
        results.runs(0.60 + 0.05 * i, name, ratio, seeds=2)
        for seed in range(2):
            results.fidelity(name, {"fid": distances[i], "recall": recalls[i]}, seed=seed)


def rho_of(results):
    table = results.analysis().metric_audit
    return {row["metric"]: row for row in table.to_dict("records")}


def test_a_measure_that_ranks_as_the_classifier_does_has_rho_one_whichever_way_it_points(results):
    with_generators(results, [50, 40, 30, 20, 10], [0.1, 0.2, 0.3, 0.4, 0.5])
    found = rho_of(results)
    assert found["fid"]["rho"] == pytest.approx(1.0, abs=0.1)  # lower is better
    assert found["recall"]["rho"] == pytest.approx(1.0, abs=0.1)  # higher is better
    assert found["fid"]["pools"] == 10
    assert found["fid"]["low"] > 0.5


def test_a_measure_that_ranks_the_other_way_round_has_rho_minus_one(results):
    with_generators(results, [10, 20, 30, 40, 50], [0.5, 0.4, 0.3, 0.2, 0.1])
    found = rho_of(results)
    assert found["fid"]["rho"] == pytest.approx(-1.0, abs=0.1)
    assert found["recall"]["rho"] == pytest.approx(-1.0, abs=0.1)


def test_a_measure_that_has_nothing_to_do_with_the_gain_has_a_wide_interval(results):
    with_generators(results, [30, 10, 50, 20, 40], [0.1, 0.2, 0.3, 0.4, 0.5])
    row = rho_of(results)["fid"]
    assert row["low"] < 0 < row["high"]


def test_fewer_than_four_generators_say_nothing(results):
    with_generators(results, [30, 20, 10], [0.1, 0.2, 0.3], names=GENERATORS[:3])
    assert results.analysis().metric_audit.empty


def test_a_constant_measure_says_nothing(results):
    with_generators(results, [30] * 5, [0.1, 0.2, 0.3, 0.4, 0.5])
    assert set(rho_of(results)) == {"recall"}


def test_controls_count_but_for_the_oracle(results):
    with_generators(results, [50, 40, 30], [0.1, 0.2, 0.3], names=GENERATORS[:3])
    results.runs(0.60, real_share=1 / 3, seeds=2)
    for name, auroc, distance in (("noise", 0.55, 900), ("copy", 0.75, 5), ("oracle", 0.60, 1)):
        results.runs(auroc, name, seeds=2, real_share=1 / 3 if name == "oracle" else 1.0)
        results.fidelity(name, {"fid": distance})
    row = rho_of(results)["fid"]
    assert row["pools"] == 3 * 2 + 2
    assert row["rho"] > 0.9


def test_pools_are_compared_at_the_ratio_of_the_controls(results):
    with_generators(results, [50, 40, 30, 20, 10], [0.1, 0.2, 0.3, 0.4, 0.5])
    results.runs(0.70, "copy", seeds=2)
    for i, name in enumerate(GENERATORS):
        results.runs(0.80 - 0.05 * i, name, 2.0, seeds=2)  # at twice as many films all is turned round
    assert rho_of(results)["fid"]["rho"] > 0.9


def test_without_controls_pools_are_compared_at_the_largest_ratio(results):
    with_generators(results, [50, 40, 30, 20, 10], [0.1, 0.2, 0.3, 0.4, 0.5], ratio=0.5)
    for i, name in enumerate(GENERATORS):
        results.runs(0.80 - 0.05 * i, name, 2.0, seeds=2)
    assert rho_of(results)["fid"]["rho"] < -0.9


def test_pools_of_a_disqualified_generator_do_not_count(results):
    with_generators(results, [50, 40, 30, 20, 10], [0.1, 0.2, 0.3, 0.4, 0.5])
    results.memorization("cgan", held_out_copies=0.5)
    assert rho_of(results)["fid"]["pools"] == 8


def test_every_classifier_and_extractor_is_audited(results):
    with_generators(results, [50, 40, 30, 20, 10], [0.1, 0.2, 0.3, 0.4, 0.5])
    results.runs(0.70, seeds=2, classifier="large-cnn")
    for i, name in enumerate(GENERATORS):
        results.runs(0.60 + 0.05 * i, name, seeds=2, classifier="large-cnn")
        results.fidelity(name, {"fid": 10.0 + i}, extractors=("inception",))
    table = results.analysis().metric_audit
    assert set(zip(table["classifier"], table["extractor"], strict=True)) == {
        (classifier, extractor) for classifier in ("small-cnn", "large-cnn") for extractor in ("lite0", "inception")
    }
