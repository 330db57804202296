"""What a data set is made of."""

import pytest

from cxrbench.audit.composition import age_group, compose, warnings_of
from cxrbench.contracts import Film


def film(label, source=None, **facts):
    return Film("f", label, "d", source=source, **facts)


def test_tables_count_films_of_each_class():
    films = [film(0, "x", sex="F"), film(0, "x"), film(1, "y", sex="F"), film(1)]
    tables = {table.aspect: table.rows for table in compose(films, ("a", "b"))}
    assert tables == {"source": {"x": [2, 0], "y": [0, 1], "unknown": [0, 1]}, "sex": {"F": [1, 1], "unknown": [1, 1]}}


def test_rare_sources_are_summed_up():
    films = [film(0, f"s{i}") for i in range(40)]
    rows = compose(films, ("a",))[0].rows
    assert len(rows) == 31
    assert rows["10 more"] == [10]


@pytest.mark.parametrize(
    ("age", "group"), [(0.5, "under 1"), (1, "1 to 4"), (17.9, "5 to 17"), (39, "18 to 39"), (65, "65 and over")]
)
def test_age_groups(age, group):
    assert age_group(age) == group


def test_ages_stand_in_their_order():
    films = [film(0, age=70.0), film(0, age=3.0), film(0, age=70.0), film(0)]
    assert list(compose(films, ("a",))[0].rows) == ["1 to 4", "65 and over", "unknown"]


def test_a_class_with_sources_of_its_own_is_warned_of():
    films = [film(0, "x"), film(1, "y"), film(1, "z"), film(2, "z")]
    assert warnings_of(films, ("a", "b", "c"))[1:] == [
        "no known source of a holds any other class: a classifier may learn the hospital"
    ] or warnings_of(films, ("a", "b", "c"))[-1].startswith("no known source of a ")
    mixed = [film(0, "x"), film(1, "x")]
    assert warnings_of(mixed, ("a", "b")) == []


def test_imbalance_is_warned_of():
    assert warnings_of([film(0)] * 6 + [film(1)] * 2, ("a", "b")) == ["imbalance: 3.0 films of a for each of b"]
