"""Tables and page from made-up records whose right answer is known."""

import pytest

from cxrbench.records import PluginRef, Record, Setting, Status, Trial
from cxrbench.report import tables
from cxrbench.report.page import write_report
from cxrbench.store import Store

CLASSES = ("COVID", "Normal")
SETTING = Setting(data="toy", data_hash="d" * 64, split_key="s" * 64, spec_hash="c" * 64, tier="quick", image_size=32)
CNN = PluginRef(name="small-cnn", kind="classifier", params={}, identity="1" * 64)
GAN = PluginRef(name="cgan", kind="generator", params={}, identity="2" * 64)


def record(trial, scores=None, status=Status.OK, started="2026-01-01T00:00:00", counts=None, error=None):
    return Record(
        key=trial.key,
        trial=trial,
        status=status,
        error=error,
        classes=CLASSES,
        scores=scores or {},
        counts=counts or {},
        provenance={"started": started, "seconds": 1.0, "command": "cxrbench run"},
    )


def utility(auroc, seed, generator=None, ratio=0.0, setting=SETTING, **more):
    trial = Trial(
        kind="utility",
        setting=setting,
        generator=generator,
        generator_seed=seed if generator else None,
        ratio=ratio,
        classifier=CNN,
        classifier_seed=seed,
    )
    scores = dict.fromkeys(("f1_macro", "balanced_accuracy", "accuracy"), 0.5)
    for name in CLASSES:
        scores |= {f"{m}/{name}": 0.5 for m in ("precision", "recall", "f1", "auroc")}
    counts = {"train_real": 10, "train_synthetic": round(10 * ratio), "test": 4}
    return record(trial, {"auroc_macro": auroc, **scores}, counts=counts, **more)


def external(auroc, seed, generator=None, ratio=0.0, where="there", **more):
    inside = utility(auroc, seed, generator, ratio, **more)
    trial = inside.trial.model_copy(update={"kind": "external", "external": where * 8, "external_data": where})
    return inside.model_copy(update={"trial": trial, "key": trial.key, "notes": [f"external set: {where}"]})


def both(inside, outside, seed, generator=None, ratio=0.0):
    """A utility record and its external record; every class has the macro AUROC."""
    return [
        record.model_copy(update={"scores": record.scores | {f"auroc/{name}": auroc for name in CLASSES}})
        for make, auroc in ((utility, inside), (external, outside))
        for record in [make(auroc, seed, generator, ratio)]
    ]


def one_section(records):
    (section,) = tables.sections(records)
    return section


def test_arms_are_ranked_by_mean_and_the_gain_is_paired_by_seed():
    records = [utility(0.70, 0), utility(0.80, 1), utility(0.73, 0, GAN, 1.0), utility(0.81, 1, GAN, 1.0)]
    board = tables.leaderboard(one_section(records))
    assert list(board["generator"]) == ["cgan", "real only"]
    assert board.loc[0, "gain_mean"] == pytest.approx(0.02)
    assert board.loc[0, "gain_sd"] == pytest.approx(0.0141421, rel=1e-4)
    assert board.loc[1, "gain_mean"] != board.loc[1, "gain_mean"]
    assert list(board["seeds"]) == [2, 2]


def test_a_seed_without_a_baseline_has_no_gain_but_keeps_its_score():
    board = tables.leaderboard(one_section([utility(0.70, 0), utility(0.9, 1, GAN, 1.0)]))
    arm = board[board["generator"] == "cgan"].iloc[0]
    assert arm["auroc_macro_mean"] == pytest.approx(0.9)
    assert arm["gain_mean"] != arm["gain_mean"]


@pytest.mark.parametrize("field", ["data_hash", "spec_hash"])
def test_other_data_or_another_spec_is_never_ranked_together(field):
    other = SETTING.model_copy(update={field: "e" * 64})
    assert len(tables.sections([utility(0.7, 0), utility(0.7, 0, setting=other)])) == 2


