"""A training step's work on a GPU, captured once and replayed: where a batch is small, a GPU waits for Python.

NVIDIA's CUDA graphs: the kernels of a piece of work are recorded with the addresses they read and write, and sent off
again together. So the work must be the same at every step but for what stands in its inputs.
"""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Callable, Iterator, Mapping
from typing import Protocol

import torch
from torch import Tensor
from torch.optim import Optimizer

WARM_UP = 3  # calls before the capture: kernels are chosen in them, and optimizers make their state

Work = Callable[..., Mapping[str, Tensor]]
_switch = {"replay": True}


class Graph(Protocol):
    """What does ``work`` again, in the memory that it had when it was captured."""

    def capture(self, work: Callable[[], Mapping[str, Tensor]]) -> Mapping[str, Tensor]:
        """Record what ``work`` does, without doing it.

        Returns:
            The tensors in which every replay leaves its results.

        Raises:
            RuntimeError: ``work`` does what cannot be recorded.
        """
        ...

    def replay(self) -> None: ...


class CudaGraph:
    """The ``Graph`` of a GPU."""

    def __init__(self) -> None:
        self._graph = torch.cuda.CUDAGraph()

    def capture(self, work: Callable[[], Mapping[str, Tensor]]) -> Mapping[str, Tensor]:
        here = torch.cuda.current_stream()
        try:
            with torch.cuda.graph(self._graph):
                return work()
        finally:  # torch leaves its own stream current where a capture breaks off
            torch.cuda.set_stream(here)

    def replay(self) -> None:
        self._graph.replay()


class Replayed:
    """Work that is done as it stands on a CPU, and on a GPU after ``WARM_UP`` calls by replay.

    What cannot be captured is done as it stands, too, and said once.

    Args:
        device: where the tensors are.
        optimizer: the one that the work steps.
        graph: makes the graph; None: ``CudaGraph`` on a CUDA device, else none.
    """

    def __init__(self, device: str, optimizer: Optimizer, graph: Callable[[], Graph] | None = None) -> None:
        cuda = torch.device(device).type == "cuda"
        self._cuda, self._optimizer = cuda, optimizer
        self._make = graph or (CudaGraph if cuda else None)
        self._graph: Graph | None = None
        self._calls = 0
        self._inputs: tuple[Tensor, ...] = ()
        self._results: Mapping[str, Tensor] = {}

    def __call__(self, work: Work, *inputs: Tensor) -> dict[str, Tensor]:
        """The losses that ``work`` finds, in tensors of their own.

        Args:
            work: the same at every call; from tensors, of the same shapes at every call, to named losses. It may
                change nets and the optimizer, must not wait for the device and must not depend on anything else that
                changes.

        Raises:
            torch.OutOfMemoryError: also where a graph has no room.
        """
        if self._make is None or not _switch["replay"]:
            return dict(work(*inputs))
        if self._calls < WARM_UP:
            self._calls += 1
            return self._beside(work, inputs)
        if self._graph is None and not self._captured(work, inputs):
            return dict(work(*inputs))
        assert self._graph is not None
        for own, given in zip(self._inputs, inputs, strict=True):
            own.copy_(given)
        self._graph.replay()
        return {name: value.clone() for name, value in self._results.items()}

    def _captured(self, work: Work, inputs: tuple[Tensor, ...]) -> bool:
        assert self._make is not None
        graph, own = self._make(), tuple(given.clone() for given in inputs)
        self._set_capturable(self._cuda)
        try:
            self._results = graph.capture(lambda: work(*own))
        except torch.OutOfMemoryError:
            raise
        except RuntimeError as error:
            self._make = None
            self._set_capturable(False)
            first = str(error).partition("\n")[0]
            warnings.warn(f"training steps are not replayed as a CUDA graph, which is slower: {first}", stacklevel=3)
            return False
        self._graph, self._inputs = graph, own
        return True

    def _set_capturable(self, capturable: bool) -> None:
        """Not before: a checkpoint brings its own, and torch warns of steps that could be captured and are not."""
        for group in self._optimizer.param_groups:
            group["capturable"] = capturable

    def _beside(self, work: Work, inputs: tuple[Tensor, ...]) -> dict[str, Tensor]:
        """On a stream of its own, as the capture will be: torch asks for that of what is captured later."""
        if not self._cuda:
            return dict(work(*inputs))
        here, aside = torch.cuda.current_stream(), torch.cuda.Stream()
        aside.wait_stream(here)
        with torch.cuda.stream(aside):
            results = dict(work(*inputs))
        here.wait_stream(aside)
        return results


@contextlib.contextmanager
def unreplayed() -> Iterator[None]:
    """Inside, all work is done as it stands: whoever counts operations or times each of them sees none of a graph's."""
    _switch["replay"] = False
    try:
        yield
    finally:
        _switch["replay"] = True
