"""Sentences that claim no more than was found."""

import re

import pytest

from cxrbench.report.reading import external_reading, stamp, utility_reading
from cxrbench.report.validity import Check, Validity

SOUND = Check("copy", "caught by the memorization test", "100% near-copies", True)
BROKEN = Check("noise", "does not help", "helps (+0.100)", False)
WEAK = Check("oracle", "real films help where they are few", "undetermined", True, weak=True)
UNKNOWN = Check("shuffle", "a verdict", "none: one classifier seed", None)


def test_the_stamp_of_a_broken_control_tells_what_was_expected_and_found():
    text = stamp(Validity("INVALID", (SOUND, BROKEN)))
    assert text.startswith("**INVALID.**")
    assert "no row below may be believed" in text
    assert text.endswith("Noise: expected does not help; found helps (+0.100).")


def test_the_stamp_without_controls_tells_how_to_have_them():
    text = stamp(Validity("NOT VALIDATED", ()))
    assert text.startswith("**NOT VALIDATED.**")
    assert "`--controls all`" in text


def test_the_stamp_of_a_sound_run_counts_what_was_checked():
    assert stamp(Validity("VALID", (SOUND, SOUND))) == "**VALID.** All 2 checks of the controls hold."


def test_a_weak_oracle_says_that_the_run_is_too_small():
    text = stamp(Validity("VALID", (SOUND, WEAK)))
    assert "All 2 checks" in text
    assert "*undetermined* below means *unknown*" in text


def test_checks_that_could_not_be_made_are_told_and_not_counted():
    text = stamp(Validity("VALID", (SOUND, UNKNOWN)))
    assert "All 1 checks" in text
    assert text.endswith("1 could not be made: shuffle: none: one classifier seed.")


def reading_of(results):
    return utility_reading(results.analysis().board)


@pytest.mark.parametrize(("auroc", "word"), [(0.80, "helps"), (0.60, "hurts")])
def test_a_clear_change_is_told_with_its_interval(results, auroc, word):
    results.runs(0.70)
    results.runs(auroc, "cgan", 0.5)
    text = reading_of(results)
    number = r"[+-]0\.\d{3}"
    told = rf"1 of 1 arms: it {word}: `cgan` at ratio 0\.5 \(small-cnn\) {number} \({number} to {number}\)\."
    assert re.match(told, text)
    assert "undetermined" not in text


def test_a_change_within_the_noise_is_no_evidence_and_tells_what_was_out_of_reach(results):
    results.runs(0.70)
    results.runs(0.70, "cgan")
    text = reading_of(results)
    assert "neither help nor harm is shown after correction" in text
    assert "would have been shown in 80 %" in text
    assert "it helps" not in text
    assert "it hurts" not in text


def test_one_seed_says_nothing_and_the_reading_says_why(results):
    results.run(0.70)
    results.run(0.95, "cgan")
    text = reading_of(results)
    assert text.startswith("Nothing can be said of any arm: one classifier seed")
    assert "nan" not in text


def test_arms_without_a_baseline_are_told(results):
    results.runs(0.9, "cgan")
    expected = "Nothing can be said of any arm: no real-only run of the same split and classifier seed to compare with."
    assert reading_of(results) == expected


def test_real_films_alone_leave_nothing_to_read(results):
    results.runs(0.7)
    assert reading_of(results).startswith("No arm with synthetic films has been run")


def test_a_disqualified_generator_is_named_and_not_praised(results):
    results.runs(0.70)
    results.runs(0.95, "leaky")
    results.memorization("leaky", held_out_copies=0.5)
    text = reading_of(results)
    assert "`leaky` is disqualified" in text
    assert "it helps" not in text


def outside_of(results):
    analysis = results.analysis()
    return external_reading(analysis.board, analysis.outside, "`there`")


def both(results, inside, outside, generator=None, seeds=3):
    results.runs(inside, generator, seeds=seeds)
    results.runs(outside, generator, seeds=seeds, external="there")


@pytest.mark.parametrize(
    ("inside", "outside", "words"),
    [
        (0.80, 0.75, "*helps* inside, *helps* outside"),
        (0.80, 0.55, "*helps* inside, *hurts* outside"),
        (0.80, 0.65, "*helps* inside, *undetermined* outside"),
        (0.70, 0.75, "*undetermined* inside, *helps* outside"),
        (0.60, 0.55, "*hurts* inside, *hurts* outside"),
    ],
)
def test_what_gains_inside_is_compared_with_outside(results, inside, outside, words):
    both(results, 0.70, 0.65)
    both(results, inside, outside, "cgan")
    text = outside_of(results)
    assert text.startswith("The arm that gains most inside, `cgan` at ratio 1 (small-cnn)")
    assert "AUROC on `there`" in text
    assert words in text


def test_the_arm_that_gains_most_inside_is_the_one_that_is_asked_about(results):
    both(results, 0.70, 0.65)
    both(results, 0.75, 0.80, "dcgan")
    both(results, 0.80, 0.60, "cgan")
    assert "`cgan`" in outside_of(results)
    assert "by -0.0" in outside_of(results)


def test_one_seed_outside_has_no_interval(results):
    both(results, 0.70, 0.65, seeds=1)
    both(results, 0.80, 0.75, "cgan", seeds=1)
    text = outside_of(results)
    assert "nan" not in text
    assert text.count("(no interval)") == 2


def test_an_arm_that_was_not_tested_outside_is_told(results):
    both(results, 0.70, 0.65)
    both(results, 0.72, 0.70, "dcgan")
    results.runs(0.80, "cgan")
    assert outside_of(results) == "The arm that gains most inside was not tested outside."


def test_scores_outside_alone_are_no_gain(results):
    results.runs(0.70)
    results.runs(0.65, external="there")
    assert outside_of(results) == "There is no gain to compare."
