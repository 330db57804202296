"""LEADERBOARD.md and what lies beside it: complete, honest, private where it must be, and always the same."""

import csv
import re
import shutil

import pytest

from cxrbench.report.page import write_report
from cxrbench.store import Store

FEW = 1 / 3
undrawn = pytest.mark.usefixtures("undrawn")


def files_of(root):
    """Everything below ``root`` that a report writes."""
    paths = (path for path in root.rglob("*") if path.is_file())
    return {str(p.relative_to(root)): p.read_bytes() for p in paths if p.parts[len(root.parts)] != "records"}


@pytest.fixture(scope="module")
def page(rendered):
    """The page of a whole run."""
    return (rendered.store.root / "LEADERBOARD.md").read_text(encoding="utf-8")


def test_a_whole_run_has_every_part(page):
    headings = re.findall(r"^###? (.+)$", page, re.MULTILINE)
    assert headings == [
        "toy, tier `quick`",
        "Verdicts: what the classifier gains",
        "External validation: there",
        "Fidelity",
        "Memorization",
        "Metric audit: does fidelity tell which generator helps?",
        "Controls",
        "All scores",
        "Ledger: what each arm was given",
        "Train-step throughput",
        "Gains and their intervals",
        "Ratio curves",
        "ROC curves",
        "Precision-recall curves",
        "Calibration",
        "Confusion matrices",
        "Sample grid",
        "Most suspicious films",
        "Trials that did not end well",
    ]


def test_every_link_points_to_a_file_that_is_there(rendered, page):
    links = re.findall(r"\]\(([^)]+)\)", page)
    assert len(links) == 8
    for link in links:
        assert (rendered.store.root / link).is_file(), link


def test_every_table_has_as_many_cells_in_each_row(page):
    tables = re.findall(r"(?:^\|.*\|$\n?)+", page, re.MULTILINE)
    assert len(tables) >= 9
    for table in tables:
        assert len({len(re.findall(r"(?<!\\)\|", line)) for line in table.splitlines()}) == 1, table


def test_no_missing_value_is_shown_as_a_word_of_the_program(page):
    tables = "\n".join(line for line in page.splitlines() if line.startswith("|"))
    assert not re.search(r"\b(nan|None|<NA>|inf)\b", tables)


def test_class_names_with_a_slash_or_a_bar_are_shown(page):
    assert "COVID/ARDS:" in page
    assert "train 0 COVID/ARDS, 0 Normal|none" in page


def test_the_sound_run_is_stamped_valid(page):
    assert page.index("**VALID.**") < page.index("### Verdicts")


def test_a_disqualified_generator_is_unranked_and_said(page):
    verdicts = page[page.index("### Verdicts") : page.index("### External")]
    (row,) = [line for line in verdicts.splitlines() if "| leaky | x 1 |" in line]
    assert row.startswith("|  |")
    assert "| LEAK |" in row
    assert "| helps |" not in row
    assert "`leaky` returns validation or test films" in page
    assert "`leaky` is disqualified" in page


def test_failures_are_listed_on_one_line_each_not_hidden(page):
    assert "- **diverged**: small-cnn on real films with 2 x cgan, seed 0: loss became nan | at step 3" in page


def test_superseded_records_are_counted(page):
    assert "1 records of earlier versions of a plug-in are kept but not shown." in page


def test_every_table_is_written_for_programs_too(rendered):
    folder = rendered.store.root / "tables" / rendered.section().slug
    found = {path.stem: list(csv.DictReader(path.open(encoding="utf-8"))) for path in folder.glob("*.csv")}
    assert set(found) == {
        "leaderboard",
        "utility",
        "per_class",
        "external",
        "external_gains",
        "fidelity",
        "extractor_agreement",
        "memorization",
        "metric_audit",
        "throughput",
    }
    section = rendered.section()
    assert len(found["utility"]) == len(section.of("utility"))
    assert len(found["leaderboard"]) == len({record.trial.row for record in section.of("utility")})
    assert len(found["per_class"]) == 2 * len(found["leaderboard"])
    cgan = next(row for row in found["leaderboard"] if row["generator"] == "cgan" and row["rank"] == "1")
    assert (cgan["ratio"], cgan["verdict"]) == ("0.5", "helps")
    assert float(cgan["low"]) < float(cgan["gain"]) < float(cgan["high"])


def test_the_same_store_gives_the_same_bytes_wherever_and_whenever(rendered, tmp_path):
    before = files_of(rendered.store.root)
    copied = tmp_path / "elsewhere"
    shutil.copytree(rendered.store.records, copied / "records")
    write_report(Store(copied))
    after = files_of(copied)
    assert {name for name in before if not name.startswith("private")} == set(after)
    for name, content in after.items():
        assert content == before[name], name


@undrawn
def test_what_an_older_report_left_is_removed(results):
    results.run(0.7)
    results.page()
    stale = [results.store.root / folder / "old" / "x" for folder in ("tables", "figures", "private/figures")]
    for path in stale:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("old")
    results.page()
    assert not [path for path in stale if path.exists()]
    assert len(list(results.store)) == 1


@undrawn
def test_an_empty_store_says_how_to_begin(results):
    assert "No trial has been run yet: `cxrbench run`." in results.page()


@undrawn
def test_one_seed_has_no_interval_and_the_page_says_why(results):
    results.run(0.70)
    results.run(0.90, "cgan")
    page = results.page()
    assert "Nothing can be said of any arm: one classifier seed" in page
    assert not re.search(r"\(\+?nan", page)


@undrawn
@pytest.mark.parametrize(
    ("auroc", "said"), [(0.80, "helps: `cgan`"), (0.60, "hurts: `cgan`"), (0.70, "neither help nor harm")]
)
def test_the_page_says_what_was_found(results, auroc, said):
    results.runs(0.70)
    results.runs(auroc, "cgan")
    assert said in results.page()


