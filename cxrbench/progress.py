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
    """Told of a run's course; units of work are relative."""

    def start(self, work: float) -> None: ...
    def begin(self, what: str, work: float) -> None: ...
    def step(self, done: int, total: int) -> None: ...
    def end(self, record: Record | None) -> None: ...
    def say(self, text: str) -> None: ...
    def close(self) -> None: ...


class Silent:
    """Shows nothing (``--quiet``)."""

    def start(self, work: float) -> None:
        """Nothing to show."""

    def begin(self, what: str, work: float) -> None:
        """Nothing to show."""

    def step(self, done: int, total: int) -> None:
        """Nothing to show."""

    def end(self, record: Record | None) -> None:
        """Nothing to show."""

    def say(self, text: str) -> None:
        """Nothing to show."""

    def close(self) -> None:
        """Nothing to show."""


class Lines:
    """One line per ten seconds, for logs; every failure gets a line at once."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self.total = self.done = self.work = self.share = 0.0
        self.what = ""
        self.started = self.last = time.monotonic()

    def start(self, work: float) -> None:
        self.total, self.started = work, time.monotonic()

    def begin(self, what: str, work: float) -> None:
        self.what, self.work = what, work

    def step(self, done: int, total: int) -> None:
        now = time.monotonic()
        if now - self.last < LINE_EVERY:
            return
        self.last = now
        # A trial has several phases that each count from zero: what is shown never goes back.
        self.share = share = max(self.share, (self.done + self.work * done / max(total, 1)) / max(self.total, 1e-9))
        elapsed = now - self.started
        left = f", about {elapsed / share - elapsed:.0f} s left" if share > 0.02 else ""
        self.say(f"{share:4.0%}  {self.what} ({done}/{total}), {elapsed:.0f} s{left}")

    def end(self, record: Record | None) -> None:
        self.done += self.work
        if record and record.status is not Status.OK:
            self.say(f"{record.status}: {record.trial.describe()}: {record.error}")

    def say(self, text: str) -> None:
        self.console.print(text, highlight=False, markup=False, soft_wrap=True)

    def close(self) -> None:
        """Lines need no closing."""


class Bars:
    """A live bar with the time left, for terminals."""

    def __init__(self, console: Console) -> None:
        self.console = console
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
        self.done = self.work = self.shown = 0.0

    def start(self, work: float) -> None:
        self.progress.update(self.task, total=work)
        self.progress.start()

    def begin(self, what: str, work: float) -> None:
        self.work = work
        self.progress.update(self.task, description=what)

    def step(self, done: int, total: int) -> None:
        self.shown = max(self.shown, self.done + self.work * done / max(total, 1))  # phases count from zero
        self.progress.update(self.task, completed=self.shown)

    def end(self, record: Record | None) -> None:
        self.done += self.work
        self.progress.update(self.task, completed=self.done)
        if record and record.status is not Status.OK:
            self.say(f"{record.status}: {record.trial.describe()}: {record.error}")

    def say(self, text: str) -> None:
        self.console.print(text, highlight=False, markup=False, soft_wrap=True)

    def close(self) -> None:
        self.progress.stop()


def make_reporter(quiet: bool) -> Reporter:
    """Bars on a terminal, lines elsewhere, nothing when quiet. All on standard error."""
    if quiet:
        return Silent()
    console = Console(stderr=True)
    return Bars(console) if console.is_terminal and sys.stderr.isatty() else Lines(console)
