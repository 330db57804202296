"""DICOM: what a viewer would show, bright = dense, or a reason why not."""

import subprocess
import sys

import numpy as np
import pydicom.pixels
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from pydicom.dataset import Dataset
from pydicom.uid import MPEG2MPML, JPEGLSLossless, RLELossless

from cxrbench.datasets.decode import decode_film, stored_dimensions
from cxrbench.errors import DataError, UnreadableFilm

EIGHT = np.add.outer(np.arange(16) * 12, np.arange(16) * 5).astype(np.uint8)  # 0..255, brighter down and right
TWELVE = EIGHT.astype(np.uint16) * 16 + 15
RANGE = {"WindowCenter": 2048, "WindowWidth": 4096}


def lut(values, first, bits):
    item = Dataset()
    item.LUTDescriptor = [len(values), first, bits]
    item.LUTData = np.asarray(values, "<u2").tobytes()
    return [item]


STORED = {
    "8 bit": (EIGHT, 8, {}),
    "12 bit": (TWELVE, 12, {}),
    "12 bit said to be 16": (TWELVE, 16, {}),
    "16 bit": (EIGHT.astype(np.uint16) * 257, 16, {}),
    "12 bit with its window": (TWELVE, 12, RANGE),
    "several windows, the first counts": (TWELVE, 12, {"WindowCenter": [2048, 9], "WindowWidth": [4096, 2]}),
    "exact window": (TWELVE, 12, {**RANGE, "VOILUTFunction": "LINEAR_EXACT"}),
    "MONOCHROME1": (4095 - TWELVE, 12, {"PhotometricInterpretation": "MONOCHROME1"}),
    "MONOCHROME1 with its window": (4095 - TWELVE, 12, {"PhotometricInterpretation": "MONOCHROME1", **RANGE}),
    "signed": (EIGHT.astype(np.int16) - 128, 16, {}),
    "rescaled": (TWELVE, 12, {"RescaleSlope": 2, "RescaleIntercept": -1024}),
    "rescaled with its window": (
        TWELVE,
        12,
        {"RescaleSlope": 2, "RescaleIntercept": -1024, "WindowCenter": 3072, "WindowWidth": 8192},
    ),
    "rescaled downwards": (4095 - TWELVE, 12, {"RescaleSlope": -1, "RescaleIntercept": 4095}),
    "rescaled downwards with its window": (4095 - TWELVE, 12, {"RescaleSlope": -1, "RescaleIntercept": 4095, **RANGE}),
    "VOI LUT": (TWELVE, 12, {"VOILUTSequence": lut(np.arange(4096) * 16, 0, 16)}),
    "VOI LUT downwards": (4095 - TWELVE, 12, {"VOILUTSequence": lut(4095 - np.arange(4096), 0, 12)}),
    "modality LUT": (TWELVE, 12, {"ModalityLUTSequence": lut(np.arange(4096) * 2, 0, 16)}),
}


@pytest.mark.parametrize(("pixels", "bits", "tags"), STORED.values(), ids=STORED)
def test_a_film_looks_the_same_however_it_is_stored(tmp_path, write_dicom, pixels, bits, tags):
    tags = {**tags, **({"ModalityLUTType": "US"} if "ModalityLUTSequence" in tags else {})}
    for item in tags.get("ModalityLUTSequence", []):
        item.ModalityLUTType = tags.pop("ModalityLUTType")
    write_dicom(tmp_path / "film.dcm", pixels, stored=bits, **tags)
    film = decode_film(tmp_path / "film.dcm", 16)
    assert film.dtype == np.uint8
    np.testing.assert_allclose(film, EIGHT, atol=2)


def test_twelve_bits_look_as_they_do_in_a_png(tmp_path, write_dicom):
    write_dicom(tmp_path / "film.dicom", TWELVE, stored=12)
    Image.fromarray(TWELVE).save(tmp_path / "film.png")
    np.testing.assert_array_equal(*(decode_film(tmp_path / f"film.{kind}", 16) for kind in ("dicom", "png")))


