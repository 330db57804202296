"""COVIDx: lists of films, parsed from the right."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cxrbench.datasets.covidx import CLASSES, CovidX, _fields
from cxrbench.errors import DataError, UsageError

WORD = st.text(st.characters(codec="ascii", categories=("L", "N"), include_characters="-_().,"), min_size=1)
OTHER = WORD.filter(lambda word: word not in CLASSES)


def test_lists_give_class_split_patient_and_source(tree):
    dataset = CovidX(str(tree("covidx")))
    assert dataset.classes() == ("normal", "pneumonia", "COVID-19")
    assert [(f.file, f.label, f.split, f.patient_id, f.source) for f in dataset.listing().films] == [
        ("test/MIDRC-0.png", 2, "test", "419639-003251", "ricord"),
        ("test/x.png", 1, "test", "x", "rsna"),
        ("test/y.png", 0, "test", "y", "rsna"),
        ("train/COVID(1).png", 2, "train", "COVID 1", "sirm"),
        ("train/SARS-10.jpeg", 1, "train", "3", "cohen"),
        ("train/ab-c.png", 0, "train", "ab-c", "rsna"),
    ]


@pytest.mark.parametrize("names", [("train.txt", "test.txt"), ("train_split.txt", "test_split.txt")])
def test_other_names_of_the_lists_are_known(tree, names):
    root = tree("covidx")
    for split, name in zip(("train", "test"), names, strict=True):
        (root / f"{split}_COVIDx9A.txt").rename(root / name)
    assert CovidX.recognises(root)
    assert len(CovidX(str(root)).listing().films) == 6


def test_a_validation_list_is_read(tree, write_film):
    root = tree("covidx")
    (root / "val.txt").write_text("9 v.png normal bimcv\n")
    write_film(root / "val" / "v.png", 99)
    assert [f.file for f in CovidX(str(root)).listing().films if f.split == "val"] == ["val/v.png"]


def test_the_first_versions_name_no_source(tree, swap):
    root = tree("covidx")
    swap(root / "train_COVIDx9A.txt", " cohen", "")
    found = {film.file: film for film in CovidX(str(root)).listing().films}
    assert (found["train/SARS-10.jpeg"].source, found["train/SARS-10.jpeg"].patient_id) == (None, "3")


def test_several_versions_must_be_told_apart(tree):
    root = tree("covidx")
    for split in ("train", "test"):
        text = (root / f"{split}_COVIDx9A.txt").read_text()
        for name in ("normal", "pneumonia"):
            text = text.replace(f" {name} ", " negative ")
        (root / f"{split}_COVIDx9B.txt").write_text(text.replace(" COVID-19 ", " positive "))
    with pytest.raises(UsageError, match=r"has both test_COVIDx9A.txt and test_COVIDx9B.txt; choose with version="):
        CovidX(str(root)).listing()
    assert CovidX(str(root), version="9b").classes() == ("negative", "positive")
    assert len(CovidX(str(root), version="9b").listing().films) == 6
    with pytest.raises(DataError, match=r"has no train.txt or test.txt \(version 7\)"):
        CovidX(str(root), version="7").listing()


def test_declared_classes_leave_the_others_out(tree):
    listing = CovidX(str(tree("covidx")), labels="COVID-19,normal").listing()
    assert listing.left_out == {"labelled with none of the classes COVID-19, normal": 2}
    with pytest.raises(UsageError, match="'covid' is no label"):
        CovidX(str(tree("covidx")), labels="covid,normal").listing()


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("one two", r"line 5: 'one two' is not 'patient file class source'"),
        ("p f.png tuberculosis rsna", r"line 5: 1 unknown label\(s\) in 1 place\(s\): 'tuberculosis'; the data set's"),
    ],
)
def test_lines_that_cannot_be_understood_are_data_errors(tree, line, message):
    root = tree("covidx")
    with (root / "train_COVIDx9A.txt").open("a") as file:
        file.write(line + "\n")
    with pytest.raises(DataError, match=message):
        CovidX(str(root)).listing()


def test_missing_and_contradictory_films_are_quarantined(tree):
    root = tree("covidx")
    (root / "test" / "x.png").rename(root / "test" / "z.png")
    with (root / "test_COVIDx9A.txt").open("a") as file:
        file.write("z z.png pneumonia rsna\ny y.png COVID-19 rsna\n")
    listing = CovidX(str(root)).listing()
    assert listing.quarantined == {
        "test/y.png": "listed twice with different facts (line 5); keep one line",
        "test/x.png": "named, but not there",
    }


@given(patient=st.lists(OTHER, min_size=1, max_size=3), file=OTHER, label=st.sampled_from(CLASSES), source=OTHER)
def test_a_line_is_parsed_from_the_right(patient, file, label, source):
    assert _fields(" ".join([*patient, file, label, source])) == (" ".join(patient), file, label, source)
    assert _fields(" ".join([*patient, file, label])) == (" ".join(patient), file, label, "")
