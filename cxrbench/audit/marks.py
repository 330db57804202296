"""Marks on films: burnt-in writing and arrows, large borders, and films with next to nothing on them.

A mark differs from anatomy in its edges and its ink: a thin stroke, well off its surroundings, that goes from
paper to ink within a pixel or two and is of one grey throughout; ribs, vessels and tubes are thin too, but soft,
faint or uneven. So the thin structures of a film (what a morphological opening removes or a closing fills) are cut
into connected pieces, and what speaks for each is added up to the log odds that it was drawn onto the film. The
weights are a logistic fit, rounded, of planted marks against the pieces of untouched films. Those have lead letters
in their corners, so a piece near the side counts for less, and the likeliest white one there for nothing.

The scores rank films; none is a verdict. The caller finds a threshold with marks planted into the set's own films.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from cxrbench.contracts import no_progress

CHUNK = 64  # films a thread handles at a time
STROKE = 9  # pixels (odd); what is narrower is a stroke
FAINTEST = 40  # grey levels a stroke stands off its surroundings
SMALLEST = 6  # pixels of a piece
# Feature, the value without evidence, the value with all of it, its weight in the log odds.
EVIDENCE = (
    ("relief", 45.0, 80.0, 5.0),  # grey levels off the surroundings, on average
    ("relief", 80.0, 160.0, 1.7),
    ("sharpness", 0.6, 0.9, 3.6),  # rise within two pixels / relief
    ("sharpness", 0.9, 1.3, 2.7),
    ("unevenness", 0.0, 25.0, -3.5),  # standard deviation of the ink
    ("solid", 0.0, 1.0, 4.3),  # share of the pixels within 8 grey levels of the extreme one
    ("inset", 0.02, 0.04, 5.2),  # distance of the middle from the nearest side / side of the film
    ("inset", 0.08, 0.25, 1.7),
    ("length", 3.0, 12.0, 2.6),  # pixels, of the longer side of the bounding box
    ("length", 20.0, 60.0, -0.8),
)
BIAS = -15.5
DAMPING = 0.7  # of the log odds, so that one sure piece does not drown several likely ones
MOST = 6.0  # log odds; a piece cannot be surer
CORNER = 0.15  # inset within which one white piece, a lead letter, is as it should be

SAME = 6  # grey levels by which the pixels of a band may differ
UNIFORM = 0.88  # share of a row that must be so; the rest may be writing, or film where it lies aslant
FRAME = 2  # outermost rows that may be anything, for many films have a thin frame
BEYOND = 6  # pixels beyond the end of a band at which the film must have begun ...
BEGUN = 0.2  # ... over this share of the row; air beside the body fades out more slowly

OVERSAMPLING = 4  # of planted strokes, so that they are antialiased as in print
WORDS = ["A", "B", "C", "a", "b", "A1", "B2", "(a)", "(B)", "Day 6", "day 3", "Day 12", "Case 7", "Pat. 1", "Fig. 2"]
WORDS += ["2020/01/01", "2020-03-14", "01.02.2020", "14:32", "Admission", "Follow-up"]

Films = NDArray[np.uint8]
Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Marks:
    """What ``measure_marks`` finds, one value a film.

    Attributes:
        text: float32 ``[N]``, from 0 (none) up, seldom above 8: how much writing, arrows and circles there are.
            The logarithm of a sum over pieces; a lone white letter near the side hardly counts.
        border: float32 ``[N]`` in [0, 1): share of the film's area lost to uniform bands along its sides; film up to
            3 degrees aslant makes a band up to 2 % of an axis too small.
        contrast: float32 ``[N]`` in [0, 255]: grey levels between the 2nd and the 98th percentile of the middle
            quarter of the area (half of each axis), which borders and corner letters seldom reach.
    """

    text: Floats
    border: Floats
    contrast: Floats


def measure_marks(films: Films, progress: Callable[[int, int], None] = no_progress) -> Marks:
    """Look for marks on every film.

    Args:
        films: uint8 ``[N, S, S]``; S = 224 is meant, for strokes are measured in pixels.
        progress: called with the number of films done, in order.
    """
    found, done = np.empty((3, len(films)), np.float32), 0
    with ThreadPoolExecutor(min(4, os.cpu_count() or 1)) as pool:
        for part in pool.map(_measure, (films[start : start + CHUNK] for start in range(0, len(films), CHUNK))):
            found[:, done : done + part.shape[1]] = part
            done += part.shape[1]
            progress(done, len(films))
    return Marks(*found)


def _measure(films: Films) -> Floats:
    """Text, border and contrast of one chunk, float32 ``[3, N]``."""
    side = films.shape[1]
    middle = films[:, side // 4 : side - side // 4, side // 4 : side - side // 4].reshape(len(films), -1)
    low, high = np.percentile(middle, (2, 98), axis=1)
    return np.asarray([_text(films), [_border(film) for film in films], high - low], np.float32)


def _text(films: Films) -> NDArray[np.float64]:
    """Evidence of burnt-in strokes, float64 ``[N]``."""
    white = films - _square(_square(films, STROKE, np.minimum), STROKE, np.maximum)  # an opening is never lighter
    black = _square(_square(films, STROKE, np.maximum), STROKE, np.minimum) - films
    rise = _square(films, 3, np.maximum) - _square(films, 3, np.minimum)
    total = np.zeros(len(films))
    for row in range(len(films)):
        odds, inset = _drawn(films[row], white[row], rise[row])
        letter = odds.max(initial=0.0, where=inset < CORNER)
        total[row] = odds.sum() - letter + _drawn(255 - films[row], black[row], rise[row])[0].sum()
    return np.log1p(np.maximum(total, 0.0))


def _drawn(ink: Films, relief: Films, rise: Films) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Damped odds that each light piece of a film was drawn onto it, and its inset; float64 ``[pieces]``."""
    from scipy import ndimage

    labels, count = ndimage.label(relief > FAINTEST, np.ones((3, 3)))
    piece = labels.ravel()[at := np.flatnonzero(labels)]
    keep = np.bincount(piece, minlength=count + 1) >= SMALLEST
    boxes = [box for box, wanted in zip(ndimage.find_objects(labels), keep[1:], strict=True) if wanted]
    ends = np.asarray([[(axis.start, axis.stop) for axis in box] for box in boxes]).reshape(-1, 2, 2)
    at, piece, n = at[keep[piece]], (np.cumsum(keep) - 1)[piece[keep[piece]]], len(boxes)

    area = np.bincount(piece, minlength=n)
    height, grey = relief.ravel()[at].astype(float), ink.ravel()[at].astype(float)
    relief_mean = np.bincount(piece, height, n) / area
    core = (height >= relief_mean[piece]).astype(float)  # the stroke without its antialiased rim
    weight = np.bincount(piece, core, n)
    level = np.bincount(piece, core * grey, n) / weight
    extreme, middle = np.zeros(n), ends.mean(axis=2)
    np.maximum.at(extreme, piece, grey)
    features = {
        "relief": relief_mean,
        "sharpness": np.bincount(piece, rise.ravel()[at].astype(float), n) / area / relief_mean,
        "unevenness": np.sqrt(np.bincount(piece, core * (grey - level[piece]) ** 2, n) / weight),
        "solid": np.bincount(piece, grey >= extreme[piece] - 8, n) / area,
        "inset": np.minimum(middle, len(ink) - middle).min(axis=1) / len(ink),
        "length": np.ptp(ends, axis=2).max(axis=1).astype(float),
    }
    odds = np.full(n, BIAS)
    for name, none, full, most in EVIDENCE:
        odds += most * np.clip((features[name] - none) / (full - none), 0.0, 1.0)
    return np.exp(DAMPING * np.minimum(odds, MOST)), features["inset"]


