"""Fidelity records -> tables, from values whose means, floors and excesses are known."""

import math

import pytest

from cxrbench.report.fidelity import HELD_OUT, extractor_agreement, fidelity_long, fidelity_table, overall

BOTH = ("lite0", "inception")


def table_of(results):
    return fidelity_table(fidelity_long(results.section()))


def row_of(results, generator, metric="fid", extractor="lite0"):
    return overall(table_of(results), extractor, metric).loc[generator]


def test_values_are_means_over_seeds_and_splits(results):
    for split, seed, value in ((0, 0, 10.0), (0, 1, 20.0), (1, 0, 60.0)):
        results.fidelity("cgan", {"fid": value}, seed=seed, split=split)
    row = row_of(results, "cgan")
    assert (row["value"], row["seeds"]) == (30.0, 3)


def test_the_floor_is_that_of_the_same_split(results):
    for split, floor, value in ((0, 10.0, 15.0), (1, 30.0, 31.0)):
        results.fidelity(None, {"fid": floor, "fid_floor": floor, "fid_floor_sd": 1.0}, split=split)
        results.fidelity("cgan", {"fid": value}, split=split)
    long = fidelity_long(results.section())
    long = long[long["generator"] == "cgan"].set_index("split")
    assert dict(long["floor"]) == {0: 10.0, 1: 30.0}
    row = row_of(results, "cgan")
    assert (row["floor"], row["excess"]) == (20.0, 3.0)


def test_a_split_without_a_floor_does_not_spoil_the_excess(results):
    results.fidelity(None, {"fid": 10.0, "fid_floor": 10.0, "fid_floor_sd": 1.0}, split=0)
    results.fidelity("cgan", {"fid": 15.0}, split=0)
    results.fidelity("cgan", {"fid": 45.0}, split=1)
    row = row_of(results, "cgan")
    assert (row["value"], row["excess"]) == (30.0, 5.0)


def test_where_there_is_no_floor_there_is_no_excess(results):
    results.fidelity("cgan", {"fid": 15.0})
    assert math.isnan(row_of(results, "cgan")["excess"])


def test_splits_of_different_size_are_one_row(results):
    for split, n in enumerate((100, 98)):
        results.fidelity("cgan", {"fid": 10.0 + split}, split=split, n=n)
    table = table_of(results)
    assert list(table["value"]) == [10.5]
    assert list(table["n"]) == [98]


def test_the_interval_joins_films_and_seeds(results):
    for seed, value in enumerate((10.0, 12.0, 14.0)):
        results.fidelity("cgan", {"fid": value, "fid_low": value - 3.0, "fid_high": value + 3.0}, seed=seed)
    row = row_of(results, "cgan")
    # The variance of the three is 4; 4.303 is Student's quantile with two degrees of freedom. All seeds are compared
    # with the same real films, so that the films' part is that of one.
    half = math.sqrt(3.0**2 + 4.303**2 * 4.0 / 3)
    assert (row["low"], row["high"]) == pytest.approx((12 - half, 12 + half), rel=1e-3)


def test_a_frechet_distance_is_never_below_zero(results):
    kid = {"kid_mean": 0.1, "kid_mean_low": -0.1, "kid_mean_high": 0.3}  # unbiased, so it may be
    results.fidelity("cgan", {"fid": 1.0, "fid_low": -2.0, "fid_high": 4.0, **kid})
    assert row_of(results, "cgan")["low"] == 0
    assert row_of(results, "cgan", "kid_mean")["low"] == pytest.approx(-0.1)


def test_classes_are_kept_apart_and_may_hold_a_slash(results):
    results.classes = ("COVID/ARDS", "Normal|none")
    results.fidelity("cgan", {"fid": 5.0, "COVID/ARDS/fid": 7.0, "Normal|none/kid_mean": 0.1}, n=100)
    table = table_of(results)
    found = {(row["class"], row["metric"]): (row["value"], row["n"]) for row in table.to_dict("records")}
    assert found == {
        ("all", "fid"): (5.0, 100),
        ("COVID/ARDS", "fid"): (7.0, 50),
        ("Normal|none", "kid_mean"): (0.1, 50),
    }


def test_bounds_floors_and_standard_errors_are_no_measures(results):
    bounds = {f"fid{end}": 1.0 for end in ("_low", "_high", "_floor", "_floor_sd")}
    results.fidelity(None, {"fid": 1.0, "kid_mean": 1.0, "kid_std": 1.0, "fid_infinity": 1.0, **bounds})
    assert set(table_of(results)["metric"]) == {"fid", "kid_mean", "fid_infinity"}
    assert set(table_of(results)["generator"]) == {HELD_OUT}


def test_measuring_again_with_another_extractor_does_not_count_the_first_twice(results):
    results.fidelity("cgan", {"fid": 1.0}, started="2026-01-01")
    results.fidelity("cgan", {"fid": 2.0}, extractors=BOTH, started="2026-03-01")
    table = table_of(results)
    assert {row["extractor"]: (row["value"], row["seeds"]) for row in table.to_dict("records")} == {
        "lite0": (2.0, 1),
        "inception": (2.0, 1),
    }


def test_a_section_without_fidelity_has_an_empty_table(results):
    results.run(0.7)
    assert fidelity_long(results.section()).empty
    assert table_of(results).empty
    assert extractor_agreement(table_of(results)).empty


def agreement_of(results):
    return extractor_agreement(table_of(results)).to_dict("records")


@pytest.mark.parametrize(("inception", "tau"), [((10, 20, 30), 1.0), ((30, 20, 10), -1.0), ((20, 10, 30), 1 / 3)])
def test_extractors_agree_as_far_as_they_rank_generators_alike(results, inception, tau):
    for name, one, other in zip(("cgan", "dcgan", "flow"), (1, 2, 3), inception, strict=True):
        results.fidelity(name, {"lite0:fid": one, "inception:fid": other}, extractors=BOTH)
    (row,) = agreement_of(results)
    assert {row["extractor"], row["and"]} == set(BOTH)
    assert row["generators"] == 3
    assert row["tau"] == pytest.approx(tau)


def test_controls_and_real_films_do_not_lift_the_agreement(results):
    results.fidelity(None, {"fid": 1.0}, extractors=BOTH)
    for name, one, other in (("cgan", 10, 20), ("dcgan", 20, 10), ("noise", 900, 900), ("copy", 2, 2)):
        results.fidelity(name, {"lite0:fid": one, "inception:fid": other}, extractors=BOTH)
    (row,) = agreement_of(results)
    assert (row["generators"], row["tau"]) == (2, pytest.approx(-1.0))


def test_extractors_of_which_one_sees_no_difference_have_no_agreement(results):
    for name, value in (("cgan", 10), ("dcgan", 20)):
        results.fidelity(name, {"lite0:fid": value, "inception:fid": 7}, extractors=BOTH)
    (row,) = agreement_of(results)
    assert math.isnan(row["tau"])


def test_one_generator_alone_says_nothing_of_the_agreement(results):
    results.fidelity("cgan", {"fid": 1.0}, extractors=BOTH)
    results.fidelity("noise", {"fid": 900.0}, extractors=BOTH)
    assert agreement_of(results) == []
