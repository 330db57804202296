"""What the reference plug-ins do with their nets: precision, averages, optimizers, sampling, files."""

from __future__ import annotations

import contextlib
import functools
import json
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from cxrbench.contracts import Labels, Pixels, RunContext
from cxrbench_baselines.batches import step_noise, to_pixels

NetT = TypeVar("NetT", bound=nn.Module)


def seed_everything(seed: int) -> None:
    """Seed torch's global generators; weights and dropout draw from them."""
    torch.manual_seed(seed)


def precision(device: str) -> contextlib.AbstractContextManager[Any]:
    """bf16 autocast where the hardware computes in it, else full precision."""
    if torch.device(device).type == "cuda":
        return torch.autocast("cuda", torch.bfloat16, enabled=torch.cuda.is_bf16_supported())
    return torch.autocast("cpu", torch.bfloat16, enabled=_cpu_has_bf16())


def full_precision(device: torch.device) -> contextlib.AbstractContextManager[Any]:
    """Inside ``precision``: no autocast, where differences of nearly equal numbers count."""
    return torch.autocast(device.type, enabled=False)


@functools.cache
def _cpu_has_bf16() -> bool:
    try:
        flags = Path("/proc/cpuinfo").read_text()
    except OSError:  # not Linux: full precision is always right
        return False
    return "avx512_bf16" in flags or "amx_bf16" in flags


def on_device(net: NetT, device: str) -> NetT:
    """Move a net, its weights channels-last: the layout the convolutions are fastest in."""
    net.to(device)
    net.to(memory_format=torch.channels_last)
    return net


def adam(net: nn.Module, rate: float, beta1: float, beta2: float) -> torch.optim.Adam:
    """Adam in its fused form."""
    return torch.optim.Adam(net.parameters(), rate, betas=(beta1, beta2), fused=True)


def averaged(net: nn.Module, decay: float) -> AveragedModel:
    """Exponential moving average of a net's weights and buffers."""
    return AveragedModel(net, multi_avg_fn=get_ema_multi_avg_fn(decay), use_buffers=True)


@contextlib.contextmanager
def frozen(net: nn.Module) -> Any:
    """No gradients for the net's weights inside: the generator's step needs none of the discriminator's."""
    net.requires_grad_(False)
    try:
        yield
    finally:
        net.requires_grad_(True)


def sample_in_batches(
    decode: Callable[[Tensor, Tensor], Tensor], labels: Labels, latent: int, ctx: RunContext, batch: int = 128
) -> Pixels:
    """Draw noise for each label and decode it: uint8 ``[M, 1, H, W]``.

    Args:
        decode: (noise ``[B, latent]``, labels ``[B]``) to films in [-1, 1].
    """
    noise = step_noise(ctx.seed, 0, (len(labels), latent), ctx.device)
    wanted = torch.from_numpy(np.asarray(labels)).to(ctx.device)
    with torch.inference_mode(), precision(ctx.device):
        return np.concatenate(
            [to_pixels(decode(noise[i : i + batch], wanted[i : i + batch])) for i in range(0, len(labels), batch)]
        )


def doublings(size: int, smallest: int = 4) -> tuple[int, int]:
    """How often a start of at least ``smallest`` pixels doubles to reach ``size`` or just exceed it.

    Returns:
        (doublings, start): ``start * 2**doublings >= size``, so that any size can be had by cropping.
    """
    count = max(int(math.log2(size / smallest)), 1)
    return count, -(-size // 2**count)


def save_nets(path: Path, nets: Mapping[str, nn.Module], facts: Mapping[str, Any]) -> None:
    """Write nets as safetensors and what is needed to rebuild them as ``facts.json``."""
    tensors = {
        f"{name}.{key}": value.detach().cpu().contiguous()
        for name, net in nets.items()
        for key, value in net.state_dict().items()
    }
    save_file(tensors, path / "nets.safetensors")
    (path / "facts.json").write_text(json.dumps(facts, indent=1))


def load_facts(path: Path) -> dict[str, Any]:
    """Read what ``save_nets`` was told."""
    facts: dict[str, Any] = json.loads((path / "facts.json").read_text())
    return facts


def load_net(path: Path, name: str, net: nn.Module) -> nn.Module:
    """Fill one net from a folder that ``save_nets`` wrote, ready to sample."""
    stored = load_file(path / "nets.safetensors")
    own = {key.removeprefix(f"{name}."): value for key, value in stored.items() if key.startswith(f"{name}.")}
    net.load_state_dict(own)
    return net.eval()
