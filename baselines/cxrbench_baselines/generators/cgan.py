"""The study's idea, a label-conditional GAN, by an objective that converges on small data.

Against the seed recipe (``cgan-seed``): the discriminator is stepped every step, has no batch norm, sees the spread
of its batch and every film augmented. The objective is that of R3GAN (Huang et al., "The GAN is dead; long live the
GAN! A modern GAN baseline", NeurIPS 2024): relativistic pairing, whose landscape has no collapsed minima, with R1
and R2 penalties, with which it converges. The label enters as in a conditional norm (generator) and by projection
(discriminator; Miyato & Koyama, "cGANs with projection discriminator", ICLR 2018, equation 3). Films are sampled
from a moving average of the weights. No batch norm anywhere: a film must not depend on the batch it is in.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from cxrbench.contracts import Images, RunContext
from cxrbench.registry import GENERATORS
from cxrbench_baselines.batches import FilmBatches, step_noise
from cxrbench_baselines.generators.augment import DRAWS, augmented
from cxrbench_baselines.generators.stabilisers import append_spread, r1_penalty
from cxrbench_baselines.generators.two_nets import TwoNetGenerator, TwoNets, descend
from cxrbench_baselines.nets import (
    adam,
    averaged,
    doublings,
    frozen,
    full_precision,
    on_device,
    precision,
    seed_everything,
)
from cxrbench_baselines.schedules import falling, set_rate

LayerT = TypeVar("LayerT", nn.Conv2d, nn.Linear)

STYLE = 128  # dimensions of the vector that noise and label are mapped to
FULL_WIDTH_TO = 16  # pixels up to which maps have all channels; above, memory and time are what they cost


@GENERATORS.register("cgan")
@dataclass
class CGAN(TwoNetGenerator):
    """Args:
    width: channels of the generator's finest maps; four times as many in its coarse ones.
    discriminator_width: channels of the discriminator's finest maps; up to four times as many below.
    latent: dimensions of the noise.
    batch: films per step.
    rate: Adam's learning rate, of both nets; after a short warm-up level, over the second half it falls to nothing:
        nets that are still moving at the end leave films that are blurred by their average.
    penalty: weight of R1 and of R2, the squared gradients at real and at generated films.
    penalty_every: steps between two penalties (each weighted up by this number).
    decay: of the moving average of the generator's weights.
    augment: show the discriminator augmented films.
    """

    latent: int = 64
    width: int = 16
    discriminator_width: int = 32
    batch: int = 32
    rate: float = 1e-3
    penalty: float = 0.05
    penalty_every: int = 8
    decay: float = 0.999
    augment: bool = True

    _budget: int = field(default=0, init=False, repr=False, compare=False)

    def setup(self, train: Images, ctx: RunContext) -> None:
        seed_everything(ctx.seed)
        self._facts = {"size": train.size, "classes": len(train.classes)}
        generator = on_device(self.build_generator(), ctx.device)
        discriminator = on_device(CGANDiscriminator(**self._facts, width=self.discriminator_width), ctx.device)
        average = averaged(generator, self.decay)
        self._sampler = average.module
        self._budget = ctx.budget
        self._nets = TwoNets(
            # Classes are drawn equally often: a rare class is what the films are wanted for.
            FilmBatches(train, self.batch, ctx.device, ctx.seed, balanced=True),
            generator,
            discriminator,
            adam(generator, self.rate, 0.0, 0.99),
            adam(discriminator, self.rate, 0.0, 0.99),
            ctx.seed,
            ctx.device,
            average,
        )

    def steps_per_cycle(self) -> int:
        return self.penalty_every

    def training_step(self, step: int) -> Mapping[str, Tensor]:
        """One discriminator step (with R1 and R2 at every ``penalty_every``-th) and one generator step."""
        nets = self._ready()
        assert nets.average is not None
        for optimizer in (nets.generator_optimizer, nets.discriminator_optimizer):
            set_rate(optimizer, self.rate * falling(step, self._budget))
        real, labels = nets.batches.at(step)
        noise = step_noise(nets.seed, step, (len(real), self.latent + 4 * DRAWS), nets.device)
        views = noise[:, self.latent :].unflatten(1, (4, DRAWS))
        with precision(nets.device):
            fake = nets.generator(noise[:, : self.latent], labels).float()
            shown = torch.cat([self._shown(real, views[:, 0]), self._shown(fake.detach(), views[:, 1])])
            on_real, on_fake = nets.discriminator(shown, labels.repeat(2), groups=2).float().chunk(2)
            # Huang et al., equation 2: each generated film is judged against a real one, here of its class.
            d_loss = F.softplus(on_fake - on_real).mean()
        penalised = d_loss
        if step % self.penalty_every == 0:
            penalised = d_loss + self.penalty * self.penalty_every * sum(
                r1_penalty(partial(self._judged, view, labels), films, nets.device)
                for films, view in ((real, views[:, 0]), (fake, views[:, 1]))
            )
        descend(penalised, nets.discriminator_optimizer)

        with frozen(nets.discriminator):
            with precision(nets.device):
                with torch.no_grad():
                    beside = nets.discriminator(self._shown(real, views[:, 2]), labels).float()
                judged = nets.discriminator(self._shown(fake, views[:, 3]), labels).float()
                g_loss = F.softplus(beside - judged).mean()
            descend(g_loss, nets.generator_optimizer)
        nets.average.update_parameters(nets.generator)
        return {
            "generator_loss": g_loss.detach(),
            "discriminator_loss": d_loss.detach(),
            "discriminator_accuracy": (on_real > on_fake).float().mean(),
        }

    def build_generator(self) -> CGANGenerator:
        return CGANGenerator(**self._facts, width=self.width, latent=self.latent)

    def _judged(self, draws: Tensor, labels: Tensor, films: Tensor) -> Tensor:
        logits: Tensor = self._ready().discriminator(self._shown(films, draws), labels)
        return logits

    def _shown(self, films: Tensor, draws: Tensor) -> Tensor:
        return augmented(films, draws) if self.augment else films


class StyleNorm(nn.Module):
    """Maps brought to unit power film by film, then scaled and shifted by what noise and label were mapped to.

    In the place of conditional batch norm (Miyato & Koyama, 2018), as Karras et al., "A style-based generator
    architecture" (CVPR 2019), equation 1, but for the mean, which is kept.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.affine = nn.Linear(STYLE, 2 * channels)
        nn.init.normal_(self.affine.weight, 0.0, 0.05)
        nn.init.zeros_(self.affine.bias)

    def forward(self, maps: Tensor, style: Tensor) -> Tensor:
        scale, shift = self.affine(style)[:, :, None, None].chunk(2, dim=1)
        power = maps.float().square().mean(dim=(1, 2, 3), keepdim=True)
        return torch.addcmul(shift, maps * (power + 1e-4).rsqrt().to(maps.dtype), 1 + scale)


