"""The reference plug-ins' training as plain PyTorch: what the plug-ins' own speed is measured against.

Each loop trains the networks of one plug-in, with its losses, rates, penalties and averages, the way PyTorch's
own tutorials (DCGAN; training a classifier) write it: float32, default memory format, a DataLoader over films
normalised up front, Adam as it comes, one discriminator pass for real and one for generated films, gradients
for the discriminator also in the generator's step, and ``loss.item()`` at every step. What differs in time is
the loop, not the model. The DataLoader has no worker processes: batches of tensors that lie in memory are
cheaper to collate than to send from one process to another.

A loop is an iterator: each ``next`` does one training step and returns its losses. Batches and noise are not
those of the plug-in, so losses agree in kind and not in value.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from torch.utils.data import DataLoader, TensorDataset, WeightedRandomSampler

from cxrbench.contracts import Images, RunContext
from cxrbench_baselines.classifiers.net import NetClassifier
from cxrbench_baselines.classifiers.torchvision_nets import GreyToImagenet
from cxrbench_baselines.generators.augment import DRAWS, augmented
from cxrbench_baselines.generators.cgan import CGAN, CGANDiscriminator, CGANGenerator
from cxrbench_baselines.generators.cgan_seed import SeedCGAN, SeedDiscriminator, SeedGenerator
from cxrbench_baselines.generators.dcgan import DCGAN, DCGANDiscriminator, DCGANGenerator

Losses = dict[str, float]
ReferenceLoop = Callable[[Any, Images, RunContext], Iterator[Losses]]


def reference_loop(plugin_class: type) -> ReferenceLoop | None:
    """The plain loop that trains the model of this class, or None where nobody has written one.

    A generator's loop builds the nets of exactly one class. A classifier's takes its net from ``build``, so it
    serves every ``NetClassifier`` that trains as its base class does.
    """
    if issubclass(plugin_class, NetClassifier):
        changed = any(getattr(plugin_class, name) is not getattr(NetClassifier, name) for name in OWN_LOOP)
        return None if changed else plain_classifier
    return GENERATOR_LOOPS.get(plugin_class)


def plain_cgan(plugin: CGAN, train: Images, ctx: RunContext) -> Iterator[Losses]:
    """``cgan``: relativistic pairs, augmentation, projection discriminator, lazy R1 and R2, moving average."""
    classes = len(train.classes)
    generator = PlainCGANGenerator(train.size, classes, plugin.width, plugin.latent).to(ctx.device)
    discriminator = CGANDiscriminator(train.size, classes, plugin.discriminator_width).to(ctx.device)
    average = averaged(generator, plugin.decay)
    generator_optimizer = torch.optim.Adam(generator.parameters(), plugin.rate, betas=(0.0, 0.99))
    discriminator_optimizer = torch.optim.Adam(discriminator.parameters(), plugin.rate, betas=(0.0, 0.99))

    def judged(films: Tensor, labels: Tensor) -> Tensor:
        shown = augmented(films, torch.randn(len(films), DRAWS, device=ctx.device)) if plugin.augment else films
        return discriminator(shown, labels)

    batches = endless(normalised(train), train.labels, plugin.batch, balanced=True)
    for step, (real, labels) in enumerate(batches):
        real, labels = real.to(ctx.device), labels.to(ctx.device)
        fake = generator(torch.randn(len(real), plugin.latent, device=ctx.device), labels)

        discriminator_optimizer.zero_grad()
        d_loss = F.softplus(judged(fake.detach(), labels) - judged(real, labels)).mean()
        if step % plugin.penalty_every == 0:
            for films in (real.clone(), fake.detach()):
                films.requires_grad_(True)
                d_loss = d_loss + plugin.penalty * plugin.penalty_every * r1(judged(films, labels), films)
        d_loss.backward()
        discriminator_optimizer.step()

        generator_optimizer.zero_grad()
        g_loss = F.softplus(judged(real, labels) - judged(fake, labels)).mean()
        g_loss.backward()
        generator_optimizer.step()
        average.update_parameters(generator)
        yield {"generator_loss": g_loss.item(), "discriminator_loss": d_loss.item()}


def plain_dcgan(plugin: DCGAN, train: Images, ctx: RunContext) -> Iterator[Losses]:
    """``dcgan``: one pair of nets per class, the classes in turns."""
    loops = [_dcgan_of_one_class(plugin, train.of_class(label), ctx) for label in range(len(train.classes))]
    while True:
        for loop in loops:
            yield next(loop)


def _dcgan_of_one_class(plugin: DCGAN, train: Images, ctx: RunContext) -> Iterator[Losses]:
    """The tutorial's loop; lazy R1 and a moving average where the plug-in is ``stabilised``."""
    generator = PlainDCGANGenerator(train.size, plugin.width, plugin.latent).to(ctx.device)
    discriminator = DCGANDiscriminator(train.size, plugin.width, plugin.stabilised).to(ctx.device)
    average = averaged(generator, plugin.decay)
    generator_optimizer = torch.optim.Adam(generator.parameters(), plugin.generator_rate, betas=(0.5, 0.999))
    discriminator_optimizer = torch.optim.Adam(
        discriminator.parameters(), plugin.discriminator_rate, betas=(0.5, 0.999)
    )
    for step, (real, _) in enumerate(endless(normalised(train), train.labels, plugin.batch)):
        real = real.to(ctx.device)
        fake = generator(torch.randn(len(real), plugin.latent, device=ctx.device))

        discriminator_optimizer.zero_grad()
        d_loss = F.softplus(-discriminator(real)).mean() + F.softplus(discriminator(fake.detach())).mean()
        if plugin.stabilised and step % plugin.penalty_every == 0:
            real.requires_grad_(True)
            d_loss = d_loss + plugin.penalty * plugin.penalty_every * r1(discriminator(real), real)
        d_loss.backward()
        discriminator_optimizer.step()

        generator_optimizer.zero_grad()
        g_loss = F.softplus(-discriminator(fake)).mean()
        g_loss.backward()
        generator_optimizer.step()
        if plugin.stabilised:
            average.update_parameters(generator)
        yield {"generator_loss": g_loss.item(), "discriminator_loss": d_loss.item()}


