"""Scores of old records by today's metrics: predictions are kept, so nothing is trained."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from cxrbench.contracts import Scores
from cxrbench.errors import DataError
from cxrbench.feature_files import UNREADABLE
from cxrbench.metrics.classification import score_predictions, score_present
from cxrbench.records import Record, Status
from cxrbench.store import Arrays, Store

ROUNDING = 1e-9  # another numpy adds in another order: that is no change of a score
NEEDED = ("probabilities", "labels", "groups")


@dataclass(frozen=True)
class Change:
    """What today's metrics change in one record.

    Attributes:
        record: with today's scores.
        difference: the largest of a score that it had before, too.
        score: that score; empty where it has none of today's.
        gained, lost: scores that only the new and only the old record has.
    """

    record: Record
    difference: float
    score: str
    gained: tuple[str, ...]
    lost: tuple[str, ...]


@dataclass(frozen=True)
class Rescored:
    """What was rescored.

    Attributes:
        scored: records whose scores were recomputed.
        changes: those among them whose scores changed.
        without: records that have no predictions.
    """

    scored: int
    changes: list[Change]
    without: list[Record]


def rescore_store(store: Store, note: Mapping[str, str]) -> Rescored:
    """Recompute the scores of every utility and external record and write those that change.

    Arrays and pictures are not touched. All predictions are checked before anything is written.

    Args:
        note: who rescored and when; kept as ``rescored`` in the provenance of changed records.

    Raises:
        DataError: kept predictions are malformed, or cannot be read; nothing has been written then.
    """
    scored, changes, without = 0, [], []
    for record in store:
        if record.trial.kind not in ("utility", "external") or record.status is not Status.OK:
            continue
        kept = read_predictions(store, record)
        if not kept:
            without.append(record)
            continue
        scored += 1
        change = rescore_record(record, kept, note)
        if change is not None:
            changes.append(change)
    for change in changes:
        store.replace(change.record)
    return Rescored(scored, changes, without)


def rescore_record(record: Record, kept: Arrays, note: Mapping[str, str]) -> Change | None:
    """What today's metrics make of a record's predictions; None where they make the same.

    Args:
        kept: ``probabilities`` float32 ``[N, C]``, ``labels`` int64 ``[N]``, ``groups`` str ``[N]``.

    Raises:
        DataError: they are malformed.
    """
    before, after = record.scores, _scores(record, kept)
    differences = {name: abs(before[name] - value) for name, value in after.items() if name in before}
    gained = tuple(name for name in after if name not in before)
    lost = tuple(name for name in before if name not in after)
    score = max(differences, key=differences.__getitem__, default="")
    difference = differences.get(score, 0.0)
    if difference <= ROUNDING and not gained and not lost:
        return None
    provenance = {**record.provenance, "rescored": dict(note)}
    changed = record.model_copy(update={"scores": after, "provenance": provenance})
    return Change(changed, difference, score, gained, lost)


def read_predictions(store: Store, record: Record) -> Arrays:
    """The arrays of a record; empty where it has none.

    Raises:
        DataError: the file is damaged.
    """
    try:
        return store.arrays(record.key)
    except UNREADABLE as error:
        raise DataError(f"{_who(record)}: its predictions cannot be read: {error}") from None


def _scores(record: Record, kept: Arrays) -> Scores:
    absent = [name for name in NEEDED if name not in kept]
    if absent:
        raise DataError(f"{_who(record)}: its predictions hold no {', '.join(absent)}")
    probabilities, labels, groups = (kept[name] for name in NEEDED)
    if labels.dtype != np.int64 or labels.ndim != 1 or groups.shape != labels.shape:
        raise DataError(
            f"{_who(record)}: labels must be int64 [N] and groups [N], got {labels.dtype} {labels.shape} and "
            f"{groups.shape}"
        )
    if labels.size and not 0 <= labels.min() <= labels.max() < len(record.classes):
        raise DataError(f"{_who(record)}: labels must lie in [0, {len(record.classes)})")
    score = score_present if record.trial.kind == "external" else score_predictions
    try:
        scores = score(labels, probabilities, record.classes)
    except ValueError as error:
        raise DataError(f"{_who(record)}: {error}") from None
    broken = [name for name, value in scores.items() if not math.isfinite(value)]
    if broken:
        raise DataError(f"{_who(record)}: scores are not finite: {', '.join(broken)}")
    return scores


def _who(record: Record) -> str:
    return f"record {record.key[:12]} ({record.trial.describe()})"
