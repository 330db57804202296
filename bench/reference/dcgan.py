"""``dcgan`` as a plain loop: the tutorial's, for one pair of nets per class, the classes in turns."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch.nn import functional as F

from bench.reference.parts import Losses, averaged, endless, keep_default_layout, normalised, r1
from cxrbench.contracts import Images, RunContext
from cxrbench_baselines.generators.dcgan import DCGAN, DCGANDiscriminator, DCGANGenerator


def plain_dcgan(plugin: DCGAN, train: Images, ctx: RunContext) -> Iterator[Losses]:
    loops = [_of_one_class(plugin, train.of_class(label), ctx) for label in range(len(train.classes))]
    while True:
        for loop in loops:
            yield next(loop)


def _of_one_class(plugin: DCGAN, train: Images, ctx: RunContext) -> Iterator[Losses]:
    """The tutorial's loop; lazy R1 and a moving average where the plug-in is ``stabilised``."""
    generator = DCGANGenerator(train.size, plugin.width, plugin.latent).to(ctx.device)
    keep_default_layout(generator.decode)
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
