"""A procedural frontal chest film whose truth is known.

The phantom exists so that the harness itself can be tested: how far the classes differ
(``class_signal``) and how far the hospital gives the class away (``shortcut``) are parameters, so the
right answer of every experiment on it is known beforehand. It is drawn in the radiological convention
(the patient's left is on the right of the picture, so the heart lies right of the middle of the image).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from cxrbench.contracts import Film, Listing
from cxrbench.errors import UsageError
from cxrbench.hashing import canonical_hash

CLASSES = ("COVID", "Normal", "Viral Pneumonia")
HOSPITALS = ("hospital-a", "hospital-b", "hospital-c")

DRAWING_VERSION = 2  # raised when the same parameters come to mean other pixels

Field = NDArray[np.floating]


@dataclass
class Phantom:
    """Synthetic patients of three classes, several films each.

    Args:
        patients_per_class: patients drawn for each class (every patient has one class).
        max_films: a patient has 1 to ``max_films`` films, which share the anatomy but not the pose.
        class_signal: 0 draws no disease at all (the classes cannot be told apart); 1 is the default
            contrast of the opacities; values above 1 exaggerate it.
        shortcut: 0 makes the hospital independent of the class; 1 gives every class its own hospital,
            whose collimation, exposure and corner marker then reveal the class.
        seed: of everything random in the data set.
    """

    patients_per_class: int = 150
    max_films: int = 3
    class_signal: float = 1.0
    shortcut: float = 0.0
    seed: int = 0

    redistributable: ClassVar[bool] = True

    def classes(self) -> tuple[str, ...]:
        return CLASSES

    def listing(self) -> Listing:
        """List every film in a fixed order; draws nothing yet."""
        if not 0.0 <= self.shortcut <= 1.0:
            raise UsageError(f"phantom: shortcut must lie in [0, 1], got {self.shortcut}")
        if not 0.0 <= self.class_signal < math.inf:
            raise UsageError(f"phantom: class_signal must be finite and not negative, got {self.class_signal}")
        if self.patients_per_class < 1 or self.max_films < 1 or self.seed < 0:
            raise UsageError("phantom: patients_per_class and max_films must be at least 1, and seed at least 0")
        films = []
        for label, name in enumerate(CLASSES):
            for patient in range(self.patients_per_class):
                rng = np.random.default_rng([self.seed, label, patient])
                own_hospital = rng.random() < self.shortcut
                hospital = label if own_hospital else int(rng.integers(len(HOSPITALS)))
                for film in range(1 + int(rng.integers(self.max_films))):
                    identity = f"{label}/{patient}/{film}"
                    films.append(
                        Film(
                            file=f"{name}/{patient:05d}-{film}",
                            label=label,
                            digest=canonical_hash([self.plan(), hospital, identity]),
                            patient_id=f"{name}-{patient:05d}",
                            source=HOSPITALS[hospital],
                        )
                    )
        return Listing(films)

    def plan(self) -> list[float]:
        """The parameters that decide the pixels of a film (not how many there are)."""
        return [DRAWING_VERSION, self.seed, self.class_signal, self.shortcut]

    def read(self, film: Film, size: int) -> NDArray[np.uint8]:
        """Draw one film. Returns uint8 ``[size, size]``, dark = air."""
        patient, number = film.file.rsplit("/", 1)[1].split("-")
        return draw_film(
            label=film.label,
            hospital=HOSPITALS.index(film.source or HOSPITALS[0]),
            anatomy=np.random.default_rng([self.seed, film.label, int(patient), 1]),
            pose=np.random.default_rng([self.seed, film.label, int(patient), 2, int(number)]),
            disease=np.random.default_rng([self.seed, film.label, int(patient), 3, int(number)]),
            size=size,
            class_signal=self.class_signal,
        )


def draw_film(
    *,
    label: int,
    hospital: int,
    anatomy: np.random.Generator,
    pose: np.random.Generator,
    disease: np.random.Generator,
    size: int,
    class_signal: float,
) -> NDArray[np.uint8]:
    """Compose one film from attenuating parts, at twice the size, and average down.

    ``anatomy`` decides what belongs to the patient, ``pose`` what belongs to the single exposure and
    ``disease`` where the opacities are, so that without class signal the label leaves no trace at all.
    """
    x, y = _posed_grid(2 * size, pose)
    edge = 0.03  # width of the soft edge of every organ, in half image widths

    width = anatomy.uniform(0.78, 0.92)
    apex, base = anatomy.uniform(-0.74, -0.64), anatomy.uniform(0.38, 0.52)
    dome_right = base - 0.06 + 0.55 * (x + 0.42) ** 2  # the liver pushes the patient's right dome up
    dome_left = base + 0.55 * (x - 0.42) ** 2

    shoulders = width * (0.30 + 0.75 * _step(y + 0.80, 0.10))
    body = _step(shoulders - np.abs(x), edge)
    image = 0.60 * body

    lungs = np.zeros_like(x)
    for side, dome in ((-1.0, dome_right), (1.0, dome_left)):
        cx, half = side * anatomy.uniform(0.40, 0.44), anatomy.uniform(0.28, 0.33) * width / 0.85
        narrowing = 0.62 + 0.38 * _step(y - apex - 0.30, 0.14)  # lungs taper towards the apex
        radial = ((x - cx * (0.75 + 0.25 * narrowing)) / (half * narrowing)) ** 4
        reach = np.clip(1.0 - radial - np.clip((apex + 0.25 - y) / 0.25, 0, None) ** 2, -1, 1)
        lungs = np.maximum(lungs, _step(reach, 0.18) * _step(dome - y, edge))
    image -= 0.40 * lungs

    spine = np.exp(-((x / 0.085) ** 2)) * (1.0 + 0.25 * np.cos(y * anatomy.uniform(34, 40)))
    image += (0.13 * spine + 0.10 * np.exp(-((x / 0.16) ** 2)) * _step(y - apex, 0.1)) * body

    tilt = anatomy.uniform(0.45, 0.70)
    heart_x, heart_y = anatomy.uniform(0.12, 0.17), base - anatomy.uniform(0.20, 0.26)
    u = (x - heart_x) * np.cos(tilt) + (y - heart_y) * np.sin(tilt)
    v = -(x - heart_x) * np.sin(tilt) + (y - heart_y) * np.cos(tilt)
    heart = _step(1.0 - (u / anatomy.uniform(0.33, 0.40)) ** 2 - (v / anatomy.uniform(0.21, 0.26)) ** 2, 0.2)
    image += 0.27 * heart * lungs + 0.04 * heart

    spacing, slope = anatomy.uniform(0.125, 0.145), anatomy.uniform(0.30, 0.42)
    cage = _step(0.80 * width - np.abs(x), 0.05) * _step(y - apex, 0.05) * _step(base + 0.16 - y, 0.05)
    posterior = np.cos(2 * np.pi * (y - slope * np.abs(x) ** 1.5 - apex) / spacing)
    anterior = np.cos(2 * np.pi * (y + 0.55 * (0.85 - np.abs(x)) ** 2 - apex) / (1.25 * spacing))
    ribs = _step(posterior - 0.35, 0.3) + 0.35 * _step(anterior - 0.5, 0.3)
    image += 0.075 * ribs * cage * (np.abs(x) > 0.07)

    clavicle_y = apex + 0.10 - anatomy.uniform(0.12, 0.22) * (np.abs(x) - 0.10)
    clavicle = np.exp(-(((y - clavicle_y) / 0.030) ** 2)) * _step(np.abs(x) - 0.08, 0.02)
    image += 0.15 * clavicle * _step(0.72 * width - np.abs(x), 0.04)

    bubble_x, bubble_y = 0.40 + anatomy.uniform(-0.06, 0.06), base + anatomy.uniform(0.13, 0.18)
    bubble = 1.0 - ((x - bubble_x) / anatomy.uniform(0.11, 0.17)) ** 2 - ((y - bubble_y) / 0.08) ** 2
    image -= 0.22 * _step(bubble, 0.25)

    hilum = np.exp(-(((np.abs(x) - 0.20) / 0.11) ** 2) - ((y - base + 0.50) / 0.20) ** 2)
    vessels = _smooth_noise(anatomy, x.shape[0], 24)
    image += lungs * (0.10 * hilum + 0.05 * vessels * (0.4 + hilum))
    image += 0.03 * _smooth_noise(anatomy, x.shape[0], 44) * body  # no two people are alike in their fine structure

    severity = class_signal * disease.uniform(0.0, 1.0)  # the mildest cases keep the task from being trivial
    room = np.clip((0.85 - image) / 0.60, 0.0, 1.0)  # an opacity whitens air, not bone or heart
    image += severity * room * _disease(label, x, y, lungs, base, disease)
    return _expose(image, hospital, pose, size)


def _disease(label: int, x: Field, y: Field, lungs: Field, base: float, rng: np.random.Generator) -> Field:
    """Opacity added by the condition; zero for ``Normal``."""
    opacity = np.zeros_like(x)
    if CLASSES[label] == "COVID":  # bilateral, peripheral, basal ground glass: hazy and patchy
        for side in (-1.0, 1.0):
            for _ in range(int(rng.integers(3, 6))):
                cx = side * rng.uniform(0.48, 0.66)
                cy = base - rng.uniform(0.08, 0.75)
                rx, ry = rng.uniform(0.10, 0.19), rng.uniform(0.12, 0.24)
                opacity += rng.uniform(0.20, 0.34) * np.exp(-(((x - cx) / rx) ** 2) - ((y - cy) / ry) ** 2)
        opacity *= 1.0 + 0.35 * _smooth_noise(rng, x.shape[0], 16)
        opacity = np.minimum(opacity, 0.42)
    elif CLASSES[label] == "Viral Pneumonia":  # one dense focal consolidation, upper or lower zone
        side = rng.choice([-1.0, 1.0])
        cx, cy = side * rng.uniform(0.32, 0.50), base - rng.choice([0.20, 0.62]) - rng.uniform(-0.06, 0.08)
        rx, ry = rng.uniform(0.18, 0.26), rng.uniform(0.16, 0.24)
        inside = 1.0 - ((x - cx) / rx) ** 2 - ((y - cy) / ry) ** 2
        inside += 0.35 * _smooth_noise(rng, x.shape[0], 12)
        opacity = rng.uniform(0.42, 0.54) * _step(inside, 0.45)
    return opacity * lungs


def _expose(image: Field, hospital: int, rng: np.random.Generator, size: int) -> NDArray[np.uint8]:
    """Exposure, grain, collimation and the hospital's corner marker; then down to ``size`` and uint8."""
    gamma = (1.0, 0.85, 1.18)[hospital] * rng.uniform(0.93, 1.07)
    image = np.clip(0.04 + image * rng.uniform(0.92, 1.05), 0.0, 1.0) ** gamma
    image += 0.02 * rng.standard_normal(image.shape, dtype=np.float32)

    n = image.shape[0]
    border = round(n * (0.0, 0.03, 0.0)[hospital])
    if border:
        image[:border] = image[-border:] = image[:, :border] = image[:, -border:] = 0.0
    # A lead letter in the corner the hospital uses, away from the anatomy.
    top, left, tall, wide = (
        (0.05, 0.04, 0.09, 0.045),
        (0.05, 0.90, 0.06, 0.06),
        (0.86, 0.04, 0.045, 0.09),
    )[hospital]
    image[round(n * top) : round(n * (top + tall)), round(n * left) : round(n * (left + wide))] = 0.95

    small = image.reshape(size, 2, size, 2).mean(axis=(1, 3))
    return np.rint(np.clip(small, 0.0, 1.0) * 255.0).astype(np.uint8)