def test_a_window_stretches_its_values_and_cuts_the_others_off(tmp_path, write_dicom):
    write_dicom(tmp_path / "film.dcm", TWELVE, stored=12, WindowCenter=2048, WindowWidth=1024)
    film = decode_film(tmp_path / "film.dcm", 16)
    assert (film[TWELVE < 1530] == 0).all()
    assert (film[TWELVE > 2560] == 255).all()
    assert film[(TWELVE > 2000) & (TWELVE < 2100)].mean() == pytest.approx(128, abs=12)


@settings(deadline=None, max_examples=25)
@given(centre=st.floats(-1000, 6000), width=st.floats(2, 9000), function=st.sampled_from(["LINEAR", "SIGMOID"]))
def test_any_window_keeps_the_order_of_grey_values(tmp_path_factory, write_dicom, centre, width, function):
    path = tmp_path_factory.mktemp("window") / "film.dcm"
    window = {"WindowCenter": f"{centre:.6g}", "WindowWidth": f"{width:.6g}", "VOILUTFunction": function}
    write_dicom(path, TWELVE, stored=12, **window)
    try:
        film = decode_film(path, 16)
    except UnreadableFilm as error:
        assert "blank" in str(error)  # noqa: PT017 - a window beside all values shows nothing
        return
    order = np.argsort(TWELVE.ravel(), kind="stable")
    assert (np.diff(film.ravel()[order].astype(int)) >= 0).all()


def test_run_length_compression_is_read(tmp_path, write_dicom):
    ds = write_dicom(tmp_path / "film.dcm", TWELVE, stored=12)
    ds.compress(RLELossless)
    ds.save_as(tmp_path / "film.dcm", enforce_file_format=True)
    np.testing.assert_allclose(decode_film(tmp_path / "film.dcm", 16), EIGHT, atol=1)


def test_a_picture_is_resized_and_measured(tmp_path, write_dicom):
    write_dicom(tmp_path / "film.DCM", TWELVE[:8], stored=12)
    assert decode_film(tmp_path / "film.DCM", 40).shape == (40, 40)
    assert stored_dimensions(tmp_path / "film.DCM") == (16, 8)


RGB = np.stack([EIGHT] * 3, axis=2)
COLOUR = {"SamplesPerPixel": 3, "PlanarConfiguration": 0}
REFUSED = {
    "no pixel data": (EIGHT, {"PixelData": None}, r"is DICOM without pixel data \(a report, or cut short\)"),
    "RGB": (RGB, {"PhotometricInterpretation": "RGB", **COLOUR}, r"in colour or unknown grey \(RGB\)"),
    "YBR": (RGB, {"PhotometricInterpretation": "YBR_FULL", **COLOUR}, r"\(YBR_FULL\); a film is MONOCHROME1 or 2"),
    "palette": (EIGHT, {"PhotometricInterpretation": "PALETTE COLOR"}, r"\(PALETTE COLOR\)"),
    "unknown grey": (EIGHT, {"PhotometricInterpretation": None}, "no photometric interpretation"),
    "frames": (EIGHT, {"NumberOfFrames": 4, "Rows": 4}, "holds 4 frames, expected one"),
    "too many pixels": (EIGHT, {"Rows": 30000, "Columns": 30000}, "30000x30000 pixels are too many for a film"),
    "fewer pixels than it says": (EIGHT, {"Rows": 64}, "damaged DICOM: .*pixel data"),
    "no rows": (EIGHT, {"Rows": None}, "damaged DICOM: .*Rows"),
    "window of no width": (TWELVE, {**RANGE, "WindowWidth": 0}, "damaged DICOM: .*Window Width"),
    "window beside the film": (TWELVE, {"WindowCenter": 60000, "WindowWidth": 10}, "blank: every pixel"),
    "blank": (np.full((16, 16), 9, np.uint16), {}, "blank: every pixel"),
    "black": (np.zeros((16, 16), np.uint8), {}, "blank: every pixel"),
    "one signed value": (np.full((16, 16), -9, np.int16), {}, "blank: every pixel"),
    "film strip": (EIGHT, {"syntax": MPEG2MPML, "encapsulated": True}, "is compressed as MPEG2 Main Profile"),
    "damaged RLE": (EIGHT, {"syntax": RLELossless, "encapsulated": True}, "damaged DICOM"),
}