def test_only_the_newest_version_of_a_plugin_is_shown():
    old = GAN.model_copy(update={"identity": "0" * 64})
    section = one_section(
        [
            utility(0.70, 0),
            utility(0.99, 0, old, 1.0, started="2026-01-01T00:00:00"),
            utility(0.60, 0, GAN, 1.0, started="2026-02-01T00:00:00"),
        ]
    )
    assert section.superseded == 1
    board = tables.leaderboard(section)
    assert list(board["auroc_macro_mean"]) == [0.70, 0.60]


def test_fidelity_keeps_the_classes_apart_and_counts_n():
    trial = Trial(kind="fidelity", setting=SETTING, generator=GAN, generator_seed=0)
    scores = {f"lite0/{who}/{m}": v for who in ("COVID", "all") for m, v in (("fid", 10.0), ("kid_mean", 0.1))}
    scores |= {f"lite0/{who}/kid_std": 0.01 for who in ("COVID", "all")}
    table = tables.fidelity_table(one_section([record(trial, scores, counts={"n/COVID": 5, "n/Normal": 7})]))
    assert dict(zip(table["class"], table["n"], strict=True)) == {"COVID": 5, "all": 12}


def page_of(records, folder):
    store = Store(folder)
    store.prepare()
    for entry in records:
        store.put(entry, {}, {}, publish=True)
    return write_report(store).read_text()


def test_the_page_does_not_claim_a_gain_within_the_spread(tmp_path):
    records = [utility(0.7, s) for s in range(3)] + [utility(0.71 + 0.02 * (s - 1), s, GAN, 1.0) for s in range(3)]
    assert "no evidence that synthetic films help or harm here" in page_of(records, tmp_path)


def test_the_page_says_when_real_films_alone_are_best(tmp_path):
    records = [utility(0.80, s) for s in range(3)] + [utility(0.70 + 0.001 * s, s, GAN, 1.0) for s in range(3)]
    assert "harms on this test set" in page_of(records, tmp_path)


def test_a_gain_that_every_seed_shows_alike_is_reported_with_its_interval(tmp_path):
    records = [utility(0.70 + 0.01 * s, s) for s in range(4)]
    records += [utility(0.75 + 0.01 * s + 0.001 * (s % 2), s, GAN, 1.0) for s in range(4)]
    assert "by +0.051 (95% interval +0.050 to +0.051, 4 seeds): it helps on this test set" in page_of(records, tmp_path)


def test_one_or_two_seeds_prove_nothing(tmp_path):
    assert "over 1 seed: too few" in page_of([utility(0.7, 0), utility(0.9, 0, GAN, 1.0)], tmp_path / "one")
    two = [utility(0.7, 0), utility(0.7, 1), utility(0.9, 0, GAN, 1.0), utility(0.9, 1, GAN, 1.0)]
    assert "over 2 seeds: too few" in page_of(two, tmp_path / "two")


def test_arms_whose_baseline_failed_have_no_gain_and_the_page_says_so(tmp_path):
    records = [utility(0.0, 0, status=Status.FAILED, error="boom"), utility(0.9, 0, GAN, 1.0)]
    assert "there is no gain to speak of" in page_of(records, tmp_path)


def test_an_arm_that_lost_its_hard_seed_does_not_climb():
    """Seed 1 is hard for everybody: the arm without it must not be ranked by its easier mean."""
    hard, easy = 0.70, 0.90
    mixed = GAN.model_copy(update={"name": "mixed", "identity": "3" * 64})
    records = [utility(easy, 0), utility(hard, 1)]
    records += [utility(easy - 0.02, 0, GAN, 1.0)]  # worse than real films, but only the easy seed
    records += [utility(easy + 0.01, 0, mixed, 1.0), utility(hard + 0.01, 1, mixed, 1.0)]
    assert list(tables.leaderboard(one_section(records))["generator"]) == ["mixed", "real only", "cgan"]


def test_a_class_name_with_a_slash_survives_the_report(tmp_path):
    trial = Trial(kind="fidelity", setting=SETTING, generator=GAN, generator_seed=0)
    scores = {f"lite0/COVID/ARDS/{m}": 1.0 for m in ("fid", "kid_mean", "kid_std")}
    table = tables.fidelity_table(one_section([record(trial, scores, counts={"n/COVID/ARDS": 5})]))
    assert list(table["class"]) == ["COVID/ARDS"]


