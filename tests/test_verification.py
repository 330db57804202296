"""Which row is meant, how far a score may lie from its re-run, and what of a record differs."""

import numpy as np
import pytest

from cxrbench.errors import UsageError
from cxrbench.records import PluginRef, Record, Setting, Status, Trial
from cxrbench.verification import STRICT, Tolerance, choose_tolerance, compare, find_row

SETTING = Setting(
    data="phantom", data_hash="d", split_seed=0, split_key="s", spec_hash="x", tier="smoke", image_size=32
)
CLASSIFIER = PluginRef(name="small-cnn", kind="classifier", params={}, identity="c")


def record_of(ratio=0.0, seed=0, split=0, status=Status.OK, kind="utility", **more):
    setting = SETTING.model_copy(update={"split_seed": split})
    trial = Trial(kind=kind, setting=setting, classifier=CLASSIFIER, classifier_seed=seed, ratio=ratio)
    error = None if status is Status.OK else "boom"
    return Record(key=trial.key, trial=trial, status=status, error=error, **more)


def test_a_row_is_found_with_all_its_seeds_and_splits_in_order():
    wanted = [record_of(0.5, seed, split) for split in range(2) for seed in range(3)]
    others = [record_of(1.0, seed) for seed in range(3)]
    shuffled = [*others, *reversed(wanted)]
    row = wanted[0].trial.row
    for text in (row, row[:4], row.upper(), f" {row} ", wanted[4].key, wanted[4].key[:8]):
        assert find_row(shuffled, text) == wanted


def test_repetitions_that_failed_are_left_out_and_a_row_without_results_is_refused():
    good, bad = record_of(seed=0), record_of(seed=1, status=Status.OOM)
    assert find_row([good, bad], good.trial.row) == [good]
    with pytest.raises(UsageError, match=r"has no result to verify: its trials ended oom"):
        find_row([bad], bad.trial.row)


def test_an_unknown_row_names_the_nearest():
    record = record_of()
    row = record.trial.row
    mistyped = row[:-1] + ("0" if row[-1] != "0" else "1")
    with pytest.raises(UsageError, match=f"no row is called '{mistyped}'; did you mean {row}"):
        find_row([record], mistyped)
    with pytest.raises(UsageError, match=r"the ids of 0 rows"):
        find_row([], row)


@pytest.mark.parametrize("text", ["", "abc", "rows", "classical", "abcd efgh", "0" * 65])
def test_what_is_no_row_id_is_refused(text):
    with pytest.raises(UsageError, match="give 4 or more of the hexadecimal digits"):
        find_row([record_of()], text)


def test_an_ambiguous_prefix_lists_what_it_may_be():
    by_prefix = {}
    ratio = 0.0
    while True:  # about 300 rows until two begin alike
        record = record_of(ratio)
        other = by_prefix.setdefault(record.trial.row[:4], record)
        if other is not record:
            break
        ratio += 1.0
    with pytest.raises(UsageError) as raised:
        find_row([record, other], record.trial.row[:4])
    said = str(raised.value)
    assert "may be any of 2" in said
    for row in (record.trial.row, other.trial.row):
        assert f"{row} (small-cnn on real films; phantom, smoke)" in said
    assert find_row([record, other], record.trial.row) == [record]


def test_a_whole_row_id_means_that_row_whatever_begins_like_it():
    record, other = record_of(0.0), record_of(1.0)
    row = record.trial.row
    alike = other.model_copy(update={"key": row + other.key[len(row) :]})
    assert find_row([alike, record], row) == [record]


def test_throughput_is_refused_with_the_reason():
    timed = record_of(kind="throughput")
    with pytest.raises(UsageError, match="speed belongs to the machine"):
        find_row([timed], timed.trial.row)


# ---------------------------------------------------------------- tolerance and comparison

MACHINE = {"device": "AMD EPYC, 2 cores", "threads": 2, "python": "3.11.7", "versions": {"torch": "2.9"}}


def test_the_same_machine_is_held_to_one_in_a_million():
    chosen = choose_tolerance(MACHINE, dict(MACHINE), "cpu")
    assert (chosen.limit, chosen.relative) == (1e-6, False)
    assert "same device, torch, threads, python" in chosen.describe()


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"device": "NVIDIA H100"}, "device AMD EPYC, 2 cores then, NVIDIA H100 now"),
        ({"threads": 1}, "threads 2 then, 1 now"),
        ({"python": "3.12.1"}, "python 3.11.7 then, 3.12.1 now"),
        ({"versions": {"torch": "2.14"}}, "torch 2.9 then, 2.14 now"),
    ],
)
def test_another_machine_is_given_more_and_the_reason_is_said(change, named):
    chosen = choose_tolerance(MACHINE, {**MACHINE, **change}, "cpu")
    assert (chosen.limit, chosen.relative) == (0.02, True)
    assert named in chosen.describe()


def test_a_gpu_is_given_more_even_if_it_is_the_same():
    chosen = choose_tolerance(MACHINE, MACHINE, "cuda")
    assert (chosen.limit, chosen.reason) == (0.02, "a GPU adds in no fixed order")


