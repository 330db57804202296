"""The training loop the reference plug-ins share: it notices divergence, and a fit that was killed goes on.

Everything random in step k depends on (seed, k) alone, and a checkpoint holds everything that training changes. So
on a CPU a fit that was killed and resumed ends in the same bits as one that was not.
"""

from __future__ import annotations

import contextlib
import math
import signal
import threading
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from cxrbench.contracts import RunContext
from cxrbench.errors import Diverged, UsageError
from cxrbench_baselines.checkpoints import Checkpoint, Checkpoints

CHECK_EVERY = 50  # steps between looks at the losses: looking waits for the device


class Stateful(Protocol):
    """Something that training changes: a net, its moving average, an optimizer, a schedule."""

    def state_dict(self) -> dict[str, Any]:
        """Tensors and plain values alone: what ``torch.load`` takes with ``weights_only``."""
        ...

    def load_state_dict(self, state: dict[str, Any], /) -> Any: ...


class Watch(Protocol):
    """Looks at a fit from time to time; its state is JSON."""

    def due(self, number: int, budget: int) -> bool: ...

    def look(self, number: int, losses: Mapping[str, Tensor]) -> None:
        """Raises Diverged, with a diagnosis in words, where going on is of no use."""
        ...

    def state_dict(self) -> dict[str, Any]: ...

    def load_state_dict(self, state: dict[str, Any], /) -> Any: ...


def train(
    step: Callable[[int], Mapping[str, Tensor]],
    ctx: RunContext,
    *,
    parts: Mapping[str, Stateful] | None = None,
    facts: Mapping[str, Any] | None = None,
    watch: Watch | None = None,
) -> None:
    """Run ``ctx.budget`` training steps, numbered from 0; of those that a killed fit has done, none again.

    With ``parts`` there is a checkpoint in ``ctx.workdir / "checkpoint"`` every ``ctx.save_every`` seconds, and on
    SIGTERM or SIGINT (a second one does not wait for the step to end). A fit of more than ``ctx.save_every`` seconds
    leaves one of its last step: whoever keeps the result deletes ``ctx.workdir``, and a disk that is full just then
    costs no training.

    Args:
        step: does one step and returns its losses (device scalars).
        parts: name -> everything that the steps change; without them nothing is kept.
        facts: what else identifies the fit, in JSON values: a checkpoint of other facts, seed, budget or names of
            parts is refused.
        watch: looked with whenever it is due.

    Raises:
        Diverged: a loss is NaN or infinite, or the watch says so; the last good checkpoint is kept.
        UsageError: the checkpoint that is there is of another fit, or one cannot be written.
        KeyboardInterrupt: SIGTERM or SIGINT came; the fit can go on from its checkpoint.
    """
    if parts is None:
        for number in range(ctx.budget):
            _do(step, number, ctx, watch)
        return
    identity = {"seed": ctx.seed, "budget": ctx.budget, "parts": sorted(parts), **(facts or {})}
    checkpoints = Checkpoints(ctx.workdir / "checkpoint", identity)
    start = _restore(checkpoints.newest(), parts, watch)
    with _asked_to_stop() as asked:
        begun = saved = time.monotonic()
        for number in range(start, ctx.budget):
            losses = _do(step, number, ctx, watch)
            if asked.to_stop:
                _save_before_the_end(checkpoints, number + 1, ctx, losses, parts, watch)
                return
            if time.monotonic() - saved >= ctx.save_every and number + 1 < ctx.budget:
                _require_finite(losses, number, ctx)
                checkpoints.save(_capture(number + 1, parts, watch))
                saved = time.monotonic()
        if start < ctx.budget and time.monotonic() - begun >= ctx.save_every:
            checkpoints.save(_capture(ctx.budget, parts, watch))
        elif start < ctx.budget:
            checkpoints.remove()