def _posed_grid(n: int, rng: np.random.Generator) -> tuple[Field, Field]:
    """Pixel centres in [-1, 1] after a small rotation, shift and change of distance."""
    axis = ((np.arange(n, dtype=np.float32) + 0.5) / n) * 2 - 1
    y, x = np.meshgrid(axis, axis, indexing="ij")
    angle, scale = np.deg2rad(rng.uniform(-3.0, 3.0)), rng.uniform(0.95, 1.05)
    dx, dy = rng.uniform(-0.05, 0.05, 2)
    c, s = np.cos(angle) * scale, np.sin(angle) * scale
    return (c * x - s * y + dx).astype(np.float32), (s * x + c * y + dy).astype(np.float32)


def _step(value: Field, softness: float) -> Field:
    """0 to 1 as ``value`` passes zero: a cubic smoothstep over ``[-softness, softness]``."""
    t = np.clip(value / (2 * softness) + 0.5, 0.0, 1.0)
    return np.asarray(t * t * (3.0 - 2.0 * t), dtype=np.float32)


def _smooth_noise(rng: np.random.Generator, n: int, cells: int) -> Field:
    """Unit-range value noise with ``cells`` cells across, bilinear between its knots."""
    knots = rng.uniform(-1.0, 1.0, (cells + 1, cells + 1)).astype(np.float32)
    at = np.linspace(0.0, cells, n, endpoint=False, dtype=np.float32)
    i = at.astype(np.int64)
    f = (at - i).astype(np.float32)
    rows = knots[i] * (1 - f)[:, None] + knots[i + 1] * f[:, None]
    return np.asarray(rows[:, i] * (1 - f)[None] + rows[:, i + 1] * f[None], dtype=np.float32)
