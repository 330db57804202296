"""One image file to one grey square, or a reason why not."""

from __future__ import annotations

import struct
import warnings
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from cxrbench.errors import UnreadableFilm

SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp"})
# What Pillow raises for damaged files of one format or another.
DAMAGE = (OSError, SyntaxError, ValueError, EOFError, TypeError, KeyError, IndexError, OverflowError, struct.error)
LEAST_TELLING = 8  # pixels: a film smaller than this may be of one grey level and yet no blank
MAX_PIXELS = 120_000_000  # a 35 x 43 cm film at 0.1 mm is 15 million; far beyond it lies a bomb


def decode_film(path: Path, size: int) -> NDArray[np.uint8]:
    """Decode one file to uint8 ``[size, size]``, dark = low values as stored.

    Colour is reduced by ITU-R 601 luma, transparency is composed onto black, and 16-bit values are scaled
    by the smallest of 8, 10, 12, 14 or 16 bits that holds their maximum (X-ray detectors store 12 bits in
    16-bit files). The aspect ratio is not kept: films are resized to a square, as the published studies do.

    Raises:
        UnreadableFilm: empty, truncated, no image, several frames, blank, or larger than ``MAX_PIXELS``.
    """
    try:
        if path.stat().st_size == 0:
            raise UnreadableFilm("empty file (0 bytes)")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # MAX_PIXELS decides below
            with Image.open(path) as image:
                if image.width * image.height > MAX_PIXELS:
                    raise UnreadableFilm(f"{image.width}x{image.height} pixels are too many for a film")
                if getattr(image, "n_frames", 1) > 1:
                    raise UnreadableFilm(f"holds {image.n_frames} frames, expected one")  # type: ignore[attr-defined]
                grey = _to_grey(image)
    except UnidentifiedImageError:
        raise UnreadableFilm("not an image, or of an unknown format") from None
    except Image.DecompressionBombError:
        raise UnreadableFilm("far too many pixels for a film") from None
    except DAMAGE as error:
        raise UnreadableFilm(f"damaged: {error}") from None
    small = grey.resize((size, size), Image.Resampling.BICUBIC)
    film = np.clip(np.rint(np.asarray(small, dtype=np.float32)), 0, 255).astype(np.uint8)
    low, high = grey.getextrema()
    if low == high or (size >= LEAST_TELLING and film.min() == film.max()):
        raise UnreadableFilm("blank: every pixel has the same value")
    return film


def _to_grey(image: Image.Image) -> Image.Image:
    """Mode ``L``, or ``F`` scaled to 0..255 for deep images."""
    if image.mode in ("I;16", "I;16B", "I;16L", "I", "F"):
        values = np.asarray(image, dtype=np.float32)
        if not np.isfinite(values).all() or values.min() < 0:
            raise UnreadableFilm("has negative or non-finite grey values")
        peak = float(values.max())
        ranges = (1.0,) if image.mode == "F" else ()  # floats may also run from 0 to 1
        top = next((top for top in (*ranges, *(2.0**bits - 1 for bits in (8, 10, 12, 14, 16))) if peak <= top), peak)
        return Image.fromarray(values * (255.0 / top))
    if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
        rgba = image.convert("RGBA")
        black = Image.new("RGBA", rgba.size, (0, 0, 0, 255))
        return Image.alpha_composite(black, rgba).convert("L")
    if image.mode in ("L", "1", "P", "RGB"):
        return image.convert("L")
    raise UnreadableFilm(f"colour mode {image.mode} is not one films are stored in")


def stored_dimensions(path: Path) -> tuple[int, int]:
    """Width and height of an image file from its header, in pixels.

    Raises:
        UnreadableFilm: no image, or damaged.
    """
    try:
        with Image.open(path) as image:
            return image.size
    except UnidentifiedImageError:
        raise UnreadableFilm("not an image, or of an unknown format") from None
    except (Image.DecompressionBombError, *DAMAGE) as error:
        raise UnreadableFilm(f"damaged: {error}") from None