class CGANGenerator(nn.Module):
    """Noise ``[B, latent]`` and labels ``[B]`` to films ``[B, 1, size, size]`` in [-1, 1].

    Every resolution adds its part of the film (Karras et al., "Analyzing and improving the image quality of
    StyleGAN", CVPR 2020, section 4.1), so that the coarse film is learned first.
    """

    def __init__(self, size: int, classes: int, width: int, latent: int) -> None:
        super().__init__()
        count, self.start = doublings(size)
        channels = [_channels(width, self.start * 2**level) for level in range(count)]
        self.size = size
        self.embed = nn.Embedding(classes, latent)
        self.style = nn.Sequential(
            nn.Linear(2 * latent, STYLE), nn.LeakyReLU(0.2), nn.Linear(STYLE, STYLE), nn.LeakyReLU(0.2)
        )
        self.project = nn.Linear(STYLE, channels[0] * self.start**2)
        self.norms_in = nn.ModuleList(StyleNorm(c) for c in channels)
        self.convolutions = nn.ModuleList(nn.Conv2d(c, c, 3, padding=1) for c in channels)
        self.norms_out = nn.ModuleList(StyleNorm(c) for c in channels)
        self.ups = nn.ModuleList(nn.ConvTranspose2d(a, b, 4, 2, 1) for a, b in itertools.pairwise(channels))
        self.films = nn.ModuleList(_faint(nn.Conv2d(c, 4, 3, padding=1)) for c in channels)

    def forward(self, noise: Tensor, labels: Tensor) -> Tensor:
        noise = noise * (noise.square().mean(dim=1, keepdim=True) + 1e-8).rsqrt()
        style = self.style(torch.cat([noise, self.embed(labels)], dim=1))
        maps = self.project(style).unflatten(1, (-1, self.start, self.start))
        maps = maps.contiguous(memory_format=torch.channels_last)  # all that follow keep that layout
        film: Tensor | None = None
        for level, convolution in enumerate(self.convolutions):
            if level:
                maps = self.ups[level - 1](maps)
            maps = F.leaky_relu(self.norms_in[level](maps, style), 0.2)
            maps = F.leaky_relu(self.norms_out[level](maps + convolution(maps), style), 0.2)
            part = F.pixel_shuffle(self.films[level](maps), 2).float()
            if film is not None:
                part = part + F.interpolate(film, scale_factor=2.0, mode="bilinear", align_corners=False)
            film = part
        assert film is not None
        return torch.tanh(film)[:, :, : self.size, : self.size]


