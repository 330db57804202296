"""Duplicates of a data set as findings, and how well copies are found: known copies are planted and sought."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from cxrbench.audit.findings import Accuracy, Finding
from cxrbench.contracts import Film
from cxrbench.duplicates import SYMMETRIES, THUMBNAIL, Copies, find_copies

PLANTED = 60  # copies of each kind
SOUGHT_AMONG = 2000  # films of the set the planted copies are mixed with
KINDS = ("recompressed", "relit", "cropped", "cropped, relit and recompressed", "mirrored", "inverted")

if TYPE_CHECKING:
    from PIL import Image

Films = NDArray[np.uint8]


def duplicate_findings(films: Sequence[Film], copies: Copies, classes: Sequence[str]) -> list[Finding]:
    """Exact and near duplicates and conflicting labels; of each group of copies the first film is no finding."""
    findings = []
    first: dict[str, int] = {}
    for row, film in enumerate(films):
        original = first.setdefault(film.digest, row)
        if original != row:
            findings += _pair(films, original, row, "exact-duplicate", 1.0, "the same bytes", classes)
    for (i, j), number, agreement in zip(copies.pairs.tolist(), copies.symmetry, copies.agreement, strict=True):
        if films[i].digest != films[j].digest:
            how = SYMMETRIES[number].name
            detail = "" if how == "unturned" else how
            findings += _pair(films, i, j, "near-duplicate", float(agreement), detail, classes)
    return findings


def _pair(
    films: Sequence[Film], i: int, j: int, kind: str, score: float, detail: str, classes: Sequence[str]
) -> list[Finding]:
    one, other = films[i], films[j]
    known = one.patient_id and other.patient_id and one.patient_id != other.patient_id
    detail = "; ".join(part for part in (detail, "two patient ids" if known else "") if part)
    findings = [Finding(other.file, kind, score, one.file, detail)]
    if one.label != other.label:
        labels = f"{classes[one.label]} and {classes[other.label]}"
        findings += [
            Finding(film.file, "label-conflict", score, partner.file, labels)
            for film, partner in ((one, other), (other, one))
        ]
    return findings


def measure_copies(films: Films, thumbnails: Films, copies: Copies, rng: np.random.Generator) -> list[Accuracy]:
    """Plant copies of known films among the set and seek them.

    Args:
        films: uint8 ``[N, S, S]``; thumbnails: uint8 ``[N, THUMBNAIL, THUMBNAIL]`` of the same films.
        copies: what was found without planting. A film joined to a stranger by a planted copy is a false
            alarm unless the stranger is a copy of the original itself.
    """
    from PIL import Image

    chosen = np.sort(rng.permutation(len(films))[:SOUGHT_AMONG])
    n = len(chosen)
    partners: dict[int, set[int]] = {}
    for i, j in copies.pairs.tolist():
        partners.setdefault(i, {i}).add(j)
        partners.setdefault(j, {j}).add(i)
    origins = np.concatenate([rng.permutation(n)[: min(PLANTED, n)] for _ in KINDS])
    per_kind = len(origins) // len(KINDS)
    planted = np.empty((len(origins), THUMBNAIL, THUMBNAIL), np.uint8)
    for row, origin in enumerate(origins):
        copy = change(Image.fromarray(films[chosen[origin]]), KINDS[row // per_kind], rng)
        planted[row] = np.asarray(copy.resize((THUMBNAIL, THUMBNAIL), Image.Resampling.BICUBIC))
    found = find_copies(np.concatenate([thumbnails[chosen], planted]))
    hits, wrong = np.zeros(len(origins), bool), np.zeros(len(origins), bool)
    for i, j in found.pairs.tolist():
        if i < n <= j:
            origin = int(origins[j - n])
            hits[j - n] |= i == origin
            wrong[j - n] |= i != origin and int(chosen[i]) not in partners.get(int(chosen[origin]), set())
    results = []
    for number, kind in enumerate(KINDS):
        rows = slice(number * per_kind, (number + 1) * per_kind)
        recall, alarms = float(hits[rows].mean()), float(wrong[rows].mean())
        results.append(
            Accuracy(
                f"near-duplicate ({kind})",
                0.0,
                recall,
                alarms,
                recall / (recall + alarms) if recall + alarms else 0.0,
                1.0,
                per_kind,
                n,
                "precision among the planted copies",
            )
        )
    return results


def change(film: Image.Image, kind: str, rng: np.random.Generator) -> Image.Image:
    """A copy (PIL, mode L) as ``KINDS`` names it: JPEG of quality 25 to 80; exposure, gamma and brightness;
    up to 5 % cut off each side."""
    from PIL import Image

    if kind == "mirrored":
        return film.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    if kind == "inverted":
        return film.point(lambda grey: 255 - grey)
    if "cropped" in kind:
        width, height = film.size
        left, top, right, bottom = rng.uniform(0, 0.05, 4) * (width, height, width, height)
        film = film.resize((width, height), Image.Resampling.BICUBIC, box=(left, top, width - right, height - bottom))
    if "relit" in kind:
        gamma, gain, offset = rng.uniform(0.7, 1.4), rng.uniform(0.75, 1.15), rng.uniform(-25, 25)
        film = film.point(lambda grey: max(0.0, min(255.0, 255 * (grey / 255) ** gamma * gain + offset)))
    if "recompressed" in kind:
        buffer = io.BytesIO()
        film.save(buffer, "JPEG", quality=int(rng.integers(25, 80)))
        film = Image.open(buffer)
    return film
