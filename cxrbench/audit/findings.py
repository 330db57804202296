"""What an audit finds: its words, the table of findings, and which of them clean a data set."""

from __future__ import annotations

import csv
import io
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import astuple, dataclass, fields

from cxrbench.errors import UsageError

SHOWN = 24  # films shown for each finding
MEANING = {
    "exact-duplicate": "the same file stands twice",
    "near-duplicate": "a copy of another film: recompressed, relit, cropped, turned, mirrored or inverted",
    "flipped": "mirrored, by the look of it: the heart on the wrong side (or a true dextrocardia)",
    "rotated": "turned by a quarter",
    "upside-down": "upside down",
    "inverted": "air is white and bone black",
    "lateral": "not a frontal view",
    "not-xray": "unlike every other film of the set",
    "text": "burnt-in words, arrows or circles",
    "border": "large uniform bands along the sides",
    "distorted": "drawn out along one axis",
    "blank": "no contrast",
    "unreadable": "cannot be read",
    "label-conflict": "the same film stands under another label, too",
    "label-suspect": "a classifier that never saw it is sure of another class",
}
POLICIES = {
    "none": frozenset[str](),
    "quarantine": frozenset(
        {"exact-duplicate", "label-conflict", "not-xray", "blank", "lateral", "inverted", "upside-down", "rotated"}
    ),
    # label-suspect is in neither: to remove what a classifier finds hard would raise every score measured after.
    "strict": frozenset(set(MEANING) - {"unreadable", "label-suspect"}),
}


@dataclass(frozen=True)
class Finding:
    """One thing found about one film.

    Attributes:
        file: the film.
        finding: a key of ``MEANING``.
        score: how strongly; what it measures depends on the finding and is said in ``detail``.
        partner: the other film of a pair, or ``""``.
        detail: in words.
    """

    file: str
    finding: str
    score: float
    partner: str = ""
    detail: str = ""


@dataclass(frozen=True)
class Accuracy:
    """How well a finding is made, measured on films of the set that were corrupted on purpose.

    Attributes:
        threshold: of the score; None where no threshold was good enough, so that nothing is reported.
        recall: share of the corrupted films that are found.
        false_alarms: share of the untouched films that are called so (their true faults included).
        precision: share of true finds if ``prevalence`` of the films had the fault.
        planted, untouched: films these shares rest on; none of them chose the threshold.
    """

    finding: str
    threshold: float | None
    recall: float
    false_alarms: float
    precision: float
    prevalence: float
    planted: int
    untouched: int
    note: str = ""


def count_findings(findings: Iterable[Finding]) -> dict[str, int]:
    """Films per finding, in the order of ``MEANING``; absent findings are 0."""
    films = Counter(kind for _, kind in {(found.file, found.finding) for found in findings})
    return {kind: films.get(kind, 0) for kind in MEANING}


def most_suspicious(findings: Iterable[Finding], kind: str) -> list[Finding]:
    """The findings of a kind whose films are shown: the first ``SHOWN``."""
    return [found for found in findings if found.finding == kind][:SHOWN]


def to_csv(findings: Sequence[Finding]) -> str:
    """The columns file,finding,score,partner,detail."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([field.name for field in fields(Finding)])
    for found in findings:
        writer.writerow([f"{v:.4f}" if isinstance(v, float) else v for v in astuple(found)])
    return text.getvalue()


def removed_by(findings: Iterable[Finding], policy: str) -> dict[str, str]:
    """File -> why a cleaning policy removes it.

    Of duplicates the first film is kept (the others are the ones that carry the finding); of films under two
    labels none is, since nobody knows which label is true.

    Raises:
        UsageError: there is no such policy.
    """
    if policy not in POLICIES:
        raise UsageError(f"unknown cleaning policy {policy!r}; use {', '.join(POLICIES)}")
    removed: dict[str, str] = {}
    for found in findings:
        suspicion = found.finding == "lateral" and found.score < 1  # not recorded as such, and never tested
        if found.finding in POLICIES[policy] and not suspicion:
            partner = f" (of {found.partner})" if found.partner else ""
            removed.setdefault(found.file, f"{found.finding}{partner}")
    return removed
