"""What a train step asks of the machine: floating-point operations by kind and precision, bytes of its tensors."""

from __future__ import annotations

import weakref
from collections import Counter
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import flop_registry

SHORT = {torch.float32: "fp32", torch.bfloat16: "bf16"}


class Counts(TorchDispatchMode):
    """Counts what runs inside ``with``, forward and backward.

    Operations are those of ``FlopCounterMode``, by its own formulas (``flop_registry``). It is not used itself: the
    hooks by which it tells modules apart refuse a gradient penalty's ``torch.autograd.grad``. Its faults are shared:
    convolutions and products of matrices count alone (on a CPU attention does not), and the backward of a grouped
    convolution counts as if there were no groups.

    Attributes:
        flops: by kind and precision (``conv bf16``, ``matmul fp32``); the precision is that of the result.
        peak_bytes: of all tensors that were touched, where most were alive at once. The scratch memory of kernels
            is not in it, nor a tensor before it was touched for the first time.
    """

    def __init__(self) -> None:
        super().__init__()
        self.flops: Counter[str] = Counter()
        self.peak_bytes = 0
        self._alive: set[int] = set()
        self._bytes = 0

    def __torch_dispatch__(
        self, func: Any, types: Sequence[type], args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        named = kwargs or {}
        result = func(*args, **named)
        results = [leaf for leaf in tree_leaves(result) if isinstance(leaf, Tensor)]
        operator = func.overloadpacket
        if operator in flop_registry:
            kind = "conv" if "conv" in str(operator) else "matmul"
            precision = SHORT.get(results[0].dtype, str(results[0].dtype))
            self.flops[f"{kind} {precision}"] += flop_registry[operator](*args, **named, out_val=result)
        for tensor in [*results, *(leaf for leaf in tree_leaves((args, named)) if isinstance(leaf, Tensor))]:
            self._note(tensor.untyped_storage())
        return result

    def _note(self, storage: torch.UntypedStorage) -> None:
        key, size = storage._cdata, storage.nbytes()
        if key not in self._alive:
            self._alive.add(key)
            self._bytes += size
            self.peak_bytes = max(self.peak_bytes, self._bytes)
            weakref.finalize(storage, self._forget, key, size).atexit = False

    def _forget(self, key: int, size: int) -> None:
        self._alive.remove(key)
        self._bytes -= size
