"""NIH ChestX-ray14: labels of which a film may have several, and images over twelve folders."""

import pytest

from cxrbench.datasets.chestxray14 import ChestXray14
from cxrbench.errors import DataError, UsageError


def test_films_of_one_declared_class_are_read_with_their_facts(tree):
    listing = ChestXray14(str(tree("chestxray14"))).listing()
    assert [(f.file, f.label, f.patient_id, f.split, f.view, f.age, f.sex) for f in listing.films] == [
        ("images_001/images/00000001_000.png", 1, "1", "train", "PA", 58.0, "M"),
        ("images_001/images/00000001_001.png", 0, "1", "train", "AP", 58.0, "M"),
        ("images_001/images/00000002_000.png", 0, "2", "train", "PA", None, "F"),
        ("images_002/images/00000003_001.png", 1, "3", "test", "PA", 75.0, "F"),
    ]
    assert {film.source for film in listing.films} == {"NIH ChestX-ray14"}
    assert listing.left_out == {"labelled with none of the classes No Finding, Pneumonia": 1}
    assert listing.quarantined == {"images/00000004_000.png": "named, but not there"}


def test_a_film_with_two_declared_classes_is_left_out(tree, swap):
    root = tree("chestxray14")
    swap(root / "Data_Entry_2017_v2020.csv", "Hernia", "Infiltration|Hernia")
    listing = ChestXray14(str(root), labels="No Finding,Pneumonia,Infiltration").listing()
    assert [film.label for film in listing.films] == [0, 0, 2, 1]
    assert listing.left_out == {"labelled with several of the classes No Finding, Pneumonia, Infiltration": 1}


def test_a_film_listed_twice_counts_once_and_with_other_facts_not_at_all(tree):
    root = tree("chestxray14")
    with (root / "Data_Entry_2017_v2020.csv").open("a") as file:
        file.write("00000003_001.png,Pneumonia,1,3,75,F,PA,2500,2048,0.168,0.168\n")
        file.write("00000002_000.png,No Finding,0,9,41,F,PA,2500,2048,0.168,0.168\n")
    listing = ChestXray14(str(root)).listing()
    assert [film.patient_id for film in listing.films] == ["1", "1", "3"]
    reason = listing.quarantined["images_001/images/00000002_000.png"]
    assert reason == "listed twice with different facts (line 9); keep one line"


def test_one_folder_of_images_and_the_newer_column_name_are_read(tree, swap):
    root = tree("chestxray14")
    (root / "images").mkdir()
    for path in sorted(root.glob("images_*/images/*.png")):
        path.rename(root / "images" / path.name)
    swap(root / "Data_Entry_2017_v2020.csv", "Patient Gender", "Patient Sex")
    films = ChestXray14(str(root)).listing().films
    assert films[0].file == "images/00000001_000.png"
    assert films[0].sex == "M"


def test_without_its_lists_there_is_no_official_split(tree):
    root = tree("chestxray14")
    (root / "train_val_list.txt").unlink()
    assert [film.split for film in ChestXray14(str(root)).listing().films] == [None, None, None, "test"]
    (root / "test_list.txt").unlink()
    assert {film.split for film in ChestXray14(str(root)).listing().films} == {None}


def test_the_later_of_two_tables_counts(tree):
    root = tree("chestxray14")
    (root / "Data_Entry_2017.csv").write_text("broken")
    assert len(ChestXray14(str(root)).listing().films) == 4


def test_unknown_labels_classes_and_tables_are_refused(tree, swap):
    root = tree("chestxray14")
    with pytest.raises(UsageError, match=r"'Covid' is no label of this data set; it has No Finding, Atelectasis"):
        ChestXray14(str(root), labels="No Finding,Covid").listing()
    swap(root / "Data_Entry_2017_v2020.csv", "Pneumonia|Infiltration", "Pneumonia|Infiltrate|")
    with pytest.raises(DataError, match=r"line 2: 2 unknown label\(s\) in 2 place\(s\): '', 'Infiltrate'; the data"):
        ChestXray14(str(root)).listing()
    (root / "Data_Entry_2017_v2020.csv").unlink()
    with pytest.raises(DataError, match=r"has no Data_Entry_2017\*.csv"):
        ChestXray14(str(root)).listing()
