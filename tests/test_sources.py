"""Whole sources are held out for the test."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cxrbench.errors import DataError
from cxrbench.sources import EXHAUSTIVE_SOURCES, choose_test_sources

CLASSES = ("COVID", "Normal")


def chosen(counts, share=0.2, seed=0):
    counts = np.asarray(counts)
    names = [f"h{i}" for i in range(len(counts))]
    return set(np.flatnonzero(choose_test_sources(counts, names, CLASSES, share, seed)))


def test_the_sources_closest_to_the_share_are_held_out():
    assert chosen([[50, 50], [9, 9], [21, 21]]) == {2}
    assert chosen([[50, 50], [9, 9], [11, 11], [30, 30]]) == {1, 2}


def test_every_class_stands_on_both_sides_though_another_choice_is_closer():
    # h1 alone is a fifth of all films, but holds no COVID
    assert chosen([[40, 20], [0, 20], [15, 5]]) in ({0}, {2}, {1, 2})
    assert chosen([[40, 20], [0, 20], [15, 5]]) == {2}


def test_equally_good_choices_are_made_by_the_seed():
    counts = [[10, 10]] * 5
    assert chosen(counts, seed=1) == chosen(counts, seed=1)
    assert len({tuple(chosen(counts, seed=seed)) for seed in range(20)}) > 1


@pytest.mark.parametrize(
    ("counts", "message"),
    [
        ([[10, 10]], "at least two sources; there is only 'h0'"),
        (np.zeros((0, 2), int), "at least two sources; no film names its source"),
        ([[10, 0], [0, 10]], "class 'COVID' comes only from source 'h0'; class 'Normal' comes only from source 'h1'"),
        ([[10, 10], [0, 10]], "class 'COVID' comes only from source 'h0'"),
    ],
)
def test_what_cannot_be_divided_is_refused_with_the_reason(counts, message):
    with pytest.raises(DataError, match=message):
        chosen(counts)


def test_classes_that_no_choice_can_keep_on_both_sides_are_refused():
    classes, counts = ("a", "b", "c"), np.array([[5, 0, 5], [5, 5, 0], [0, 5, 5]])
    with pytest.raises(DataError, match="no choice among the 3 sources leaves every class"):
        choose_test_sources(counts, ["x", "y", "z"], classes, 0.2, 0)


@settings(deadline=None, max_examples=40)
@given(st.integers(EXHAUSTIVE_SOURCES + 1, 30), st.integers(0, 1000))
def test_many_sources_are_chosen_among_without_looking_at_every_choice(sources, seed):
    rng = np.random.default_rng(seed)
    counts = rng.integers(0, 40, (sources, 2))
    counts[:2] += 1
    held = list(chosen(counts, seed=seed))
    tested = counts[held].sum(axis=0)
    assert (tested > 0).all()
    assert (counts.sum(axis=0) - tested > 0).all()
    assert tested.sum() / counts.sum() == pytest.approx(0.2, abs=0.05)
    assert list(chosen(counts, seed=seed)) == held
