"""From grey values of any depth to one film: uint8, square, not blank."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from cxrbench.errors import UnreadableFilm

LEAST_TELLING = 8  # pixels: a film smaller than this may be of one grey level and yet no blank


def white_level(peak: float) -> float:
    """The value that means white in a film whose largest value is ``peak``.

    That is the top of the smallest of 8, 10, 12, 14 or 16 bits that holds it: X-ray detectors store 12 bits
    in 16-bit files, which would be almost black if 65,535 were white.
    """
    return next((top for top in (2.0**bits - 1 for bits in (8, 10, 12, 14, 16)) if peak <= top), peak)


def to_square(grey: Image.Image, size: int) -> NDArray[np.uint8]:
    """Resize (bicubic) to uint8 ``[size, size]``. ``grey`` has mode ``L``, or ``F`` with values in 0..255.

    Raises:
        UnreadableFilm: every pixel has the same value.
    """
    small = grey.resize((size, size), Image.Resampling.BICUBIC)
    film = np.clip(np.rint(np.asarray(small, dtype=np.float32)), 0, 255).astype(np.uint8)
    low, high = grey.getextrema()
    if low == high or (size >= LEAST_TELLING and film.min() == film.max()):
        raise UnreadableFilm("blank: every pixel has the same value")
    return film