def plain_seed_cgan(plugin: SeedCGAN, train: Images, ctx: RunContext) -> Iterator[Losses]:
    """``cgan-seed``: the study's recipe, the discriminator stepped at every tenth step, before the generator."""
    classes = len(train.classes)
    generator = SeedGenerator(train.size, classes, plugin.width, plugin.latent).to(ctx.device)
    discriminator = SeedDiscriminator(train.size, classes, plugin.width, plugin.dropout).to(ctx.device)
    generator_optimizer = torch.optim.Adam(generator.parameters(), plugin.rate, betas=(plugin.beta1, 0.999))
    discriminator_optimizer = torch.optim.Adam(discriminator.parameters(), plugin.rate, betas=(plugin.beta1, 0.999))
    loss = nn.BCELoss()
    for step, (real, labels) in enumerate(endless(normalised(train), train.labels, plugin.batch)):
        real, labels = real.to(ctx.device), labels.to(ctx.device)
        losses = {}
        if step % plugin.discriminator_every == 0:
            discriminator_optimizer.zero_grad()
            fake = generator(torch.randn(len(real), plugin.latent, device=ctx.device), labels).detach()
            on_real, on_fake = discriminator(real, labels), discriminator(fake, labels)
            d_loss = (loss(on_real, torch.ones_like(on_real)) + loss(on_fake, torch.zeros_like(on_fake))) / 2
            d_loss.backward()
            discriminator_optimizer.step()
            losses["discriminator_loss"] = d_loss.item()

        generator_optimizer.zero_grad()
        judged = discriminator(generator(torch.randn(len(real), plugin.latent, device=ctx.device), labels), labels)
        g_loss = loss(judged, torch.ones_like(judged))
        g_loss.backward()
        generator_optimizer.step()
        yield losses | {"generator_loss": g_loss.item()}