def _do(
    step: Callable[[int], Mapping[str, Tensor]], number: int, ctx: RunContext, watch: Watch | None
) -> Mapping[str, Tensor]:
    # Dropout and the like draw from torch's global generators, whose state would else depend on the steps before.
    torch.manual_seed(int(np.random.SeedSequence([ctx.seed, number]).generate_state(1, np.uint64)[0]))
    losses = step(number)
    checked = number % CHECK_EVERY == 0 or number == ctx.budget - 1
    if watch is not None and (watch.due(number, ctx.budget) or (checked and not _finite(losses))):
        watch.look(number, losses)  # before the bare check: the watch can say what led to this
    if checked:
        _require_finite(losses, number, ctx)
    ctx.progress(number + 1, ctx.budget)
    return losses


def _finite(losses: Mapping[str, Tensor]) -> bool:
    return all(math.isfinite(float(value)) for value in losses.values())


def _require_finite(losses: Mapping[str, Tensor], number: int, ctx: RunContext) -> None:
    for name, value in losses.items():
        if not math.isfinite(float(value)):
            raise Diverged(f"{name} became {float(value)} at step {number + 1} of {ctx.budget}")


def _capture(done: int, parts: Mapping[str, Stateful], watch: Watch | None) -> Checkpoint:
    """Raises Diverged if a part holds NaN: its losses will show that only a step later."""
    states = {name: part.state_dict() for name, part in parts.items()}
    for name, state in states.items():
        if any(bool(tensor.isnan().any()) for tensor in _tensors(state) if tensor.is_floating_point()):
            raise Diverged(f"{name} holds NaN after step {done}")
    # A step may build on the gradients of the one before, and a watch reads those of a net that had no turn since.
    gradients = {
        name: {key: weight.grad for key, weight in part.named_parameters() if weight.grad is not None}
        for name, part in parts.items()
        if isinstance(part, nn.Module)
    }
    return Checkpoint(done, states, watch.state_dict() if watch is not None else None, gradients)


def _tensors(state: object) -> Iterator[Tensor]:
    if isinstance(state, Tensor):
        yield state
    elif isinstance(state, Mapping | list | tuple):
        for value in state.values() if isinstance(state, Mapping) else state:
            yield from _tensors(value)


def _restore(found: Checkpoint | None, parts: Mapping[str, Stateful], watch: Watch | None) -> int:
    """Steps that are done."""
    if found is None:
        return 0
    for name, part in parts.items():
        part.load_state_dict(dict(found.parts[name]))
        if isinstance(part, nn.Module):
            for key, weight in part.named_parameters():
                gradient = found.gradients[name].get(key)
                weight.grad = None if gradient is None else gradient.to(weight.device)
    if watch is not None and found.watch is not None:
        watch.load_state_dict(dict(found.watch))
    return found.step


def _save_before_the_end(
    checkpoints: Checkpoints,
    done: int,
    ctx: RunContext,
    losses: Mapping[str, Tensor],
    parts: Mapping[str, Stateful],
    watch: Watch | None,
) -> None:
    """Save where that is of use; whoever asked to stop must not wait, nor find the fit gone on, because it is not."""
    try:
        _require_finite(losses, done - 1, ctx)
        checkpoints.save(_capture(done, parts, watch))
    except (Diverged, UsageError) as error:
        warnings.warn(f"stopped without a new checkpoint: {error}", stacklevel=2)


@dataclass
class _Asked:
    to_stop: bool = False


@contextlib.contextmanager
def _asked_to_stop() -> Iterator[_Asked]:
    """Notes SIGTERM and SIGINT instead of obeying at once; raises KeyboardInterrupt at the end if one came.

    Outside the main thread Python lets nobody handle signals, and a signal that is ignored (as SIGINT is behind
    ``nohup``) stays so.
    """
    asked = _Asked()

    def note(signum: int, frame: object) -> None:
        if asked.to_stop:
            raise KeyboardInterrupt
        asked.to_stop = True

    before = {}
    if threading.current_thread() is threading.main_thread():
        for number in (signal.SIGTERM, signal.SIGINT):
            if signal.getsignal(number) not in (None, signal.SIG_IGN):
                before[number] = signal.signal(number, note)
    try:
        yield asked
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        if asked.to_stop:  # also where an error is on its way: going on is not what was asked for
            raise KeyboardInterrupt