@undrawn
def test_a_broken_control_heads_the_section(results):
    results.benchmark(aurocs={"shuffle": 0.85})
    page = results.page()
    assert page.index("**INVALID.**") < page.index("### Verdicts")
    assert "Shuffle: expected does not help; found helps" in page
    assert "| BROKEN |" in page


@undrawn
def test_without_controls_the_section_is_not_validated(results):
    results.runs(0.7)
    assert "**NOT VALIDATED.**" in results.page()


@undrawn
def test_arms_whose_baseline_failed_have_no_gain_and_the_page_says_so(results):
    results.run(0.0, error="boom", kept=False)
    results.runs(0.9, "cgan")
    page = results.page()
    assert "no real-only run of the same split and classifier seed to compare with" in page
    assert "- **diverged**: small-cnn on real films, seed 0: boom" in page


@undrawn
def test_failures_alone_have_a_section(results):
    results.run(0.0, error="boom", kept=False)
    page = results.page()
    assert "## toy, tier `quick`" in page
    assert "boom" in page


@undrawn
def test_every_arm_but_the_main_ones_is_named_and_unranked(results):
    results.benchmark()
    results.runs(0.69, arm="longer")
    results.runs(0.70, "cgan", arm="copy-adjusted")
    results.runs(0.60, "cgan", arm="synthetic-only")
    rows = [line for line in results.page().splitlines() if re.match(r"\| \d* \| `[0-9a-f]{10}` \|", line)]
    ranked = [line for line in rows if re.match(r"\| \d+ \|", line)]
    assert len(rows) == 1 + 1 + 1 + 3 + 5  # real only, with few films, cgan; the other arms; controls
    assert len(ranked) == 2
    for name in ("trained longer", "x 1, copies removed", "synthetic only (TSTR)", "on 33% of the real films"):
        assert any(name in line for line in set(rows) - set(ranked)), name


@undrawn
def test_too_few_films_for_a_distance_are_said(results):
    results.fidelity("cgan", {"label_agreement": 0.9}, n=6)
    assert "| too few films |" in results.page()


@undrawn
def test_what_synthetic_films_are_worth_has_a_column_where_it_can_be_asked(results):
    results.runs(0.70)
    results.runs(0.72, "cgan")
    results.runs(0.60, real_share=FEW)
    results.runs(0.65, real_share=2 * FEW)
    page = results.page()
    assert "worth in real films" in page
    assert "| 1,000 synthetic = " in page


@undrawn
def test_an_interrupted_grid_stops_no_report(results):
    for split, seed in ((0, 0), (0, 1), (1, 0)):
        results.run(0.70, split=split, seed=seed)
        results.run(0.72, "cgan", split=split, seed=seed)
    assert "### Verdicts" in results.page()


@undrawn
def test_two_external_sets_have_a_part_each_and_only_the_newest_a_verdict(results):
    results.runs(0.70)
    results.runs(0.80, "cgan")
    for where, started in (("old", "2026-01-01"), ("new", "2026-02-01")):
        results.runs(0.60, external=where, started=started)
        results.runs(0.70, "cgan", external=where, started=started)
    page = results.page()
    new, old = page.index("### External validation: new"), page.index("### External validation: old")
    assert new < old
    assert "| helps |" in page[new:old]
    assert (
        "helps"
        not in page[old : page.index("### Controls") if "### Controls" in page else page.index("### All scores")]
    )
    assert "- external set: new" in page[new:old]


def data_of(results, notes, **setting):
    results.setting = results.setting.model_copy(update=setting)
    results.put("data", counts={"films": 10, "groups": 9, "near_copy_pairs": 1}, notes=notes)


@undrawn
def test_the_page_says_how_the_films_were_divided_and_what_was_left_out(results):
    data_of(results, ["split: source", "left out: 3: lateral view"], split_by="source")
    page = results.page()
    assert "split: source; cleaned: none" in page
    assert "- left out: 3: lateral view" in page


@undrawn
def test_at_most_twenty_removed_files_are_listed(results):
    data_of(results, [f"removed: film-{i:02d}.png: mirrored" for i in range(23)], clean="safe")
    page = results.page()
    assert "23 films were removed by the cleaning policy `safe`" in page
    assert "film-19.png" in page
    assert "film-20.png" not in page
    assert "and 3 more, listed in `records/" in page


@undrawn
def test_notes_of_fidelity_are_those_of_the_newest_measurement(results):
    results.fidelity("cgan", {"fid": 1.0}, notes=["FID is left out: no weights"], started="2026-01-01")
    results.fidelity("dcgan", {"fid": 1.0}, notes=["class 'COVID': too few"], started="2026-02-01")
    page = results.page()
    assert "too few" in page
    assert "left out" not in page


def test_films_that_may_not_be_republished_never_reach_the_public_folder(results):
    results.publish = False
    results.fidelity(None, {"fid": 1.0})
    results.fidelity("cgan", {"fid": 1.0})
    results.memorization("cgan")
    page = results.page()
    pictures = [path for path in results.store.root.rglob("*.png")]
    assert len(pictures) == 2
    assert all(path.is_relative_to(results.store.private) for path in pictures)
    assert "![" not in page
    assert page.count("may not be republished, so it is kept out of git") == 2
    assert (results.store.private / ".gitignore").read_text() == "*\n"


def test_a_copy_of_the_results_without_private_films_says_so(results, tmp_path):
    results.publish = False
    results.fidelity("cgan", {"fid": 1.0})
    shutil.copytree(results.store.records, tmp_path / "copy" / "records")
    page = write_report(Store(tmp_path / "copy")).read_text()
    assert "Sample films of this data set are private and not in this copy of the results." in page
