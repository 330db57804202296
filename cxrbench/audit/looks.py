"""Films that do not look as they should: turned, mirrored, inverted, stretched, marked, blank, or no films."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from cxrbench.audit import marks, orientation, outliers
from cxrbench.audit.calibration import calibrate, measured
from cxrbench.audit.findings import Accuracy, Finding
from cxrbench.contracts import Dataset, Film, Measured, no_progress
from cxrbench.errors import UnreadableFilm
from cxrbench.registry import EXTRACTORS

PLANTED = 600  # films corrupted in each way
STRANGERS = 150  # pictures that are no X-rays
LEAST_CONTRAST = 22.0  # grey levels; below it nothing of a chest can be seen
WIDEST = 2.0  # a stored film longer than this times its width is no film as it was taken
LEAST_SYMMETRY = 0.2  # together with an unusual look: a film without a second lung
UNUSUAL = 0.98  # quantile of strangeness
LEAST_TO_TEACH = 10  # films of a half

Films = NDArray[np.uint8]
Floats = NDArray[np.float32]
Stage = Callable[[str], Callable[[int, int], None]]


def look_at_films(
    dataset: Dataset,
    films: Sequence[Film],
    pixels: Films,
    groups: NDArray[np.int64],
    features: Floats,
    device: str,
    stage: Stage,
) -> tuple[list[Finding], list[Accuracy]]:
    """Findings about single films, and how well each kind is found.

    Args:
        pixels: uint8 ``[N, S, S]``.
        groups: int64 ``[N]``; a net that judges a film was taught with no film of its group.
        features: float32 ``[N, D]`` of lite0.
    """
    rng = np.random.default_rng(3)
    sample = np.sort(rng.permutation(len(films))[:PLANTED])
    scores, planted = _orientations(pixels, groups, sample, rng, device, stage)
    scores |= _marks_by_kind(marks.measure_marks(pixels, stage("marks")))
    for kind, plant in (("text", marks.plant_text), ("border", marks.plant_border), ("blank", marks.plant_blank)):
        planted[kind] = _marks_by_kind(marks.measure_marks(plant(pixels[sample], rng)))[kind]
    scores["not-xray"] = outliers.strangeness(features, features, own=True)
    strangers = outliers.draw_strangers(STRANGERS, pixels.shape[1], rng)
    planted["not-xray"] = outliers.strangeness(
        EXTRACTORS.create("lite0").extract(strangers[:, None], device, no_progress), features, own=False
    )

    findings, accuracies = [], []
    for kind, values in scores.items():
        if kind == "blank":
            accuracy = measured(kind, -LEAST_CONTRAST, values, planted[kind])
        else:
            accuracy = calibrate(kind, values, planted[kind], _NOTES.get(kind, ""))
        accuracies.append(accuracy)
        if accuracy.threshold is not None:
            rows = np.flatnonzero(values >= accuracy.threshold).tolist()
            findings += [Finding(films[row].file, kind, float(values[row]), detail=_DETAIL[kind]) for row in rows]
    findings += _stretched_files(dataset, films, {found.file for found in findings if found.finding == "distorted"})
    findings += _laterals(films, pixels, scores["not-xray"])
    return findings, accuracies


_DETAIL = {
    "flipped": "log-likelihood of being mirrored over that of lying right",
    "upside-down": "log-likelihood of being upside down over that of lying right",
    "rotated": "log-likelihood of a quarter turn over that of lying right",
    "inverted": "logit of being inverted",
    "distorted": "logit of being drawn out along one axis",
    "text": "amount of writing and arrows",
    "border": "share of the film's area in uniform bands",
    "blank": "minus the grey levels between the 2nd and 98th percentile",
    "not-xray": "mean cosine distance to the five nearest films",
}
_NOTES = {
    "not-xray": "planted: photographs, pages of text, charts, noise",
    "text": "untouched films carry writing of their own, which counts as false alarms",
    "border": "untouched films have borders of their own, which count as false alarms",
}


def _orientations(
    pixels: Films,
    groups: NDArray[np.int64],
    sample: NDArray[np.int64],
    rng: np.random.Generator,
    device: str,
    stage: Stage,
) -> tuple[dict[str, Floats], dict[str, Floats]]:
    """Scores of all films, and of corrupted versions of the films at ``sample``, each from the net that was
    taught with the other half of the groups."""
    corruptions: dict[str, Callable[[Films], Films]] = {
        "flipped": lambda films: films[:, :, ::-1],
        "upside-down": lambda films: films[:, ::-1, ::-1],
        "rotated": lambda films: np.concatenate(
            [films[::2].swapaxes(1, 2)[:, :, ::-1], films[1::2].swapaxes(1, 2)[:, ::-1]]
        ),
        "inverted": lambda films: 255 - films,
        "distorted": lambda films: orientation.stretch(films, rng),
    }
    halves = _deal_halves(groups, rng)
    if min(np.bincount(halves, minlength=2)) < LEAST_TO_TEACH:
        nothing: Floats = np.empty(0, np.float32)
        return dict.fromkeys(corruptions, np.zeros(len(pixels), np.float32)), dict.fromkeys(corruptions, nothing)
    small = orientation.shrink(pixels)
    scores = {kind: np.zeros(len(pixels), np.float32) for kind in corruptions}
    planted: dict[str, list[Floats]] = {kind: [] for kind in corruptions}
    for half in (0, 1):
        mine = np.flatnonzero(halves == half)
        net = orientation.fit_net(small[halves != half], half, device, stage(f"orientation, half {half + 1}"))
        for kind, values in _by_kind(orientation.judge(net, small[mine], device)).items():
            scores[kind][mine] = values
        chosen = sample[halves[sample] == half]
        for kind, corrupt in corruptions.items():
            seen = orientation.shrink(np.ascontiguousarray(corrupt(_relit(pixels[chosen], rng))))
            planted[kind].append(_by_kind(orientation.judge(net, seen, device))[kind])
    return scores, {kind: np.concatenate(parts) for kind, parts in planted.items()}


def _deal_halves(groups: NDArray[np.int64], rng: np.random.Generator) -> NDArray[np.int64]:
    """0 or 1 for each film, whole groups together: each group goes to the half that has fewer films so far."""
    sizes = np.bincount(groups)
    half, films = np.zeros(len(sizes), np.int64), [0, 0]
    order = rng.permutation(len(sizes))
    for group in order[np.argsort(-sizes[order], kind="stable")]:
        half[group] = films[1] < films[0]
        films[half[group]] += sizes[group]
    return half[groups]


def _by_kind(judged: orientation.Orientation) -> dict[str, Floats]:
    return {
        "flipped": judged.flipped,
        "upside-down": judged.upside_down,
        "rotated": judged.rotated,
        "inverted": judged.inverted,
        "distorted": judged.distorted,
    }


def _marks_by_kind(found: marks.Marks) -> dict[str, Floats]:
    return {"text": found.text, "border": found.border, "blank": -found.contrast}


def _relit(films: Films, rng: np.random.Generator) -> Films:
    """Another exposure and a little noise, so that a planted film is not its original pixel by pixel."""
    gain, offset = rng.uniform(0.8, 1.1, (len(films), 1, 1)), rng.uniform(-12, 12, (len(films), 1, 1))
    noisy = films * gain + offset + rng.normal(0, 2, films.shape)
    return np.clip(noisy, 0, 255).astype(np.uint8)


def _stretched_files(dataset: Dataset, films: Sequence[Film], known: set[str]) -> list[Finding]:
    """Files whose own shape is no film's; reading them to a square has distorted them."""
    if not isinstance(dataset, Measured):
        return []
    findings = []
    for film in films:
        try:
            width, height = dataset.dimensions(film)
        except UnreadableFilm:  # it was read a moment ago; that it cannot be now is no matter of its shape
            continue
        ratio = max(width, height) / max(1, min(width, height))
        if ratio > WIDEST and film.file not in known:
            findings.append(Finding(film.file, "distorted", ratio, detail=f"stored as {width} x {height} pixels"))
    return findings


def _laterals(films: Sequence[Film], pixels: Films, strangeness: Floats) -> list[Finding]:
    """Films recorded as lateral; and, as a suspicion only, unusual films without mirror symmetry."""
    symmetry = outliers.mirror_symmetry(pixels)
    unusual = strangeness >= np.quantile(strangeness, UNUSUAL)
    findings = []
    for row, film in enumerate(films):
        if outliers.is_lateral_view(film.view):
            findings.append(Finding(film.file, "lateral", 1.0, detail=f"recorded view {film.view}"))
        elif unusual[row] and symmetry[row] < LEAST_SYMMETRY:
            detail = (
                f"correlates by {symmetry[row]:.2f} with its mirror image; no lateral films were at hand to test this"
            )
            findings.append(Finding(film.file, "lateral", float(LEAST_SYMMETRY - symmetry[row]), detail=detail))
    return findings
