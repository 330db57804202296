"""The study's idea, a label-conditional GAN, made to converge on small data.

Against the seed recipe (``cgan-seed``): the discriminator is stepped every step; it has no batch norm, sees
the spread of its batch and is kept smooth by a penalty (``stabilisers``). The label enters through conditional
batch norm in the generator and projection in the discriminator (Miyato & Koyama, "cGANs with projection
discriminator", ICLR 2018). Films are sampled from an exponential moving average of the weights.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim.swa_utils import AveragedModel

from cxrbench.contracts import Images, RunContext
from cxrbench.registry import GENERATORS
from cxrbench_baselines.batches import FilmBatches, step_noise
from cxrbench_baselines.generators.net import NetGenerator
from cxrbench_baselines.generators.stabilisers import append_spread, r1_penalty
from cxrbench_baselines.nets import adam, averaged, doublings, frozen, on_device, precision, seed_everything


@dataclass
class _State:
    """What training needs beyond the averaged generator."""

    batches: FilmBatches
    generator: nn.Module
    discriminator: nn.Module
    average: AveragedModel
    generator_optimizer: torch.optim.Optimizer
    discriminator_optimizer: torch.optim.Optimizer
    seed: int
    device: str


@GENERATORS.register("cgan")
@dataclass
class CGAN(NetGenerator):
    """Args:
    width: channels of the layer at full resolution; doubled at every halving, at most 4 times.
    latent: dimensions of the noise.
    batch: films per step.
    generator_rate, discriminator_rate: Adam's learning rates.
    penalty: weight of R1, the squared gradient at real films.
    penalty_every: steps between two penalties (each weighted up by this number).
    decay: of the moving average of the generator's weights.
    """

    width: int = 32
    latent: int = 64
    batch: int = 32
    generator_rate: float = 5e-4
    discriminator_rate: float = 1e-3
    penalty: float = 0.2
    penalty_every: int = 8
    decay: float = 0.995

    _state: _State | None = field(default=None, init=False, repr=False, compare=False)

    def setup(self, train: Images, ctx: RunContext) -> None:
        seed_everything(ctx.seed)
        self._facts = {"size": train.size, "classes": len(train.classes)}
        generator = on_device(self.build_generator(), ctx.device)
        discriminator = on_device(CGANDiscriminator(**self._facts, width=self.width), ctx.device)
        average = averaged(generator, self.decay)
        self._sampler = average.module
        self._state = _State(
            # Classes are drawn equally often: a rare class is what the films are wanted for.
            FilmBatches(train, self.batch, ctx.device, ctx.seed, balanced=True),
            generator,
            discriminator,
            average,
            adam(generator, self.generator_rate, 0.5, 0.99),
            adam(discriminator, self.discriminator_rate, 0.5, 0.99),
            ctx.seed,
            ctx.device,
        )

    def images_per_step(self) -> int:
        return self.batch

    def steps_per_cycle(self) -> int:
        return self.penalty_every

    def training_step(self, step: int) -> Mapping[str, Tensor]:
        """One discriminator step (with R1 at every ``penalty_every``-th) and one generator step."""
        state = self._state
        assert state is not None, "call setup first"
        real, labels = state.batches.at(step)
        noise = step_noise(state.seed, step, (len(real), self.latent), state.device)
        with precision(state.device):
            fake = state.generator(noise, labels)
            both = torch.cat([real, fake.detach().float()])
            on_real, on_fake = state.discriminator(both, labels.repeat(2), groups=2).float().chunk(2)
            d_loss = F.softplus(-on_real).mean() + F.softplus(on_fake).mean()
        if step % self.penalty_every == 0:
            d_loss = d_loss + self.penalty * self.penalty_every * r1_penalty(
                lambda films: state.discriminator(films, labels), real, state.device
            )
        state.discriminator_optimizer.zero_grad(set_to_none=True)
        d_loss.backward()
        state.discriminator_optimizer.step()

        with frozen(state.discriminator):
            with precision(state.device):
                g_loss = F.softplus(-state.discriminator(fake, labels).float()).mean()
            state.generator_optimizer.zero_grad(set_to_none=True)
            g_loss.backward()
            state.generator_optimizer.step()
        state.average.update_parameters(state.generator)
        return {"generator_loss": g_loss.detach(), "discriminator_loss": d_loss.detach()}

    def build_generator(self) -> CGANGenerator:
        return CGANGenerator(**self._facts, width=self.width, latent=self.latent)


class ConditionalBatchNorm(nn.Module):
    """Batch norm whose scale and shift are looked up by label."""

    def __init__(self, channels: int, classes: int) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(channels, affine=False)
        self.scale, self.shift = nn.Embedding(classes, channels), nn.Embedding(classes, channels)
        nn.init.ones_(self.scale.weight)
        nn.init.zeros_(self.shift.weight)

    def forward(self, maps: Tensor, labels: Tensor) -> Tensor:
        scale, shift = self.scale(labels), self.shift(labels)
        return torch.addcmul(shift[:, :, None, None], self.norm(maps), scale[:, :, None, None])


class CGANGenerator(nn.Module):
    """Noise ``[B, latent]`` and labels ``[B]`` to films ``[B, 1, size, size]`` in [-1, 1]."""

    def __init__(self, size: int, classes: int, width: int, latent: int) -> None:
        super().__init__()
        count, self.start = doublings(size)
        channels = [width * 2 ** min(level, 2) for level in range(count - 1, -1, -1)]
        self.size = size
        self.embed = nn.Embedding(classes, 16)
        self.project = nn.Linear(latent + 16, channels[0] * self.start**2)
        self.ups = nn.ModuleList(
            nn.ConvTranspose2d(c_in, c_out, 4, 2, 1, bias=False) for c_in, c_out in itertools.pairwise(channels)
        )
        self.norms = nn.ModuleList(ConditionalBatchNorm(c, classes) for c in channels)
        self.out = nn.ConvTranspose2d(channels[-1], 1, 4, 2, 1)

    def forward(self, noise: Tensor, labels: Tensor) -> Tensor:
        maps = self.project(torch.cat([noise, self.embed(labels)], dim=1))
        maps = maps.unflatten(1, (-1, self.start, self.start)).contiguous(memory_format=torch.channels_last)
        maps = F.relu(self.norms[0](maps, labels))
        for up, norm in zip(self.ups, self.norms[1:], strict=True):
            maps = F.relu(norm(up(maps), labels))
        return torch.tanh(self.out(maps))[:, :, : self.size, : self.size]


class CGANDiscriminator(nn.Module):
    """Films ``[B, 1, size, size]`` in [-1, 1] and labels ``[B]`` to logits ``[B]``."""

    def __init__(self, size: int, classes: int, width: int) -> None:
        super().__init__()
        count, _ = doublings(size)
        channels = [1, *(width * 2 ** min(level, 2) for level in range(count))]
        layers: list[nn.Module] = []
        for c_in, c_out in itertools.pairwise(channels):
            layers += [nn.Conv2d(c_in, c_out, 4, 2, 1), nn.LeakyReLU(0.2)]
        self.encode = nn.Sequential(*layers)
        with torch.no_grad():
            maps = self.encode(torch.zeros(1, 1, size, size))
        self.hidden = nn.Linear((maps.shape[1] + 1) * maps.shape[2] * maps.shape[3], 128)
        self.judge = nn.Linear(128, 1)
        self.project = nn.Embedding(classes, 128)
        nn.init.normal_(self.project.weight, 0.0, 0.1)

    def forward(self, films: Tensor, labels: Tensor, groups: int = 1) -> Tensor:
        """``groups`` parts of the batch are judged in one pass; each part's spread is its own."""
        maps = append_spread(self.encode(films), groups)
        hidden = F.leaky_relu(self.hidden(maps.flatten(1)), 0.2)
        logits: Tensor = self.judge(hidden)[:, 0] + (hidden * self.project(labels)).sum(dim=1)
        return logits