def test_a_tolerance_that_is_asked_for_is_taken():
    assert choose_tolerance(MACHINE, {}, "cuda", 0.1).limit == 0.1
    assert choose_tolerance(MACHINE, MACHINE, "cpu", 0.0).limit == 0.0


def test_distances_are_judged_by_their_size_and_shares_are_not():
    loose = Tolerance(0.02, True, "")
    assert loose.difference("utility", "auroc_macro", 0.50, 0.51) == pytest.approx(0.01)
    assert loose.difference("fidelity", "lite0/all/fid", 100.0, 101.0) == pytest.approx(1 / 101)
    assert loose.difference("fidelity", "lite0/all/kid_mean", 0.0, -0.0) == 0.0
    assert loose.difference("fidelity", "lite0/precision/fid", 2.0, 1.0) == 0.5  # a class may have any name
    for share in ("lite0/all/precision_low", "lite0/A/coverage_floor", "A/copies_expected", "A/label_agreement"):
        assert loose.difference("fidelity", share, 0.1, 0.2) == pytest.approx(0.1)
    assert loose.difference("data", "films", 100.0, 101.0) == 1.0
    assert Tolerance(STRICT, False, "").difference("fidelity", "lite0/all/fid", 100.0, 101.0) == 1.0


KEPT = {
    "probabilities": np.asarray([[0.75, 0.25], [0.25, 0.75]], np.float32),
    "labels": np.asarray([0, 1]),
    "groups": np.asarray(["a", "b"]),
}
TIGHT, WIDE = Tolerance(STRICT, False, ""), Tolerance(0.02, True, "")
SCORED = record_of(scores={"auroc_macro": 0.75, "ece": 0.25}, classes=("A", "B"), counts={"test": 2})


def changed(**update):
    return SCORED.model_copy(update=update)


def test_a_record_matches_itself():
    found = compare(SCORED, SCORED, TIGHT, KEPT, KEPT)
    assert found.matches
    assert (found.difference, found.predictions, found.added, found.problems) == (0.0, 0.0, (), ())


def test_the_largest_difference_is_found_with_its_two_values():
    again = changed(scores={"auroc_macro": 0.76, "ece": 0.5})
    found = compare(SCORED, again, WIDE, {}, {})
    assert (found.score, found.recorded, found.again, found.difference) == ("ece", 0.25, 0.5, 0.25)
    assert found.problems == ("ece differs by more than 0.02",)
    both = compare(SCORED, changed(scores={"auroc_macro": 0.5, "ece": 0.5}), WIDE, {}, {})
    assert both.problems == ("auroc_macro, ece differ by more than 0.02",)


def test_a_difference_on_the_limit_matches():
    half = Tolerance(0.25, False, "")
    assert compare(SCORED, changed(scores={"auroc_macro": 0.5, "ece": 0.5}), half, {}, {}).matches
    assert not compare(SCORED, changed(scores={"auroc_macro": 0.4999, "ece": 0.5}), half, {}, {}).matches


def test_a_score_that_only_one_side_has():
    more = changed(scores={**SCORED.scores, "brier": 0.5})
    newer = compare(SCORED, more, TIGHT, {}, {})
    assert newer.matches
    assert newer.added == ("brier",)
    gone = compare(more, SCORED, TIGHT, {}, {})
    assert gone.problems == ("brier is in the record and not in the re-run",)
    bare = compare(changed(scores={}), SCORED, WIDE, {}, {})
    assert bare.problems == ("the record has no score",)


def test_predictions_are_judged_where_nothing_should_round():
    moved = {**KEPT, "probabilities": np.asarray([[0.5, 0.5], [0.25, 0.75]], np.float32)}
    tight = compare(SCORED, SCORED, TIGHT, moved, KEPT)
    assert tight.predictions == pytest.approx(0.25)
    assert tight.problems == ("predictions differ by up to 2.5e-01",)
    wide = compare(SCORED, SCORED, WIDE, moved, KEPT)
    assert wide.predictions == pytest.approx(0.25)
    assert wide.matches
    broken = {**KEPT, "probabilities": np.full((2, 2), np.nan, np.float32)}
    assert not compare(SCORED, SCORED, TIGHT, broken, KEPT).matches


@pytest.mark.parametrize(
    "other",
    [{"labels": np.asarray([1, 0])}, {"probabilities": KEPT["probabilities"][:1], "labels": np.asarray([0])}],
)
def test_predictions_of_other_films_never_match(other):
    found = compare(SCORED, SCORED, WIDE, {**KEPT, **other}, KEPT)
    assert found.predictions is None
    assert found.problems == ("the kept predictions are of other films than those of the re-run",)


def test_counts_and_classes_are_compared_too():
    assert not compare(changed(counts={"test": 3}), SCORED, TIGHT, {}, {}).matches
    assert compare(changed(counts={"test": 3}), SCORED, WIDE, {}, {}).matches
    (problem,) = compare(changed(classes=("B", "A")), SCORED, WIDE, {}, {}).problems
    assert problem == "its classes are B, A, and here A, B"
    listed = record_of(kind="data", counts={"films": 3})
    assert not compare(listed, listed.model_copy(update={"counts": {"films": 4}}), WIDE, {}, {}).matches
