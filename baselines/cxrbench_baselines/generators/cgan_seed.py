"""The student study's conditional GAN (Govind & Thakkar), to the letter.

It did not converge for its authors and is not expected to here: it is in the registry so that the failure
can be reproduced and explained. What to note: the discriminator is stepped once per 10 generator steps, on
batches of 4, with batch norm and with dropout before its sigmoid, and hears of the label through one map.
Each of these choices is a parameter, so that it can be undone alone. Only the precision is not theirs:
convolutions run in bf16 where the hardware computes in it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from cxrbench.contracts import Images, RunContext
from cxrbench.errors import UsageError
from cxrbench.registry import GENERATORS
from cxrbench_baselines.batches import FilmBatches
from cxrbench_baselines.generators.two_nets import TwoNetGenerator, TwoNets, descend
from cxrbench_baselines.nets import adam, frozen, full_precision, on_device, precision, seed_everything
from cxrbench_baselines.replay import Replayed

EMBEDDING = 50  # dimensions of the label embedding
SMALLEST = 32  # four halvings and a last 4x4 convolution need this many pixels
GROUP = 16  # channels normalised together where the batch is not (Wu & He, table 3)

Normalise = Literal["batch", "group"]
Conditioning = Literal["map", "projection"]


@dataclass(frozen=True)
class _Works:
    """What the two kinds of steps do, on a GPU by replay: four films keep it busy for less time than Python takes."""

    discriminator: Replayed
    generator: Replayed


@GENERATORS.register("cgan-seed")
@dataclass
class SeedCGAN(TwoNetGenerator):
    """Args:
    width: base filters (64 in the study).
    latent: dimensions of the noise.
    batch: films per step (4 in the study).
    rate, beta1: of Adam, for both nets.
    discriminator_every: generator steps per discriminator step (10 in the study).
    dropout: before the discriminator's dense layer (0.5 in the study).
    normalise: ``batch`` (the study's) or ``group``: each film by itself, in groups of channels, so that the
        size of the batch is of no effect (Wu & He, "Group normalization", ECCV 2018); in both nets.
    conditioning: ``map`` (the study's), the label as one more map of the generator's first layer and of the
        discriminator's film; or ``projection``, the label beside the noise, and in the discriminator as a
        vector whose product with the film's features is added to the logit (Miyato & Koyama, "cGANs with
        projection discriminator", ICLR 2018).
    """

    width: int = 64
    batch: int = 4
    rate: float = 2e-4
    beta1: float = 0.5
    discriminator_every: int = 10
    dropout: float = 0.5
    normalise: Normalise = "batch"
    conditioning: Conditioning = "map"

    sampling_batch: ClassVar[int] = 16  # films of 300 px through 512 channels: memory

    _works: _Works | None = field(default=None, init=False, repr=False, compare=False)

    def preflight(self, size: int) -> dict[str, str]:
        """Raises UsageError for films too small for the discriminator's stack."""
        if size < SMALLEST:
            raise UsageError(f"cgan-seed needs films of at least {SMALLEST} px, got {size}")
        return {}

    def setup(self, train: Images, ctx: RunContext) -> None:
        self.preflight(train.size)
        seed_everything(ctx.seed)
        self._facts = {"size": train.size, "classes": len(train.classes)}
        generator = on_device(self.build_generator(), ctx.device)
        discriminator = on_device(
            SeedDiscriminator(
                **self._facts,
                width=self.width,
                dropout=self.dropout,
                normalise=self.normalise,
                conditioning=self.conditioning,
            ),
            ctx.device,
        )
        self._sampler = generator
        self._nets = TwoNets(
            FilmBatches(train, self.batch, ctx.device, ctx.seed),
            generator,
            discriminator,
            adam(generator, self.rate, self.beta1, 0.999),
            adam(discriminator, self.rate, self.beta1, 0.999),
            ctx.seed,
            ctx.device,
        )
        self._works = _Works(
            Replayed(ctx.device, self._nets.discriminator_optimizer),
            Replayed(ctx.device, self._nets.generator_optimizer),
        )

    def steps_per_cycle(self) -> int:
        return self.discriminator_every

    def training_step(self, step: int) -> Mapping[str, Tensor]:
        """One generator step; at every ``discriminator_every``-th a discriminator step before it.

        Returns:
            ``generator_loss``, and where the discriminator is stepped ``discriminator_loss`` and
            ``discriminator_accuracy``, the share of real and generated films that it told rightly in that step.
        """
        nets, works = self._ready(), self._works
        assert works is not None, "call setup first"
        real, labels = nets.batches.at(step)
        losses: dict[str, Tensor] = {}
        if step % self.discriminator_every == 0:
            losses |= works.discriminator(self._step_discriminator, real, labels, self._noise(2 * step))
        return losses | works.generator(self._step_generator, labels, self._noise(2 * step + 1))

    def finish(self, train: Images, ctx: RunContext) -> None:
        self._works = None  # what is captured holds memory of the device

    def _step_discriminator(self, real: Tensor, labels: Tensor, noise: Tensor) -> Mapping[str, Tensor]:
        nets = self._ready()
        with precision(nets.device):
            with torch.no_grad():
                fake = nets.generator(noise, labels)
            on_real, on_fake = nets.discriminator(real, labels), nets.discriminator(fake, labels)
        d_loss = (
            F.binary_cross_entropy(on_real, torch.ones_like(on_real))
            + F.binary_cross_entropy(on_fake, torch.zeros_like(on_fake))
        ) / 2
        descend(d_loss, nets.discriminator_optimizer)
        told = torch.cat([on_real > 0.5, on_fake < 0.5]).float().mean()
        return {"discriminator_loss": d_loss.detach(), "discriminator_accuracy": told}

    def _step_generator(self, labels: Tensor, noise: Tensor) -> Mapping[str, Tensor]:
        nets = self._ready()
        with frozen(nets.discriminator):
            with precision(nets.device):
                judged = nets.discriminator(nets.generator(noise, labels), labels)
            g_loss = F.binary_cross_entropy(judged, torch.ones_like(judged))
            descend(g_loss, nets.generator_optimizer)
        return {"generator_loss": g_loss.detach()}

    def build_generator(self) -> SeedGenerator:
        return SeedGenerator(
            **self._facts,
            width=self.width,
            latent=self.latent,
            normalise=self.normalise,
            conditioning=self.conditioning,
        )


class SeedGenerator(nn.Module):
    """Noise ``[B, latent]`` and labels ``[B]`` to films ``[B, 1, size, size]`` in [-1, 1].

    Four transposed convolutions enlarge 16-fold; what is too large is cropped.
    """

    def __init__(
        self,
        size: int,
        classes: int,
        width: int,
        latent: int,
        normalise: Normalise = "batch",
        conditioning: Conditioning = "map",
    ) -> None:
        super().__init__()
        self.size, self.start, self.as_map = size, -(-size // 16), conditioning == "map"
        self.embed: nn.Module = nn.Embedding(classes, EMBEDDING)
        if self.as_map:
            self.embed = nn.Sequential(self.embed, nn.Linear(EMBEDDING, self.start**2))
        self.project = nn.Linear(latent + (0 if self.as_map else EMBEDDING), 8 * width * self.start**2)
        self.decode = nn.Sequential(
            *_conv_layer_set(nn.ConvTranspose2d(8 * width + self.as_map, 4 * width, 4, 2, 1), normalise, nn.ReLU()),
            *_conv_layer_set(nn.ConvTranspose2d(4 * width, 2 * width, 4, 2, 1), normalise, nn.ReLU()),
            *_conv_layer_set(nn.ConvTranspose2d(2 * width, width, 4, 2, 1), normalise, nn.ReLU()),
            nn.ConvTranspose2d(width, 1, 4, 2, 1),
            nn.Tanh(),
        )

    def forward(self, noise: Tensor, labels: Tensor) -> Tensor:
        label = self.embed(labels)
        maps = self.project(noise if self.as_map else torch.cat([noise, label], dim=1))
        maps = maps.unflatten(1, (-1, self.start, self.start))
        if self.as_map:
            maps = torch.cat([maps, label.unflatten(1, (1, self.start, self.start))], dim=1)
        films: Tensor = self.decode(maps.contiguous(memory_format=torch.channels_last))
        return films[:, :, : self.size, : self.size]


class SeedDiscriminator(nn.Module):
    """Films ``[B, 1, size, size]`` in [-1, 1] and labels ``[B]`` to the probability ``[B]`` that the film is real."""

    def __init__(
        self,
        size: int,
        classes: int,
        width: int,
        dropout: float,
        normalise: Normalise = "batch",
        conditioning: Conditioning = "map",
    ) -> None:
        super().__init__()
        self.size, self.as_map = size, conditioning == "map"
        side = size
        for _ in range(4):
            side //= 2
        features = 8 * width * (side - 1) ** 2
        self.embed: nn.Module = nn.Embedding(classes, EMBEDDING if self.as_map else features)
        if self.as_map:
            self.embed = nn.Sequential(self.embed, nn.Linear(EMBEDDING, size**2))
        else:
            nn.init.normal_(self.embed.weight, 0.0, features**-0.5)  # else it would outweigh the dense layer
        self.encode = nn.Sequential(
            nn.Conv2d(1 + self.as_map, width, 4, 2, 1),
            nn.LeakyReLU(0.2),
            *_conv_layer_set(nn.Conv2d(width, 2 * width, 4, 2, 1), normalise, nn.LeakyReLU(0.2)),
            *_conv_layer_set(nn.Conv2d(2 * width, 4 * width, 4, 2, 1), normalise, nn.LeakyReLU(0.2)),
            *_conv_layer_set(nn.Conv2d(4 * width, 8 * width, 4, 2, 1), normalise, nn.LeakyReLU(0.2)),
            nn.Conv2d(8 * width, 8 * width, 4, 1, 1),
            nn.LeakyReLU(0.2),
            nn.Flatten(),
            nn.Dropout(dropout),
        )
        self.judge = nn.Linear(features, 1)

    def forward(self, films: Tensor, labels: Tensor) -> Tensor:
        label = self.embed(labels)
        if self.as_map:
            films = torch.cat([films, label.unflatten(1, (1, self.size, self.size))], dim=1)
        features = self.encode(films.contiguous(memory_format=torch.channels_last))
        with full_precision(films.device):  # a probability near 1 has few digits in half precision
            features = features.float()
            logits: Tensor = self.judge(features)[:, 0]
            if not self.as_map:
                logits = logits + (features * label).sum(dim=1)
            return logits.sigmoid()


def _conv_layer_set(
    convolution: nn.Conv2d | nn.ConvTranspose2d, normalise: Normalise, activation: nn.Module
) -> list[nn.Module]:
    """The study's building block: convolution, normalisation, activation."""
    channels = convolution.out_channels
    if normalise == "batch":
        return [convolution, nn.BatchNorm2d(channels), activation]
    return [convolution, nn.GroupNorm(math.gcd(channels, max(channels // GROUP, 1)), channels), activation]