def test_measuring_again_with_another_extractor_does_not_count_the_first_twice():
    one, two = (
        Trial(kind="fidelity", setting=SETTING, generator=GAN, generator_seed=0, extractors=weights)
        for weights in ({"lite0": "a"}, {"lite0": "a", "inception": "b"})
    )
    scores = {f"lite0/all/{m}": 1.0 for m in ("fid", "kid_mean", "kid_std")}
    newer = {key: 2.0 for key in scores}
    section = one_section([record(one, scores), record(two, newer, started="2026-03-01T00:00:00")])
    table = tables.fidelity_table(section)
    assert list(table["fid_mean"]) == [2.0]
    assert list(table["seeds"]) == [1]


def test_a_failure_of_an_edited_plugin_does_not_hide_the_results_of_the_old_one():
    edited = GAN.model_copy(update={"identity": "9" * 64})
    failed = utility(0.0, 0, edited, 1.0, status=Status.INTERRUPTED, started="2026-03-01T00:00:00")
    section = one_section([utility(0.7, 0), utility(0.8, 0, GAN, 1.0), failed])
    assert len(section.records) == 2
    assert section.failures == [failed]


def test_failures_are_listed_not_hidden(tmp_path):
    failed = utility(0.0, 0, GAN, 1.0, status=Status.DIVERGED, error="loss became\nnan")
    text = page_of([utility(0.8, 0), failed], tmp_path)
    assert "**diverged**: small-cnn with 1 x cgan, seed 0: loss became nan" in text


def test_an_empty_store_says_how_to_begin(tmp_path):
    assert "No trial has been run yet" in page_of([], tmp_path)


def test_cells_with_bars_do_not_break_the_table():
    import pandas as pd

    assert tables.markdown(pd.DataFrame({"a": ["x|y"]})).splitlines()[-1] == "| x\\|y |"


def test_gains_outside_are_paired_with_the_real_only_run_outside():
    records = both(0.70, 0.60, 0) + both(0.80, 0.61, 1) + both(0.73, 0.58, 0, GAN, 1.0) + both(0.81, 0.63, 1, GAN, 1.0)
    section = one_section(records)
    table = tables.external_table(section).set_index("generator")
    assert table.loc["cgan", "internal_gain_mean"] == pytest.approx(0.02)
    assert table.loc["cgan", "external_gain_mean"] == pytest.approx(0.0)
    assert table.loc["cgan", "drop_mean"] == pytest.approx((0.15 + 0.18) / 2)
    assert table.loc["real only", "external_gain_mean"] != table.loc["real only", "external_gain_mean"]
    assert dict(table["n"]) == {"cgan": 4, "real only": 4}
    board = tables.leaderboard(section).set_index("generator")
    assert board.loc["cgan", "external_auroc_mean"] == pytest.approx(0.605)
    assert board.loc["cgan", "external_gain_sd"] == pytest.approx(0.0282843, rel=1e-4)
    assert len(board) == 2


def test_a_leaderboard_without_external_films_has_no_such_columns():
    board = tables.leaderboard(one_section([utility(0.7, 0), utility(0.8, 0, GAN, 1.0)]))
    assert not [name for name in board if "external" in name]


def test_inside_and_outside_are_compared_over_the_classes_that_both_have():
    inside, outside = both(0.9, 0.6, 0)
    inside.scores |= {"auroc/Normal": 0.5, "auroc_macro": 0.7}
    del outside.scores["auroc/Normal"]
    table = tables.external_table(one_section([inside, outside]))
    assert list(table["internal_auroc_mean"]) == [0.9]
    assert list(table["drop_mean"]) == [pytest.approx(0.3)]


def test_only_seeds_that_were_scored_outside_count():
    table = tables.external_table(one_section([*both(0.9, 0.6, 0), utility(0.1, 1)]))
    assert list(table["seeds"]) == [1]
    assert list(table["external_auroc_mean"]) == [pytest.approx(0.6)]


