"""VinBigData: several radiologists read each film, several rows each."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cxrbench.datasets.vinbigdata import FINDINGS, VinBigData, agreed
from cxrbench.errors import DataError, UsageError

LABEL = st.sampled_from(FINDINGS)


def test_a_label_counts_when_two_radiologists_gave_it_or_the_only_one(tree):
    listing = VinBigData(str(tree("vinbigdata"))).listing()
    assert [(film.file, film.label) for film in listing.films] == [
        ("train/n1.dicom", 0),
        ("train/o1.dicom", 1),
        ("train/one.png", 1),
    ]
    assert listing.left_out == {"labelled with none of the classes No finding, Lung Opacity": 2}
    assert listing.quarantined == {"train/gone.dicom": "named, but not there"}


def test_films_have_no_patient_and_no_official_split(tree):
    films = VinBigData(str(tree("vinbigdata"))).listing().films
    assert {(film.patient_id, film.split, film.source) for film in films} == {(None, None, "VinDr-CXR")}


@given(st.lists(st.sets(LABEL, max_size=4), min_size=1, max_size=5))
def test_agreement_follows_its_rule(readings):
    votes = {label: sum(label in one for one in readings) for label in FINDINGS}
    needed = 1 if len(readings) == 1 else 2
    assert agreed(readings) == {label for label, count in votes.items() if count >= needed}


@pytest.mark.parametrize("suffix", [".png", ".jpg"])
def test_re_issues_in_other_formats_are_read_with_the_same_table(tree, write_film, suffix):
    root = tree("vinbigdata")
    for number, path in enumerate(sorted((root / "train").glob("*.dicom"))):
        path.unlink()
        write_film(path.with_suffix(suffix), 50 + 9 * number)
    (root / "train_meta.csv").write_text("image_id,dim0,dim1\nn1,2336,2080\n")
    dataset = VinBigData(str(root))
    films = dataset.listing().films
    assert [film.file for film in films] == [f"train/n1{suffix}", f"train/o1{suffix}", "train/one.png"]
    assert np.median(dataset.read(films[0], 12)) == pytest.approx(50, abs=6)


def test_the_original_goes_before_a_picture_made_of_it(tree, write_film):
    root = tree("vinbigdata")
    write_film(root / "train" / "n1.png", 77)
    assert VinBigData(str(root)).listing().films[0].file == "train/n1.dicom"


def test_a_declared_class_outside_the_fifteen_is_a_usage_error(tree):
    root = str(tree("vinbigdata"))
    with pytest.raises(UsageError, match=r"'Pneumonia' is no label of this data set; it has Aortic enlargement, .*"):
        VinBigData(root, labels="No finding,Pneumonia").listing()
    assert VinBigData(root, labels="No finding,Nodule/Mass").classes() == ("No finding", "Nodule/Mass")


def test_an_unknown_label_in_the_table_is_a_data_error(tree, swap):
    root = tree("vinbigdata")
    swap(root / "train.csv", "Cardiomegaly", "Big heart")
    with pytest.raises(
        DataError, match=r"train.csv, line 4: 1 unknown label\(s\) in 2 place\(s\): 'Big heart'; the data"
    ):
        VinBigData(str(root)).listing()


def test_a_missing_table_or_train_folder_is_a_data_error(tree):
    root = tree("vinbigdata")
    (root / "train").rename(root / "elsewhere")
    with pytest.raises(DataError, match=r"class 'No finding' in .* has no image \(\d+ files were refused.*not there"):
        VinBigData(str(root)).listing()
    (root / "train.csv").unlink()
    with pytest.raises(DataError, match=r"has no train.csv"):
        VinBigData(str(root)).listing()
