"""The student study's conditional GAN (Govind & Thakkar), to the letter.

It did not converge for its authors and is not expected to here: it is in the registry so that the failure
can be reproduced and explained. What to note: the discriminator is stepped once per 10 generator steps, on
batches of 4, with batch norm and with dropout before its sigmoid. Single precision throughout, as theirs.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from cxrbench.contracts import Images, RunContext
from cxrbench.errors import UsageError
from cxrbench.registry import GENERATORS
from cxrbench_baselines.batches import FilmBatches, step_noise
from cxrbench_baselines.generators.net import NetGenerator
from cxrbench_baselines.nets import adam, frozen, seed_everything

EMBEDDING = 50  # dimensions of the label embedding
SMALLEST = 32  # four halvings and a last 4x4 convolution need this many pixels


@dataclass
class _State:
    batches: FilmBatches
    generator: nn.Module
    discriminator: nn.Module
    generator_optimizer: torch.optim.Optimizer
    discriminator_optimizer: torch.optim.Optimizer
    seed: int
    device: str


@GENERATORS.register("cgan-seed")
@dataclass
class SeedCGAN(NetGenerator):
    """Args:
    width: base filters (64 in the study).
    latent: dimensions of the noise.
    batch: films per step (4 in the study).
    rate, beta1: of Adam, for both nets.
    discriminator_every: generator steps per discriminator step (10 in the study).
    dropout: before the discriminator's dense layer.
    """

    width: int = 64
    batch: int = 4
    rate: float = 2e-4
    beta1: float = 0.5
    discriminator_every: int = 10
    dropout: float = 0.5

    sampling_batch: ClassVar[int] = 16  # films of 300 px through 512 channels: memory

    _state: _State | None = field(default=None, init=False, repr=False, compare=False)

    def preflight(self, size: int) -> dict[str, str]:
        """Raises UsageError for films too small for the discriminator's stack."""
        if size < SMALLEST:
            raise UsageError(f"cgan-seed needs films of at least {SMALLEST} px, got {size}")
        return {}

    def setup(self, train: Images, ctx: RunContext) -> None:
        self.preflight(train.size)
        seed_everything(ctx.seed)
        self._facts = {"size": train.size, "classes": len(train.classes)}
        generator = self.build_generator().to(ctx.device)
        discriminator = SeedDiscriminator(**self._facts, width=self.width, dropout=self.dropout).to(ctx.device)
        self._sampler = generator
        self._state = _State(
            FilmBatches(train, self.batch, ctx.device, ctx.seed),
            generator,
            discriminator,
            adam(generator, self.rate, self.beta1, 0.999),
            adam(discriminator, self.rate, self.beta1, 0.999),
            ctx.seed,
            ctx.device,
        )

    def images_per_step(self) -> int:
        return self.batch

    def steps_per_cycle(self) -> int:
        return self.discriminator_every

    def training_step(self, step: int) -> Mapping[str, Tensor]:
        """One generator step; at every ``discriminator_every``-th a discriminator step before it."""
        state = self._state
        assert state is not None, "call setup first"
        real, labels = state.batches.at(step)
        losses = {}
        if step % self.discriminator_every == 0:
            fake = state.generator(self._noise(2 * step, len(real)), labels).detach()
            on_real, on_fake = state.discriminator(real, labels), state.discriminator(fake, labels)
            d_loss = (
                F.binary_cross_entropy(on_real, torch.ones_like(on_real))
                + F.binary_cross_entropy(on_fake, torch.zeros_like(on_fake))
            ) / 2
            state.discriminator_optimizer.zero_grad(set_to_none=True)
            d_loss.backward()
            state.discriminator_optimizer.step()
            losses["discriminator_loss"] = d_loss.detach()
        with frozen(state.discriminator):
            judged = state.discriminator(state.generator(self._noise(2 * step + 1, len(real)), labels), labels)
            g_loss = F.binary_cross_entropy(judged, torch.ones_like(judged))
            state.generator_optimizer.zero_grad(set_to_none=True)
            g_loss.backward()
            state.generator_optimizer.step()
        return losses | {"generator_loss": g_loss.detach()}

    def build_generator(self) -> SeedGenerator:
        return SeedGenerator(**self._facts, width=self.width, latent=self.latent)

    def _noise(self, number: int, films: int) -> Tensor:
        assert self._state is not None
        return step_noise(self._state.seed, number, (films, self.latent), self._state.device)


class SeedGenerator(nn.Module):
    """Noise and labels to films: 16-fold enlargement by four transposed convolutions, then cropped."""

    def __init__(self, size: int, classes: int, width: int, latent: int) -> None:
        super().__init__()
        self.size, self.start = size, -(-size // 16)
        self.embed = nn.Sequential(nn.Embedding(classes, EMBEDDING), nn.Linear(EMBEDDING, self.start**2))
        self.project = nn.Linear(latent, 8 * width * self.start**2)
        self.decode = nn.Sequential(
            *_conv_layer_set(nn.ConvTranspose2d(8 * width + 1, 4 * width, 4, 2, 1), nn.ReLU()),
            *_conv_layer_set(nn.ConvTranspose2d(4 * width, 2 * width, 4, 2, 1), nn.ReLU()),
            *_conv_layer_set(nn.ConvTranspose2d(2 * width, width, 4, 2, 1), nn.ReLU()),
            nn.ConvTranspose2d(width, 1, 4, 2, 1),
            nn.Tanh(),
        )

    def forward(self, noise: Tensor, labels: Tensor) -> Tensor:
        maps = self.project(noise).unflatten(1, (-1, self.start, self.start))
        label_map = self.embed(labels).unflatten(1, (1, self.start, self.start))
        films: Tensor = self.decode(torch.cat([maps, label_map], dim=1))
        return films[:, :, : self.size, : self.size]


class SeedDiscriminator(nn.Module):
    """Films and labels to the probability ``[B]`` that the film is real."""

    def __init__(self, size: int, classes: int, width: int, dropout: float) -> None:
        super().__init__()
        self.size = size
        self.embed = nn.Sequential(nn.Embedding(classes, EMBEDDING), nn.Linear(EMBEDDING, size**2))
        self.encode = nn.Sequential(
            nn.Conv2d(2, width, 4, 2, 1),
            nn.LeakyReLU(0.2),
            *_conv_layer_set(nn.Conv2d(width, 2 * width, 4, 2, 1), nn.LeakyReLU(0.2)),
            *_conv_layer_set(nn.Conv2d(2 * width, 4 * width, 4, 2, 1), nn.LeakyReLU(0.2)),
            *_conv_layer_set(nn.Conv2d(4 * width, 8 * width, 4, 2, 1), nn.LeakyReLU(0.2)),
            nn.Conv2d(8 * width, 8 * width, 4, 1, 1),
            nn.LeakyReLU(0.2),
        )
        side = size
        for _ in range(4):
            side //= 2
        self.judge = nn.Sequential(
            nn.Flatten(), nn.Dropout(dropout), nn.Linear(8 * width * (side - 1) ** 2, 1), nn.Sigmoid()
        )

    def forward(self, films: Tensor, labels: Tensor) -> Tensor:
        label_map = self.embed(labels).unflatten(1, (1, self.size, self.size))
        probability: Tensor = self.judge(self.encode(torch.cat([films, label_map], dim=1)))
        return probability[:, 0]


def _conv_layer_set(convolution: nn.Conv2d | nn.ConvTranspose2d, activation: nn.Module) -> list[nn.Module]:
    """The study's building block: convolution, batch norm, activation."""
    return [convolution, nn.BatchNorm2d(convolution.out_channels), activation]
