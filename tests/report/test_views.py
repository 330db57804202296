"""Tables as they are shown: every number with its spread, what is missing left blank, arms named."""

import re

import pandas as pd
import pytest

from cxrbench.report.film_views import audit_view, copies_view, fidelity_view
from cxrbench.report.tables import throughput_table
from cxrbench.report.uncertainty import components_table, curve_table
from cxrbench.report.views import (
    components_view,
    curve_view,
    external_view,
    ledger_view,
    scores_view,
    speed_view,
    verdict_view,
)

FEW = 1 / 3
NUMBER = r"[+-]0\.\d{3}"


def verdicts_of(results):
    return verdict_view(results.analysis().board)


def cells(table):
    return [str(cell) for row in table.itertuples(index=False) for cell in row]


def test_a_gain_is_shown_with_its_interval_p_value_and_verdict(results):
    results.runs(0.70)
    results.runs(0.80, "cgan")
    shown = verdicts_of(results).to_dict("records")[0]
    assert re.fullmatch(rf"{NUMBER} \({NUMBER} to {NUMBER}\)", shown["gain in AUROC (95 % interval)"])
    assert re.fullmatch(r"0\.\d{3} ± 0\.\d{3}", shown["AUROC (macro)"])
    assert shown["verdict"] == "helps"
    assert shown["p (Holm)"] == "< 0.001"
    assert re.match(r"0\.\d{3}", shown["least gain it would have found"])


def test_the_real_only_baseline_has_a_rank_and_no_gain(results):
    results.runs(0.70)
    results.runs(0.80, "cgan")
    shown = verdicts_of(results).to_dict("records")[1]
    assert (shown["rank"], shown["arm"]) == ("2", "real only")
    assert shown["gain in AUROC (95 % interval)"] == shown["p (Holm)"] == shown["verdict"] == ""


def test_one_seed_has_a_gain_without_an_interval(results):
    results.run(0.70)
    results.run(0.80, "cgan")
    shown = verdicts_of(results).to_dict("records")[0]
    assert re.fullmatch(NUMBER, shown["gain in AUROC (95 % interval)"])
    assert re.fullmatch(r"0\.\d{3}", shown["AUROC (macro)"])
    assert shown["least gain it would have found"] == ""


def test_every_arm_is_named_and_the_unranked_ones_have_no_rank(results):
    results.runs(0.70)
    results.runs(0.60, real_share=FEW)
    results.runs(0.72, "cgan", 0.5)
    results.runs(0.71, "cgan", 0.5, arm="copy-adjusted")
    results.runs(0.65, "cgan", arm="synthetic-only")
    results.runs(0.69, arm="longer")
    results.runs(0.65, "oracle", real_share=FEW)
    shown = verdicts_of(results)
    ranks = dict(zip(zip(shown["generator"], shown["arm"], strict=True), shown["rank"], strict=True))
    assert ranks == {
        ("real only", "real only"): "2",
        ("cgan", "x 0.5"): "1",
        ("cgan", "x 0.5, copies removed"): "",
        ("cgan", "synthetic only (TSTR)"): "",
        ("real only", "trained longer"): "",
        ("real only", "real only on 33% of the real films"): "",
        ("oracle", "x 1 on 33% of the real films"): "",
    }


def test_the_comparison_with_flips_and_rotations_has_its_verdict(results):
    results.runs(0.70)
    results.runs(0.80, "classical")
    results.runs(0.70, "cgan")
    shown = verdicts_of(results).set_index("generator")["over classical"]
    assert re.fullmatch(rf"{NUMBER} \({NUMBER} to {NUMBER}\): hurts", shown["cgan"])
    assert shown["classical"] == shown["real only"] == ""


def priced(results, auroc):
    for share, real in ((FEW, 0.60), (2 * FEW, 0.65), (1.0, 0.70)):
        results.runs(real, real_share=share)
    results.runs(auroc, "cgan")
    return verdicts_of(results).set_index("generator")["worth in real films"]


def test_what_synthetic_films_are_worth_is_shown_in_real_ones(results):
    shown = r"1,000 synthetic = [\d,]+ real \(95 % interval -?[\d,]+ to [\d,]+\)"
    assert re.fullmatch(shown, priced(results, 0.72)["cgan"])


def test_a_price_beyond_the_curve_is_left_blank(results):
    assert set(priced(results, 0.95)) == {""}


def test_the_ledger_tells_what_each_arm_was_given(results):
    results.runs(0.70)
    results.runs(0.72, "cgan", 0.5)
    ledger = ledger_view(results.analysis().board).set_index("generator")
    given = ["real films", "synthetic films", "optimizer steps", "configurations tried", "test films", "runs"]
    assert list(ledger.loc["cgan", given]) == [600, 300, 300, 1, 200, 3]
    assert list(ledger.loc["real only", given]) == [600, 0, 300, 1, 200, 3]


def test_scores_outside_have_their_gain_and_verdict(results):
    for auroc, generator in ((0.70, None), (0.80, "cgan")):
        results.runs(auroc, generator)
        results.runs(auroc - 0.1, generator, external="there")
    analysis = results.analysis()
    shown = external_view(analysis.external, analysis.outside).set_index("generator")
    assert shown.loc["cgan", "verdict outside"] == "helps"
    assert re.fullmatch(r"\+0\.\d{3} ± 0\.\d{3}", shown.loc["cgan", "drop"])
    assert (
        shown.loc["real only", "gain outside (95 % interval)"]
        == shown.loc["real only", "over classical, outside"]
        == ""
    )
    without = external_view(analysis.external, pd.DataFrame()).set_index("generator")
    assert without.loc["cgan", "verdict outside"] == ""


def test_speed_has_its_units(results):
    scores = {"step_seconds": 0.02, "images_per_second": 50.0, "peak_memory_bytes": 3 * 2.0**20}
    results.put("throughput", scores=scores, counts={"images_per_step": 1}, generator="cgan", environment="abacus")
    shown = speed_view(throughput_table(results.section()))
    assert cells(shown) == ["generator", "cgan", "1", "20.0", "50", "3", "abacus"]


@pytest.mark.parametrize("seeds", [1, 3])
def test_no_cell_shows_that_a_value_is_missing_by_a_word_of_the_program(results, seeds):
    results.benchmark(seeds=seeds)
    for where in ("", "there"):
        results.runs(0.7, "classical", seeds=seeds, external=where)
        results.runs(0.7, seeds=seeds, external=where)
        results.runs(0.7, "cgan", seeds=1, external=where)
    analysis = results.analysis()
    section = analysis.section
    tables = [
        verdict_view(analysis.board),
        scores_view(analysis.board),
        ledger_view(analysis.board),
        external_view(analysis.external, analysis.outside),
        fidelity_view(analysis.fidelity, "lite0", section.extractors["lite0"], "all"),
        copies_view(analysis.copies),
        audit_view(analysis.metric_audit, section.extractors),
        components_view(components_table(analysis.effects)),
        curve_view(curve_table(section)),
    ]
    shown = [cell for table in tables for cell in cells(table)]
    assert len(shown) > 100
    assert not [cell for cell in shown if re.search(r"\b(nan|None|<NA>|inf)\b", cell)]
