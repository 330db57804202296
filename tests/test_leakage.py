"""Which films belong together, and what two sets of films share."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cxrbench.contracts import Film
from cxrbench.leakage import NO_PAIRS, film_groups, find_leaks

NAMES = st.lists(st.sampled_from([None, "a", "b", "c", "d"]), min_size=1, max_size=12)
PAIRS = st.lists(st.tuples(st.integers(0, 11), st.integers(0, 11)), max_size=8)


def films_of(patients, digests=None):
    digests = digests or [f"digest-{i}" for i in range(len(patients))]
    return [Film(f"film-{i}", 0, digests[i], patient) for i, patient in enumerate(patients)]


def rows(*numbers):
    return np.asarray(numbers, np.int64)


def test_films_of_one_patient_share_a_group():
    groups = film_groups(["p", "q", "p", None, None], NO_PAIRS)
    assert groups[0] == groups[2]
    assert len(set(groups)) == 4


def test_unknown_patients_are_not_taken_for_one_patient():
    assert len(set(film_groups([None, None, "", ""], NO_PAIRS))) == 4


def test_equal_files_share_a_group_though_no_near_copy_was_found():
    groups = film_groups([None, "p", None, None], NO_PAIRS, ["same", "other", "same", "third"])
    assert groups[0] == groups[2]
    assert len(set(groups)) == 3


def test_groups_join_transitively_through_patients_and_copies():
    groups = film_groups(["p", "p", None, "q", "q", "r"], np.array([[1, 2], [2, 3]]))
    assert len(set(groups[:5])) == 1
    assert groups[5] != groups[0]


@given(NAMES, PAIRS, st.data())
def test_groups_are_the_connected_films(patients, drawn, data):
    pairs = [(i, j) for i, j in drawn if i < len(patients) and j < len(patients)]
    digests = data.draw(st.lists(st.sampled_from("stuvwxyz"), min_size=len(patients), max_size=len(patients)))
    groups = film_groups(patients, np.asarray(pairs, np.int64).reshape(-1, 2), digests)

    expected = list(range(len(patients)))
    links = pairs + [(i, j) for i, p in enumerate(patients) for j, q in enumerate(patients) if p and p == q]
    links += [(i, j) for i, p in enumerate(digests) for j, q in enumerate(digests) if p == q]
    for _ in patients:
        for i, j in links:
            expected[i] = expected[j] = min(expected[i], expected[j])
    assert [list(groups).index(g) for g in groups] == [expected.index(e) for e in expected]


def test_each_kind_of_leak_is_counted_by_itself():
    films = films_of(["p", None, "q", "p", None, "r", "q"], ["1", "2", "3", "4", "2", "6", "7"])
    leaks = find_leaks(films, np.array([[1, 4], [2, 5], [0, 1]]), rows(0, 1, 2), rows(3, 4, 5, 6))
    assert (leaks.patients, leaks.files, leaks.copies) == (2, 1, 1)  # the pair (1, 4) is an identical file
    assert leaks.example == ("film-1", "film-4")
    assert leaks.tied == ("film-3", "film-4", "film-5", "film-6")
    assert str(leaks) == "2 patients, 1 identical file and 1 near-copy (e.g. 'film-1' and 'film-4')"


@pytest.mark.parametrize("pair", [[0, 1], [1, 0]])
def test_a_near_copy_is_found_in_either_direction(pair):
    films = films_of([None, None])
    assert find_leaks(films, np.array([pair]), rows(0), rows(1)).example == ("film-0", "film-1")
    assert find_leaks(films, np.array([pair]), rows(1), rows(0)).example == ("film-1", "film-0")


def test_films_that_share_nothing_do_not_leak():
    films = films_of(["p", "p", "", "", None, None])
    assert not find_leaks(films, np.array([[0, 1], [2, 4]]), rows(0, 1, 2, 4), rows(3, 5))


@given(NAMES, PAIRS, st.data())
def test_leaks_are_what_counting_by_hand_finds(patients, drawn, data):
    count = len(patients)
    films = films_of(patients, data.draw(st.lists(st.sampled_from("stuvwxyz"), min_size=count, max_size=count)))
    pairs = sorted({(min(p), max(p)) for p in drawn if p[0] != p[1] and max(p) < count})
    part = data.draw(st.lists(st.integers(0, 2), min_size=count, max_size=count))
    one, other = (np.flatnonzero(np.asarray(part) == number) for number in (0, 1))
    leaks = find_leaks(films, np.asarray(pairs, np.int64).reshape(-1, 2), one, other)
    assert leaks.patients == len({films[i].patient_id for i in one} & {films[i].patient_id for i in other} - {None})
    assert leaks.files == len({films[i].digest for i in one} & {films[i].digest for i in other})
    crossing = [p for p in pairs if {part[p[0]], part[p[1]]} == {0, 1}]
    assert leaks.copies == len([p for p in crossing if films[p[0]].digest != films[p[1]].digest])
    ties = {tuple(sorted(p)) for p in crossing}
    expected = [
        films[j].file
        for j in other
        if any(
            (films[i].patient_id and films[i].patient_id == films[j].patient_id)
            or films[i].digest == films[j].digest
            or (min(i, j), max(i, j)) in ties
            for i in one
        )
    ]
    assert list(leaks.tied) == expected
