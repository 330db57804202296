"""WGAN-GP: a critic that estimates a distance, kept honest by a penalty on its gradient.

Gulrajani, Ahmed, Arjovsky, Dumoulin & Courville, "Improved training of Wasserstein GANs" (NeurIPS 2017),
algorithm 1 with its defaults: lambda 10, 5 critic steps per generator step, Adam(1e-4, 0, 0.9), batches of 64. The
nets are the authors' for small pictures (DCGAN's with 5x5 convolutions, 128 dimensions of noise, no norm in the
critic, He et al.'s initial weights in it), with more doublings for larger films.

The paper's samples have no label. Here the label's embedding joins the generator's noise, and the critic projects
(Miyato & Koyama, "cGANs with projection discriminator", ICLR 2018, equation 4): one vector per class, multiplied
with the summed features. Classes are drawn equally often, because a rare class is what the films are wanted for.

A step of the budget is one generator step with the critic steps before it: it costs several of a plain GAN's.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from cxrbench.contracts import Images, RunContext
from cxrbench.errors import UsageError
from cxrbench.registry import GENERATORS
from cxrbench_baselines.batches import FilmBatches, step_noise
from cxrbench_baselines.generators.two_nets import TwoNetGenerator, TwoNets, descend
from cxrbench_baselines.nets import adam, doublings, frozen, on_device, precision, seed_everything

EMBEDDING = 16  # dimensions of the label embedding


@GENERATORS.register("wgan-gp")
@dataclass
class WGANGP(TwoNetGenerator):
    """Args:
    width: channels of the layer at full resolution; doubled at every halving, at most 8 times.
    latent: dimensions of the noise.
    batch: films per critic step and per generator step.
    rate, beta1, beta2: of Adam, for both nets.
    critic_steps: per generator step.
    penalty: weight of the gradient penalty.
    """

    width: int = 64
    latent: int = 128
    rate: float = 1e-4
    beta1: float = 0.0
    beta2: float = 0.9
    critic_steps: int = 5
    penalty: float = 10.0

    def preflight(self, size: int) -> dict[str, str]:
        """Raises UsageError for parameters it cannot train with."""
        if self.batch < 2:
            raise UsageError(f"wgan-gp:batch={self.batch} is too small: batch norm needs at least 2 films")
        if self.critic_steps < 1:
            raise UsageError(f"wgan-gp:critic_steps={self.critic_steps} trains no critic; choose 1 or more")
        return {}

    def setup(self, train: Images, ctx: RunContext) -> None:
        self.preflight(train.size)
        seed_everything(ctx.seed)
        self._facts = {"size": train.size, "classes": len(train.classes)}
        generator = on_device(self.build_generator(), ctx.device)
        critic = on_device(WGANGPCritic(**self._facts, width=self.width), ctx.device)
        self._sampler = generator
        self._nets = TwoNets(
            FilmBatches(train, self.batch, ctx.device, ctx.seed, balanced=True),
            generator,
            critic,
            adam(generator, self.rate, self.beta1, self.beta2),
            adam(critic, self.rate, self.beta1, self.beta2),
            ctx.seed,
            ctx.device,
        )

    def images_per_step(self) -> int:
        """Real films of one step: each critic step sees a batch of its own."""
        return self.critic_steps * self.batch

    def training_step(self, step: int) -> Mapping[str, Tensor]:
        """``critic_steps`` critic steps on batches of their own, then one generator step."""
        batches, draw = self._ready().batches, step * (2 * self.critic_steps + 1)
        for update in range(self.critic_steps):
            real, labels = batches.at(step * self.critic_steps + update)
            critic_loss = self._critic_step(real, labels, draw + 2 * update)
        generator_loss = self._generator_step(labels, draw + 2 * self.critic_steps)
        return {"generator_loss": generator_loss, "critic_loss": critic_loss}

    def build_generator(self) -> nn.Module:
        return WGANGPGenerator(**self._facts, width=self.width, latent=self.latent)

    def _critic_step(self, real: Tensor, labels: Tensor, draw: int) -> Tensor:
        """Lines 3 to 9 of algorithm 1; takes random draws number ``draw`` and ``draw + 1``."""
        nets = self._ready()
        with precision(nets.device):
            with torch.no_grad():
                fake = nets.generator(self._noise(draw), labels).float()
            on_real, on_fake = nets.discriminator(torch.cat([real, fake]), labels.repeat(2)).chunk(2)
        # The normal distribution function makes the draw uniform in [0, 1].
        share = torch.special.ndtr(step_noise(nets.seed, draw + 1, (self.batch,), nets.device))
        steepness = gradient_penalty(lambda films: nets.discriminator(films, labels), real, fake, share, nets.device)
        loss = on_fake.mean() - on_real.mean() + self.penalty * steepness
        descend(loss, nets.discriminator_optimizer)
        return loss.detach()

    def _generator_step(self, labels: Tensor, draw: int) -> Tensor:
        """Lines 11 and 12 of algorithm 1."""
        nets = self._ready()
        with frozen(nets.discriminator):
            with precision(nets.device):
                loss = -nets.discriminator(nets.generator(self._noise(draw), labels), labels).mean()
            descend(loss, nets.generator_optimizer)
        return loss.detach()


def gradient_penalty(
    critic: Callable[[Tensor], Tensor], real: Tensor, fake: Tensor, share: Tensor, device: str
) -> Tensor:
    """How far the critic's gradient is from length one, squared, at films between real and synthetic ones.

    Gulrajani et al. (2017), equation 3 without its weight; the points are line 6 of algorithm 1.

    Args:
        critic: films ``[B, 1, H, W]`` to scores ``[B]``.
        real, fake: float ``[B, 1, H, W]`` in [-1, 1]; row i of both is of one class.
        share: of the real film in each mixture, float ``[B]`` in [0, 1].
    """
    between = torch.lerp(fake, real, share[:, None, None, None]).detach().requires_grad_(True)
    with precision(device):
        scores = critic(between).float().sum()
    (gradient,) = torch.autograd.grad(scores, between, create_graph=True)
    return (gradient.float().flatten(1).norm(dim=1) - 1.0).square().mean()


class WGANGPGenerator(nn.Module):
    """Noise ``[B, latent]`` and labels ``[B]`` to films ``[B, 1, size, size]`` in [-1, 1]."""

    def __init__(self, size: int, classes: int, width: int, latent: int) -> None:
        super().__init__()
        count, self.start = doublings(size)
        channels = [width * 2 ** min(level, 3) for level in range(count - 1, -1, -1)]
        self.size = size
        self.embed = nn.Embedding(classes, EMBEDDING)
        self.project = nn.Linear(latent + EMBEDDING, channels[0] * self.start**2)
        layers: list[nn.Module] = [nn.BatchNorm2d(channels[0]), nn.ReLU()]
        for c_in, c_out in itertools.pairwise(channels):
            layers += [nn.ConvTranspose2d(c_in, c_out, 5, 2, 2, 1), nn.BatchNorm2d(c_out), nn.ReLU()]
        self.decode = nn.Sequential(*layers, nn.ConvTranspose2d(channels[-1], 1, 5, 2, 2, 1), nn.Tanh())

    def forward(self, noise: Tensor, labels: Tensor) -> Tensor:
        maps = self.project(torch.cat([noise, self.embed(labels)], dim=1))
        maps = maps.unflatten(1, (-1, self.start, self.start)).contiguous(memory_format=torch.channels_last)
        films: Tensor = self.decode(maps)
        return films[:, :, : self.size, : self.size]


class WGANGPCritic(nn.Module):
    """Films ``[B, 1, size, size]`` in [-1, 1] and labels ``[B]`` to scores ``[B]`` (float32, without bounds).

    No score has an offset, of its class or of all: it would cancel in the loss.
    """

    def __init__(self, size: int, classes: int, width: int) -> None:
        super().__init__()
        count, _ = doublings(size)
        channels = [1, *(width * 2 ** min(level, 3) for level in range(count))]
        layers: list[nn.Module] = []
        for c_in, c_out in itertools.pairwise(channels):
            convolution = nn.Conv2d(c_in, c_out, 5, 2, 2)
            nn.init.kaiming_normal_(convolution.weight, 0.2)
            layers += [convolution, nn.LeakyReLU(0.2)]
        self.encode = nn.Sequential(*layers)
        with torch.no_grad():
            features = self.encode(torch.zeros(1, 1, size, size)).flatten(1).shape[1]
        self.judge = nn.Parameter(torch.randn(features) / features**0.5)
        self.project = nn.Embedding(classes, channels[-1])
        nn.init.zeros_(self.project.weight)

    def forward(self, films: Tensor, labels: Tensor) -> Tensor:
        # Products and sums, not layers: those would round the scores, whose differences count, to bf16.
        maps = self.encode(films).float()
        scores: Tensor = (maps.flatten(1) * self.judge).sum(dim=1)
        return scores + (maps.sum(dim=(2, 3)) * self.project(labels)).sum(dim=1)
