"""Leaderboards and score tables from benchmarks whose truth is known."""

import pandas as pd
import pytest

from cxrbench.report.tables import (
    external_sets,
    external_table,
    leaderboard,
    markdown,
    per_class_table,
    throughput_table,
    utility_table,
)

FEW = 1 / 3


def board_of(results):
    return results.analysis().board


def test_arms_are_ranked_by_their_gain_with_the_real_only_baseline_at_zero(results):
    results.runs(0.70)
    results.runs(0.80, "cgan")
    results.runs(0.60, "dcgan")
    board = board_of(results)
    assert list(board["generator"]) == ["cgan", "real only", "dcgan"]
    assert list(board["rank"]) == [1, 2, 3]
    assert list(board["auroc_macro_mean"]) == pytest.approx([0.8, 0.7, 0.6], abs=0.01)
    assert list(board["runs"]) == [3, 3, 3]


def test_every_classifier_has_a_ranking_of_its_own(results):
    for classifier, arm in (("large-cnn", 0.6), ("small-cnn", 0.8)):
        results.runs(0.7, classifier=classifier)
        results.runs(arm, "cgan", classifier=classifier)
    board = board_of(results)
    assert list(zip(board["classifier"], board["generator"], board["rank"], strict=True)) == [
        ("large-cnn", "real only", 1),
        ("large-cnn", "cgan", 2),
        ("small-cnn", "cgan", 1),
        ("small-cnn", "real only", 2),
    ]


def test_an_arm_that_lost_its_hard_seed_does_not_climb(results):
    """Seed 1 is hard for everybody: the arm without it must not be ranked by its easier mean."""
    for seed, auroc in enumerate((0.90, 0.70)):
        results.run(auroc, seed=seed)
        results.run(auroc + 0.03, "mixed", seed=seed)
    results.run(0.87, "cgan", seed=0)  # worse than real films, but only the easy seed
    board = board_of(results)
    assert list(board["generator"]) == ["mixed", "real only", "cgan"]
    assert board["auroc_macro_mean"].idxmax() == 2


def test_only_arms_that_augment_with_a_generator_are_ranked(results):
    results.runs(0.70)
    results.runs(0.60, real_share=FEW)
    results.runs(0.72, "cgan")
    results.runs(0.71, "cgan", arm="copy-adjusted")
    results.runs(0.65, "cgan", arm="synthetic-only")
    results.runs(0.73, arm="longer")
    results.runs(0.80, "oracle", real_share=FEW)
    results.runs(0.70, "copy")
    board = board_of(results)
    ranked = board[board["ranked"]]
    assert list(zip(ranked["generator"], ranked["rank"], strict=True)) == [("cgan", 1), ("real only", 2)]
    assert len(board) == 8
    assert board.loc[~board["ranked"], "rank"].isna().all()
    assert not board["ranked"].iloc[2:].any()  # they follow the ranked ones


def test_an_arm_without_a_gain_keeps_its_scores_and_has_no_rank(results):
    results.runs(0.9, "cgan")
    (row,) = board_of(results).to_dict("records")
    assert pd.isna(row["rank"])
    assert row["auroc_macro_mean"] == pytest.approx(0.9, abs=0.01)


def test_a_disqualified_generator_has_no_rank_and_the_others_close_up(results):
    results.runs(0.70)
    results.runs(0.95, "leaky")
    results.runs(0.80, "cgan")
    utility = utility_table(results.section())
    effects = results.analysis().board.drop(columns=["rank", "ranked", "flags"])
    effects = effects[effects["generator"] != "real only"].assign(family="main")
    board = leaderboard(utility, effects[["row", "family", "gain"]], ["leaky"])
    assert list(board["generator"]) == ["cgan", "real only", "leaky"]
    assert list(board["rank"])[:2] == [1, 2]
    assert board["rank"].isna().iloc[2]


def test_a_generator_that_returns_test_films_is_disqualified(results):
    results.runs(0.70)
    results.runs(0.95, "leaky")
    results.memorization("leaky", held_out_copies=0.5)
    board = board_of(results).set_index("generator")
    assert board.loc["leaky", "flags"] == "LEAK"
    assert not board.loc["leaky", "ranked"]
    assert board.loc["leaky", "verdict"] != "helps"
    assert board.loc["real only", "rank"] == 1


