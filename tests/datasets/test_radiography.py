"""The COVID-19 Radiography Database: Kaggle's own tables and masks."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from cxrbench.datasets.radiography import Radiography
from cxrbench.datasets.tables import short_source
from cxrbench.errors import DataError, UnreadableFilm


def sources(root):
    return {film.file: film.source for film in Radiography(str(root)).listing().films}


def test_all_four_classes_are_read(tree):
    dataset = Radiography(str(tree("radiography")))
    assert dataset.classes() == ("COVID", "Lung_Opacity", "Normal", "Viral Pneumonia")
    assert len(dataset.listing().films) == 8


def test_kaggles_tables_give_sources_whatever_the_case_of_their_names(tree):
    found = sources(tree("radiography"))
    assert found["Normal/images/Normal-1.png"] == "kaggle.com/c/rsna-pneumonia-detection-challenge"
    assert found["Normal/images/Normal-2.png"] == "kaggle.com/paultimothymooney"
    assert [source for file, source in found.items() if not file.startswith("Normal")] == [None] * 6


def test_metadata_csv_goes_before_kaggles_tables_but_only_where_it_says_something(tree):
    root = tree("radiography")
    (root / "metadata.csv").write_text(
        "file,source,patient_id\nNormal/images/Normal-1.png,Mine,p1\nNormal/images/Normal-2.png,,p2\n"
    )
    found = sources(root)
    assert found["Normal/images/Normal-1.png"] == "Mine"
    assert found["Normal/images/Normal-2.png"] == "kaggle.com/paultimothymooney"
    patients = {film.patient_id for film in Radiography(str(root)).listing().films}
    assert patients == {None, "p1", "p2"}


def test_a_table_of_a_class_with_another_spelling_is_found(tree, write_xlsx):
    root = tree("radiography")
    rows = [("FILE NAME", "FORMAT", "SIZE", "URL"), ("Viral Pneumonia (2)", "PNG", "256*256", "https://sirm.org/x")]
    write_xlsx(root / "Viral_Pneumonia.metadata.xlsx", rows)
    assert sources(root)["Viral Pneumonia/images/Viral Pneumonia-2.png"] == "sirm.org"
    assert sources(root)["Viral Pneumonia/images/Viral Pneumonia-1.png"] is None


def test_numbers_are_not_run_together(tree, write_film, write_xlsx):
    root = tree("radiography")
    write_film(root / "COVID" / "images" / "COVID-11.png", 33)
    rows = [("FILE NAME", "FORMAT", "SIZE", "URL"), ("COVID-1-1", "PNG", "256*256", "https://sirm.org/x")]
    write_xlsx(root / "COVID.metadata.xlsx", rows)
    assert sources(root)["COVID/images/COVID-11.png"] is None


def test_a_table_without_its_columns_or_of_another_kind_is_a_data_error(tree, write_xlsx):
    root = tree("radiography")
    write_xlsx(root / "COVID.metadata.xlsx", [("NAME", "URL"), ("COVID-1", "x")])
    with pytest.raises(DataError, match=r"COVID.metadata.xlsx has no column FILE NAME"):
        sources(root)
    (root / "COVID.metadata.xlsx").write_text("no xlsx")
    with pytest.raises(DataError, match=r"COVID.metadata.xlsx cannot be read as an xlsx file"):
        sources(root)


@pytest.mark.parametrize(
    ("url", "source"),
    [
        ("https://github.com/ieee8023/covid-chestxray-dataset", "github.com/ieee8023"),
        ("https://github.com/armiro/COVID-CXNet", "github.com/armiro"),
        ("https://bimcv.cipf.es/bimcv-projects/bimcv-covid19/#1590858128006-9e640421-6711", "bimcv.cipf.es"),
        ("https://www.kaggle.com/datasets/owner/name", "kaggle.com/owner"),
        ("https://WWW.Eurorad.org/case/1", "eurorad.org"),
        ("sirm.org/category", "sirm.org"),
        ("https://github.com", "github.com"),
        ("", None),
        ("in the paper", None),
        ("Fig. 2, see text", None),
    ],
)
def test_a_source_is_the_host_and_its_owner(url, source):
    assert short_source(url) == source


@given(st.text())
def test_any_text_gives_a_source_or_none(text):
    source = short_source(text)
    assert source is None or "." in source


def test_masks_are_read_as_0_and_255_at_any_size(tree):
    root = tree("radiography")
    dataset = Radiography(str(root))
    film = dataset.listing().films[0]
    mask = np.zeros((256, 256, 3), np.uint8)
    mask[64:128, 128:] = 250
    Image.fromarray(mask).save(root / "COVID" / "masks" / "COVID-1.png")
    for size in (8, 64, 300):
        read = dataset.mask(film, size)
        assert (read.dtype, read.shape) == (np.uint8, (size, size))
        assert set(np.unique(read)) == {0, 255}
        assert (read == 255).mean() == pytest.approx(1 / 8, abs=0.03)
        assert read[int(size * 0.4), int(size * 0.75)] == 255


def test_a_film_without_a_mask_has_none_and_a_damaged_mask_gives_a_reason(tree):
    root = tree("radiography")
    dataset = Radiography(str(root))
    first, second, *_ = dataset.listing().films
    (root / "COVID" / "masks" / "COVID-1.png").unlink()
    (root / "COVID" / "masks" / "COVID-2.png").write_text("no image")
    assert dataset.mask(first, 8) is None
    with pytest.raises(UnreadableFilm, match="not an image"):
        dataset.mask(second, 8)


def test_real_films_without_masks_have_none(real_data):
    dataset = Radiography(str(real_data / "external"))
    assert dataset.mask(dataset.listing().films[0], 8) is None
