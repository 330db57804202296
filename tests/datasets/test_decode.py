"""Decoding one file: every way of storing a film shows the same film, and damage gives a reason."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from cxrbench.datasets import decode
from cxrbench.datasets.decode import decode_film
from cxrbench.datasets.phantom import Phantom
from cxrbench.errors import DataError, UnreadableFilm

PHANTOM = Phantom(patients_per_class=1, max_films=1)
GREY = PHANTOM.read(PHANTOM.listing().films[0], 96)
FILM = Image.fromarray(GREY)


def opaque(film):
    film = film.convert("RGBA")
    film.putalpha(255)
    return film


STORED = {
    "grey": (FILM, "png", 0),
    "RGB": (FILM.convert("RGB"), "png", 1),
    "opaque RGBA": (opaque(FILM), "png", 1),
    "grey with alpha": (FILM.convert("LA"), "png", 1),
    "palette": (FILM.convert("RGB").quantize(256), "png", 3),
    "16 bit": (Image.fromarray(GREY.astype(np.uint16) * 257), "png", 1),
    "16 bit TIFF": (Image.fromarray(GREY.astype(np.uint16) * 257), "tif", 1),
    "12 of 16 bit": (Image.fromarray(GREY.astype(np.uint16) * 16 + 15), "png", 2),
    "10 of 16 bit": (Image.fromarray(GREY.astype(np.uint16) * 4 + 3), "png", 2),
    "32 bit integer": (Image.fromarray(GREY.astype(np.int32) * 257), "tif", 1),
    "1 bit, dithered": (FILM.convert("1"), "png", 25),
    "JPEG": (FILM, "jpg", 4),
    "colour JPEG": (FILM.convert("RGB"), "jpeg", 4),
    "BMP": (FILM, "bmp", 1),
    "WebP": (FILM, "webp", 5),
    "compressed TIFF": (FILM, "tiff", 0),
}


@pytest.mark.parametrize(("image", "suffix", "tolerance"), STORED.values(), ids=STORED)
def test_a_film_looks_the_same_however_it_is_stored(tmp_path, image, suffix, tolerance):
    path = tmp_path / f"film.{suffix}"
    image.save(path, **({"compression": "tiff_lzw"} if suffix == "tiff" else {}))
    FILM.save(tmp_path / "reference.png")
    film, reference = decode_film(path, 24), decode_film(tmp_path / "reference.png", 24)
    assert film.dtype == np.uint8
    assert np.abs(film.astype(int) - reference).mean() <= tolerance


def test_a_film_of_the_wanted_size_comes_back_pixel_for_pixel(tmp_path):
    FILM.save(tmp_path / "film.png")
    np.testing.assert_array_equal(decode_film(tmp_path / "film.png", 96), GREY)


def test_transparency_is_composed_onto_black(tmp_path):
    half = FILM.convert("RGBA")
    half.putalpha(128)
    half.save(tmp_path / "half.png")
    np.testing.assert_allclose(decode_film(tmp_path / "half.png", 96), GREY * (128 / 255), atol=1.5)


def test_a_transparent_grey_level_is_black(tmp_path):
    level = int(np.bincount(GREY[GREY > 50]).argmax())
    FILM.save(tmp_path / "film.png", transparency=level)
    clear = np.isin(GREY, level)
    np.testing.assert_array_equal(decode_film(tmp_path / "film.png", 96), np.where(clear, 0, GREY))


def test_the_aspect_ratio_is_not_kept(tmp_path):
    FILM.resize((96, 48), Image.Resampling.BOX).save(tmp_path / "wide.png")
    FILM.save(tmp_path / "film.png")
    wide, square = (decode_film(tmp_path / name, 24).astype(int) for name in ("wide.png", "film.png"))
    assert np.abs(wide - square).mean() < 4


@settings(deadline=None, max_examples=30)
@given(
    width=st.integers(1, 50),
    height=st.integers(2, 50),
    size=st.integers(1, 64),
    mode=st.sampled_from(["L", "RGB", "I;16"]),
)
def test_every_size_decodes_to_a_square_of_uint8(tmp_path_factory, width, height, size, mode):
    path = tmp_path_factory.mktemp("sizes") / "ramp.png"
    ramp = np.linspace(0, 255, width * height).reshape(height, width)
    image = (
        Image.fromarray((ramp * 257).astype(np.uint16)) if mode == "I;16" else Image.fromarray(ramp.astype(np.uint8))
    )
    image.convert(mode).save(path)
    film = decode_film(path, size)
    assert film.dtype == np.uint8
    assert film.shape == (size, size)
    if size > 1:
        assert film[0].mean() < film[-1].mean()


def write_png(path):
    FILM.save(path)
    return path.read_bytes()


UNREADABLE = {
    "empty": (lambda path: path.write_bytes(b""), r"empty file \(0 bytes\)"),
    "text": (lambda path: path.write_text("file,label\n"), "not an image"),
    "truncated": (lambda path: path.write_bytes(write_png(path)[:1500]), "damaged: .*truncated"),
    "cut in its header": (lambda path: path.write_bytes(write_png(path)[:20]), "not an image|damaged"),
    "a flipped byte": (
        lambda path: path.write_bytes(write_png(path).replace(b"IDAT", b"IDAU", 1)),
        "damaged|not an image",
    ),
    "blank": (lambda path: Image.new("L", (8, 8), 17).save(path), "blank: every pixel"),
    "blank and deep": (lambda path: Image.fromarray(np.full((8, 8), 999, np.uint16)).save(path), "blank"),
    "wholly transparent": (lambda path: Image.new("RGBA", (8, 8), (9, 8, 7, 0)).save(path), "blank"),
    "one pixel": (lambda path: Image.new("L", (1, 1), 17).save(path), "blank"),
    "animated": (
        lambda path: FILM.save(path, save_all=True, append_images=[FILM.rotate(9)] * 2),
        "holds 3 frames, expected one",
    ),
}


@pytest.mark.parametrize(("write", "reason"), UNREADABLE.values(), ids=UNREADABLE)
def test_what_is_no_film_is_refused_with_a_reason(tmp_path, write, reason):
    write(tmp_path / "film.png")
    with pytest.raises(UnreadableFilm, match=reason):
        decode_film(tmp_path / "film.png", 16)


def test_a_fault_of_the_disk_is_no_fault_of_the_film(tmp_path, monkeypatch):
    FILM.save(tmp_path / "film.png")

    def broken(path):
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(Image, "open", broken)
    for path in (tmp_path / "film.png", tmp_path / "gone.png"):  # remembered as damaged they would stay so
        with pytest.raises(DataError, match=r"\.png cannot be read: .*; run again when it can"):
            decode_film(path, 16)


UNREADABLE_TIFFS = {
    "pages": (FILM, {"save_all": True, "append_images": [FILM]}, "holds 2 frames"),
    "negative": (Image.fromarray(GREY.astype(np.int32) - 100), {}, "negative or non-finite"),
    "not a number": (
        Image.fromarray(np.where(GREY > 99, np.nan, GREY).astype(np.float32)),
        {},
        "negative or non-finite",
    ),
    "print colours": (FILM.convert("CMYK"), {}, "colour mode CMYK"),
}


@pytest.mark.parametrize(("image", "options", "reason"), UNREADABLE_TIFFS.values(), ids=UNREADABLE_TIFFS)
def test_tiffs_that_are_no_film_are_refused_with_a_reason(tmp_path, image, options, reason):
    image.save(tmp_path / "film.tif", **options)
    with pytest.raises(UnreadableFilm, match=reason):
        decode_film(tmp_path / "film.tif", 16)


def test_a_truncated_jpeg_is_refused(tmp_path):
    path = tmp_path / "film.jpg"
    FILM.save(path)
    path.write_bytes(path.read_bytes()[:900])
    with pytest.raises(UnreadableFilm, match=r"damaged: .*truncated"):
        decode_film(path, 16)


def test_pictures_of_too_many_pixels_are_refused_before_they_are_decoded(tmp_path, monkeypatch):
    path = tmp_path / "film.png"
    path.write_bytes(write_png(path)[:1500])
    monkeypatch.setattr(decode, "MAX_PIXELS", 96 * 96 - 1)
    with pytest.raises(UnreadableFilm, match="96x96 pixels are too many"):
        decode_film(path, 16)


def test_pictures_of_just_enough_pixels_are_read(tmp_path, monkeypatch):
    FILM.save(tmp_path / "film.png")
    monkeypatch.setattr(decode, "MAX_PIXELS", 96 * 96)
    assert decode_film(tmp_path / "film.png", 16).shape == (16, 16)


def test_pillows_own_limit_gives_a_reason_too(tmp_path, monkeypatch):
    FILM.save(tmp_path / "film.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    with pytest.raises(UnreadableFilm, match="far too many pixels"):
        decode_film(tmp_path / "film.png", 16)


@pytest.mark.parametrize(("byte", "value"), [(8, 255), (72, 5)])
def test_a_damaged_tiff_is_quarantined_whatever_pillow_raises(tmp_path, byte, value):
    path = tmp_path / "film.tif"
    Image.fromarray(np.arange(64 * 64, dtype=np.uint8).reshape(64, 64)).save(path)
    content = bytearray(path.read_bytes())
    content[byte] = value
    path.write_bytes(content)
    with pytest.raises(UnreadableFilm):
        decode_film(path, 32)


def test_a_float_film_from_zero_to_one_is_no_black_film(tmp_path):
    ramp = np.tile(np.linspace(0, 1, 64, dtype=np.float32), (64, 1))
    Image.fromarray(ramp).save(tmp_path / "film.tif")
    assert decode_film(tmp_path / "film.tif", 32).max() > 240


def test_a_film_that_is_blank_once_resized_is_blank(tmp_path):
    almost = np.full((64, 64), 100, np.uint8)
    almost[0, 0] = 101
    Image.fromarray(almost).save(tmp_path / "film.png")
    with pytest.raises(UnreadableFilm, match="blank"):
        decode_film(tmp_path / "film.png", 16)
