"""``--data PATH``: every layout is recognised by its own adapter and by no other."""

import pytest

from cxrbench.datasets.resolve import LAYOUTS, resolve_dataset
from cxrbench.registry import DATASETS

NAMES = [*LAYOUTS, "folder"]


@pytest.mark.parametrize("name", NAMES)
def test_a_tree_is_recognised_by_its_own_adapter_first(tree, name):
    root = tree(name)
    recognised = [layout for layout, recognises in LAYOUTS.items() if recognises(root)]
    assert recognised[:1] == ([] if name == "folder" else [name])
    # The one overlap, which the order settles: images_001/images looks like a class of ``radiography``.
    assert recognised[1:] == (["radiography"] if name == "chestxray14" else [])


@pytest.mark.parametrize("name", NAMES)
def test_a_path_becomes_the_data_set_of_its_layout_and_can_be_listed_and_read(tree, name):
    root = tree(name)
    shown, dataset = resolve_dataset(str(root))
    assert (shown, type(dataset)) == (root.name, DATASETS.get(name))
    films = dataset.listing().films
    assert {film.label for film in films} == set(range(len(dataset.classes())))
    assert len({film.file for film in films}) == len({film.digest for film in films}) == len(films)
    for film in films:
        pixels = dataset.read(film, 16)
        assert (pixels.shape, pixels.dtype.name) == ((16, 16), "uint8")
        assert pixels.std() > 5
        assert dataset.dimensions(film) == ((28, 28) if name == "medmnist" else (12, 12))
    assert dataset.redistributable is False


@pytest.mark.parametrize("name", NAMES)
def test_two_listings_are_equal(tree, name):
    root = tree(name)
    first, second = (resolve_dataset(str(root))[1].listing() for _ in range(2))
    assert first == second


def test_an_empty_folder_and_a_text_file_are_recognised_by_none(tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "notes.txt").write_text("train test")
    for path in (tmp_path / "empty", tmp_path / "notes.txt", tmp_path / "nowhere"):
        assert [name for name, recognises in LAYOUTS.items() if recognises(path)] == []


def test_tables_of_other_kinds_are_not_mistaken(tmp_path):
    for name in ("train.csv", "metadata.csv"):
        (tmp_path / name).write_text("image_id,patientid\n1,2\n")
    (tmp_path / "train_list.txt").write_text("a b normal c\n")
    (tmp_path / "train.txt").write_text("words that are no films\n")
    (tmp_path / "test.txt").write_bytes(b"\xff\xfe")
    (tmp_path / "train" / "NORMAL").mkdir(parents=True)
    assert [name for name, recognises in LAYOUTS.items() if recognises(tmp_path)] == []


@pytest.mark.parametrize("name", [*NAMES, "xrv", "phantom"])
def test_every_data_set_is_registered(name):
    assert name in DATASETS.names()
    assert DATASETS.create(name) is not None


def test_a_csv_inside_another_layout_stays_a_folder(tree):
    root = tree("kermany")
    (root / "films.csv").write_text(
        "file,label\ntrain/NORMAL/IM-0115-0001.jpeg,a\ntest/PNEUMONIA/person1_virus_6.jpeg,b\n"
    )
    dataset = resolve_dataset(str(root / "films.csv"))[1]
    assert type(dataset) is DATASETS.get("folder")
    assert dataset.classes() == ("a", "b")


def test_parameters_reach_a_data_set_by_name(tree):
    root = tree("kermany")
    shown, dataset = resolve_dataset(f"kermany:root={root}:labels=NORMAL,bacteria,virus")
    assert shown.startswith("kermany:root=")
    assert dataset.classes() == ("NORMAL", "bacteria", "virus")