class CGANDiscriminator(nn.Module):
    """Films ``[B, 1, size, size]`` in [-1, 1] and labels ``[B]`` to logits ``[B]``."""

    def __init__(self, size: int, classes: int, width: int) -> None:
        super().__init__()
        count, _ = doublings(size)
        channels = [1, *(width * 2 ** min(level, 2) for level in range(count))]
        layers: list[nn.Module] = []
        for c_in, c_out in itertools.pairwise(channels):
            layers += [_even(nn.Conv2d(c_in, c_out, 4, 2, 1)), nn.LeakyReLU(0.2)]
        self.encode = nn.Sequential(*layers)
        with torch.no_grad():
            maps = self.encode(torch.zeros(1, 1, size, size))
        self.hidden = _even(nn.Linear((maps.shape[1] + 1) * maps.shape[2] * maps.shape[3], 128))
        self.judge = nn.Linear(128, 1)
        self.project = nn.Embedding(classes, 128)
        nn.init.normal_(self.project.weight, 0.0, 0.1)

    def forward(self, films: Tensor, labels: Tensor, groups: int = 1) -> Tensor:
        """``groups`` equal parts of the batch are judged in one pass; each class of each part has its own spread."""
        classes = self.project.num_embeddings
        part = torch.arange(groups, device=labels.device).repeat_interleave(len(labels) // groups)
        maps = append_spread(self.encode(films), part * classes + labels, groups * classes)
        hidden = F.leaky_relu(self.hidden(maps.flatten(1)), 0.2)
        with full_precision(films.device):  # the differences of logits count
            hidden = hidden.float()
            logits: Tensor = self.judge(hidden)[:, 0] + (hidden * self.project(labels)).sum(dim=1)
        return logits


def _even(layer: LayerT) -> LayerT:
    """He et al., "Delving deep into rectifiers" (ICCV 2015), equation 14: signals keep their power through the layers.

    torch's own start loses more than half of it in each, and a discriminator without norms then needs hundreds of
    steps to see anything.
    """
    nn.init.kaiming_normal_(layer.weight, a=0.2)
    return layer


def _faint(layer: nn.Conv2d) -> nn.Conv2d:
    """Start films near a middle grey, where Tanh has slope."""
    nn.init.normal_(layer.weight, 0.0, 0.01)
    return layer


def _channels(width: int, side: int) -> int:
    """Channels of the maps of ``side`` pixels: fewer the finer they are."""
    return 4 * width if side <= FULL_WIDTH_TO else 2 * width if side <= 2 * FULL_WIDTH_TO else width