@pytest.mark.parametrize(
    ("real", "agreement", "flag"),
    [
        (0.9, 0.85, ""),
        (0.9, 0.52, "classes hardly told apart"),  # chance, with two classes
        (0.9, 0.1, "wrong labels"),
        (0.52, 0.1, ""),  # the extractor cannot tell the classes of real films either
    ],
)
def test_a_generator_whose_films_are_not_of_their_class_is_flagged(results, real, agreement, flag):
    results.runs(0.7)
    results.runs(0.7, "cgan")
    results.fidelity(None, {"label_agreement": real})
    results.fidelity("cgan", {"label_agreement": agreement})
    board = board_of(results).set_index("generator")
    assert dict(board["flags"]) == {"real only": "", "cgan": flag}


def test_an_empty_section_has_empty_tables(results):
    results.fidelity("cgan", {"fid": 1.0})
    section = results.section()
    assert utility_table(section).empty
    assert board_of(results).empty
    assert per_class_table(utility_table(section), section.classes).empty
    assert external_table(section, utility_table(section)).empty
    assert throughput_table(section).empty


def test_scores_of_a_class_are_means_over_the_runs_of_its_arm(results):
    made = results.runs(0.7)
    results.runs(0.9, "cgan")
    section = results.section()
    table = per_class_table(utility_table(section), section.classes)
    row = table[(table["generator"] == "real only") & (table["class"] == "Normal")].iloc[0]
    assert len(table) == 4
    assert row["recall"] == pytest.approx(sum(record.scores["recall/Normal"] for record in made) / 3)


def test_a_class_name_with_a_slash_keeps_its_scores(results):
    results.classes = ("COVID/ARDS", "Normal|none")
    results.runs(0.7)
    section = results.section()
    table = per_class_table(utility_table(section), section.classes)
    assert list(table["class"]) == ["COVID/ARDS", "Normal|none"]
    assert list(table["auroc"]) == pytest.approx([0.7, 0.7], abs=0.01)


def outside_of(results):
    section = results.section()
    return external_table(section, utility_table(section))


def test_scores_outside_stand_beside_those_of_the_same_runs_inside(results):
    results.runs(0.9, seeds=3)
    results.run(0.7, external="there", seed=1)
    (row,) = outside_of(results).to_dict("records")
    assert row["runs"] == 1
    assert row["internal_auroc_mean"] == pytest.approx(0.9, abs=0.01)
    assert row["drop_mean"] == pytest.approx(0.2, abs=0.01)


def test_inside_and_outside_are_compared_over_the_classes_that_both_have(results):
    inside, outside = results.run(0.9), results.run(0.6, external="there")
    for record, scores in ((inside, {"auroc/COVID": 0.9, "auroc/Normal": 0.5}), (outside, {"auroc/COVID": 0.6})):
        results.store.replace(record.model_copy(update={"scores": scores | {"auroc_macro": 0.7}}))
    (row,) = outside_of(results).to_dict("records")
    assert (row["internal_auroc_mean"], row["external_auroc_mean"]) == (0.9, 0.6)


def test_external_scores_without_internal_ones_are_kept(results):
    results.runs(0.6, external="there")
    (row,) = outside_of(results).to_dict("records")
    assert row["external_auroc_mean"] == pytest.approx(0.6, abs=0.01)
    assert row["internal_auroc_mean"] != row["internal_auroc_mean"]


def test_the_external_set_that_was_measured_last_comes_first(results):
    results.run(0.6, external="old", started="2026-01-01")
    results.run(0.5, external="new", started="2026-02-01")
    assert [records[0].trial.external_data for records in external_sets(results.section()).values()] == ["new", "old"]
    assert list(outside_of(results)["external"]) == ["new", "old"]


def test_plugins_are_sorted_by_speed(results):
    for name, speed in (("cgan", 10.0), ("dcgan", 30.0)):
        scores = {"step_seconds": 1 / speed, "images_per_second": speed, "peak_memory_bytes": 2.0**20}
        results.put("throughput", scores=scores, counts={"images_per_step": 1}, generator=name, environment="abacus")
    table = throughput_table(results.section())
    assert list(table["plugin"]) == ["dcgan", "cgan"]
    assert list(table["step_ms"]) == pytest.approx([1000 / 30, 100])
    assert list(table["peak_memory_mb"]) == [1.0, 1.0]


def test_cells_with_bars_do_not_break_a_table():
    shown = markdown(pd.DataFrame({"a|b": ["x|y"], "c": [1]})).splitlines()
    assert shown == ["| a\\|b | c |", "| --- | --- |", "| x\\|y | 1 |"]