def test_two_external_sets_have_a_table_each_and_the_newest_is_in_the_leaderboard(tmp_path):
    records = [utility(0.7, 0), external(0.6, 0, where="old", started="2026-01-01T00:00:00")]
    records += [external(0.5, 0, where="new", started="2026-02-01T00:00:00")]
    for record in records:
        record.scores.update({f"auroc/{name}": record.scores["auroc_macro"] for name in CLASSES})
    assert list(tables.leaderboard(one_section(records))["external_auroc_mean"]) == [0.5]
    page = page_of(records, tmp_path)
    assert page.index("External validation: new") < page.index("External validation: old")


def seeds_of(inside, outside, seeds=4):
    """Real films alone, and an arm that gains ``inside`` and ``outside``, nearly alike at every seed."""
    records = []
    for seed in range(seeds):
        jitter = 0.001 * (seed % 2)
        records += both(0.70, 0.60, seed) + both(0.70 + inside + jitter, 0.60 + outside - jitter, seed, GAN, 1.0)
    return records


@pytest.mark.parametrize(
    ("inside", "outside", "said"),
    [
        (0.05, 0.04, "the gain holds outside"),
        (0.05, -0.04, "the gain inside is a loss outside"),
        (0.05, 0.0, "the gain inside is not shown to hold outside"),
        (0.0, 0.04, "no gain beyond chance inside, although it helps outside"),
        (0.0, 0.0, "no gain beyond chance inside, so there is none to hold outside"),
        (-0.05, -0.04, "a loss inside, and it harms outside"),
    ],
)
def test_the_page_says_whether_a_gain_inside_holds_outside(tmp_path, inside, outside, said):
    assert f"on `there` (4 seeds): {said}." in page_of(seeds_of(inside, outside), tmp_path)


def test_two_seeds_do_not_show_that_a_gain_holds(tmp_path):
    assert "(2 seeds): too few to tell from chance" in page_of(seeds_of(0.05, 0.04, seeds=2), tmp_path)


def test_external_scores_without_internal_ones_are_shown(tmp_path):
    (_, outside) = both(0.7, 0.6, 0)
    page = page_of([outside], tmp_path)
    assert "there is no gain to compare" in page
    assert "0.600" in page


def data_record_of(notes, counts=None, **setting):
    trial = Trial(kind="data", setting=SETTING.model_copy(update=setting))
    counts = {"films": 10, "groups": 9, "near_copy_pairs": 1, "quarantined": 0} | (counts or {})
    return record(trial, counts=counts).model_copy(update={"notes": notes})


def test_the_page_says_how_the_films_were_divided_and_what_was_left_out(tmp_path):
    page = page_of([data_record_of(["split: source", "left out: 3: lateral view"], split_by="source")], tmp_path)
    assert "split: source" in page
    assert "- left out: 3: lateral view" in page


def test_at_most_twenty_removed_files_are_listed(tmp_path):
    notes = ["split: patient", *(f"removed: film-{i:02d}.png: mirrored" for i in range(23))]
    page = page_of([data_record_of(notes, clean="safe")], tmp_path)
    assert "23 films were removed by the cleaning policy `safe`" in page
    assert "film-19.png" in page
    assert "film-20.png" not in page
    assert "and 3 more, listed in `records/" in page


def test_the_terminal_table_has_external_columns_only_where_there_are_any():
    from cxrbench.report.terminal import summaries

    (plain,) = summaries([utility(0.7, 0)], SETTING.data_hash)
    (wide,) = summaries(both(0.7, 0.6, 0), SETTING.data_hash)
    assert [column.header for column in wide.columns][-2:] == ["external\nAUROC", "external\ngain"]
    assert list(wide.columns[-2].cells) == ["0.600"]
    assert not any("external" in column.header for column in plain.columns)
    assert list(summaries([utility(0.7, 0)], "other data")) == []


def test_the_terminal_table_cuts_no_number_short_in_eighty_columns():
    import io

    from rich.console import Console

    from cxrbench.report.terminal import summaries

    records = both(0.7, 0.6, 0) + both(0.71234, 0.6321, 0, GAN, 1.0)
    (table,) = summaries(records, SETTING.data_hash)
    shown = io.StringIO()
    Console(file=shown, width=80).print(table)
    for number in ("0.712", "+0.012", "0.632", "+0.032", "small-cnn", "real only"):
        assert number in shown.getvalue()
