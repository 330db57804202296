"""One image file to one grey square, or a reason why not."""

from __future__ import annotations

import struct
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from cxrbench.datasets.dicom import DICOM_SUFFIXES, dicom_dimensions, dicom_grey
from cxrbench.datasets.faults import refuse_faults
from cxrbench.datasets.pixels import to_square, white_level
from cxrbench.errors import UnreadableFilm

TIFF_SUFFIXES = frozenset({".tif", ".tiff"})
SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".webp"}) | TIFF_SUFFIXES | DICOM_SUFFIXES
# What Pillow raises for damaged files of one format or another.
DAMAGE = (OSError, SyntaxError, ValueError, EOFError, TypeError, KeyError, IndexError, OverflowError, struct.error)
MAX_PIXELS = 120_000_000  # a 35 x 43 cm film at 0.1 mm is 15 million; far beyond it lies a bomb
# MAX_PIXELS decides. Once and for all, as ``catch_warnings`` is not safe where threads decode.
warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)


def decode_film(path: Path, size: int) -> NDArray[np.uint8]:
    """Decode one file to uint8 ``[size, size]``; dark = low values as stored, dark = air for DICOM.

    Colour is reduced by ITU-R 601 luma, transparency is composed onto black, and 16-bit values are scaled
    by ``white_level``. The aspect ratio is not kept: films are resized to a square, as the published studies
    do. A DICOM file (``.dcm``, ``.dicom``) is shown as its window says; see ``dicom_grey``. Other formats
    are told by their content (JPEG named ``.png`` is common on Kaggle), except for TIFF under another name:
    viewers that trust the name show nothing, so nobody has ever looked at that film.

    Raises:
        UnreadableFilm: empty, truncated, no image, several frames, blank, misnamed, or of more than
            ``MAX_PIXELS`` pixels.
    """
    if path.suffix.lower() in DICOM_SUFFIXES:
        _refuse_empty(path)
        return to_square(dicom_grey(path, MAX_PIXELS), size)
    with opened(path) as image:
        if image.width * image.height > MAX_PIXELS:
            raise UnreadableFilm(f"{image.width}x{image.height} pixels are too many for a film")
        if getattr(image, "n_frames", 1) > 1:
            raise UnreadableFilm(f"holds {image.n_frames} frames, expected one")  # type: ignore[attr-defined]
        grey = _to_grey(image)
    return to_square(grey, size)


def stored_dimensions(path: Path) -> tuple[int, int]:
    """Width and height of an image file from its header, in pixels.

    Raises:
        UnreadableFilm: no image, damaged or misnamed.
    """
    if path.suffix.lower() in DICOM_SUFFIXES:
        _refuse_empty(path)
        return dicom_dimensions(path)
    with opened(path) as image:
        return image.size


@contextmanager
def opened(path: Path) -> Iterator[Image.Image]:
    """The image; everything that Pillow raises for it, now or later, becomes UnreadableFilm."""
    _refuse_empty(path)
    try:
        with Image.open(path) as image:
            if image.format == "TIFF" and path.suffix.lower() not in TIFF_SUFFIXES:
                raise UnreadableFilm(f"is TIFF, but named {path.suffix or 'without a suffix'}: rename it")
            yield image
    except UnidentifiedImageError:
        raise UnreadableFilm("not an image, or of an unknown format") from None
    except Image.DecompressionBombError:
        raise UnreadableFilm("far too many pixels for a film") from None
    except DAMAGE as error:
        refuse_faults(path, error)
        raise UnreadableFilm(f"damaged: {error}") from None


def _refuse_empty(path: Path) -> None:
    try:
        if path.stat().st_size == 0:
            raise UnreadableFilm("empty file (0 bytes)")
    except OSError as error:
        refuse_faults(path, error)
        raise


def _to_grey(image: Image.Image) -> Image.Image:
    """Mode ``L``, or ``F`` scaled to 0..255 for deep images."""
    if image.mode in ("I;16", "I;16B", "I;16L", "I", "F"):
        values = np.asarray(image, dtype=np.float32)
        if not np.isfinite(values).all() or values.min() < 0:
            raise UnreadableFilm("has negative or non-finite grey values")
        peak = float(values.max())
        top = 1.0 if image.mode == "F" and peak <= 1 else white_level(peak)  # floats may also run from 0 to 1
        return Image.fromarray(values * (255.0 / top))
    if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
        rgba = image.convert("RGBA")
        black = Image.new("RGBA", rgba.size, (0, 0, 0, 255))
        return Image.alpha_composite(black, rgba).convert("L")
    if image.mode in ("L", "1", "P", "RGB"):
        return image.convert("L")
    raise UnreadableFilm(f"colour mode {image.mode} is not one films are stored in")
