"""``cgan`` as a plain loop: relativistic pairs, augmentation, projection, lazy R1 and R2, varied detail, average."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor
from torch.nn import functional as F

from bench.reference.parts import Losses, averaged, endless, keep_default_layout, normalised, r1
from cxrbench.contracts import Images, RunContext
from cxrbench_baselines.generators.augment import DRAWS, augmented
from cxrbench_baselines.generators.cgan import CGAN, average_decay
from cxrbench_baselines.generators.cgan_nets import CGANDiscriminator, CGANGenerator
from cxrbench_baselines.generators.detail import excess_likeness


def plain_cgan(plugin: CGAN, train: Images, ctx: RunContext) -> Iterator[Losses]:
    classes = len(train.classes)
    generator = CGANGenerator(train.size, classes, plugin.width, plugin.latent).to(ctx.device)
    keep_default_layout(generator.norms_in[0])
    discriminator = CGANDiscriminator(train.size, classes, plugin.discriminator_width).to(ctx.device)
    average = averaged(generator, average_decay(plugin.average_over, ctx.budget))
    generator_optimizer = torch.optim.Adam(generator.parameters(), plugin.rate, betas=(0.0, 0.99))
    discriminator_optimizer = torch.optim.Adam(discriminator.parameters(), plugin.rate, betas=(0.0, 0.99))

    def judged(films: Tensor, labels: Tensor) -> Tensor:
        shown = augmented(films, torch.randn(len(films), DRAWS, device=ctx.device)) if plugin.augment else films
        logits: Tensor = discriminator(shown, labels)
        return logits

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
        g_loss = g_loss + plugin.variety * excess_likeness(fake, real, labels)
        g_loss.backward()
        generator_optimizer.step()
        average.update_parameters(generator)
        yield {"generator_loss": g_loss.item(), "discriminator_loss": d_loss.item()}
