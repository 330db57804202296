"""Halves of a set for the net that judges the other half."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cxrbench.audit import looks
from cxrbench.contracts import no_progress


@given(st.lists(st.integers(0, 12), min_size=1, max_size=60), st.integers(0, 5))
def test_groups_stay_whole_and_halves_are_even_but_for_the_largest_group(groups, seed):
    groups = np.unique(groups, return_inverse=True)[1].astype(np.int64)
    halves = looks._deal_halves(groups, np.random.default_rng(seed))
    assert all(len(set(halves[groups == group])) == 1 for group in np.unique(groups))
    sizes = np.bincount(halves, minlength=2)
    assert abs(sizes[0] - sizes[1]) <= np.bincount(groups).max()


@pytest.mark.parametrize("count", [30, 700])
def test_a_set_of_one_patient_teaches_nothing_and_claims_nothing(count):
    films = np.zeros((count, 32, 32), np.uint8)
    rows = np.arange(min(count, 5))
    scores, planted = looks._orientations(
        films, np.zeros(count, np.int64), rows, np.random.default_rng(0), "cpu", lambda what: no_progress
    )
    assert all(not values.any() for values in scores.values())
    assert all(len(values) == 0 for values in planted.values())
