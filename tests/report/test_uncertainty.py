"""Variance components and learning curves as tables."""

import pytest

from cxrbench.report.uncertainty import components_table, curve_table

FEW = 1 / 3


def components_of(results):
    return components_table(results.analysis().effects)


def test_the_spread_over_splits_is_found_where_it_was_put(results):
    for split in range(3):
        for seed in range(2):
            results.run(0.70, split=split, seed=seed)
            results.run(0.70 + 0.05 * split, "cgan", split=split, seed=seed)
    (row,) = components_of(results).to_dict("records")
    assert row["arm"] == "small-cnn: cgan x 1"
    assert row["sd of split"] == pytest.approx(0.05, abs=0.015)
    assert row["sd of split"] > 5 * row["sd of generator seed + classifier seed"]
    assert 0 < row["sd of film"] < 0.05


def test_only_ranked_arms_have_components(results):
    results.runs(0.70)
    results.runs(0.72, "cgan")
    results.runs(0.72, "cgan", arm="copy-adjusted")
    results.runs(0.70, "copy")
    assert list(components_of(results)["arm"]) == ["small-cnn: cgan x 1"]


def test_one_seed_has_no_component_but_the_films(results):
    results.run(0.70)
    results.run(0.72, "cgan")
    (row,) = components_of(results).to_dict("records")
    assert set(row) == {"arm", "sd of film"}


def test_a_grid_that_was_interrupted_stops_no_report(results):
    for split, seed, generator_seed in ((0, 0, 0), (0, 1, 1), (1, 0, 0)):
        results.run(0.70, split=split, seed=seed)
        results.run(0.72, "cgan", split=split, seed=seed, generator_seed=generator_seed)
    analysis = results.analysis()
    assert len(analysis.effects) == 1
    assert analysis.effects[0].gain.units == 2


def test_the_learning_curve_has_mean_and_spread_of_real_films_alone(results):
    few = results.runs(0.60, real_share=FEW)
    results.run(0.70)
    results.runs(0.9, "cgan")
    table = curve_table(results.section())
    assert list(table["films"]) == [200, 600]
    assert list(table["runs"]) == [3, 1]
    assert table["mean"].iloc[0] == pytest.approx(sum(record.scores["auroc_macro"] for record in few) / 3)
    assert table["sd"].iloc[1] != table["sd"].iloc[1]


def test_a_section_without_real_only_runs_has_no_curve(results):
    results.runs(0.7, "cgan")
    assert curve_table(results.section()).empty
