"""Layouts on disk, and what ``--data`` makes of a text."""

import os
from collections import Counter
from pathlib import Path

import pytest

from cxrbench.datasets.folder import Folder
from cxrbench.datasets.phantom import Phantom
from cxrbench.datasets.radiography import Radiography
from cxrbench.datasets.resolve import resolve_dataset
from cxrbench.errors import DataError, UsageError
from cxrbench.hashing import file_sha256


@pytest.fixture
def reads(monkeypatch):
    """The files whose bytes were read, in order."""
    seen = []

    def counted(path):
        seen.append(path)
        return file_sha256(path)

    monkeypatch.setattr("cxrbench.datasets.files.file_sha256", counted)
    return seen


def test_the_radiography_layout_is_read_class_by_class_without_its_masks(kaggle):
    dataset = Radiography(str(kaggle))
    assert dataset.classes() == ("COVID", "Normal")
    assert [(film.file, film.label) for film in dataset.listing().films] == [
        ("COVID/images/COVID-0.png", 0),
        ("COVID/images/COVID-1.png", 0),
        ("Normal/images/Normal-0.png", 1),
        ("Normal/images/Normal-1.png", 1),
        ("Normal/images/Normal-2.png", 1),
    ]


def test_a_film_is_identified_by_its_bytes_and_can_be_read(kaggle):
    dataset = Radiography(str(kaggle))
    film = dataset.listing().films[3]
    assert film.digest == file_sha256(kaggle / film.file)
    pixels = dataset.read(film, 6)
    assert pixels[0, 0] == 0
    assert pixels[5, 5] == 61


def test_folders_without_images_inside_are_no_classes(kaggle):
    (kaggle / "scripts").mkdir()
    assert Radiography(str(kaggle)).classes() == ("COVID", "Normal")


def test_one_folder_per_class_is_read(folder):
    dataset = Folder(str(folder))
    assert dataset.classes() == ("healthy", "sick")
    assert [(film.file, film.label) for film in dataset.listing().films] == [
        ("healthy/0.png", 0),
        ("sick/0.png", 1),
        ("sick/1.png", 1),
    ]


def test_only_image_files_and_visible_folders_count(folder):
    (folder / "sick" / "notes.txt").write_text("x")
    (folder / "sick" / "2.PNG").write_bytes((folder / "sick" / "0.png").read_bytes())
    (folder / ".thumbnails").mkdir()
    assert Counter(film.label for film in Folder(str(folder)).listing().films) == {0: 1, 1: 3}


def test_loops_and_broken_links_in_a_class_folder_are_quarantined(folder):
    (folder / "sick" / "loop.png").symlink_to(folder / "sick" / "loop.png")
    (folder / "sick" / "deep").symlink_to(folder)
    assert list(Folder(str(folder)).listing().quarantined) == ["sick/loop.png"]


@pytest.mark.parametrize(("layout", "inside"), [(Folder, "."), (Radiography, "images")])
def test_an_empty_class_is_a_data_error(tmp_path, layout, inside, write_film):
    write_film(tmp_path / "films" / "full" / inside / "0.png")
    (tmp_path / "films" / "bare" / inside).mkdir(parents=True)
    with pytest.raises(DataError, match=r"class 'bare' in .* has no image"):
        layout(str(tmp_path / "films")).listing()


@pytest.mark.parametrize(("layout", "inside"), [(Folder, "."), (Radiography, "images")])
def test_a_single_class_is_a_data_error(tmp_path, layout, inside, write_film):
    write_film(tmp_path / "films" / "lonely" / inside / "0.png")
    with pytest.raises(DataError, match="only the class 'lonely'; a classifier needs at least two"):
        layout(str(tmp_path / "films")).listing()


@pytest.mark.parametrize("layout", [Folder, Radiography])
def test_an_empty_folder_is_a_data_error(tmp_path, layout):
    (tmp_path / "films").mkdir()
    with pytest.raises(DataError, match="holds no class"):
        layout(str(tmp_path / "films")).listing()


@pytest.mark.parametrize("layout", [Folder, Radiography])
@pytest.mark.parametrize(
    ("name", "message"),
    [("nowhere", "does not exist"), ("plain.txt", "is no folder"), (None, "needs a folder: --data")],
)
def test_a_path_that_is_no_folder_is_a_usage_error(tmp_path, layout, name, message):
    (tmp_path / "plain.txt").write_text("x")
    with pytest.raises(UsageError, match=message):
        layout(str(tmp_path / name) if name else "").listing()


@pytest.mark.parametrize("layout", [Folder, Radiography])
def test_films_from_folders_are_not_redistributable_unless_somebody_says_so(layout):
    assert layout.redistributable is False


