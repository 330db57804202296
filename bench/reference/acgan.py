"""``acgan`` as a plain loop: the discriminator tells real from synthetic, and the class of both."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import nn

from bench.reference.parts import Losses, endless, keep_default_layout, normalised
from cxrbench.contracts import Images, RunContext
from cxrbench_baselines.generators.acgan import ACGAN, ACGANDiscriminator, ACGANGenerator


def plain_acgan(plugin: ACGAN, train: Images, ctx: RunContext) -> Iterator[Losses]:
    classes = len(train.classes)
    generator = ACGANGenerator(train.size, classes, 4 * plugin.width, plugin.latent).to(ctx.device)
    keep_default_layout(generator.decode)
    discriminator = ACGANDiscriminator(train.size, classes, plugin.width, plugin.dropout).to(ctx.device)
    generator_optimizer = torch.optim.Adam(generator.parameters(), plugin.rate, betas=(plugin.beta1, 0.999))
    discriminator_optimizer = torch.optim.Adam(discriminator.parameters(), plugin.rate, betas=(plugin.beta1, 0.999))
    source_loss, class_loss = nn.BCEWithLogitsLoss(), nn.CrossEntropyLoss()
    for real, labels in endless(normalised(train), train.labels, plugin.batch, balanced=True):
        real, labels = real.to(ctx.device), labels.to(ctx.device)
        ones, zeros = (torch.full((len(real),), value, device=ctx.device) for value in (1.0, 0.0))

        discriminator_optimizer.zero_grad()
        fake = generator(torch.randn(len(real), plugin.latent, device=ctx.device), labels).detach()
        on_real, class_of_real = discriminator(real)
        on_fake, class_of_fake = discriminator(fake)
        d_loss = source_loss(on_real, ones) + source_loss(on_fake, zeros)
        d_loss = d_loss + class_loss(class_of_real, labels) + class_loss(class_of_fake, labels)
        d_loss.backward()
        discriminator_optimizer.step()

        generator_optimizer.zero_grad()
        fake = generator(torch.randn(len(real), plugin.latent, device=ctx.device), labels)
        on_fake, class_of_fake = discriminator(fake)
        g_loss = source_loss(on_fake, ones) + class_loss(class_of_fake, labels)
        g_loss.backward()
        generator_optimizer.step()
        yield {"generator_loss": g_loss.item(), "discriminator_loss": d_loss.item()}
