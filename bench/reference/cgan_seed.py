"""``cgan-seed`` as a plain loop: the study's recipe, the discriminator stepped before the generator at every tenth
step."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import nn

from bench.reference.parts import Losses, endless, keep_default_layout, normalised
from cxrbench.contracts import Images, RunContext
from cxrbench_baselines.generators.cgan_seed import SeedCGAN, SeedDiscriminator, SeedGenerator


def plain_seed_cgan(plugin: SeedCGAN, train: Images, ctx: RunContext) -> Iterator[Losses]:
    sizes = (train.size, len(train.classes), plugin.width)
    choices = (plugin.normalise, plugin.conditioning)
    generator = SeedGenerator(*sizes, plugin.latent, *choices).to(ctx.device)
    discriminator = SeedDiscriminator(*sizes, plugin.dropout, *choices).to(ctx.device)
    for net in (generator.decode, discriminator.encode):
        keep_default_layout(net[0])
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
