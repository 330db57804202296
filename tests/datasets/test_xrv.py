"""TorchXRayVision data sets, by a module that has its interface, and by the library itself where it is."""

import importlib.util
import sys
import types

import numpy as np
import pandas as pd
import pytest

from cxrbench.datasets import xrv
from cxrbench.datasets.xrv import XRV
from cxrbench.errors import DataError, UnreadableFilm, UsageError

PIXELS = np.random.default_rng(0).integers(0, 256, (6, 20, 16), dtype=np.uint8)


class Fake_Dataset:
    """Labels as the library has them: 1, 0 or NaN. Film 4 is damaged, film 5 of a strange depth."""

    def __init__(self, imgpath, csvpath="included", views=("PA",)):
        if csvpath == "broken":
            raise Exception("csvpath must be a file")
        self.pathologies = ["Effusion", "Pneumonia"]
        nan = np.nan
        self.labels = np.array([[0, 1], [0, 0], [1, 1], [nan, 1], [0, 0], [nan, nan]], np.float32)
        self.csv = pd.DataFrame(
            {
                "patientid": ["1", "1", "2", "3", "4", "5"],
                "view": ["PA", "AP", "PA", "UNKNOWN", "PA", "PA"],
                "age_years": [50.0, nan, 60.0, 999.0, 1.0, 2.0],
                "sex_male": [True, False, True, False, True, True],
                "sex_female": [False, True, False, False, False, False],
            }
        )

    def __getitem__(self, row):
        if row == 4:
            raise ValueError("max image value (300)\nhigher than expected")
        image = (2 * (PIXELS[row].astype(np.float32) / 255) - 1) * 1024
        return {"idx": row, "lab": self.labels[row], "img": image[None]}


class Short_Dataset(Fake_Dataset):
    def __init__(self, imgpath):
        super().__init__(imgpath)
        self.csv = self.csv.iloc[:3]


@pytest.fixture
def library(monkeypatch):
    """A stand-in for torchxrayvision."""
    module = types.ModuleType("torchxrayvision")
    module.datasets = types.ModuleType("torchxrayvision.datasets")
    module.datasets.Fake_Dataset = Fake_Dataset
    module.datasets.Short_Dataset = Short_Dataset
    monkeypatch.setitem(sys.modules, "torchxrayvision", module)
    monkeypatch.setitem(sys.modules, "torchxrayvision.datasets", module.datasets)
    xrv._open.cache_clear()
    yield
    xrv._open.cache_clear()


def fake(tmp_path, **options):
    return XRV(**{"dataset": "Fake_Dataset", "imgpath": str(tmp_path), **options})


def test_films_and_facts_come_from_the_library(library, tmp_path):
    listing = fake(tmp_path).listing()
    assert [(f.file, f.label, f.patient_id, f.view, f.age, f.sex) for f in listing.films] == [
        ("Fake_Dataset/000000", 1, "1", "PA", 50.0, "M"),
        ("Fake_Dataset/000001", 0, "1", "AP", None, "F"),
        ("Fake_Dataset/000002", 1, "2", "PA", 60.0, "M"),
        ("Fake_Dataset/000003", 1, "3", None, None, None),
    ]
    assert {film.source for film in listing.films} == {"Fake_Dataset"}
    assert listing.left_out == {"labelled with none of the classes No Finding, Pneumonia": 1}
    assert listing.quarantined == {
        "Fake_Dataset/000004": "torchxrayvision cannot read it: max image value (300) higher than expected"
    }


def test_pixels_come_back_as_they_were_stored(library, tmp_path):
    dataset = fake(tmp_path)
    film = dataset.listing().films[2]
    small = dataset.read(film, 16)
    assert (small.shape, small.dtype) == ((16, 16), np.uint8)
    np.testing.assert_array_equal(dataset._pixels(2), PIXELS[2])


def test_digests_follow_the_pixels(library, tmp_path, monkeypatch):
    before = [film.digest for film in fake(tmp_path).listing().films]
    changed = PIXELS.copy()
    changed[1] = 255 - changed[1]
    monkeypatch.setattr(sys.modules[__name__], "PIXELS", changed)
    after = [film.digest for film in fake(tmp_path).listing().films]
    assert [one == two for one, two in zip(before, after, strict=True)] == [True, False, True, True]


def test_a_film_with_two_declared_classes_is_left_out(library, tmp_path):
    listing = fake(tmp_path, labels="No Finding,Pneumonia,Effusion")
    with pytest.raises(DataError, match=r"class 'Effusion' in .* has no image"):
        listing.listing()


def test_a_damaged_film_is_unreadable(library, tmp_path):
    with pytest.raises(UnreadableFilm, match="torchxrayvision cannot read it"):
        fake(tmp_path)._pixels(4)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        (
            {"dataset": "Nih_Dataset"},
            UsageError,
            "'Nih_Dataset' is no data set of torchxrayvision; it has Fake_Dataset",
        ),
        ({"imgpath": ""}, UsageError, "parameter imgpath needs a folder"),
        ({"imgpath": "/no/such/place"}, UsageError, "does not exist"),
        (
            {"labels": "Pneumonia,Mass"},
            UsageError,
            "'Mass' is no label of this data set; it has Effusion, Pneumonia, No",
        ),
        ({"dataset": "Short_Dataset", "csvpath": "x.csv"}, UsageError, "does not take imgpath and csvpath"),
        ({"csvpath": "broken"}, DataError, "cannot open Fake_Dataset in .*: csvpath must be a file"),
        ({"dataset": "Short_Dataset"}, DataError, r"labels \(6, 2\) do not fit 3 rows"),
    ],
    ids=str,
)
def test_wrong_parameters_are_refused_with_one_line(library, tmp_path, options, error, message):
    with pytest.raises(error, match=message):
        fake(tmp_path, **options).listing()


def test_without_the_library_the_extra_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "torchxrayvision", None)
    xrv._open.cache_clear()
    with pytest.raises(UsageError, match=r'needs torchxrayvision .*: pip install "cxrbench\[xrv\]"'):
        fake(tmp_path).listing()


@pytest.mark.skipif(importlib.util.find_spec("torchxrayvision") is None, reason="the extra xrv is not installed")
def test_the_library_itself_reads_chestxray14(tree):
    root = tree("chestxray14")
    (root / "images").mkdir()
    for path in sorted(root.glob("images_*/images/*.png")):
        path.rename(root / "images" / path.name)
    table = root / "Data_Entry_2017_v2020.csv"
    table.write_text(table.read_text().replace("058Y", "58"))
    xrv._open.cache_clear()
    listing = XRV("NIH_Dataset", str(root / "images"), str(table), labels="No Finding,Pneumonia").listing()
    # The library takes PA films only, and the first of each patient.
    assert [(film.label, film.patient_id, film.view) for film in listing.films] == [(1, "1", "PA"), (0, "2", "PA")]
    assert list(listing.quarantined) == ["NIH_Dataset/000003"]
    film = XRV("NIH_Dataset", str(root / "images"), str(table)).read(listing.films[0], 12)
    assert film.max() == 70
    assert film.min() == 0
