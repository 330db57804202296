"""AC-GAN as CovidGAN uses it: a discriminator that also names the class of what it sees.

Odena, Olah & Shlens, "Conditional image synthesis with auxiliary classifier GANs" (ICML 2017) give the losses
(equations 2 and 3), Adam's beta1 of 0.5, dropout 0.5 and weights from N(0, 0.02). Waheed et al., "CovidGAN: data
augmentation using auxiliary classifier GAN for improved COVID-19 detection" (IEEE Access 8, 2020) give the nets,
the learning rate of 2e-4, batches of 64 and 2,000 epochs (29,000 steps on their 932 training films; here the
budget decides). Their claim, +10 points of accuracy, is why this recipe is here.

CovidGAN's nets for films of 112 px: a 7x7 map of the embedded label joins a 7x7x1024 map of the noise, four 5x5
transposed convolutions double it (512, 256, 128 channels; batch norm, ReLU, Tanh); the discriminator has five 3x3
convolutions (32 to 512 channels, the first without a stride), each with batch norm, LeakyReLU(0.2) and dropout.
Other sizes get more or fewer of the same stages, at most 8 and 16 times the narrowest.

What is said of CovidGAN was taken from public reconstructions that agree with each other, not from the paper's own
pages; the nets have the 22 and 2 million weights that it is quoted with. Not known for certain: the momentum of
batch norm, whether it saw real and synthetic films apart (here it does), how the weights began, the spread of the
noise (standard normal here). Known to differ: one grey channel for their three, and classes drawn equally often,
because a rare class is what the films are wanted for.

Its films are much alike within a class, as those of AC-GANs are (Hou et al., "Conditional GANs with auxiliary
discriminative classifier", ICML 2022, say why).
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from cxrbench.contracts import Images, RunContext
from cxrbench.errors import UsageError
from cxrbench.registry import GENERATORS
from cxrbench_baselines.batches import FilmBatches
from cxrbench_baselines.generators.two_nets import TwoNetGenerator, TwoNets, descend
from cxrbench_baselines.nets import adam, doublings, frozen, on_device, precision, seed_everything

EMBEDDING = 50  # dimensions of the label embedding
SMALLEST = 7  # pixels of the smallest map: 112 is 7 doubled four times


@GENERATORS.register("acgan")
@dataclass
class ACGAN(TwoNetGenerator):
    """Args:
    width: channels of the discriminator's first layer; the generator's last hidden layer has 4 times as many.
    latent: dimensions of the noise.
    batch: films per step.
    rate, beta1: of Adam, for both nets.
    dropout: after each of the discriminator's layers.
    """

    width: int = 32
    rate: float = 2e-4
    beta1: float = 0.5
    dropout: float = 0.5

    def preflight(self, size: int) -> dict[str, str]:
        """Raises UsageError for a batch that batch norm cannot take."""
        if self.batch < 2:
            raise UsageError(f"acgan:batch={self.batch} is too small: batch norm needs at least 2 films")
        return {}

    def setup(self, train: Images, ctx: RunContext) -> None:
        self.preflight(train.size)
        seed_everything(ctx.seed)
        self._facts = {"size": train.size, "classes": len(train.classes)}
        generator = on_device(self.build_generator(), ctx.device)
        discriminator = on_device(ACGANDiscriminator(**self._facts, width=self.width, dropout=self.dropout), ctx.device)
        self._sampler = generator
        self._nets = TwoNets(
            FilmBatches(train, self.batch, ctx.device, ctx.seed, balanced=True),
            generator,
            discriminator,
            adam(generator, self.rate, self.beta1, 0.999),
            adam(discriminator, self.rate, self.beta1, 0.999),
            ctx.seed,
            ctx.device,
        )

    def training_step(self, step: int) -> Mapping[str, Tensor]:
        """One discriminator step and one generator step, each with noise of its own."""
        real, labels = self._ready().batches.at(step)
        judged = self._discriminator_step(real, labels, 2 * step)
        return {"generator_loss": self._generator_step(labels, 2 * step + 1), **judged}

    def build_generator(self) -> nn.Module:
        return ACGANGenerator(**self._facts, width=4 * self.width, latent=self.latent)

    def _discriminator_step(self, real: Tensor, labels: Tensor, number: int) -> dict[str, Tensor]:
        """Ascend L_S + L_C (Odena et al., equations 2 and 3)."""
        nets = self._ready()
        with precision(nets.device):
            with torch.no_grad():
                fake = nets.generator(self._noise(number), labels)
            # Two passes: batch norm over both together made toy classes harder to learn, and is not DCGAN's way.
            on_real, class_of_real = nets.discriminator(real)
            on_fake, class_of_fake = nets.discriminator(fake)
        source = F.softplus(-on_real.float()).mean() + F.softplus(on_fake.float()).mean()
        classes = F.cross_entropy(class_of_real.float(), labels) + F.cross_entropy(class_of_fake.float(), labels)
        loss = source + classes
        descend(loss, nets.discriminator_optimizer)
        rightly = torch.cat([on_real > 0, on_fake <= 0]).float().mean()
        return {"discriminator_loss": loss.detach(), "discriminator_accuracy": rightly}

    def _generator_step(self, labels: Tensor, number: int) -> Tensor:
        """Ascend L_C - L_S, L_S in the non-saturating form (Goodfellow et al., 2014)."""
        nets = self._ready()
        with frozen(nets.discriminator):
            with precision(nets.device):
                source, classes = nets.discriminator(nets.generator(self._noise(number), labels))
            loss = F.softplus(-source.float()).mean() + F.cross_entropy(classes.float(), labels)
            descend(loss, nets.generator_optimizer)
        return loss.detach()


class ACGANGenerator(nn.Module):
    """Noise ``[B, latent]`` and labels ``[B]`` to films ``[B, 1, size, size]`` in [-1, 1]."""

    def __init__(self, size: int, classes: int, width: int, latent: int) -> None:
        super().__init__()
        count, self.start = doublings(size, SMALLEST)
        channels = [width * 2 ** min(level, 3) for level in range(count - 1, -1, -1)]
        self.size = size
        self.embed = nn.Sequential(nn.Embedding(classes, EMBEDDING), nn.Linear(EMBEDDING, self.start**2))
        self.project = nn.Linear(latent, channels[0] * self.start**2)
        layers: list[nn.Module] = []
        for c_in, c_out in itertools.pairwise([channels[0] + 1, *channels[1:]]):
            layers += [nn.ConvTranspose2d(c_in, c_out, 5, 2, 2, 1), nn.BatchNorm2d(c_out), nn.ReLU()]
        self.decode = nn.Sequential(*layers, nn.ConvTranspose2d(channels[-1], 1, 5, 2, 2, 1), nn.Tanh())
        self.apply(initialise)

    def forward(self, noise: Tensor, labels: Tensor) -> Tensor:
        maps = F.relu(self.project(noise)).unflatten(1, (-1, self.start, self.start))
        label_map = self.embed(labels).unflatten(1, (1, self.start, self.start))
        joined = torch.cat([maps, label_map], dim=1).contiguous(memory_format=torch.channels_last)
        films: Tensor = self.decode(joined)
        return films[:, :, : self.size, : self.size]


class ACGANDiscriminator(nn.Module):
    """Films ``[B, 1, size, size]`` in [-1, 1] to two logits: real or not ``[B]``, and class ``[B, classes]``."""

    def __init__(self, size: int, classes: int, width: int, dropout: float) -> None:
        super().__init__()
        count, _ = doublings(size, SMALLEST)
        channels = [1, *(width * 2 ** min(level, 4) for level in range(count + 1))]
        layers: list[nn.Module] = []
        for number, (c_in, c_out) in enumerate(itertools.pairwise(channels)):
            stride = 1 if number == 0 else 2
            layers += [nn.Conv2d(c_in, c_out, 3, stride, 1), nn.BatchNorm2d(c_out), nn.LeakyReLU(0.2)]
            layers += [nn.Dropout(dropout)]
        self.encode = nn.Sequential(*layers, nn.Flatten())
        with torch.no_grad():
            features = self.encode(torch.zeros(2, 1, size, size)).shape[1]
        self.source, self.classify = nn.Linear(features, 1), nn.Linear(features, classes)
        self.apply(initialise)

    def forward(self, films: Tensor) -> tuple[Tensor, Tensor]:
        features = self.encode(films)
        return self.source(features)[:, 0], self.classify(features)


def initialise(module: nn.Module) -> None:
    """Odena et al., appendix A: weights from N(0, 0.02), biases zero."""
    if isinstance(module, nn.Linear | nn.Conv2d | nn.ConvTranspose2d):
        nn.init.normal_(module.weight, 0.0, 0.02)
        assert module.bias is not None
        nn.init.zeros_(module.bias)