def _square(films: Films, width: int, extreme: np.ufunc) -> Films:
    """Minimum or maximum (``extreme``) over ``width`` x ``width`` pixels around each, by runs of doubled length."""
    for axis in (1, 2):
        padded, covered = films.swapaxes(1, axis), 1
        padded = np.pad(padded, ((0, 0), (width // 2, width // 2), (0, 0)), mode="edge")
        while covered < width:
            step = min(covered, width - covered)
            padded = extreme(padded[:, :-step], padded[:, step:])
            covered += step
        films = padded.swapaxes(1, axis)
    return films


def _border(film: Films) -> float:
    """Share of the area lost to bands. Twice round, for a band may show only once its neighbours are off."""
    inner = film
    for _ in range(2):
        for _axis in range(2):
            top, bottom = _band(inner), _band(inner[::-1])
            inner = inner[top : len(inner) - bottom].T
    return 1.0 - inner.size / film.size


def _band(film: Films) -> int:
    """Rows of one uniform grey from the top of a film, or 0 where they do not end in an edge."""
    if min(film.shape) <= 4 * BEYOND:
        return 0
    off = np.abs(film.astype(np.int16) - int(np.median(film[FRAME : FRAME + 2])))
    uniform = (off <= SAME).mean(axis=1) >= UNIFORM
    uniform[:FRAME] = True
    depth = int(uniform.argmin())  # 0 where all rows are uniform: then there is no film to have a border
    begun = (off[min(depth + BEYOND, len(film) - 1)] > 1.5 * SAME).mean() >= BEGUN
    return depth if begun and depth > FRAME else 0


def plant_text(films: Films, rng: np.random.Generator) -> Films:
    """Write onto each film what publications do: a word, a date, a letter, some on a box; arrows and circles.

    Takes uint8 ``[N, S, S]`` (S = 224 is meant) and returns a changed copy, as its siblings do.
    """
    planted = films.copy()
    for film in planted:
        kind = rng.random()  # words alone, both, arrows alone
        words = int(rng.integers(1, 3)) if kind < 0.7 else 0
        signs = int(rng.integers(1, 4)) if kind > 0.4 else 0
        for draw in [_write] * words + [_point] * signs:
            layer = Image.new("L", (OVERSAMPLING * len(film),) * 2)
            draw(film, layer, rng)
            _ink(film, layer, rng)
    return planted


def _write(film: Films, layer: Image.Image, rng: np.random.Generator) -> None:
    """A word on the layer, and perhaps a box on the film to lie under it."""
    n = layer.width
    pen, font, word = ImageDraw.Draw(layer), ImageFont.load_default(n * rng.uniform(0.05, 0.12)), rng.choice(WORDS)
    box = np.asarray(pen.textbbox((0, 0), word, font=font)).reshape(2, 2)
    near = np.full(2, 0.02 * n)
    far = np.maximum(n - near - box[1], near)
    at = np.where(rng.random(2) < 0.6, np.where(rng.random(2) < 0.5, near, far), rng.uniform(near, far))
    pen.text((at[0], at[1]), word, fill=255, font=font)
    if rng.random() < 0.25:
        (left, top), (right, bottom) = np.clip((box + at) / OVERSAMPLING + [[-3], [3]], 0, len(film)).astype(int)
        film[top:bottom, left:right] = rng.choice([0, 255])


def _point(film: Films, layer: Image.Image, rng: np.random.Generator) -> None:
    """An arrow into the film, or an ellipse around a part of it."""
    n = layer.width
    pen, tip, width = ImageDraw.Draw(layer), n * rng.uniform(0.2, 0.8, 2), round(n * rng.uniform(0.006, 0.014))
    if rng.random() < 0.3:
        radii = n * rng.uniform(0.05, 0.14, 2)
        pen.ellipse((*(tip - radii), *(tip + radii)), outline=255, width=width)
    else:
        angle, head = rng.uniform(0, 2 * np.pi), n * rng.uniform(0.025, 0.05)
        along, across = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
        neck = tip + head * along
        pen.line((*neck, *(neck + n * rng.uniform(0.03, 0.12) * along)), fill=255, width=width)
        pen.polygon([*tip, *(neck + head / 2 * across), *(neck - head / 2 * across)], fill=255)


def _ink(film: Films, layer: Image.Image, rng: np.random.Generator) -> None:
    """Blend an oversampled drawing into ``film`` in a grey that shows against what lies under it."""
    from scipy.ndimage import gaussian_filter

    cover = np.asarray(layer.reduce(OVERSAMPLING), np.float32) / 255
    greys = np.concatenate([rng.uniform(225, 256, 2), rng.uniform(0, 30, 2), rng.uniform(60, 200, 1)])
    grey = rng.choice(greys[np.abs(greys - np.median(film[cover > 0.25])) > 70])
    film[:] = np.rint(film + gaussian_filter(cover, rng.uniform(0.0, 0.6)) * (min(grey, 255) - film))


def plant_border(films: Films, rng: np.random.Generator) -> Films:
    """Shrink each film (uint8 ``[N, S, S]``) into black or white bands along 1 to 4 sides, 12-30 % of an axis each."""
    planted, n = np.empty_like(films), films.shape[1]
    for film, framed in zip(films, planted, strict=True):
        bands = np.rint(n * rng.uniform(0.12, 0.30, 4)).astype(int)
        bands[rng.permutation(4)[rng.integers(1, 5) :]] = 0
        top, bottom, left, right = bands.tolist()
        small = Image.fromarray(film).resize((n - left - right, n - top - bottom), Image.Resampling.BOX)
        framed[:] = rng.choice([0, 0, 0, 8, 245, 255, 255])
        framed[top : n - bottom, left : n - right] = np.asarray(small)
    return planted


def plant_blank(films: Films, rng: np.random.Generator) -> Films:
    """Leave of each film (uint8 ``[N, S, S]``) ten grey levels at most and some noise, as wrong exposure does."""
    shape = (len(films), 1, 1)
    level = np.where(rng.random(shape) < 0.5, rng.uniform(5, 40, shape), rng.uniform(215, 245, shape))
    faint = level + films / 255 * rng.uniform(0, 10, shape) + rng.normal(0, rng.uniform(0, 2, shape), films.shape)
    return np.clip(np.rint(faint), 0, 255).astype(np.uint8)
