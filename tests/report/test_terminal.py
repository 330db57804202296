"""The table that ends a run: eighty columns must be enough."""

import io

from rich.console import Console

from cxrbench.report.analysis import analyse_store
from cxrbench.report.terminal import summaries


def shown(results, width=80):
    text = io.StringIO()
    console = Console(file=text, width=width)
    for table in summaries(analyse_store(results.store), results.setting.data_hash):
        console.print(table)
    return text.getvalue()


def numbers_of(results):
    """Every number of the ranked arms, as it must be shown."""
    board = results.analysis().board
    for row in board[board["ranked"]].to_dict("records"):
        yield from (row["row"], f"{row['auroc_macro_mean']:.3f}")
        if row["gain"] == row["gain"]:
            yield from (f"{row['gain']:+.3f}", f"{row['low']:+.3f} to {row['high']:+.3f}", row["verdict"])


def test_no_number_is_cut_short_in_eighty_columns(results):
    for classifier in ("small-cnn", "a-classifier-with-a-very-long-name-cnn"):
        results.runs(0.70, classifier=classifier)
        results.runs(0.60, "cgan-with-a-very-long-name", 0.25, classifier=classifier)
        results.runs(0.70, "cgan", classifier=classifier)
    text = shown(results)
    lines = text.splitlines()
    assert max(map(len, lines)) <= 80
    assert "…" not in text
    numbers = list(numbers_of(results))
    assert len(numbers) == 2 * (2 + 5 + 5)
    for number in numbers:
        assert any(number in line for line in lines), number


def test_names_are_whole_where_one_classifier_was_trained(results):
    results.runs(0.70)
    results.runs(0.60, "classical")
    lines = shown(results).splitlines()
    assert any("classical" in line and "hurts" in line for line in lines)
    assert any("real only" in line for line in lines)
    assert "small-cnn" in lines[0]


def test_only_ranked_arms_are_shown(results):
    results.benchmark()
    results.runs(0.70, arm="longer")
    text = shown(results)
    assert "cgan" in text
    assert not [name for name in ("oracle", "shuffle", "longer") if name in text]


def test_the_stamp_of_the_controls_is_below_the_table(results):
    results.benchmark()
    assert "controls: VALID" in shown(results)
    results.runs(0.9, "noise", seeds=5)
    results.runs(0.70, seeds=5)
    text = " ".join(shown(results).split())
    assert "controls: INVALID; noise: expected does not help; found helps" in text


def test_an_arm_without_a_gain_has_its_score_and_no_made_up_number(results):
    results.runs(0.80, "cgan")
    text = shown(results)
    assert all(number in text for number in numbers_of(results))
    assert "nan" not in text
    assert "None" not in text


def test_other_data_are_not_shown(results):
    results.runs(0.7)
    assert list(summaries(analyse_store(results.store), "other data")) == []


def test_a_section_without_classifiers_has_no_table(results):
    results.fidelity("cgan", {"fid": 1.0})
    assert shown(results) == ""
