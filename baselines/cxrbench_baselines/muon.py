"""Muon for the kernels of convolutions: each step moves a kernel equally far in all the directions it can act in.

Jordan et al., "Muon: an optimizer for hidden layers in neural networks" (2024); the scale of its steps is that of
Liu et al., "Muon is scalable for LLM training" (2025), equation 4, so that AdamW's rate suits it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn


class KernelMuon(torch.optim.Muon):
    """``torch.optim.Muon``, which takes matrices alone, for kernels ``[out, in, height, width]``.

    A kernel is a matrix of a row per output channel. The matrices share the kernels' memory: a net must not be moved
    to another device or memory format afterwards.
    """

    def __init__(self, kernels: Sequence[nn.Parameter], rate: float, weight_decay: float) -> None:
        self._pairs = [(kernel, _matrix(kernel.detach())) for kernel in kernels]
        for kernel, matrix in self._pairs:
            if kernel.data_ptr() != matrix.data_ptr():
                raise ValueError(f"a kernel of strides {kernel.stride()} is not dense in either memory format")
        matrices = [matrix for _, matrix in self._pairs]
        super().__init__(matrices, lr=rate, weight_decay=weight_decay, adjust_lr_fn="match_rms_adamw")

    def zero_grad(self, set_to_none: bool = True) -> None:
        for kernel, _ in self._pairs:
            if set_to_none:
                kernel.grad = None
            elif kernel.grad is not None:
                kernel.grad.zero_()

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        for kernel, matrix in self._pairs:
            matrix.grad = None if kernel.grad is None else _matrix(kernel.grad)
        return super().step(closure)


def _matrix(kernel: Tensor) -> Tensor:
    """``[out, in * height * width]``, in the order in which the numbers lie in memory: Muon's step does not depend on
    the order of columns."""
    if kernel.is_contiguous(memory_format=torch.channels_last):
        kernel = kernel.permute(0, 2, 3, 1)
    return kernel.flatten(1)
