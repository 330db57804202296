"""Classes renamed, merged and dropped while a data set is read."""

import numpy as np
import pytest

from cxrbench.contracts import Measured
from cxrbench.datasets.folder import Folder
from cxrbench.datasets.phantom import Phantom
from cxrbench.errors import DataError, UsageError
from cxrbench.renames import parse_labels, rename_classes
from cxrbench.stages import index_data

PHANTOM = Phantom(patients_per_class=3)


def test_labels_are_parsed():
    assert parse_labels("Viral Pneumonia = Pneumonia, Lung_Opacity=-") == {
        "Viral Pneumonia": "Pneumonia",
        "Lung_Opacity": "-",
    }
    assert parse_labels("") == {}


@pytest.mark.parametrize("text", ["COVID", "COVID=", "=COVID", "a=b,a=c"])
def test_labels_that_make_no_sense_are_refused(text):
    with pytest.raises(UsageError, match="--labels"):
        parse_labels(text)


def test_a_renamed_class_keeps_its_films_and_its_pixels():
    index, plain = index_data("p", PHANTOM, {"Viral Pneumonia": "A pneumonia"}), index_data("p", PHANTOM)
    assert index.classes == ("A pneumonia", "COVID", "Normal")  # sorted, so every label has changed
    assert [film.file for film in index.films] == [film.file for film in plain.films]
    for film, own in zip(index.films, plain.films, strict=True):
        name = plain.classes[own.label]
        assert index.classes[film.label] == {"Viral Pneumonia": "A pneumonia"}.get(name, name)
    last = len(plain.films) - 1
    assert np.array_equal(index.dataset.read(index.films[last], 32), PHANTOM.read(plain.films[last], 32))
    assert index.hash != plain.hash


def test_classes_may_be_merged_and_dropped_and_the_dropped_films_are_counted():
    merged = index_data("p", PHANTOM, {"Viral Pneumonia": "Sick", "COVID": "Sick"})
    assert merged.classes == ("Normal", "Sick")
    assert len(merged.films) == len(PHANTOM.listing().films)
    dropped = index_data("p", PHANTOM, {"Viral Pneumonia": "-"})
    assert dropped.classes == ("COVID", "Normal")
    gone = len(PHANTOM.listing().films) - len(dropped.films)
    assert gone > 0
    assert dropped.left_out == {"class 'Viral Pneumonia' is dropped by --labels": gone}


def test_names_may_be_exchanged():
    index = index_data("p", PHANTOM, {"COVID": "Normal", "Normal": "COVID"})
    assert {film.file.split("/")[0] for film in index.films if index.classes[film.label] == "COVID"} == {"Normal"}


def test_a_class_that_is_not_there_is_named_with_those_that_are():
    with pytest.raises(UsageError, match=r"no class 'Covid'; there are 'COVID', 'Normal', 'Viral Pneumonia'"):
        index_data("p", PHANTOM, {"Covid": "x"})
    assert index_data("p", PHANTOM, {"Lung_Opacity": "-"}, ["Lung_Opacity"]).classes == PHANTOM.classes()


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ({"COVID": "Normal", "Viral Pneumonia": "-"}, "only the class 'Normal'"),
        ({"COVID": "-", "Normal": "-", "Viral Pneumonia": "-"}, "no class"),
        ({"COVID": "all"}, "may not be called 'all'"),
    ],
)
def test_labels_that_leave_too_little_are_refused(labels, message):
    with pytest.raises(DataError, match=message):
        rename_classes(PHANTOM, labels)


def test_a_renamed_data_set_knows_dimensions_only_if_its_own_does(tmp_path, draw_hospital):
    assert not isinstance(rename_classes(PHANTOM, {"COVID": "x"}), Measured)
    draw_hospital(tmp_path / "h", lambda i: {}, patients=2)
    renamed = rename_classes(Folder(str(tmp_path / "h")), {"COVID": "x"})
    assert isinstance(renamed, Measured)
    assert renamed.dimensions(renamed.listing().films[0]) == (64, 64)
