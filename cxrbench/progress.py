"""What a person sees while a run goes on."""

from __future__ import annotations

import sys
import time
from typing import Protocol

from rich.console import Console
from rich.progress import (
    BarColumn,
    Progress,
    TaskProgressColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from cxrbench.records import Record, Status

LINE_EVERY = 10.0  # seconds between lines where there is no terminal


class Reporter(Protocol):
    """Told of a run's course; units of work are relative. ``what`` names a piece of work: several may be under way."""

    def start(self, work: float) -> None: ...
    def begin(self, what: str, work: float) -> None: ...
    def step(self, what: str, done: int, total: int) -> None: ...
    def end(self, what: str, record: Record | None) -> None: ...
    def say(self, text: str) -> None: ...
    def close(self) -> None: ...


class Silent:
    """Shows nothing (``--quiet``)."""

    def start(self, work: float) -> None:
        """Nothing to show."""

    def begin(self, what: str, work: float) -> None:
        """Nothing to show."""

    def step(self, what: str, done: int, total: int) -> None:
        """Nothing to show."""

    def end(self, what: str, record: Record | None) -> None:
        """Nothing to show."""

    def say(self, text: str) -> None:
        """Nothing to show."""

    def close(self) -> None:
        """Nothing to show."""


class _Course:
    """How far a run is."""

    def __init__(self) -> None:
        self.total = self.done = self.shown = 0.0
        self.under_way: dict[str, tuple[float, float]] = {}  # what -> its work, the share of it that is done

    def begin(self, what: str, work: float) -> None:
        self.under_way[what] = (work, 0.0)

    def step(self, what: str, done: int, total: int) -> None:
        work, share = self.under_way.get(what, (0.0, 0.0))
        # A trial has several phases that each count from zero: what is shown never goes back.
        self.under_way[what] = (work, max(share, done / max(total, 1)))
        self.shown = max(self.shown, self.done + sum(work * share for work, share in self.under_way.values()))

    def end(self, what: str) -> None:
        self.done += self.under_way.pop(what, (0.0, 0.0))[0]
        self.shown = max(self.shown, self.done)


class Lines:
    """One line per ten seconds, for logs; every failure gets a line at once."""

    def __init__(self, console: Console) -> None:
        self.console, self.course = console, _Course()
        self.started = self.last = time.monotonic()

    def start(self, work: float) -> None:
        self.course.total, self.started = work, time.monotonic()

    def begin(self, what: str, work: float) -> None:
        self.course.begin(what, work)

    def step(self, what: str, done: int, total: int) -> None:
        self.course.step(what, done, total)
        now = time.monotonic()
        if now - self.last < LINE_EVERY:
            return
        self.last = now
        share = self.course.shown / max(self.course.total, 1e-9)
        elapsed = now - self.started
        left = f", about {elapsed / share - elapsed:.0f} s left" if share > 0.02 else ""
        others = len(self.course.under_way) - 1
        beside = f" and {others} more" if others > 0 else ""
        self.say(f"{share:4.0%}  {what} ({done}/{total}){beside}, {elapsed:.0f} s{left}")

    def end(self, what: str, record: Record | None) -> None:
        self.course.end(what)
        if record and record.status is not Status.OK:
            self.say(f"{record.status}: {record.trial.describe()}: {record.error}")

    def say(self, text: str) -> None:
        self.console.print(text, highlight=False, markup=False, soft_wrap=True)

    def close(self) -> None:
        """Lines need no closing."""


class Bars:
    """A live bar with the time left, for terminals."""

    def __init__(self, console: Console) -> None:
        self.console, self.course = console, _Course()
        self.progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            TaskProgressColumn(),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            console=console,
            transient=True,
        )
        self.task = self.progress.add_task("starting", total=None)

    def start(self, work: float) -> None:
        self.progress.update(self.task, total=work)
        self.progress.start()

    def begin(self, what: str, work: float) -> None:
        self.course.begin(what, work)
        self._show()

    def step(self, what: str, done: int, total: int) -> None:
        self.course.step(what, done, total)
        self._show()

    def end(self, what: str, record: Record | None) -> None:
        self.course.end(what)
        self._show()
        if record and record.status is not Status.OK:
            self.say(f"{record.status}: {record.trial.describe()}: {record.error}")

    def say(self, text: str) -> None:
        self.console.print(text, highlight=False, markup=False, soft_wrap=True)

    def close(self) -> None:
        self.progress.stop()

    def _show(self) -> None:
        what = " | ".join(self.course.under_way)
        self.progress.update(self.task, completed=self.course.shown, description=what)


def make_reporter(quiet: bool) -> Reporter:
    """Bars on a terminal, lines elsewhere, nothing when quiet. All on standard error."""
    if quiet:
        return Silent()
    console = Console(stderr=True)
    return Bars(console) if console.is_terminal and sys.stderr.isatty() else Lines(console)
