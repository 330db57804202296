"""Splits share no patient and no near-copy."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cxrbench.errors import DataError
from cxrbench.splits import (
    Split,
    check_disjoint,
    film_groups,
    split_films,
)

CLASSES = ("COVID", "Normal", "Viral Pneumonia")
FRACTIONS = (0.6, 0.2, 0.2)
NO_PAIRS = np.empty((0, 2), np.int64)


def films_of_patients(per_class=60, most=3, seed=0):
    """Labels and groups of patients with 1 to ``most`` films each."""
    rng = np.random.default_rng(seed)
    films = rng.integers(1, most + 1, len(CLASSES) * per_class)
    patients = np.arange(len(films))
    return np.repeat(patients // per_class, films), np.repeat(patients, films)


def parts_of(split):
    return {"train": split.train, "val": split.val, "test": split.test}


def all_equal(one, other):
    return all(np.array_equal(a, b) for a, b in zip(parts_of(one).values(), parts_of(other).values(), strict=True))


@settings(deadline=None, max_examples=15)
@given(st.integers(0, 2**32 - 1), st.integers(8, 40), st.integers(1, 5))
def test_every_film_stands_in_one_part_and_every_group_too(seed, per_class, most):
    labels, groups = films_of_patients(per_class, most, seed)
    parts = parts_of(split_films(labels, groups, CLASSES, FRACTIONS, seed))
    np.testing.assert_array_equal(np.sort(np.concatenate(list(parts.values()))), np.arange(len(labels)))
    assert sum(len(np.unique(groups[rows])) for rows in parts.values()) == len(np.unique(groups))


@pytest.mark.parametrize("label", range(3))
def test_each_class_is_dealt_out_sixty_twenty_twenty(label):
    labels, groups = films_of_patients()
    split = split_films(labels, groups, CLASSES, FRACTIONS, seed=0)
    count = (labels == label).sum()
    for rows, fraction in zip(parts_of(split).values(), FRACTIONS, strict=True):
        assert (labels[rows] == label).sum() / count == pytest.approx(fraction, abs=0.04)


def test_other_fractions_are_obeyed():
    labels, groups = films_of_patients()
    split = split_films(labels, groups, CLASSES, (0.5, 0.25, 0.25), seed=0)
    assert len(split.train) / len(labels) == pytest.approx(0.5, abs=0.03)


def test_fractions_that_are_no_whole_folds_are_refused():
    labels, groups = films_of_patients()
    with pytest.raises(DataError, match="no multiples of 5 %"):
        split_films(labels, groups, CLASSES, (0.617, 0.193, 0.19), seed=0)


def test_an_empty_part_is_refused():
    labels, groups = films_of_patients()
    with pytest.raises(DataError, match="split fractions"):
        split_films(labels, groups, CLASSES, (0.8, 0.0, 0.2), seed=0)


def test_the_same_seed_gives_the_same_split_and_another_seed_another():
    labels, groups = films_of_patients()
    first, again, other = (split_films(labels, groups, CLASSES, FRACTIONS, seed) for seed in (3, 3, 4))
    assert all_equal(first, again)
    assert not all_equal(first, other)


def test_a_class_of_few_patients_with_many_films_each_is_refused():
    labels = np.repeat([0, 1], 40)
    groups = np.where(labels == 0, np.arange(80), 100 + np.arange(80) % 4)
    with pytest.raises(DataError, match=r"class 'few' has 40 films of 4 distinct patients .* needs at least 5"):
        split_films(labels, groups, ("many", "few"), FRACTIONS, seed=0)


def test_a_class_without_films_is_refused():
    with pytest.raises(DataError, match="class 'absent' has 0 films"):
        split_films(np.repeat([0, 1], 20), np.arange(40), ("a", "b", "absent"), FRACTIONS, seed=0)


def test_groups_that_hold_two_classes_are_kept_whole():
    labels = np.tile([0, 1], 30)
    groups = np.repeat(np.arange(30), 2)
    check_disjoint(split_films(labels, groups, ("a", "b"), FRACTIONS, seed=0), groups)


@pytest.mark.parametrize(
    ("split", "where"),
    [
        (Split(np.array([0, 1]), np.array([2]), np.array([3])), "train and val"),
        (Split(np.array([0, 3]), np.array([1]), np.array([2])), "train and test"),
        (Split(np.array([3]), np.array([0]), np.array([1, 2])), "val and test"),
    ],
)
def test_the_leakage_gate_names_the_parts_that_share_a_group(split, where):
    groups = np.array([7, 8, 7, 9])
    with pytest.raises(DataError, match=f"leakage: 1 patients or duplicate clusters stand in {where}"):
        check_disjoint(split, groups)


def test_the_leakage_gate_lets_a_clean_split_pass():
    check_disjoint(Split(np.array([0, 2]), np.array([1]), np.array([3])), np.array([7, 8, 7, 9]))


def test_films_of_one_patient_share_a_group():
    groups = film_groups(["p", "q", "p", None, None], NO_PAIRS)
    assert groups[0] == groups[2]
    assert len(set(groups)) == 4


def test_unknown_patients_are_not_taken_for_one_patient():
    assert len(set(film_groups([None, None, "", ""], NO_PAIRS))) == 4


def test_groups_join_transitively_through_patients_and_copies():
    groups = film_groups(["p", "p", None, "q", "q", "r"], np.array([[1, 2], [2, 3]]))
    assert len(set(groups[:5])) == 1
    assert groups[5] != groups[0]


@given(
    st.lists(st.sampled_from([None, "a", "b", "c", "d"]), min_size=1, max_size=12),
    st.lists(st.tuples(st.integers(0, 11), st.integers(0, 11)), max_size=8),
)
def test_groups_are_the_connected_films(patients, drawn):
    pairs = [(i, j) for i, j in drawn if i < len(patients) and j < len(patients)]
    groups = film_groups(patients, np.asarray(pairs, np.int64).reshape(-1, 2))

    expected = list(range(len(patients)))
    links = pairs + [(i, j) for i, p in enumerate(patients) for j, q in enumerate(patients) if p and p == q]
    for _ in patients:
        for i, j in links:
            expected[i] = expected[j] = min(expected[i], expected[j])
    assert [list(groups).index(g) for g in groups] == [expected.index(e) for e in expected]


SIDE = 128
