"""Run trials side by side: small nets do not fill a machine, so several are trained at once, one process each.

A group of trials that share a fit has one process, forked from this one: it finds the films in memory and the
plug-ins as they are here. What ends a process (the system's out-of-memory killer, a plug-in's native code) ends one
trial; those behind it go on in a fresh process, unless that, too, is ended. A process that has run out of memory and
lived ends itself after that trial: what it still holds must not be missing for the next.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import signal
import sys
import time
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Any, NoReturn

from cxrbench.executors.local import Listener, Measure, Measurement, run_here
from cxrbench.machine import computing_with, sees_cuda
from cxrbench.records import Record, Status, Trial

TELL_EVERY = 0.2  # seconds between two words of a process on how far it is
MOST_DEATHS = 2  # of a group's processes: what they share, a fit of hours perhaps, is not tried for every trial
MOST_RENEWALS = 2  # after that a process remembers that a fit ran out of memory, and does not try it again
PATIENCE = 60.0  # seconds in which a process that was told to stop may save its work


def can_fork() -> bool:
    """Whether processes can be forked here. Where torch sees a CUDA device they cannot: it forbids it, and one
    process fills a GPU better."""
    return "fork" in multiprocessing.get_all_start_methods() and not sees_cuda()


def run_side_by_side(
    groups: Sequence[Sequence[Trial]],
    measure: Measure,
    provenance: Mapping[str, Any],
    listener: Listener,
    jobs: int,
) -> bool:
    """Measure groups of trials, ``jobs`` groups at a time, each in a process that computes with one thread.

    Within a group trials run in their order. The listener is told of everything in this process.

    Returns:
        Whether all had their turn.

    Raises:
        KeyboardInterrupt: SIGINT or SIGTERM came; the trials under way have saved what they could.
    """
    import torch._dynamo  # noqa: F401 - the first optimizer of a process would: a second each, and 100 MB

    waiting = deque(_Group(list(group)) for group in groups)
    running: dict[Connection, _Process] = {}
    try:
        while waiting or running:
            while waiting and len(running) < jobs:
                process = _start(waiting.popleft(), measure, provenance)
                running[process.inbox] = process
            for inbox in wait(list(running)):
                process = running[inbox]  # type: ignore[index]  # only connections are waited for
                if not _hear(process, listener):
                    return False
                if process.ended:
                    del running[process.inbox]
                    if process.group.left:
                        waiting.appendleft(process.group)
    except KeyboardInterrupt:
        _stop(running, listener)
        raise
    finally:
        _end(running)
    return True


@dataclass
class _Group:
    """Trials that share a process.

    Attributes:
        left: those that have no record yet; the first of them is under way once its process has begun it.
        deaths: processes that were ended at work on them.
        renewals: processes that ended themselves, out of memory.
    """

    left: list[Trial]
    deaths: int = 0
    renewals: int = 0


@dataclass
class _Process:
    """A group at work.

    Attributes:
        renewable: it ends itself after a trial that runs out of memory.
        spent: it has run out of memory in the trial it told of last.
    """

    handle: BaseProcess
    inbox: Connection
    group: _Group
    provenance: Mapping[str, Any]
    renewable: bool
    begun: datetime | None = None
    spent: bool = False
    ended: bool = False


def _start(group: _Group, measure: Measure, provenance: Mapping[str, Any]) -> _Process:
    fork = multiprocessing.get_context("fork")
    inbox, outbox = fork.Pipe(duplex=False)
    renewable = group.renewals < MOST_RENEWALS
    with _interrupts_held():  # until the child has its own handlers
        handle = fork.Process(target=_work, args=(group.left, measure, provenance, inbox, outbox, renewable))
        handle.start()
    outbox.close()  # or the end of the process would not show
    return _Process(handle, inbox, group, provenance, renewable)


@contextlib.contextmanager
def _interrupts_held() -> Iterator[None]:
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _work(
    trials: Sequence[Trial],
    measure: Measure,
    provenance: Mapping[str, Any],
    inbox: Connection,
    outbox: Connection,
    renewable: bool,
) -> None:
    """What a child does. Ctrl-C goes to every process of a terminal: only the parent's word counts here."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, _interrupted)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT, signal.SIGTERM})
    inbox.close()
    assert sys.__stdout__ is not None
    sys.stdout, sys.stderr = sys.__stdout__, sys.__stderr__  # a live display's locks may be held by threads left behind
    # Stopped between two trials, or left behind by a parent that was killed: nothing to record, nobody to tell.
    with contextlib.suppress(KeyboardInterrupt, BrokenPipeError), computing_with(threads=1):
        run_here(trials, measure, provenance, _Outbox(outbox, renewable))


