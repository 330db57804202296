"""One DICOM file to grey values, or a reason why not. pydicom is imported when the first one is met."""

from __future__ import annotations

import functools
import struct
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from cxrbench.datasets.faults import refuse_faults
from cxrbench.datasets.pixels import white_level
from cxrbench.errors import UnreadableFilm

if TYPE_CHECKING:
    from pydicom import Dataset

DICOM_SUFFIXES = frozenset({".dcm", ".dicom"})
FAR = 1e12  # beyond both ends of any window
# What pydicom and its decoders raise for damaged files of one kind or another.
DAMAGE = (
    OSError,
    EOFError,
    ValueError,
    TypeError,
    KeyError,
    IndexError,
    AttributeError,
    NotImplementedError,
    OverflowError,
    RuntimeError,
    struct.error,
)


def dicom_grey(path: Path, max_pixels: int) -> Image.Image:
    """Decode one film to mode ``F``, values 0..255, bright = dense.

    The modality LUT (or rescale) comes first, then the window, or the VOI LUT where there is no window
    (DICOM PS3.3 C.11.1 and C.11.2; the first one where there are several); MONOCHROME1 is inverted. Without
    either the film is scaled as other deep images are: unsigned values by ``white_level``, signed ones from
    their smallest to their largest.

    Raises:
        UnreadableFilm: no DICOM, damaged, without pixels, in colour, of several frames, of more than
            ``max_pixels`` pixels, with non-finite values, or compressed in a way no installed decoder reads.
    """
    ds = _read(path)
    try:
        _refuse_what_is_no_film(ds, max_pixels)
        grey = _shown(ds, _stored_pixels(ds))
    except DAMAGE as error:
        refuse_faults(path, error)
        raise UnreadableFilm(f"damaged DICOM: {_one_line(error)}") from None
    if not np.isfinite(grey).all():
        raise UnreadableFilm("has non-finite grey values")
    grey = np.clip(grey, 0.0, 1.0) * 255.0
    return Image.fromarray(255.0 - grey if _text(ds, "PhotometricInterpretation") == "MONOCHROME1" else grey)


def dicom_dimensions(path: Path) -> tuple[int, int]:
    """Width and height in pixels, from the header alone.

    Raises:
        UnreadableFilm: no DICOM, damaged, or without pixels.
    """
    ds = _read(path, tags=["Rows", "Columns"])
    if not ds.get("Rows") or not ds.get("Columns"):
        raise UnreadableFilm("is DICOM without pixel data (a report, or cut short)")
    return int(ds.Columns), int(ds.Rows)


def _read(path: Path, tags: list[str] | None = None) -> Dataset:
    pydicom = _pydicom()
    try:
        ds: Dataset = pydicom.dcmread(path, specific_tags=tags, stop_before_pixels=tags is not None)
    except pydicom.errors.InvalidDicomError:
        raise UnreadableFilm("is no DICOM file, whatever its name says") from None
    except DAMAGE as error:
        refuse_faults(path, error)
        raise UnreadableFilm(f"damaged DICOM: {_one_line(error)}") from None
    return ds


@functools.cache
def _pydicom() -> Any:
    """pydicom, silenced for good: ``catch_warnings`` around each film is not safe where threads decode."""
    import pydicom

    warnings.filterwarnings("ignore", module=r"pydicom\b|cxrbench\.datasets\.dicom")
    return pydicom


def _refuse_what_is_no_film(ds: Dataset, max_pixels: int) -> None:
    if not any(name in ds for name in ("PixelData", "FloatPixelData", "DoubleFloatPixelData")):
        raise UnreadableFilm("is DICOM without pixel data (a report, or cut short)")
    colours = _text(ds, "PhotometricInterpretation") or "no photometric interpretation"
    if colours not in ("MONOCHROME1", "MONOCHROME2") or int(ds.get("SamplesPerPixel") or 1) != 1:
        raise UnreadableFilm(f"is DICOM in colour or unknown grey ({colours}); a film is MONOCHROME1 or 2")
    if int(ds.get("NumberOfFrames") or 1) > 1:
        raise UnreadableFilm(f"holds {ds.NumberOfFrames} frames, expected one")
    if int(ds.Rows) * int(ds.Columns) > max_pixels:
        raise UnreadableFilm(f"{ds.Columns}x{ds.Rows} pixels are too many for a film")


def _stored_pixels(ds: Dataset) -> NDArray[Any]:
    """The pixels as stored, ``[rows, columns]``, integer (or float, which the standard allows)."""
    from pydicom.pixels import get_decoder

    syntax = ds.file_meta.TransferSyntaxUID
    if syntax.is_compressed and not syntax.is_deflated:
        try:
            missing = [] if (decoder := get_decoder(syntax)).is_available else list(decoder.missing_dependencies)
        except NotImplementedError:  # a film strip (MPEG), or a syntax of the maker's own
            missing = ["which pydicom does not know"]
        if missing:
            raise UnreadableFilm(f"is compressed as {syntax.name}; no decoder for it is installed ({missing[0]})")
    stored: NDArray[Any] = ds.pixel_array
    return stored


def _shown(ds: Dataset, stored: NDArray[Any]) -> NDArray[np.float32]:
    """What a viewer would show: 0 = the window's lower end, 1 = its upper."""
    from pydicom.pixels import apply_modality_lut, apply_voi, apply_windowing

    values = apply_modality_lut(stored, ds)
    if None not in (ds.get("WindowCenter"), ds.get("WindowWidth")):
        values = apply_windowing(values, ds)
        low, high = apply_windowing(np.array([-FAR, FAR]), ds)
    elif ds.get("VOILUTSequence"):
        entries, first, bits = (int(value) for value in ds.VOILUTSequence[0].LUTDescriptor)
        entries = entries or 2**16  # the standard's way to write 65,536
        if bits == 8 and entries > 256:
            raise NotImplementedError("an 8-bit VOI LUT of more than 256 entries")  # pydicom's index wraps around
        values = apply_voi(np.clip(np.rint(values), first, first + entries - 1).astype(np.int64), ds)
        low, high = sorted(apply_voi(np.array([first, first + entries - 1]), ds).astype(float))
    else:
        unsigned = np.issubdtype(stored.dtype, np.integer) and stored.min() >= 0
        ends = (0, white_level(float(stored.max()))) if unsigned else (stored.min(), stored.max())
        low, high = sorted(apply_modality_lut(np.array(ends, stored.dtype), ds).astype(float))
    if low == high:
        raise UnreadableFilm("blank: every pixel has the same value")
    return np.asarray((values.astype(np.float64) - low) / (high - low), dtype=np.float32)


def _text(ds: Dataset, name: str) -> str:
    return str(ds.get(name) or "").strip().upper()


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__
