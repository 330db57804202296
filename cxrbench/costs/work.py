"""How much a piece of torch work computes and holds, counted operation by operation.

The counts do not depend on the machine and need no results: work can be *imagined*, on tensors that have a shape and
no content, so that a step of minutes is counted in a second.
"""

from __future__ import annotations

import contextlib
import weakref
from collections import Counter
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import flop_registry

SHORT = {torch.float32: "fp32", torch.bfloat16: "bf16"}


class Work(TorchDispatchMode):
    """Counts while it is entered. torch's own ``FlopCounterMode`` refuses ``autograd.grad``, which gradient penalties
    need, and does not look at memory. Its formulas and their faults are shared: on a CPU attention does not count, and
    the backward of a grouped convolution counts as if there were no groups.

    Attributes:
        flops_by_kind: floating-point operations of convolutions and matrix products, a multiplication and an addition
            being two, by kind and precision of the result (``conv bf16``, ``matmul fp32``); all others are small beside
            them.
        peak_bytes: most that the tensors which the work met or made took at once, without the scratch memory of
            kernels.
    """

    def __init__(self, imagined: bool) -> None:
        super().__init__()
        self._imagined = imagined
        self.flops_by_kind: Counter[str] = Counter()
        self.peak_bytes = self._bytes = 0
        self._held: dict[int, int] = {}

    @property
    def flops(self) -> int:
        """Of all kinds together."""
        return self.flops_by_kind.total()

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if self._imagined and func is torch.ops.aten._local_scalar_dense.default:
            return 1.0 if args[0].is_floating_point() else 1  # any will do: a moving average asks how many it is of
        out = func(*args, **kwargs)
        if (count := flop_registry.get(func._overloadpacket)) is not None:
            made = next(leaf for leaf in tree_leaves(out) if isinstance(leaf, Tensor))
            kind = "conv" if "conv" in str(func._overloadpacket) else "matmul"
            self.flops_by_kind[f"{kind} {SHORT.get(made.dtype, str(made.dtype))}"] += count(
                *args, **kwargs, out_val=out
            )
        for value in tree_leaves((args, kwargs, out)):
            if isinstance(value, Tensor):
                self._hold(value.untyped_storage())
        return out

    def _hold(self, storage: torch.UntypedStorage) -> None:
        place = storage._cdata
        if place not in self._held:
            self._held[place] = storage.nbytes()
            self._bytes += storage.nbytes()
            self.peak_bytes = max(self.peak_bytes, self._bytes)
            weakref.finalize(storage, self._release, place).atexit = False

    def _release(self, place: int) -> None:
        self._bytes -= self._held.pop(place)


@contextlib.contextmanager
def counting(*, imagined: bool = False) -> Iterator[Work]:
    """Count what is done inside.

    Args:
        imagined: torch computes shapes and no values; what was touched is of no use afterwards.
    """
    if imagined:
        # Autograd decides at the first backward of a process whether it needs threads. An imagined one makes it start
        # them, and no process that is forked later could differentiate; a real one, that it needs none on a CPU.
        with torch.enable_grad():
            torch.ones(1, requires_grad=True).sum().backward()
    shapes_alone = FakeTensorMode(allow_non_fake_inputs=True) if imagined else contextlib.nullcontext()
    with shapes_alone, Work(imagined) as found:
        yield found