def _interrupted(signum: int, frame: object) -> NoReturn:
    raise KeyboardInterrupt


class _Outbox:
    """The listener of a child: passes on what it hears.

    Args:
        renewable: end after a trial that ran out of memory.
    """

    def __init__(self, outbox: Connection, renewable: bool) -> None:
        self.outbox, self.renewable, self.told = outbox, renewable, 0.0

    def begin(self, trial: Trial) -> None:
        self.outbox.send(datetime.now(UTC))

    def step(self, trial: Trial, done: int, total: int) -> None:
        if time.monotonic() - self.told >= TELL_EVERY:
            self.outbox.send((done, total))
            self.told = time.monotonic()

    def end(self, record: Record, found: Measurement | None) -> bool:
        self.outbox.send((record, found))
        return record.status is not Status.INTERRUPTED and not (self.renewable and record.status is Status.OOM)


def _hear(process: _Process, listener: Listener) -> bool:
    """Take one message of a process, or its end; returns whether to go on."""
    try:
        message = process.inbox.recv()
    except EOFError:
        process.ended = True
        process.handle.join()
        return _hear_its_end(process, listener)
    left = process.group.left
    if isinstance(message, datetime):
        process.begun, process.spent = message, False
        listener.begin(left[0])
        return True
    if isinstance(message[0], Record):
        left.pop(0)
        process.begun, process.spent = None, message[0].status is Status.OOM
        return listener.end(*message)
    listener.step(left[0], *message)
    return True


def _hear_its_end(process: _Process, listener: Listener) -> bool:
    group = process.group
    if process.spent and process.renewable:  # even if it was killed on its way out: no trial was under way
        group.renewals += 1
        return True
    group.deaths += bool(group.left)
    while group.left:
        if process.begun is None:  # it died between two trials
            listener.begin(group.left[0])
        if not listener.end(_record_of_the_dead(group.left.pop(0), process), None):
            return False
        if group.deaths < MOST_DEATHS:
            return True
        process.begun = None
    return True


def _record_of_the_dead(trial: Trial, process: _Process) -> Record:
    code = process.handle.exitcode or 0
    status, how = Status.FAILED, f"with exit code {code}"
    if code < 0:
        how = f"by signal {signal.Signals(-code).name}"
    if code == -signal.SIGKILL:
        status, how = Status.OOM, f"{how}, as the system does where memory is short"
    started = process.begun or datetime.now(UTC)
    return Record(
        key=trial.key,
        trial=trial,
        status=status,
        error=f"the process of this trial was ended {how}",
        provenance={
            **process.provenance,
            "started": started.isoformat(timespec="seconds"),
            "seconds": round((datetime.now(UTC) - started).total_seconds(), 3),
        },
    )


def _stop(running: Mapping[Connection, _Process], listener: Listener) -> None:
    """Tell every process to stop, and hear what they leave."""
    for process in running.values():
        process.handle.terminate()
    deadline = time.monotonic() + PATIENCE
    silent = dict(running)
    while silent and (left := deadline - time.monotonic()) > 0:
        for inbox in wait(list(silent), left):
            process = silent[inbox]  # type: ignore[index]  # only connections are waited for
            try:
                message = process.inbox.recv()
            except EOFError:
                del silent[process.inbox]
                continue
            if isinstance(message, tuple) and isinstance(message[0], Record):
                listener.end(*message)


def _end(running: Mapping[Connection, _Process]) -> None:
    """Whatever happened, no process stays behind."""
    for process in running.values():
        process.inbox.close()  # nobody reads it any more: a process must not wait until its word is heard
        process.handle.terminate()
    for process in running.values():
        process.handle.join(PATIENCE)
        if process.handle.is_alive():
            process.handle.kill()
            process.handle.join()
