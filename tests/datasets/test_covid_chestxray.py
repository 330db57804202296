"""The COVID-19 image data collection: frontal films, and findings that are paths."""

import pytest

from cxrbench.datasets.covid_chestxray import CovidChestXray
from cxrbench.errors import DataError, UsageError


def test_frontal_films_are_read_with_their_facts(tree):
    films = CovidChestXray(str(tree("covid-chestxray"))).listing().films
    assert [(f.file, f.label, f.patient_id, f.source, f.view) for f in films] == [
        ("images/a.jpg", 0, "2", "Hanoi, Vietnam", "PA"),
        ("images/b.png", 0, "2", "nejm.org", "AP Supine"),
        ("images/c.png", 1, "3a", None, "AP"),
        ("images/d.png", 1, "4", None, "AP semi erect"),
    ]
    assert (films[0].age, films[0].sex, films[1].age, films[1].sex) == (65.0, "M", None, None)
    assert {film.split for film in films} == {None}


def test_what_was_not_asked_for_is_counted_by_reason_and_what_is_missing_quarantined(tree):
    listing = CovidChestXray(str(tree("covid-chestxray"))).listing()
    assert listing.left_out == {
        "view L": 1,
        "modality CT": 2,
        "labelled with none of the classes COVID-19, Bacterial": 2,
    }
    assert listing.quarantined == {"images/gone.png": "named, but not there"}


def test_a_class_may_be_any_part_of_a_finding(tree):
    root = str(tree("covid-chestxray"))
    listing = CovidChestXray(root, labels="Viral,Streptococcus").listing()
    assert [film.file for film in listing.films] == ["images/a.jpg", "images/b.png", "images/c.png"]
    nested = CovidChestXray(root, labels="Pneumonia,todo").listing()
    assert [film.label for film in nested.films] == [0, 0, 0, 0, 1, 0]


def test_a_film_on_the_path_of_two_classes_is_left_out(tree, covid_table):
    root = tree("covid-chestxray")
    listing = CovidChestXray(str(root), labels="Pneumonia,todo,Bacterial")
    with pytest.raises(DataError, match=r"class 'Bacterial' in .* has no image"):
        listing.listing()
    _, row = covid_table
    with (root / "metadata.csv").open("a") as file:
        file.write(row(9, "Bacterial", "PA", "X-ray", "lateral.png") + "\n")
    listed = listing.listing()
    assert [film.file for film in listed.films] == [
        f"images/{name}" for name in ("a.jpg", "b.png", "e.png", "f.png", "lateral.png")
    ]
    assert listed.left_out["labelled with several of the classes Pneumonia, todo, Bacterial"] == 3


def test_a_class_that_is_nowhere_is_a_data_error_that_lists_those_that_are(tree):
    dataset = CovidChestXray(str(tree("covid-chestxray")), labels="COVID-19,Covid")
    with pytest.raises(DataError, match=r"no film has the label 'Covid'; there are Bacterial, COVID-19, Pneumonia"):
        dataset.listing()


def test_findings_lose_stray_spaces(tree, swap):
    root = tree("covid-chestxray")
    swap(root / "metadata.csv", "Pneumonia/Bacterial/Streptococcus", "Pneumonia/ Herpes /")
    listing = CovidChestXray(str(root), labels="COVID-19,Herpes").listing()
    assert [film.label for film in listing.films] == [0, 0, 1]


def test_a_film_is_looked_for_in_the_folder_that_its_line_names(tree, swap, write_film):
    root = tree("covid-chestxray")
    swap(root / "metadata.csv", "images,gone.png", "more,gone.png")
    write_film(root / "more" / "gone.png", 200)
    assert "more/gone.png" in [film.file for film in CovidChestXray(str(root)).listing().films]


def test_missing_tables_columns_and_file_names_are_data_errors(tree, swap):
    root = tree("covid-chestxray")
    swap(root / "metadata.csv", ",images,f.png", ",images,")
    with pytest.raises(DataError, match=r"metadata.csv, line 11: filename is empty"):
        CovidChestXray(str(root)).listing()
    swap(root / "metadata.csv", "modality", "kind")
    with pytest.raises(DataError, match=r"metadata.csv has no column modality"):
        CovidChestXray(str(root)).listing()
    (root / "metadata.csv").unlink()
    with pytest.raises(DataError, match=r"covid-chestxray has no metadata.csv.*is this the right folder\?"):
        CovidChestXray(str(root)).listing()
    with pytest.raises(UsageError, match="does not exist"):
        CovidChestXray(str(root / "nowhere")).listing()


def test_two_lines_that_contradict_each_other_quarantine_the_film(tree, covid_table):
    root = tree("covid-chestxray")
    _, row = covid_table
    with (root / "metadata.csv").open("a") as file:
        file.write(row(9, "Pneumonia/Bacterial", "PA", "X-ray", "a.jpg") + "\n")
    listing = CovidChestXray(str(root)).listing()
    assert listing.quarantined["images/a.jpg"] == "listed twice with different facts (line 12); keep one line"
