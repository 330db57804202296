"""A training step's work on a GPU, captured once and replayed: where a batch is small, a GPU waits for Python.

NVIDIA's CUDA graphs: the kernels of a piece of work are recorded with the addresses they read and write, and sent off
again together. So the work must be the same at every step but for what stands in its inputs.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from typing import Protocol

import torch
from torch import Tensor
from torch.optim import Optimizer

WARM_UP = 3  # calls before the capture: kernels are chosen in them, and optimizers make their state

Work = Callable[..., Mapping[str, Tensor]]


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
        with torch.cuda.graph(self._graph):
            return work()

    def replay(self) -> None:
        self._graph.replay()


class Replayed:
    """Work that is done as it stands on a CPU, and on a GPU after ``WARM_UP`` calls by replay.

    What cannot be captured is done as it stands, too, and said once.

    Args:
        work: from tensors, of the same shapes at every call, to named losses. It may change nets and optimizers
            (``capturable``), must not wait for the device and must not depend on anything else that changes.
        device: where the tensors are.
        graph: makes the graph; None: ``CudaGraph`` on a CUDA device, else none.
    """

    def __init__(self, work: Work, device: str, graph: Callable[[], Graph] | None = None) -> None:
        cuda = torch.device(device).type == "cuda"
        self._work, self._cuda = work, cuda
        self._make = graph or (CudaGraph if cuda else None)
        self._graph: Graph | None = None
        self._calls = 0
        self._inputs: tuple[Tensor, ...] = ()
        self._results: Mapping[str, Tensor] = {}

    def __call__(self, *inputs: Tensor) -> dict[str, Tensor]:
        """The losses, in tensors of their own."""
        if self._make is None:
            return dict(self._work(*inputs))
        if self._calls < WARM_UP:
            self._calls += 1
            return self._beside(inputs)
        if self._graph is None and not self._captured(inputs):
            return dict(self._work(*inputs))
        assert self._graph is not None
        for own, given in zip(self._inputs, inputs, strict=True):
            own.copy_(given)
        self._graph.replay()
        return {name: value.clone() for name, value in self._results.items()}

    def _captured(self, inputs: tuple[Tensor, ...]) -> bool:
        assert self._make is not None
        graph, own = self._make(), tuple(given.clone() for given in inputs)
        try:
            self._results = graph.capture(lambda: self._work(*own))
        except RuntimeError as error:
            self._make = None
            first = str(error).partition("\n")[0]
            warnings.warn(f"training steps are not replayed as a CUDA graph, which is slower: {first}", stacklevel=3)
            return False
        self._graph, self._inputs = graph, own
        return True

    def _beside(self, inputs: tuple[Tensor, ...]) -> dict[str, Tensor]:
        """On a stream of its own, as the capture will be: torch asks for that of what is captured later."""
        if not self._cuda:
            return dict(self._work(*inputs))
        here, aside = torch.cuda.current_stream(), torch.cuda.Stream()
        aside.wait_stream(here)
        with torch.cuda.stream(aside):
            results = dict(self._work(*inputs))
        here.wait_stream(aside)
        return results


def capturable(optimizer: Optimizer, device: str) -> Optimizer:
    """Let the steps of an optimizer be captured, where its weights are on a CUDA device."""
    if torch.device(device).type == "cuda":
        for group in optimizer.param_groups:
            group["capturable"] = True
    return optimizer