@pytest.mark.parametrize(("pixels", "tags", "reason"), REFUSED.values(), ids=REFUSED)
def test_what_is_no_film_is_refused_with_one_line(tmp_path, write_dicom, pixels, tags, reason):
    tags = dict(tags)
    if tags.pop("encapsulated", False):
        tags["PixelData"] = pydicom.encaps.encapsulate([b"junk" * 8])
    write_dicom(tmp_path / "film.dcm", pixels, **tags)
    with pytest.raises(UnreadableFilm, match=reason) as error:
        decode_film(tmp_path / "film.dcm", 16)
    assert "\n" not in str(error.value)


def test_values_that_are_no_numbers_are_refused(tmp_path, write_dicom):
    pixels = EIGHT.astype(np.float32)
    pixels[3, 3] = np.nan
    tags = {"PixelData": None, "FloatPixelData": pixels.tobytes(), "BitsStored": None, "HighBit": None}
    write_dicom(tmp_path / "film.dcm", pixels, stored=32, PixelRepresentation=None, **tags)
    with pytest.raises(UnreadableFilm, match="non-finite grey values"):
        decode_film(tmp_path / "film.dcm", 16)


def test_a_compression_without_a_decoder_is_named(tmp_path, write_dicom, monkeypatch):
    class Missing:
        is_available = False
        missing_dependencies = ("gdcm - requires gdcm>=3.0.10",)

    monkeypatch.setattr(pydicom.pixels, "get_decoder", lambda syntax: Missing())
    junk = pydicom.encaps.encapsulate([b"junk" * 8])
    write_dicom(tmp_path / "film.dcm", EIGHT, syntax=JPEGLSLossless, PixelData=junk)
    with pytest.raises(UnreadableFilm, match=r"is compressed as JPEG-LS .*; no decoder .* installed \(gdcm - requires"):
        decode_film(tmp_path / "film.dcm", 16)


@pytest.mark.parametrize("keep", [2, 100, 140, 300, 500, -200, -1])
def test_a_file_that_is_cut_short_anywhere_is_refused(tmp_path, write_dicom, keep):
    path = tmp_path / "film.dcm"
    write_dicom(path, TWELVE, stored=12)
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(UnreadableFilm, match=r"damaged DICOM|without pixel data|is no DICOM"):
        decode_film(path, 16)


def test_other_files_under_its_name_are_refused(tmp_path):
    Image.fromarray(EIGHT).save(tmp_path / "film.png")
    (tmp_path / "film.png").rename(tmp_path / "film.dcm")
    (tmp_path / "empty.dcm").write_bytes(b"")
    for read in (lambda path: decode_film(path, 16), stored_dimensions):
        with pytest.raises(UnreadableFilm, match="is no DICOM file, whatever its name says"):
            read(tmp_path / "film.dcm")
        with pytest.raises(UnreadableFilm, match=r"empty file \(0 bytes\)"):
            read(tmp_path / "empty.dcm")
        with pytest.raises(DataError, match="No such file"):
            read(tmp_path / "gone.dcm")


SCRIPT = """
import sys
from pathlib import Path
from cxrbench.datasets.decode import decode_film
decode_film(Path(sys.argv[1]), 16)
assert "pydicom" not in sys.modules
for _ in range(2):
    assert decode_film(Path(sys.argv[2]), 16).max() > 200
"""


def test_nothing_is_printed_and_pydicom_is_imported_only_for_dicom(tmp_path, write_dicom):
    Image.fromarray(EIGHT).save(tmp_path / "film.png")
    padded = TWELVE.tobytes() + b"\0" * 64  # pydicom warns of excess bytes, and of the date
    ds = write_dicom(
        tmp_path / "film.dcm", TWELVE, stored=12, PixelData=padded, StudyDate="20200101", PatientAge="058Y"
    )
    path = tmp_path / "film.dcm"
    path.write_bytes(path.read_bytes().replace(b"20200101", b"yyyymmdd"))
    with pytest.warns(UserWarning, match="excess|padding"):
        _ = pydicom.dcmread(path).pixel_array
    assert ds.StudyDate == "20200101"
    command = [sys.executable, "-W", "always", "-c", SCRIPT, str(tmp_path / "film.png"), str(path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
