"""The evolution picture: films of the same noise, step after step, so that one glance shows how a fit went."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from cxrbench.contracts import Pixels

COLUMNS = 10  # at most
LARGEST = 128  # pixels of a kept film; larger ones are made smaller
LEAST = 64  # pixels of a drawn film: room for the step's number above it
GAP = 4  # pixels
BLACK, WHITE = 0, 255


def shrink(films: Pixels) -> Pixels:
    """Films of at most 128 pixels a side: uint8 ``[N, 1, h, w]``; smaller ones are left as they are."""
    height, width = films.shape[2:]
    scale = LARGEST / max(height, width)
    if scale >= 1:
        return films
    size = (max(round(width * scale), 1), max(round(height * scale), 1))
    return np.stack([np.asarray(Image.fromarray(film[0]).resize(size, Image.Resampling.BOX))[None] for film in films])


def pack(films: Pixels) -> str:
    """uint8 ``[N, 1, h, w]`` as base64 of a PNG, without loss: JSON can hold it."""
    content = io.BytesIO()
    Image.fromarray(films.reshape(-1, films.shape[-1])).save(content, "PNG")
    return base64.b64encode(content.getvalue()).decode("ascii")


def unpack(text: str, count: int) -> Pixels:
    """The ``count`` films that were packed."""
    with Image.open(io.BytesIO(base64.b64decode(text))) as picture:
        stacked = np.asarray(picture)
    return stacked.reshape(count, 1, -1, stacked.shape[1])


def choose_columns(count: int) -> list[int]:
    """At most 10 of ``count`` looks, evenly spread, the first and the last among them."""
    return [int(place) for place in np.unique(np.linspace(0, count - 1, min(count, COLUMNS)).round())]


def draw_evolution(films: Sequence[Pixels], steps: Sequence[int], rows: Sequence[str], path: Path) -> None:
    """Write a grey PNG: a column per look, a row per film.

    Args:
        films: uint8 ``[R, 1, h, w]`` of each look, of the same noise and labels.
        steps: of each look, shown above its column; at most 10 looks are drawn.
        rows: R class names; a name is shown once, beside the first of the rows that bear it.
    """
    height, width = films[0].shape[2:]
    zoom = max(-(-LEAST // width), 1)
    font = ImageFont.load_default()
    chosen = choose_columns(len(films))
    left = 2 * GAP + round(max(font.getlength(name) for name in rows))
    top = 3 * GAP + sum(font.getmetrics() if isinstance(font, ImageFont.FreeTypeFont) else (11,))
    canvas = np.full(
        (top + len(rows) * (height * zoom + GAP), left + len(chosen) * (width * zoom + GAP)), WHITE, np.uint8
    )
    for column, look in enumerate(chosen):
        for row in range(len(rows)):
            y, x = top + row * (height * zoom + GAP), left + column * (width * zoom + GAP)
            canvas[y : y + height * zoom, x : x + width * zoom] = _enlarge(films[look][row, 0], zoom)
    picture = Image.fromarray(canvas)
    pen = ImageDraw.Draw(picture)
    for column, look in enumerate(chosen):
        pen.text((left + column * (width * zoom + GAP), GAP), f"step {steps[look]}", BLACK, font)
    for row, name in enumerate(rows):
        if row == 0 or rows[row - 1] != name:
            pen.text((GAP, top + row * (height * zoom + GAP)), name, BLACK, font)
    picture.save(path, compress_level=1)  # drawn again at every look: speed counts


def _enlarge(film: NDArray[np.uint8], zoom: int) -> NDArray[np.uint8]:
    return film.repeat(zoom, axis=0).repeat(zoom, axis=1)
