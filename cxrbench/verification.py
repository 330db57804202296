"""Is a leaderboard row what its records say? Finds a row's records, and compares each with its re-run."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from cxrbench.errors import UsageError
from cxrbench.records import Record, Status, Trial, TrialKind
from cxrbench.store import Arrays

LEAST_DIGITS = 4  # of a row id or record key
STRICT = 1e-6  # where all that rounds is the same: what two orders of adding float32 predictions can do to a score
LOOSE = 0.02  # elsewhere: about one test film in fifty
SCORES_NAMED = 3  # of those that differ
# Of fidelity and memorization: what lies in [0, 1], so that a difference means the same wherever it is.
SHARES = ("precision", "recall", "coverage", "label_agreement", "copies", "copied_parts", "held_out_copies", "nn_p")


def find_row(records: Iterable[Record], text: str) -> list[Record]:
    """The ``ok`` records of a row, in the order of their seeds.

    Args:
        text: a row id, or the beginning (at least 4 digits) of one row's id or of the key of one row's record.

    Raises:
        UsageError: no row or several are meant, none of its records ended ``ok``, or it is a throughput.
    """
    wanted = text.strip().lower()
    if not re.fullmatch(f"[0-9a-f]{{{LEAST_DIGITS},64}}", wanted):
        raise UsageError(f"row {text!r}: give {LEAST_DIGITS} or more of the hexadecimal digits of a row id")
    rows: dict[str, list[Record]] = {}
    meant = set()
    for record in records:
        row = record.trial.row
        rows.setdefault(row, []).append(record)
        if row.startswith(wanted) or record.key.startswith(wanted):
            meant.add(row)
    if wanted in rows:
        meant = {wanted}
    if not meant:
        near = difflib.get_close_matches(wanted, rows, n=3, cutoff=0.5)
        hint = f"did you mean {' or '.join(_row_line(rows[row][0].trial) for row in near)}?" if near else ""
        raise UsageError(f"no row is called {wanted!r}; {hint or f'LEADERBOARD.md shows the ids of {len(rows)} rows'}")
    if len(meant) > 1:
        listed = "; ".join(_row_line(rows[row][0].trial) for row in sorted(meant))
        raise UsageError(f"row {wanted!r} may be any of {len(meant)}; give more digits: {listed}")
    (row,) = meant
    found = rows[row]
    if found[0].trial.kind == "throughput":
        raise UsageError(f"{_row_line(found[0].trial)} cannot be verified: speed belongs to the machine")
    ended_well = [record for record in found if record.status is Status.OK]
    if not ended_well:
        ends = ", ".join(sorted({str(record.status) for record in found}))
        raise UsageError(f"{_row_line(found[0].trial)} has no result to verify: its trials ended {ends}")
    return sorted(ended_well, key=_repetition)


@dataclass(frozen=True)
class Tolerance:
    """How far a score may lie from its re-run.

    Attributes:
        limit: largest difference that still matches.
        relative: are distances (FID, KID ...) judged by their size? Scores that are shares never are.
        reason: why this one.
    """

    limit: float
    relative: bool
    reason: str

    def describe(self) -> str:
        sizes = ", for distances relative to their size" if self.relative else ""
        return f"{self.limit:g}{sizes}: {self.reason}"

    def difference(self, kind: TrialKind, name: str, recorded: float, again: float) -> float:
        """Of one score: absolute, or a share of the larger value."""
        apart = abs(recorded - again)
        if not self.relative or kind in ("utility", "external", "data") or name.rpartition("/")[2].startswith(SHARES):
            return apart
        return apart / max(abs(recorded), abs(again)) if apart else 0.0


def check_tolerance(wanted: float | None) -> None:
    """Raises UsageError unless ``wanted`` is None or a finite number of at least 0."""
    if wanted is not None and not 0 <= wanted < np.inf:
        raise UsageError(f"--tolerance {wanted:g}: it must be a finite number of at least 0")


def choose_tolerance(
    recorded: Mapping[str, Any], again: Mapping[str, Any], device: str, wanted: float | None = None
) -> Tolerance:
    """The tolerance that two machines call for.

    Args:
        recorded, again: provenance of the record and of its re-run.
        device: of the re-run, as torch calls it.
        wanted: by the user, instead of what is chosen.

    Raises:
        UsageError: ``wanted`` is no finite number of at least 0.
    """
    check_tolerance(wanted)
    then, now = _rounding(recorded), _rounding(again)
    others = [f"{name} {then[name]} then, {now[name]} now" for name in then if then[name] != now[name]]
    if device != "cpu":
        others.append("a GPU adds in no fixed order")
    relative = bool(others)
    if wanted is not None:
        return Tolerance(wanted, relative, "as asked")
    if others:
        return Tolerance(LOOSE, relative, "; ".join(others))
    return Tolerance(STRICT, relative, f"same {', '.join(then)}")


@dataclass(frozen=True)
class Comparison:
    """A record and its re-run.

    Attributes:
        score: the one in which they differ most; empty where they share none.
        difference: in that score, as the tolerance counts it.
        recorded, again: its two values.
        predictions: largest absolute difference of a kept probability; None where there are none on either side.
        problems: what does not match, in words; empty where all does.
        added: what the re-run has (a metric is newer than the record); no mismatch.
    """

    trial: Trial
    tolerance: Tolerance
    score: str
    difference: float
    recorded: float
    again: float
    predictions: float | None
    problems: tuple[str, ...]
    added: tuple[str, ...]

    @property
    def matches(self) -> bool:
        return not self.problems


def compare(record: Record, again: Record, tolerance: Tolerance, kept: Arrays, kept_again: Arrays) -> Comparison:
    """Compare all that two runs of one trial found.

    Counts and the probabilities of single films are judged under a tolerance of 1e-6 or less: on another machine
    they may move farther than the scores made of them. The counts of a ``data`` trial are its result and always judged.

    Args:
        kept, kept_again: their arrays (predictions).
    """
    strict = tolerance.limit <= STRICT
    one, other = dict(record.scores), dict(again.scores)
    if strict or record.trial.kind == "data":
        one, other = {**one, **record.counts}, {**other, **again.counts}
    differences = {
        name: tolerance.difference(record.trial.kind, name, one[name], other[name]) for name in one if name in other
    }
    far = [name for name, difference in differences.items() if not difference <= tolerance.limit]
    lost = [name for name in one if name not in other]
    predictions, films = _compare_predictions(kept, kept_again)
    problems = [*films]
    if record.classes != again.classes:
        problems.append(f"its classes are {', '.join(record.classes)}, and here {', '.join(again.classes)}")
    if far:
        problems.append(f"{_named(far)} differ{'s' if len(far) == 1 else ''} by more than {tolerance.limit:g}")
    if again.scores and not record.scores:
        problems.append("the record has no score")
    if lost:
        problems.append(f"{_named(lost)} {'is' if len(lost) == 1 else 'are'} in the record and not in the re-run")
    if predictions is not None and strict and not predictions <= tolerance.limit:
        problems.append(f"predictions differ by up to {predictions:.1e}")
    if (far or lost) and predictions is not None and predictions <= STRICT and not films:
        problems.append(
            "the predictions are the same: the scores were edited, or are of other metrics than today's, "
            "in which `cxrbench rescore` puts them"
        )
    score = max(differences, key=differences.__getitem__, default="")
    return Comparison(
        trial=record.trial,
        tolerance=tolerance,
        score=score,
        difference=differences.get(score, 0.0),
        recorded=one.get(score, np.nan),
        again=other.get(score, np.nan),
        predictions=predictions,
        problems=tuple(problems),
        added=tuple(name for name in other if name not in one),
    )


def _compare_predictions(kept: Arrays, again: Arrays) -> tuple[float | None, list[str]]:
    """Largest difference of a probability, and what makes a comparison senseless."""
    if "probabilities" not in kept or "probabilities" not in again:
        return None, []
    one, other = kept["probabilities"], again["probabilities"]
    if one.shape != other.shape or not np.array_equal(kept.get("labels", []), again.get("labels", [])):
        return None, ["the kept predictions are of other films than those of the re-run"]
    return float(np.abs(one.astype(np.float64) - other).max(initial=0.0)), []


def _named(scores: list[str]) -> str:
    more = f" and {len(scores) - SCORES_NAMED} more" if len(scores) > SCORES_NAMED else ""
    return ", ".join(scores[:SCORES_NAMED]) + more


def _repetition(record: Record) -> tuple[int, int, int]:
    trial = record.trial
    return trial.setting.split_seed, trial.generator_seed or 0, trial.classifier_seed or 0


def _row_line(trial: Trial) -> str:
    repeated = re.sub(r", seed \d+", "", trial.describe())
    return f"{trial.row} ({repeated}; {trial.setting.data}, {trial.setting.tier})"


def _rounding(provenance: Mapping[str, Any]) -> dict[str, Any]:
    """All that decides in which order numbers are added."""
    versions = provenance.get("versions") or {}
    return {
        "device": provenance.get("device"),
        "torch": versions.get("torch"),
        "threads": provenance.get("threads"),
        "python": provenance.get("python"),
    }
