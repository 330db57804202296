"""The training loop the reference plug-ins share, and what every one of its steps needs."""

from __future__ import annotations

import contextlib
import json
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from cxrbench.contracts import Images, Labels, Pixels, RunContext
from cxrbench.errors import Diverged, UsageError

NetT = TypeVar("NetT", bound=nn.Module)

CHECK_EVERY = 50  # steps between looks at the losses: looking waits for the device


def run_steps(step: Callable[[int], Mapping[str, Tensor]], ctx: RunContext) -> None:
    """Run ``ctx.budget`` training steps, numbered from 0.

    Raises:
        Diverged: a loss is NaN or infinite.
    """
    for number in range(ctx.budget):
        losses = step(number)
        if number % CHECK_EVERY == 0 or number == ctx.budget - 1:
            for name, value in losses.items():
                if not math.isfinite(float(value)):
                    raise Diverged(f"{name} became {float(value)} at step {number + 1} of {ctx.budget}")
        ctx.progress(number + 1, ctx.budget)


def seed_everything(seed: int) -> None:
    """Seed torch's global generators; weights and dropout draw from them."""
    torch.manual_seed(seed)


def precision(device: str) -> contextlib.AbstractContextManager[Any]:
    """bf16 autocast where the hardware computes in it, else full precision."""
    if torch.device(device).type == "cuda":
        return torch.autocast("cuda", torch.bfloat16, enabled=torch.cuda.is_bf16_supported())
    return torch.autocast("cpu", torch.bfloat16, enabled=_cpu_has_bf16())


def _cpu_has_bf16() -> bool:
    try:
        flags = Path("/proc/cpuinfo").read_text()
    except OSError:  # not Linux: full precision is always right
        return False
    return "avx512_bf16" in flags or "amx_bf16" in flags


class FilmBatches:
    """Training films resident on the device as uint8; batch ``step`` depends on (seed, step) only.

    Args:
        batch: films per step, also where there are fewer films than that: every arm must train on equally
            many, or a difference between arms would be one of batch size.
        balanced: draw each class equally often, with replacement, whatever its share of the films.
    """

    def __init__(self, films: Images, batch: int, device: str, seed: int, *, balanced: bool = False) -> None:
        if len(films) == 0:
            raise UsageError("there are no training films")
        self.pixels = torch.from_numpy(films.pixels).to(device)
        self.labels = torch.from_numpy(films.labels).to(device)
        self.batch, self.seed = batch, seed
        share = np.bincount(films.labels, minlength=len(films.classes))[films.labels]
        self._shuffled: tuple[int, NDArray[np.int64]] | None = None
        self._weights = (1.0 / share) / (1.0 / share).sum() if balanced else None

    def at(self, step: int) -> tuple[Tensor, Tensor]:
        """Films (float in [-1, 1], channels-last) and labels of one step.

        Without ``balanced``, every film is seen once before any is seen again.
        """
        n = len(self.labels)
        if self._weights is not None:
            rng = np.random.default_rng([self.seed, step])
            rows = rng.choice(n, self.batch, p=self._weights)
        else:
            places = np.arange(step * self.batch, (step + 1) * self.batch)
            rows = np.concatenate(
                [
                    self._permutation(epoch)[places[places // n == epoch] % n]
                    for epoch in range(int(places[0]) // n, int(places[-1]) // n + 1)
                ]
            )
        index = torch.from_numpy(rows).to(self.pixels.device)
        return to_signed(self.pixels[index]), self.labels[index]

    def _permutation(self, epoch: int) -> NDArray[np.int64]:
        if self._shuffled is None or self._shuffled[0] != epoch:
            order = np.random.default_rng([self.seed, epoch]).permutation(len(self.labels))
            self._shuffled = (epoch, order)
        return self._shuffled[1]


def to_signed(pixels: Tensor) -> Tensor:
    """uint8 in [0, 255] to float32 in [-1, 1], channels-last."""
    return (pixels.float() / 127.5 - 1.0).contiguous(memory_format=torch.channels_last)


def to_pixels(signed: Tensor) -> Pixels:
    """Float in [-1, 1] (clipped) to a uint8 array on the CPU."""
    levels = ((signed.float() + 1.0) * 127.5).round().clamp(0, 255)
    return levels.to(torch.uint8).cpu().numpy()


def step_noise(seed: int, step: int, shape: tuple[int, ...], device: str) -> Tensor:
    """Standard normal noise that depends on (seed, step) only, the same on every device."""
    generator = torch.Generator().manual_seed((seed * 1_000_003 + step) % 2**63)
    return torch.randn(shape, generator=generator).to(device)


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
