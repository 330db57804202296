"""Verdicts: Holm's correction against statsmodels, power at the stated effect, words and reasons."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.power import TTestPower

from cxrbench.statistics.gains import Gain, estimate_gain
from cxrbench.statistics.influence import ScoredRun
from cxrbench.statistics.intervals import Part, two_sided_p
from cxrbench.statistics.verdicts import holm, judge, minimum_detectable_effect

ONE = np.asarray(["patient"])


def gain_of(gains):
    """Gains of seeds, without uncertainty about the patients."""
    arm = [ScoredRun(0, i, i, value, ONE, np.zeros(1)) for i, value in enumerate(gains)]
    return estimate_gain(arm, [ScoredRun(0, None, i, 0.0, ONE, np.zeros(1)) for i in range(len(gains))])


def film_only(gain, error):
    film = Part("film", error**2, 400)
    return Gain(gain, -1.0, 1.0, two_sided_p(gain, [film]), error, 0.0, 400.0, 3, 3, "seed", film, (film,))


@settings(max_examples=15, deadline=None)
@given(st.lists(st.floats(0, 1), min_size=1, max_size=12))
def test_holms_correction_is_that_of_statsmodels(p_values):
    assert holm(p_values) == pytest.approx(multipletests(p_values, method="holm")[1])


def test_missing_p_values_do_not_count():
    assert holm([0.01, math.nan, 0.03]) == pytest.approx([0.02, math.nan, 0.03], nan_ok=True)
    assert np.isnan(holm([math.nan])).all()
    assert len(holm([])) == 0
    with pytest.raises(ValueError, match=r"\[0, 1\]"):
        holm([0.5, 1.5])


@pytest.mark.parametrize("seeds", [3, 5, 12])
def test_the_detectable_effect_of_seeds_alone_is_the_textbooks(seeds):
    gain = gain_of(np.linspace(-0.01, 0.01, seeds))
    deviation = gain.standard_error * math.sqrt(seeds)
    standardised = TTestPower().solve_power(nobs=seeds, alpha=0.05, power=0.8)
    unbiased = math.sqrt(2 / (seeds - 1)) * math.gamma(seeds / 2) / math.gamma((seeds - 1) / 2)
    assert minimum_detectable_effect(gain, 1) == pytest.approx(standardised * deviation / unbiased, rel=2e-3)


def test_the_detectable_effect_grows_with_the_family_and_shrinks_with_seeds():
    few, many = gain_of([-0.01, 0.0, 0.01]), gain_of([-0.01, 0.0, 0.01] * 4)
    assert minimum_detectable_effect(few, 1) < minimum_detectable_effect(few, 4)
    assert minimum_detectable_effect(many, 1) < minimum_detectable_effect(few, 1)
    assert minimum_detectable_effect(few, 1, power=0.5) < minimum_detectable_effect(few, 1)
    assert minimum_detectable_effect(gain_of([0.0, 0.0]), 1) == 0
    assert math.isnan(minimum_detectable_effect(gain_of([0.1]), 1))
    with pytest.raises(ValueError, match="at least one arm"):
        minimum_detectable_effect(few, 0)


def test_an_arm_that_gains_the_stated_effect_is_found_in_four_fifths():
    rng = np.random.default_rng(0)
    stated = [minimum_detectable_effect(gain_of(rng.normal(0, 0.01, 3)), 2) for _ in range(800)]
    words = [
        judge([gain_of(rng.normal(np.mean(stated), 0.01, 3)), gain_of(rng.normal(0, 0.01, 3))])[0].word
        for _ in range(800)
    ]
    assert words.count("helps") / 800 == pytest.approx(0.8, abs=0.05)


def test_words_follow_the_sign_and_the_corrected_p_value():
    helps, hurts, unclear = film_only(0.05, 0.01), film_only(-0.05, 0.01), film_only(0.005, 0.01)
    assert [verdict.word for verdict in judge([helps, hurts, unclear])] == ["helps", "hurts", "undetermined"]
    borderline = film_only(0.022, 0.01)
    assert judge([borderline])[0].word == "helps"
    (first, *_) = judge([borderline, unclear, unclear])
    assert first.word == "undetermined"
    assert first.p_holm == pytest.approx(3 * borderline.p)
    assert first.mde > judge([borderline])[0].mde


def test_what_cannot_be_judged_says_why_and_does_not_burden_the_others():
    clear = film_only(0.05, 0.01)
    verdicts = judge([None, gain_of([0.1]), clear])
    assert verdicts[2] == judge([clear])[0]
    assert [verdict.word for verdict in verdicts[:2]] == ["undetermined"] * 2
    assert "no real-only run" in verdicts[0].reason
    assert "one classifier seed" in verdicts[1].reason
    assert all(math.isnan(verdict.p_holm) and math.isnan(verdict.mde) for verdict in verdicts[:2])
    assert judge([]) == []


def test_an_undetermined_arm_says_what_could_have_been_found():
    unclear = judge([film_only(0.005, 0.01)])[0]
    assert unclear.reason.endswith(f"a gain of {unclear.mde:.3f} would have been found in 80% of cases")
    hopeless = judge([gain_of([-0.1, 0.12])])[0]
    assert "no real gain could have been found with 2 units (seed)" in hopeless.reason
