"""DCGAN: one unconditional GAN per class, so that its samples carry labels.

Radford, Metz & Chintala, "Unsupervised representation learning with deep convolutional generative
adversarial networks" (ICLR 2016): strided convolutions, batch norm in both nets except at the generator's
output and the discriminator's input, ReLU and LeakyReLU(0.2), Tanh, weights drawn from N(0, 0.02), Adam with
beta1 0.5, losses of Goodfellow et al. (2014) in the non-saturating form.

By default it is ``stabilised``, because the paper's discriminator makes static of a few hundred films: no
batch norm in the discriminator, the batch's spread and the R1 penalty instead (``stabilisers``), and samples
from a moving average of the weights. The paper's own recipe is
``dcgan:stabilised=false:generator_rate=2e-4:discriminator_rate=2e-4:batch=128``.
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
from cxrbench.errors import UsageError
from cxrbench.registry import GENERATORS
from cxrbench_baselines.batches import FilmBatches, step_noise
from cxrbench_baselines.generators.net import LatentGenerator
from cxrbench_baselines.generators.stabilisers import append_spread, r1_penalty
from cxrbench_baselines.nets import adam, averaged, doublings, frozen, on_device, precision, seed_everything
from cxrbench_baselines.training import Stateful


@dataclass
class _Pair:
    """The nets, optimizers and films of one class."""

    batches: FilmBatches
    generator: nn.Module
    discriminator: nn.Module
    average: AveragedModel | None
    generator_optimizer: torch.optim.Optimizer
    discriminator_optimizer: torch.optim.Optimizer


@GENERATORS.register("dcgan")
@dataclass
class DCGAN(LatentGenerator):
    """Args:
    width: channels of the layer at full resolution; doubled at every halving, at most 8 times.
    latent: dimensions of the noise.
    batch: films per step, all of one class.
    generator_rate, discriminator_rate: Adam's learning rates.
    stabilised: see above; the three parameters below are of no effect without it.
    penalty: weight of R1.
    penalty_every: steps of one class between two penalties.
    decay: of the moving average of the generator's weights.
    """

    width: int = 32
    batch: int = 32
    generator_rate: float = 1e-3
    discriminator_rate: float = 2e-3
    stabilised: bool = True
    penalty: float = 0.3
    penalty_every: int = 8
    decay: float = 0.98

    _pairs: list[_Pair] = field(default_factory=list, init=False, repr=False, compare=False)
    _seed: int = field(default=0, init=False, repr=False, compare=False)
    _device: str = field(default="cpu", init=False, repr=False, compare=False)

    def setup(self, train: Images, ctx: RunContext) -> None:
        seed_everything(ctx.seed)
        self._seed, self._device = ctx.seed, ctx.device
        self._facts = {"size": train.size, "classes": len(train.classes)}
        self._pairs = [self._pair(train.of_class(label), ctx) for label in range(len(train.classes))]
        self._sampler = OnePerClass(
            [pair.generator if pair.average is None else pair.average.module for pair in self._pairs]
        )

    def images_per_step(self) -> int:
        return self.batch

    def steps_per_cycle(self) -> int:
        return self.penalty_every * len(self._pairs) if self.stabilised else 1

    def training_step(self, step: int) -> Mapping[str, Tensor]:
        """One discriminator and one generator step of the class whose turn it is."""
        pair, turn = self._pairs[step % len(self._pairs)], step // len(self._pairs)
        real, _ = pair.batches.at(turn)
        noise = step_noise(self._seed, step, (len(real), self.latent), self._device)
        with precision(self._device):
            fake = pair.generator(noise)
            # Two passes: batch norm must see real and generated films apart (Radford et al., section 3).
            on_real, on_fake = pair.discriminator(real), pair.discriminator(fake.detach())
            d_loss = F.softplus(-on_real.float()).mean() + F.softplus(on_fake.float()).mean()
        if self.stabilised and turn % self.penalty_every == 0:
            r1 = r1_penalty(pair.discriminator, real, self._device)
            d_loss = d_loss + self.penalty * self.penalty_every * r1
        pair.discriminator_optimizer.zero_grad(set_to_none=True)
        d_loss.backward()
        pair.discriminator_optimizer.step()

        with frozen(pair.discriminator):
            with precision(self._device):
                g_loss = F.softplus(-pair.discriminator(fake).float()).mean()
            pair.generator_optimizer.zero_grad(set_to_none=True)
            g_loss.backward()
            pair.generator_optimizer.step()
        if pair.average is not None:
            pair.average.update_parameters(pair.generator)
        return {
            "generator_loss": g_loss.detach(),
            "discriminator_loss": d_loss.detach(),
            "discriminator_accuracy": torch.cat([on_real > 0, on_fake < 0]).float().mean(),
        }

    def parts(self) -> dict[str, Stateful]:
        found: dict[str, Stateful] = {}
        for label, pair in enumerate(self._pairs):
            found[f"generator_{label}"] = pair.generator
            found[f"discriminator_{label}"] = pair.discriminator
            found[f"generator_optimizer_{label}"] = pair.generator_optimizer
            found[f"discriminator_optimizer_{label}"] = pair.discriminator_optimizer
            if pair.average is not None:
                found[f"average_{label}"] = pair.average
        return found

    def build_generator(self) -> nn.Module:
        return OnePerClass([self._net(self._facts["size"]) for _ in range(self._facts["classes"])])

    def _net(self, size: int) -> nn.Module:
        return DCGANGenerator(size, self.width, self.latent)

    def _pair(self, films: Images, ctx: RunContext) -> _Pair:
        if len(films) < 2:
            raise UsageError("dcgan needs at least 2 training films in every class: it uses batch norm")
        generator = on_device(self._net(films.size), ctx.device)
        discriminator = on_device(DCGANDiscriminator(films.size, self.width, self.stabilised), ctx.device)
        return _Pair(
            FilmBatches(films, self.batch, ctx.device, ctx.seed),
            generator,
            discriminator,
            averaged(generator, self.decay) if self.stabilised else None,
            adam(generator, self.generator_rate, 0.5, 0.999),
            adam(discriminator, self.discriminator_rate, 0.5, 0.999),
        )


class OnePerClass(nn.Module):
    """Noise ``[B, latent]`` and labels ``[B]`` to films, each by the net of its class."""

    def __init__(self, nets: list[nn.Module]) -> None:
        super().__init__()
        self.nets = nn.ModuleList(nets)

    def forward(self, noise: Tensor, labels: Tensor) -> Tensor:
        wanted = labels.unique().tolist()
        films = torch.cat([self.nets[label](noise[labels == label]) for label in wanted])
        rows = torch.cat([torch.nonzero(labels == label)[:, 0] for label in wanted])
        return films[rows.argsort()]


class DCGANGenerator(nn.Module):
    """Noise ``[B, latent]`` to films ``[B, 1, size, size]`` in [-1, 1]."""

    def __init__(self, size: int, width: int, latent: int) -> None:
        super().__init__()
        count, self.start = doublings(size)
        channels = [width * 2 ** min(level, 3) for level in range(count - 1, -1, -1)]
        self.size = size
        self.project = nn.Linear(latent, channels[0] * self.start**2, bias=False)
        layers: list[nn.Module] = [nn.BatchNorm2d(channels[0]), nn.ReLU()]
        for c_in, c_out in itertools.pairwise(channels):
            layers += [nn.ConvTranspose2d(c_in, c_out, 4, 2, 1, bias=False), nn.BatchNorm2d(c_out), nn.ReLU()]
        self.decode = nn.Sequential(*layers, nn.ConvTranspose2d(channels[-1], 1, 4, 2, 1), nn.Tanh())
        self.apply(initialise)

    def forward(self, noise: Tensor) -> Tensor:
        maps = self.project(noise).unflatten(1, (-1, self.start, self.start))
        films: Tensor = self.decode(maps.contiguous(memory_format=torch.channels_last))
        return films[:, :, : self.size, : self.size]


class DCGANDiscriminator(nn.Module):
    """Films ``[B, 1, size, size]`` in [-1, 1] to logits ``[B]``."""

    def __init__(self, size: int, width: int, stabilised: bool) -> None:
        super().__init__()
        count, _ = doublings(size)
        channels = [width * 2 ** min(level, 3) for level in range(count)]
        layers: list[nn.Module] = [nn.Conv2d(1, width, 4, 2, 1), nn.LeakyReLU(0.2)]
        for c_in, c_out in itertools.pairwise(channels):
            norm: list[nn.Module] = [] if stabilised else [nn.BatchNorm2d(c_out)]
            layers += [nn.Conv2d(c_in, c_out, 4, 2, 1, bias=stabilised), *norm, nn.LeakyReLU(0.2)]
        self.encode = nn.Sequential(*layers)
        self.stabilised = stabilised
        with torch.no_grad():
            maps = self._maps(torch.zeros(2, 1, size, size))
        self.judge = nn.Linear(maps.flatten(1).shape[1], 1)
        if not stabilised:
            self.apply(initialise)

    def forward(self, films: Tensor) -> Tensor:
        logits: Tensor = self.judge(self._maps(films).flatten(1))
        return logits[:, 0]

    def _maps(self, films: Tensor) -> Tensor:
        maps: Tensor = self.encode(films)
        return append_spread(maps) if self.stabilised else maps


def initialise(module: nn.Module) -> None:
    """Radford et al., section 4: all weights from N(0, 0.02); batch norm scales from N(1, 0.02)."""
    if isinstance(module, nn.Conv2d | nn.ConvTranspose2d | nn.Linear):
        nn.init.normal_(module.weight, 0.0, 0.02)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
    elif isinstance(module, nn.BatchNorm2d):
        nn.init.normal_(module.weight, 1.0, 0.02)
        nn.init.zeros_(module.bias)
