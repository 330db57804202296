"""Films that are no frontal chest films: found by how far they lie from the other films of the set."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

NEIGHBOURS = 5
REFERENCES = 8192  # films a film is compared with at most, so that time stays linear in the size of the set
LATERAL_VIEWS = frozenset({"l", "ll", "rl", "lat", "lateral", "left lateral", "right lateral", "l lateral"})

Floats = NDArray[np.float32]


def strangeness(features: Floats, reference: Floats, own: bool) -> Floats:
    """Mean cosine distance of each film to its nearest films.

    Args:
        features: float32 ``[N, D]``.
        reference: float32 ``[M, D]``, the set.
        own: ``features`` are the set itself, so each film's distance to itself is left out.

    Returns:
        float32 ``[N]``, 0 (its neighbours are its copies) to 2.
    """
    rng = np.random.default_rng(0)
    rows = np.sort(rng.permutation(len(reference))[:REFERENCES])
    known = _unit(reference[rows])
    nearest = min(NEIGHBOURS, len(rows) - 1 if own else len(rows))
    found = np.zeros(len(features), np.float32)
    if nearest < 1:
        return found
    for start in range(0, len(features), 1024):
        part = _unit(features[start : start + 1024])
        similarity = part @ known.T
        if own:
            itself = np.searchsorted(rows, np.arange(start, start + len(part)))
            inside = (itself < len(rows)) & (
                rows[np.minimum(itself, len(rows) - 1)] == np.arange(start, start + len(part))
            )
            similarity[np.flatnonzero(inside), itself[inside]] = -np.inf
        top = np.partition(similarity, -nearest, axis=1)[:, -nearest:]
        found[start : start + len(part)] = 1 - top.mean(axis=1)
    return found


def mirror_symmetry(films: NDArray[np.uint8]) -> Floats:
    """Correlation of each film (uint8 ``[N, S, S]``, S a multiple of 32) with its mirror image, at the best
    axis of 17: about 0.9 for a frontal chest film; a lateral one has no second lung to match."""
    n, side, _ = films.shape
    cell = side // 32
    best = np.full(n, -1.0, np.float32)
    for start in range(0, n, 1024):
        part = films[start : start + 1024, : 32 * cell, : 32 * cell]
        small = part.reshape(len(part), 32, cell, 32, cell).mean(axis=(2, 4), dtype=np.float32)
        for shift in range(-8, 9):
            strip = small[:, :, max(0, shift) : 32 + min(0, shift)]
            strip = strip - strip.mean(axis=(1, 2), keepdims=True)
            power = (strip**2).sum(axis=(1, 2))
            match = (strip * strip[:, :, ::-1]).sum(axis=(1, 2)) / np.maximum(power, 1e-3)
            best[start : start + 1024] = np.maximum(best[start : start + 1024], match)
    return best


def is_lateral_view(view: str | None) -> bool:
    """Does the origin name a lateral projection?"""
    return view is not None and view.strip().lower().replace("_", " ") in LATERAL_VIEWS


def draw_strangers(count: int, size: int, rng: np.random.Generator) -> NDArray[np.uint8]:
    """Pictures that are no X-rays, uint8 ``[count, size, size]``: crops of two photographs, pages of text,
    charts, and noise."""
    from PIL import Image
    from sklearn.datasets import load_sample_images

    photographs = [Image.fromarray(photo).convert("L") for photo in load_sample_images().images]
    drawn = np.empty((count, size, size), np.uint8)
    for i in range(count):
        kind = i % 5
        if kind < 2:
            photo = photographs[kind]
            side = int(rng.uniform(0.4, 0.95) * min(photo.size))
            left, top = (int(rng.integers(extent - side + 1)) for extent in photo.size)
            picture = photo.crop((left, top, left + side, top + side)).resize((size, size))
            drawn[i] = np.asarray(picture.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if rng.random() < 0.5 else picture)
        elif kind == 2:
            drawn[i] = _page(size, rng)
        elif kind == 3:
            drawn[i] = _chart(size, rng)
        else:
            drawn[i] = rng.integers(0, 256, (size, size))
    return drawn


def _page(size: int, rng: np.random.Generator) -> NDArray[np.uint8]:
    from PIL import Image, ImageDraw

    page = Image.new("L", (size, size), 255)
    pen = ImageDraw.Draw(page)
    letters = np.array(list("abcdefghijklmnopqrstuvwxyz    "))
    for y in range(4, size - 10, 12):
        pen.text((6, y), "".join(rng.choice(letters, size // 7)), fill=int(rng.integers(0, 60)))
    return np.asarray(page)


def _chart(size: int, rng: np.random.Generator) -> NDArray[np.uint8]:
    from PIL import Image, ImageDraw

    chart = Image.new("L", (size, size), int(rng.integers(200, 256)))
    pen = ImageDraw.Draw(chart)
    heights = rng.uniform(0.1, 0.85, int(rng.integers(4, 10)))
    wide = (size - 24) / len(heights)
    for k, height in enumerate(heights):
        left = 16 + k * wide
        pen.rectangle(
            (left, size - 16 - height * (size - 32), left + 0.7 * wide, size - 16), fill=int(rng.integers(160))
        )
    pen.line((14, 8, 14, size - 14, size - 6, size - 14), fill=0, width=2)
    return np.asarray(chart)


def _unit(features: Floats) -> Floats:
    return features / np.maximum(np.linalg.norm(features, axis=1, keepdims=True), 1e-9)
