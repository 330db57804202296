"""Run trials in this process and turn whatever happens into records."""

from __future__ import annotations

import math
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from typing import Any, Protocol

from cxrbench.contracts import Scores
from cxrbench.errors import CxrbenchError, Diverged
from cxrbench.records import Record, Status, Trial
from cxrbench.stages import Progress
from cxrbench.store import Arrays

TRACE_FRAMES = 4  # enough to find the line, short enough for a record
OUT_OF_MEMORY = (  # in errors that are no MemoryError and no torch.OutOfMemoryError
    "can't allocate memory",  # torch on a CPU, Linux
    "not enough memory",  # the same, Windows and macOS
    "CUDA error: out of memory",
    "CUBLAS_STATUS_ALLOC_FAILED",
    "CUDNN_STATUS_ALLOC_FAILED",
)


@dataclass
class Measurement:
    """What a trial found.

    Attributes:
        arrays: kept with the record (predictions).
        pictures: films for the sample grids.
    """

    classes: tuple[str, ...]
    scores: Scores = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    arrays: Arrays = field(default_factory=dict)
    pictures: Arrays = field(default_factory=dict)


Measure = Callable[[Trial, Progress], Measurement]


class Listener(Protocol):
    """Told of what happens to the trials."""

    def begin(self, trial: Trial) -> None: ...
    def step(self, trial: Trial, done: int, total: int) -> None: ...

    def end(self, record: Record, found: Measurement | None) -> bool:
        """Returns whether to go on."""
        ...


def run_here(trials: Sequence[Trial], measure: Measure, provenance: Mapping[str, Any], listener: Listener) -> bool:
    """Measure one trial after the other, in this process.

    Returns:
        Whether all had their turn: the listener may stop, and does so after an interruption.
    """
    for trial in trials:
        listener.begin(trial)
        if not listener.end(*execute(trial, partial(measure, trial, partial(listener.step, trial)), provenance)):
            return False
    return True


def execute(
    trial: Trial, measure: Callable[[], Measurement], provenance: Mapping[str, Any]
) -> tuple[Record, Measurement | None]:
    """Measure one trial.

    Returns:
        Its record, and the measurement where there is one. A KeyboardInterrupt becomes a record of status
        ``interrupted``; the caller decides whether to go on.
    """
    started, clock = datetime.now(UTC), time.perf_counter()
    found: Measurement | None = None
    error: str | None = None
    notes: list[str] = []
    try:
        found = measure()
        broken = [name for name, value in found.scores.items() if not math.isfinite(value)]
        if broken:
            raise ValueError(f"scores are not finite: {', '.join(broken)}")
        status = Status.OK
    except KeyboardInterrupt:
        status, error = Status.INTERRUPTED, "interrupted"
    except Diverged as reason:
        status, error = Status.DIVERGED, str(reason)
    except CxrbenchError as reason:
        status, error = Status.FAILED, str(reason)
    except Exception as reason:  # noqa: BLE001 - a plug-in may raise anything; the other trials go on
        status = Status.OOM if _is_out_of_memory(reason) else Status.FAILED
        error = f"{type(reason).__name__}: {reason}"
        found = None
        notes = traceback.format_exception(reason, limit=-TRACE_FRAMES)
    record = Record(
        key=trial.key,
        trial=trial,
        status=status,
        error=error,
        classes=found.classes if found else (),
        scores=found.scores if found else {},
        counts=found.counts if found else {},
        notes=found.notes if found else notes,
        provenance={
            **provenance,
            "started": started.isoformat(timespec="seconds"),
            "seconds": round(time.perf_counter() - clock, 3),
        },
    )
    return record, found


def _is_out_of_memory(error: Exception) -> bool:
    if isinstance(error, MemoryError):
        return True
    # By its name: torch need not be imported for it.
    return type(error).__name__ == "OutOfMemoryError" or any(text in str(error) for text in OUT_OF_MEMORY)
