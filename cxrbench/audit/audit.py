"""Examine a data set: duplicates, films that lie wrong or are none, marks, labels, composition, shortcuts.

Whatever needs a threshold gets it from films of the same set that are corrupted on purpose, and every finding
comes with the recall and precision measured on such films. The whole result lies in the cache under the
content of the data set.
"""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cxrbench.audit.composition import Composition, compose, warnings_of
from cxrbench.audit.copies import duplicate_findings, measure_copies
from cxrbench.audit.findings import MEANING, Accuracy, Finding, most_suspicious
from cxrbench.audit.labels import label_findings
from cxrbench.audit.looks import Stage, look_at_films
from cxrbench.audit.shortcuts import Probe, audit_shortcuts, draw_probes
from cxrbench.cache import Cache
from cxrbench.contracts import Film, Images
from cxrbench.duplicates import find_copies
from cxrbench.errors import DataError
from cxrbench.film_features import extract_features
from cxrbench.hashing import canonical_hash
from cxrbench.leakage import film_groups
from cxrbench.loading import decode_films
from cxrbench.machine import computing_with, describe_machine
from cxrbench.registry import EXTRACTORS
from cxrbench.stages import LOAD_VERSION, SPLIT_VERSION, DataIndex, load_key

AUDIT_VERSION = 2  # raised when the same films come to give other findings
SIDE = 224  # pixels; what the audit looks at
THUMBNAIL = 112  # pixels; of the films shown
LEAST_FILMS = 20  # fewer teach nothing about how films of the set look


@dataclass(frozen=True)
class Audit:
    """Everything an audit found.

    Attributes:
        findings: by the order of ``MEANING``, the most suspicious first.
        accuracies: how well each kind is found.
        probes: how far a classifier gets by cheating.
        warnings: what the composition gives cause to fear.
        pictures: file -> uint8 ``[THUMBNAIL, THUMBNAIL]``, of the films that are shown.
        figure: the probes as a PNG file.
        facts: films, seconds, machine.
    """

    name: str
    classes: tuple[str, ...]
    data_hash: str
    findings: list[Finding]
    accuracies: list[Accuracy]
    probes: list[Probe]
    composition: list[Composition]
    warnings: list[str]
    left_out: dict[str, int]
    facts: dict[str, Any]
    pictures: dict[str, NDArray[np.uint8]] = field(default_factory=dict)
    figure: bytes = b""


def audit_key(index: DataIndex) -> str:
    """Identity of an audit: all that is known of every film, and the audit's version."""
    films = [asdict(film) for film in index.films]
    versions = [AUDIT_VERSION, LOAD_VERSION, SPLIT_VERSION, EXTRACTORS.create("lite0").weights_sha256()]
    refused = [dict(index.quarantined), dict(index.left_out)]
    return canonical_hash([versions, index.name, list(index.classes), films, refused])


def is_audited(index: DataIndex, cache: Cache) -> bool:
    """Does the cache hold the audit of this data set?"""
    return cache.has("audit", audit_key(index))


def run_audit(index: DataIndex, cache: Cache, device: str, stage: Stage) -> Audit:
    """Audit a data set, or read the audit of the same content.

    Args:
        stage: called with the name of each step as it begins; returns the step's progress callback.

    Raises:
        DataError: fewer than ``LEAST_FILMS`` films can be read.
    """

    def build(folder: Path) -> None:
        with computing_with(threads=1):  # else what is found, and so what --clean removes, would depend on the machine
            audit = _examine(index, cache, device, stage)
        draw_probes({index.name: audit.probes}, folder / "shortcuts.png")
        pictures = np.array([*audit.pictures.values()], np.uint8).reshape(-1, THUMBNAIL, THUMBNAIL)
        np.save(folder / "pictures.npy", pictures)
        content = {
            **{k: v for k, v in vars(audit).items() if k not in ("pictures", "figure")},
            "shown": list(audit.pictures),
        }
        (folder / "audit.json").write_text(json.dumps(content, default=asdict), encoding="utf-8")

    folder = cache.get("audit", audit_key(index), build)
    stored = json.loads((folder / "audit.json").read_text(encoding="utf-8"))
    pictures = dict(zip(stored["shown"], np.load(folder / "pictures.npy"), strict=True))
    return Audit(
        index.name,
        tuple(stored["classes"]),
        stored["data_hash"],
        [Finding(**row) for row in stored["findings"]],
        [Accuracy(**row) for row in stored["accuracies"]],
        [Probe(**row) for row in stored["probes"]],
        [Composition(**row) for row in stored["composition"]],
        stored["warnings"],
        stored["left_out"],
        stored["facts"],
        pictures,
        (folder / "shortcuts.png").read_bytes(),
    )


