"""Bad input, seen through a whole data set: each gives one clear line, and none a black film."""

import os
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from cxrbench.datasets.decode import decode_film, stored_dimensions
from cxrbench.datasets.folder import Folder
from cxrbench.datasets.resolve import resolve_dataset
from cxrbench.errors import DataError, UnreadableFilm

RAMP = np.add.outer(np.arange(32) * 4, np.arange(32) * 4).astype(np.uint8)


def chunk(kind, content):
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def bomb(width, height):
    """A PNG of a few bytes that says it has ``width`` x ``height`` pixels."""
    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0" * 99)) + chunk(b"IEND", b"")
    )


def as_tiff(path):
    Image.fromarray(RAMP).save(path, format="TIFF")


def as_jpeg(path):
    Image.fromarray(RAMP).save(path, format="JPEG")


def cut(path):
    Image.fromarray(RAMP).save(path)
    path.write_bytes(path.read_bytes()[:-60])


BAD = {
    "truncated": ("x.png", cut, "damaged: .*[Tt]runcated"),
    "bomb": ("x.png", lambda path: path.write_bytes(bomb(50_000, 50_000)), "far too many pixels for a film"),
    "just too large": ("x.png", lambda path: path.write_bytes(bomb(12_000, 11_000)), "12000x11000 pixels are too many"),
    "TIFF named .png": ("x.png", as_tiff, r"is TIFF, but named .png: rename it"),
    "TIFF named .dcm": ("x.dcm", as_tiff, "is no DICOM file"),
    "text named .jpg": ("x.jpg", lambda path: path.write_text("<html>404</html>"), "not an image"),
    "empty": ("x.dcm", lambda path: path.touch(), r"empty file \(0 bytes\)"),
}


@pytest.mark.parametrize(("name", "write", "reason"), BAD.values(), ids=BAD)
def test_a_bad_file_is_refused_and_never_black(tree, name, write, reason):
    root = tree("folder")
    write(root / "sick" / name)
    dataset = Folder(str(root))
    film = next(film for film in dataset.listing().films if film.file == f"sick/{name}")
    with pytest.raises(UnreadableFilm, match=reason) as error:
        dataset.read(film, 32)
    assert "\n" not in str(error.value)


def test_a_misnamed_tiff_has_no_dimensions_either(tmp_path):
    as_tiff(tmp_path / "film.png")
    with pytest.raises(UnreadableFilm, match="rename it"):
        stored_dimensions(tmp_path / "film.png")
    as_tiff(tmp_path / "film.tiff")
    assert decode_film(tmp_path / "film.tiff", 32).max() > 200


def test_other_formats_are_told_by_their_content(tmp_path):
    as_jpeg(tmp_path / "film.png")
    np.testing.assert_allclose(decode_film(tmp_path / "film.png", 32), RAMP, atol=8)


@pytest.mark.parametrize("bits", [10, 12, 14, 16])
def test_deep_films_are_as_bright_as_shallow_ones(tmp_path, write_dicom, png_bytes, bits):
    deep = (RAMP.astype(np.uint32) * (2**bits - 1) // 255).astype(np.uint16)
    (tmp_path / "film.png").write_bytes(png_bytes(deep))
    write_dicom(tmp_path / "film.dcm", deep, stored=bits)
    (tmp_path / "shallow.png").write_bytes(png_bytes(RAMP))
    shallow = decode_film(tmp_path / "shallow.png", 32).astype(int)
    for name in ("film.png", "film.dcm"):
        assert np.abs(decode_film(tmp_path / name, 32) - shallow).max() <= 4


def test_monochrome1_is_turned_over(tmp_path, write_dicom):
    write_dicom(tmp_path / "one.dcm", RAMP, PhotometricInterpretation="MONOCHROME1")
    write_dicom(tmp_path / "two.dcm", RAMP)
    one, two = (decode_film(tmp_path / f"{name}.dcm", 32).astype(int) for name in ("one", "two"))
    np.testing.assert_array_equal(one, 255 - two)


def test_a_loop_of_links_is_quarantined_and_the_others_are_read(tree):
    root = tree("folder")
    (root / "sick" / "loop.png").symlink_to("loop.png")
    (root / "sick" / "again").symlink_to(root)
    listing = Folder(str(root)).listing()
    assert listing.quarantined == {"sick/loop.png": "cannot be opened: Too many levels of symbolic links"}
    assert len(listing.films) == 4


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_that_may_not_be_read_is_quarantined(tree):
    root = tree("folder")
    (root / "sick" / "0.jpg").chmod(0)
    assert list(Folder(str(root)).listing().quarantined) == ["sick/0.jpg"]


def test_a_folder_of_no_images_is_a_data_error(tmp_path):
    (tmp_path / "films" / "a").mkdir(parents=True)
    (tmp_path / "films" / "a" / "notes.txt").write_text("no image")
    with pytest.raises(DataError, match=r"class 'a' in .* has no image; remove the class or add films"):
        resolve_dataset(str(tmp_path / "films"))[1].listing()


TABLES = {
    "radiography": "metadata.csv",
    "covid-chestxray": "metadata.csv",
    "vinbigdata": "train.csv",
    "chestxray14": "Data_Entry_2017_v2020.csv",
    "covidx": "train_COVIDx9A.txt",
}


@pytest.mark.parametrize(("name", "table"), TABLES.items())
def test_a_table_that_is_not_utf8_is_a_data_error_that_names_it(tree, name, table):
    root = tree(name)
    dataset = resolve_dataset(str(root))[1]
    before = (root / table).read_bytes() if (root / table).exists() else b"file,source\n"
    (root / table).write_bytes(before + "Köln,Zürich\n".encode("latin-1"))
    with pytest.raises(DataError, match=rf"{table} is not UTF-8 \(byte \d+\); save it as UTF-8"):
        dataset.listing()


@pytest.mark.parametrize(("name", "table"), list(TABLES.items())[1:])
def test_lines_that_stand_twice_count_once(tree, name, table):
    root = tree(name)
    once = resolve_dataset(str(root))[1].listing()
    lines = (root / table).read_text().splitlines()
    (root / table).write_text("\n".join([*lines, *lines[1:]]) + "\n")
    twice = resolve_dataset(str(root))[1].listing()
    assert (twice.films, twice.quarantined) == (once.films, once.quarantined)


def test_a_label_with_spaces_and_commas_is_one_label(tree):
    root = tree("folder")
    (root / "metadata.csv").write_text('file,label\nsick/0.jpg,"COVID-19, severe, left"\nsick/2.dcm,  no finding \n')
    dataset = Folder(str(root))
    assert dataset.classes() == ("COVID-19, severe, left", "no finding")
    assert [film.label for film in dataset.listing().films] == [0, 1]


def test_dicom_files_stand_among_the_images_of_a_folder(tree):
    dataset = Folder(str(tree("folder")))
    assert "sick/2.dcm" in [film.file for film in dataset.listing().films]
