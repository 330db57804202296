"""``metadata.csv``: what it says of films, and lines and tables that are refused."""

import re

import pytest

from cxrbench.datasets import files
from cxrbench.datasets.folder import Folder
from cxrbench.datasets.radiography import Radiography
from cxrbench.datasets.resolve import resolve_dataset
from cxrbench.errors import DataError


def with_csv(root, text, encoding="utf-8"):
    (root / "metadata.csv").write_bytes(text.encode(encoding))
    return root


def test_metadata_adds_patients_and_sources_where_it_has_them(kaggle):
    with_csv(
        kaggle,
        "file,label,source,patient_id,view\n"
        "COVID/images/COVID-1.png,COVID,Hannover, p7 ,PA\n"
        "Normal/images/Normal-0.png,Normal,,,\n",
        encoding="utf-8-sig",
    )
    films = {film.file: (film.patient_id, film.source) for film in Radiography(str(kaggle)).listing().films}
    assert films.pop("COVID/images/COVID-1.png") == ("p7", "Hannover")
    assert set(films.values()) == {(None, None)}


@pytest.mark.parametrize("named", ["", "metadata.csv"])
def test_a_csv_decides_labels_patients_and_sources(folder, named):
    with_csv(
        folder,
        "patient_id,file,label,age\np1,sick/0.png,COVID,40\n,healthy/0.png,Normal,50\np1,sick/1.png,COVID,41\n",
    )
    dataset = Folder(str(folder / named))
    assert dataset.classes() == ("COVID", "Normal")
    assert [(f.file, f.label, f.patient_id, f.source) for f in dataset.listing().films] == [
        ("sick/0.png", 0, "p1", None),
        ("healthy/0.png", 1, None, None),
        ("sick/1.png", 0, "p1", None),
    ]
    assert dataset.read(dataset.listing().films[1], 6)[5, 5] == 70


BAD_CSV = {
    "no file of a class is there": (
        "file,label\nno.png,a\nhealthy/0.png,b\n",
        r"class 'a' in .* has no image \(1 files were refused, the first because: named, but not there\)",
    ),
    "unknown split": ("file,label,split\nsick/0.png,a,later\n", "line 2: split 'later' is none of train, val, test"),
    "no label column": ("file,class\nsick/0.png,a\n", "has no column label"),
    "no columns at all": ("", "has no column file, label"),
    "empty label": ("file,label\nsick/0.png,a\nhealthy/0.png,\n", "line 3: file or label is empty"),
    "short line": ("file,label\nsick/0.png\n", "line 2: file or label is empty"),
    "empty file name": ("file,label\n ,a\n", "line 2: file or label is empty"),
    "one class": ("file,label\nsick/0.png,a\nhealthy/0.png,a\n", "only the class 'a'"),
    "no rows": ("file,label\n", "holds no class"),
}


@pytest.mark.parametrize(("text", "message"), BAD_CSV.values(), ids=BAD_CSV)
def test_a_malformed_csv_is_a_data_error_that_says_where(folder, text, message):
    with_csv(folder, text)
    with pytest.raises(DataError, match=message):
        Folder(str(folder)).listing()


BAD_LINE = {
    "listed twice, two labels": ("sick/0.png,b\nsick/0.png,a", "sick/0.png", "listed twice in .* with different facts"),
    "not there": ("no.png,a", "no.png", "named, but not there"),
    "a folder": ("sick,a", "sick", "is no file"),
    "outside": ("../secret.png,a", "../secret.png", "lies outside the folder of metadata.csv"),
    "outside, absolute": ("/secret.png,a", "/secret.png", "lies outside the folder of metadata.csv"),
    "a loop of links": ("loop.png,a", "loop.png", "cannot be opened: Too many levels of symbolic links"),
    "a broken link": ("broken.png,a", "broken.png", "named, but not there"),
}


@pytest.mark.parametrize(("line", "file", "reason"), BAD_LINE.values(), ids=BAD_LINE)
def test_a_line_that_names_no_film_is_quarantined_and_the_others_are_read(folder, line, file, reason, write_film):
    write_film(folder.parent / "secret.png")
    (folder / "loop.png").symlink_to(folder / "loop.png")
    (folder / "broken.png").symlink_to(folder / "nowhere.png")
    with_csv(folder, f"file,label\nhealthy/0.png,b\nsick/1.png,a\n{line}\n")
    listing = Folder(str(folder)).listing()
    assert [film.file for film in listing.films] == ["healthy/0.png", "sick/1.png"]
    assert list(listing.quarantined) == [file]
    assert re.search(reason, listing.quarantined[file])


def test_a_line_that_stands_twice_counts_once(folder):
    with_csv(folder, "file,label\nsick/0.png,a\nhealthy/0.png,b\nsick/0.png,a\n")
    listing = Folder(str(folder)).listing()
    assert (len(listing.films), listing.quarantined) == (2, {})


def test_labels_with_spaces_and_commas_and_every_column_are_read(folder):
    with_csv(
        folder,
        "file,label,patient_id,source,view,age,sex,split\n"
        'sick/0.png,"COVID, severe",p1,a b,PA,058Y,F,Training\nhealthy/0.png,no finding,,,,-1,,test\n',
    )
    dataset = Folder(str(folder))
    assert dataset.classes() == ("COVID, severe", "no finding")
    first, second = dataset.listing().films
    assert (first.patient_id, first.source, first.view, first.age, first.sex, first.split) == (
        "p1",
        "a b",
        "PA",
        58.0,
        "F",
        "train",
    )
    assert (second.patient_id, second.age, second.split) == (None, None, "test")


@pytest.mark.parametrize("layout", [Folder, Radiography])
def test_a_csv_that_is_not_utf8_is_a_data_error(kaggle, layout):
    with_csv(kaggle, "file,label\nCOVID/images/COVID-0.png,Köln\n", encoding="latin-1")
    with pytest.raises(DataError, match=r"metadata.csv is not UTF-8 \(byte 37\); save it as UTF-8"):
        layout(str(kaggle)).listing()


def test_a_film_of_two_patients_is_quarantined(kaggle):
    with_csv(kaggle, "file,patient_id\nCOVID/images/COVID-0.png,p1\nCOVID/images/COVID-0.png,p2\n")
    listing = Radiography(str(kaggle)).listing()
    assert len(listing.films) == 4
    assert listing.quarantined == {
        "COVID/images/COVID-0.png": "listed twice in metadata.csv with different facts (line 3); keep one line"
    }


def test_read_metadata_needs_no_label_unless_it_is_asked_for(tmp_path):
    with_csv(tmp_path, 'file,source\n"a, b.png",Hannover\n')
    assert files.read_metadata(tmp_path / "metadata.csv") == ({"a, b.png": files.Metadata(source="Hannover")}, {})


def test_a_csv_resolves_to_the_folder_layout(kaggle):
    with_csv(kaggle, "file,label\nCOVID/images/COVID-0.png,b\nCOVID/images/COVID-1.png,a\n")
    name, dataset = resolve_dataset(str(kaggle / "metadata.csv"))
    assert name == "metadata.csv"
    assert isinstance(dataset, Folder)
    assert dataset.classes() == ("a", "b")
