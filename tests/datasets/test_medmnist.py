"""MedMNIST's files: one array per split, one label or fourteen per film."""

import hashlib

import numpy as np
import pytest

from cxrbench.datasets.labels import NIH_FINDINGS
from cxrbench.datasets.medmnist import MedMNIST
from cxrbench.errors import DataError, UnreadableFilm, UsageError


def chestmnist(folder, labels, size=28):
    """A ChestMNIST file whose three splits hold the same films, one for each set of labels."""
    matrix = np.zeros((len(labels), 14), np.uint8)
    for row, names in enumerate(labels):
        for name in names:
            matrix[row, NIH_FINDINGS.index(name)] = 1
    rng = np.random.default_rng(1)
    arrays = {}
    for split in ("train", "val", "test"):
        arrays[f"{split}_images"] = rng.integers(0, 256, (len(labels), size, size), dtype=np.uint8)
        arrays[f"{split}_labels"] = matrix
    folder.mkdir(exist_ok=True)
    np.savez_compressed(folder / f"chestmnist_{size}.npz", **arrays)
    return folder / f"chestmnist_{size}.npz"


def test_films_have_the_official_split_and_the_digest_of_their_pixels(tree):
    path = tree("medmnist")
    dataset = MedMNIST(str(path))
    films = dataset.listing().films
    assert dataset.classes() == ("normal", "pneumonia")
    assert [(film.file, film.label, film.split) for film in films] == [
        ("train/000000", 0, "train"),
        ("train/000001", 1, "train"),
        ("train/000002", 0, "train"),
        ("train/000003", 1, "train"),
        ("val/000000", 0, "val"),
        ("val/000001", 1, "val"),
        ("test/000000", 0, "test"),
        ("test/000001", 1, "test"),
        ("test/000002", 0, "test"),
    ]
    with np.load(path) as stored:
        assert films[5].digest == hashlib.sha256(stored["val_images"][1].tobytes()).hexdigest()
        np.testing.assert_array_equal(dataset.read(films[5], 28), stored["val_images"][1])
    assert dataset.read(films[5], 64).shape == (64, 64)
    assert dataset.dimensions(films[5]) == (28, 28)


def test_chestmnist_has_fourteen_labels_and_no_finding_is_none_of_them(tmp_path):
    path = chestmnist(tmp_path, [(), ("Pneumonia",), ("Pneumonia", "Mass"), ("Mass",)], size=64)
    listing = MedMNIST(str(path)).listing()
    assert [film.label for film in listing.films] == [0, 1, 1] * 3
    assert listing.left_out == {"labelled with none of the classes No Finding, Pneumonia": 3}
    both = MedMNIST(str(path), labels="Mass,Pneumonia").listing()
    assert [film.file[-1] for film in both.films] == ["1", "3"] * 3
    assert both.left_out == {
        "labelled with none of the classes Mass, Pneumonia": 3,
        "labelled with several of the classes Mass, Pneumonia": 3,
    }


def test_the_columns_are_those_of_the_published_order():
    assert (NIH_FINDINGS[0], NIH_FINDINGS[6], NIH_FINDINGS[12], NIH_FINDINGS[13]) == (
        "Atelectasis",
        "Pneumonia",
        "Pleural_Thickening",
        "Hernia",
    )


def test_a_changed_file_is_read_again(tree, tmp_path):
    path = tree("medmnist")
    before = MedMNIST(str(path)).listing().films
    with np.load(path) as stored:
        arrays = {name: stored[name] for name in stored}
    arrays["train_images"] = 255 - arrays["train_images"]
    np.savez_compressed(path, **arrays)
    after = MedMNIST(str(path)).listing().films
    assert [one.digest == two.digest for one, two in zip(before, after, strict=True)] == [False] * 4 + [True] * 5


def test_a_blank_film_is_unreadable(tree):
    path = tree("medmnist")
    with np.load(path) as stored:
        arrays = {name: stored[name] for name in stored}
    arrays["val_images"][0] = 7
    np.savez_compressed(path, **arrays)
    dataset = MedMNIST(str(path))
    with pytest.raises(UnreadableFilm, match="blank"):
        dataset.read(dataset.listing().films[4], 28)


def change(path, name, value):
    with np.load(path) as stored:
        arrays = {key: stored[key] for key in stored}
    if value is None:
        del arrays[name]
    else:
        arrays[name] = value
    np.savez_compressed(path, **arrays)


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("val_labels", None, "is no MedMNIST file: .*val_labels"),
        (
            "val_images",
            np.zeros((2, 28, 28, 3), np.uint8),
            r"val_images is uint8 \[2, 28, 28, 3\], not uint8 \[N, H, W\]",
        ),
        ("val_images", np.zeros((2, 28, 28), np.float32), "val_images is float32"),
        ("val_labels", np.zeros((2, 14), np.uint8), r"val_labels is \[2, 14\], not \[2, 1\]"),
        ("val_labels", np.zeros((3, 1), np.uint8), r"val_labels is \[3, 1\], not \[2, 1\]"),
        ("val_labels", np.full((2, 1), 2, np.uint8), "holds the label 2; PneumoniaMNIST has 0"),
        ("val_labels", np.array([[None], [1]], object), "cannot be read as an .npz file: Object arrays"),
    ],
    ids=["missing", "colour", "float", "wide labels", "long labels", "third label", "pickle"],
)
def test_arrays_that_are_not_as_published_are_data_errors(tree, name, value, message):
    path = tree("medmnist")
    change(path, name, value)
    with pytest.raises(DataError, match=message):
        MedMNIST(str(path)).listing()


def test_a_truncated_file_is_a_data_error(tree):
    path = tree("medmnist")
    path.write_bytes(path.read_bytes()[:3000])
    assert MedMNIST.recognises(path)
    with pytest.raises(DataError, match=r"cannot be read as an .npz file: .*; download it again"):
        MedMNIST(str(path)).listing()


def test_paths_and_classes_that_are_wrong_are_usage_errors(tree, tmp_path):
    path = tree("medmnist")
    with pytest.raises(UsageError, match="'Mass' is no label of this data set; it has normal, pneumonia"):
        MedMNIST(str(path), labels="normal,Mass").listing()
    path.rename(path.with_name("breastmnist.npz"))
    for root, message in (
        (path.with_name("breastmnist.npz"), "is no pneumoniamnist"),
        (path, "does not exist"),
        (tmp_path, "is no file"),
    ):
        with pytest.raises(UsageError, match=message):
            MedMNIST(str(root)).classes()
    with pytest.raises(UsageError, match=r"needs a file: --data PATH.npz"):
        MedMNIST().listing()