def _examine(index: DataIndex, cache: Cache, device: str, stage: Stage) -> Audit:
    started = time.perf_counter()
    key = load_key(index, SIDE)
    decoded = decode_films(index.dataset, index.films, key, SIDE, cache, stage("decode"))
    films, pixels, thumbnails = decoded.films, decoded.pixels[:, 0], np.asarray(decoded.thumbnails)
    if len(films) < LEAST_FILMS:
        raise DataError(f"{index.name} has {len(films)} readable films; an audit needs at least {LEAST_FILMS}")
    findings = _unreadable({**index.quarantined, **decoded.quarantined})

    stage("duplicates")
    copies = find_copies(thumbnails)
    findings += duplicate_findings(films, copies, index.classes)
    accuracies = measure_copies(pixels, thumbnails, copies, np.random.default_rng(1))
    groups = film_groups([film.patient_id for film in films], copies.pairs, [film.digest for film in films])

    images = Images(decoded.pixels, decoded.labels, index.classes)
    features = extract_features(images, EXTRACTORS.create("lite0"), device, cache, stage("features"))
    for found, measured in (
        look_at_films(index.dataset, films, pixels, groups, features, device, stage),
        label_findings(films, features, decoded.labels, groups, index.classes),
    ):
        findings += found
        accuracies += measured
    sources = [film.source for film in films]
    probes = audit_shortcuts(
        decoded.pixels, decoded.labels, index.classes, groups, sources, features, progress=stage("shortcuts")
    )
    order = list(MEANING)
    findings.sort(key=lambda found: (order.index(found.finding), -found.score, found.file))
    facts = {
        "films": len(films),
        "per_class": {name: int((decoded.labels == label).sum()) for label, name in enumerate(index.classes)},
        "groups": len(np.unique(groups)),
        "near_copy_pairs": len(copies.pairs),
        "quarantined": sorted({**index.quarantined, **decoded.quarantined}),
        "seconds": round(time.perf_counter() - started, 1),
        **describe_machine(device),
    }
    return Audit(
        index.name,
        index.classes,
        index.hash,
        findings,
        accuracies,
        probes,
        compose(films, index.classes),
        warnings_of(films, index.classes),
        dict(index.left_out),
        facts,
        _pictures(films, pixels, findings),
    )


def _unreadable(quarantined: dict[str, str]) -> list[Finding]:
    """Quarantined files; those that are blank say so in their reason."""
    return [
        Finding(file, "blank" if reason.startswith("blank") else "unreadable", 1.0, detail=reason)
        for file, reason in sorted(quarantined.items())
    ]


def _pictures(
    films: Sequence[Film], pixels: NDArray[np.uint8], findings: Sequence[Finding]
) -> dict[str, NDArray[np.uint8]]:
    """Thumbnails of the first films of each finding, and of their partners."""
    from PIL import Image

    row_of = {film.file: row for row, film in enumerate(films)}
    wanted: dict[str, None] = {}
    for kind in MEANING:
        for found in most_suspicious(findings, kind):
            wanted |= dict.fromkeys(name for name in (found.file, found.partner) if name in row_of)
    size = (THUMBNAIL, THUMBNAIL)
    return {
        file: np.asarray(Image.fromarray(pixels[row_of[file]]).resize(size, Image.Resampling.BICUBIC))
        for file in wanted
    }