def test_a_second_listing_reads_no_file(kaggle, reads):
    first = Radiography(str(kaggle)).listing().films
    assert sorted(reads) == sorted(kaggle.glob("*/images/*.png"))
    reads.clear()
    assert Radiography(str(kaggle)).listing().films == first
    assert reads == []


def test_only_a_changed_file_is_read_again(kaggle, reads, write_film):
    before = Radiography(str(kaggle)).listing().films
    reads.clear()
    changed = kaggle / "Normal" / "images" / "Normal-1.png"
    write_film(changed, 222)
    os.utime(changed, ns=(1, 1))
    after = Radiography(str(kaggle)).listing().films
    assert reads == [changed]
    assert [film.file for one, film in zip(before, after, strict=True) if one != film] == ["Normal/images/Normal-1.png"]


def test_added_and_removed_files_are_noticed(kaggle, reads, write_film):
    Radiography(str(kaggle)).listing()
    reads.clear()
    (kaggle / "Normal" / "images" / "Normal-0.png").unlink()
    write_film(kaggle / "COVID" / "images" / "COVID-9.png", 9)
    names = [Path(film.file).stem for film in Radiography(str(kaggle)).listing().films]
    assert names == ["COVID-0", "COVID-1", "COVID-9", "Normal-1", "Normal-2"]
    assert reads == [kaggle / "COVID" / "images" / "COVID-9.png"]


@pytest.mark.parametrize("text", ["", '{"COVID'])
def test_a_torn_digest_index_is_made_again(kaggle, private_cache, reads, text):
    first = Radiography(str(kaggle)).listing().films
    reads.clear()
    (index,) = (private_cache / "digests").iterdir()
    index.write_text(text)
    assert Radiography(str(kaggle)).listing().films == first
    assert len(reads) == len(first)


def test_two_folders_do_not_share_a_digest_index(kaggle, folder, private_cache):
    Radiography(str(kaggle)).listing()
    Folder(str(folder)).listing()
    assert len(list((private_cache / "digests").iterdir())) == 2


def test_a_data_set_is_resolved_by_name():
    assert resolve_dataset("phantom") == ("phantom", Phantom())


def test_a_data_set_is_resolved_by_name_with_parameters():
    assert resolve_dataset("phantom:seed=3:patients_per_class=5") == (
        "phantom:patients_per_class=5:seed=3",
        Phantom(patients_per_class=5, seed=3),
    )


def test_a_path_resolves_to_its_layout(kaggle, folder):
    assert resolve_dataset(str(kaggle)) == ("kaggle", Radiography(str(kaggle)))
    assert resolve_dataset(str(folder)) == ("films", Folder(str(folder)))


def test_a_name_on_disk_goes_before_a_registered_name(tmp_path, folder, monkeypatch):
    monkeypatch.chdir(tmp_path)
    folder.rename(tmp_path / "phantom")
    assert resolve_dataset("phantom") == ("phantom", Folder("phantom"))
    assert resolve_dataset("phantom:seed=1")[1] == Phantom(seed=1)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("phantm", r"unknown data set 'phantm'; did you mean phantom\?"),
        ("phantm:seed=3", r"did you mean phantom\?"),
        ("./phantm", "data path phantm does not exist"),
        ("/no/such/place", "data path /no/such/place does not exist"),
        ("~/no-such-place", "does not exist"),
        ("phantom:sed=3", "has no parameter 'sed'"),
        ("phantom:seed=three", "parameter seed='three'"),
    ],
)
def test_what_cannot_be_resolved_is_a_usage_error(text, message):
    with pytest.raises(UsageError, match=message):
        resolve_dataset(text)


@pytest.mark.parametrize(
    ("name", "counts"),
    [
        ("covid19-radiography", {"COVID": 2500, "Normal": 2500, "Viral Pneumonia": 394}),
        ("external", {"COVID": 300, "Normal": 300, "Pneumonia": 300}),
    ],
)
def test_the_real_data_sets_are_read_whole(real_data, name, counts):
    shown, dataset = resolve_dataset(str(real_data / name))
    films = dataset.listing().films
    assert (shown, type(dataset)) == (name, Radiography)
    assert len(films) == sum(counts.values())
    assert Counter(dataset.classes()[film.label] for film in films) == counts


def test_real_films_can_be_decoded(real_data):
    dataset = Radiography(str(real_data / "external"))
    for film in dataset.listing().films[::100]:
        assert dataset.read(film, 32).std() > 5


def test_the_external_films_know_their_patients_and_sources(real_data):
    films = Radiography(str(real_data / "external")).listing().films
    assert sum(film.patient_id is not None for film in films) > 800
    assert all(film.source for film in films)
