"""Declared classes: exactly one of them must be among a film's labels."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cxrbench.datasets.files import Metadata
from cxrbench.datasets.labels import NIH_FINDINGS, Claim, check_vocabulary, claimed_films, class_of, declared_classes
from cxrbench.errors import DataError, UsageError

NAMES = st.sampled_from(NIH_FINDINGS)


def test_declared_classes_keep_their_order_and_lose_their_spaces():
    assert declared_classes(" Mass , Edema,Hernia", NIH_FINDINGS) == ("Mass", "Edema", "Hernia")


@pytest.mark.parametrize("text", ["", "Mass,", "Mass,,Edema", "Mass,Mass", "Mass, Mass"])
def test_empty_and_repeated_classes_are_usage_errors(text):
    with pytest.raises(UsageError, match="must name each class once"):
        declared_classes(text, NIH_FINDINGS)


def test_an_unknown_class_is_a_usage_error_that_lists_the_known_ones():
    with pytest.raises(UsageError, match=r"'mass' is no label of this data set; it has Atelectasis, .*Hernia"):
        declared_classes("Edema,mass", NIH_FINDINGS)


@given(labels=st.sets(NAMES), classes=st.lists(NAMES, min_size=1, unique=True))
def test_a_film_has_a_class_only_if_exactly_one_is_among_its_labels(labels, classes):
    found = class_of(labels, classes)
    both = labels & set(classes)
    if len(both) == 1:
        assert {classes[found]} == both
    else:
        assert found.startswith(f"labelled with {'several' if both else 'none'} of the classes {classes[0]}")


def test_unknown_labels_are_listed_up_to_five_with_their_number_and_first_line():
    found = [(2, "Mass"), *((line, f"odd {line % 7}") for line in range(3, 17))]
    with pytest.raises(DataError) as error:
        check_vocabulary(found, NIH_FINDINGS, Path("table.csv"))
    assert (
        "table.csv, line 3: 7 unknown label(s) in 14 place(s): 'odd 0', 'odd 1', 'odd 2', 'odd 3', 'odd 4' ...;"
        in str(error.value)
    )
    check_vocabulary([(2, "Mass")], NIH_FINDINGS, Path("table.csv"))


def claims(tmp_path, write_film, *facts):
    for number, (file, _, _) in enumerate(facts):
        if not file.startswith("..") and not (tmp_path / file).exists():
            write_film(tmp_path / file, 60 + number)
    return [
        Claim(file, frozenset(labels), Metadata(patient_id=patient), line)
        for line, (file, labels, patient) in enumerate(facts, start=2)
    ]


def test_a_claim_made_twice_counts_once_and_a_contradiction_is_quarantined(tmp_path, write_film):
    listing = claimed_films(
        tmp_path,
        claims(
            tmp_path,
            write_film,
            ("a.png", {"Mass"}, "p1"),
            ("a.png", {"Mass"}, "p1"),
            ("b.png", {"Edema"}, "p2"),
            ("c.png", {"Edema"}, "p2"),
            ("c.png", {"Edema"}, "p3"),
            ("d.png", {"Edema", "Mass"}, "p4"),
            ("../e.png", {"Edema"}, "p4"),
        ),
        ("Mass", "Edema"),
        {"view L": 3},
    )
    assert [(film.file, film.label) for film in listing.films] == [("a.png", 0), ("b.png", 1)]
    assert listing.quarantined == {
        "c.png": "listed twice with different facts (line 6); keep one line",
        "../e.png": "lies outside the data set's folder",
    }
    assert listing.left_out == {"view L": 3, "labelled with several of the classes Mass, Edema": 1}


def test_a_declared_class_without_films_is_a_data_error(tmp_path, write_film):
    one = claims(tmp_path, write_film, ("a.png", {"Mass"}, None))
    with pytest.raises(DataError, match=r"class 'Hernia' in .* has no image"):
        claimed_films(tmp_path, one, ("Mass", "Hernia"))