def plain_classifier(plugin: NetClassifier, train: Images, ctx: RunContext) -> Iterator[Losses]:
    """Any ``NetClassifier``: weighted cross-entropy, AdamW, one-cycle rate.

    ImageNet's three channels and normalisation are made once, before the loop.
    """
    net = plugin.build(len(train.classes), train.size)
    films = normalised(train)
    if isinstance(net, nn.Sequential) and isinstance(net[0], GreyToImagenet):
        films, net = net[0](films).contiguous(), net[1]
    net.to(ctx.device).train()
    optimizer = torch.optim.AdamW(net.parameters(), plugin.rate, weight_decay=plugin.weight_decay)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, plugin.rate, total_steps=ctx.budget + 1)
    counts = np.bincount(train.labels, minlength=len(train.classes))
    weight = torch.from_numpy(len(train) / (len(counts) * counts)).float().to(ctx.device)
    criterion = nn.CrossEntropyLoss(weight=weight)
    for batch, labels in endless(films, train.labels, plugin.batch):
        optimizer.zero_grad()
        loss = criterion(net(batch.to(ctx.device)), labels.to(ctx.device))
        loss.backward()
        optimizer.step()
        schedule.step()
        yield {"loss": loss.item()}


GENERATOR_LOOPS: dict[type, ReferenceLoop] = {CGAN: plain_cgan, DCGAN: plain_dcgan, SeedCGAN: plain_seed_cgan}
OWN_LOOP = ("setup", "training_step")  # a classifier that overrides one of these no longer trains as its base does


class PlainCGANGenerator(CGANGenerator):
    """The same layers without the plug-in's switch to channels-last, which would be kept by all that follows."""

    def first_maps(self, style: Tensor) -> Tensor:
        maps: Tensor = self.project(style).unflatten(1, (-1, self.start, self.start))
        return maps


class PlainDCGANGenerator(DCGANGenerator):
    """The same layers without the plug-in's switch to channels-last."""

    def forward(self, noise: Tensor) -> Tensor:
        films: Tensor = self.decode(self.project(noise).unflatten(1, (-1, self.start, self.start)))
        return films[:, :, : self.size, : self.size]


def normalised(train: Images) -> Tensor:
    """All films as float32 in [-1, 1]."""
    return torch.from_numpy(train.pixels).float() / 127.5 - 1.0


def endless(
    films: Tensor, labels: np.ndarray, batch: int, *, balanced: bool = False
) -> Iterator[tuple[Tensor, Tensor]]:
    """Shuffled whole batches, epoch after epoch; ``balanced`` draws every class equally often."""
    targets = torch.from_numpy(labels)
    data = TensorDataset(films, targets)
    batch = min(batch, len(data))
    if balanced:
        share = torch.bincount(targets)[targets]
        sampler = WeightedRandomSampler((1.0 / share).tolist(), len(data))
        loader = DataLoader(data, batch, sampler=sampler, drop_last=True)
    else:
        loader = DataLoader(data, batch, shuffle=True, drop_last=True)
    while True:
        yield from loader


def averaged(net: nn.Module, decay: float) -> AveragedModel:
    """Moving average of weights and buffers, by torch's own class."""
    return AveragedModel(net, multi_avg_fn=get_ema_multi_avg_fn(decay), use_buffers=True)


def r1(logits: Tensor, real: Tensor) -> Tensor:
    """Mescheder et al. (2018), equation 9: mean squared gradient of the discriminator at real films."""
    (gradient,) = torch.autograd.grad(logits.sum(), real, create_graph=True)
    return gradient.square().sum(dim=(1, 2, 3)).mean()
