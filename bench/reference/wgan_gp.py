"""``wgan-gp`` as a plain loop: Gulrajani et al. (2017), algorithm 1, line by line."""

from __future__ import annotations

from collections.abc import Iterator

import torch

from bench.reference.parts import Losses, endless, keep_default_layout, normalised
from cxrbench.contracts import Images, RunContext
from cxrbench_baselines.generators.wgan_gp import WGANGP, WGANGPCritic, WGANGPGenerator


def plain_wgan_gp(plugin: WGANGP, train: Images, ctx: RunContext) -> Iterator[Losses]:
    classes = len(train.classes)
    generator = WGANGPGenerator(train.size, classes, plugin.width, plugin.latent).to(ctx.device)
    keep_default_layout(generator.decode)
    critic = WGANGPCritic(train.size, classes, plugin.width).to(ctx.device)
    betas = (plugin.beta1, plugin.beta2)
    generator_optimizer = torch.optim.Adam(generator.parameters(), plugin.rate, betas=betas)
    critic_optimizer = torch.optim.Adam(critic.parameters(), plugin.rate, betas=betas)
    batches = endless(normalised(train), train.labels, plugin.batch, balanced=True)
    while True:
        for _ in range(plugin.critic_steps):
            real, labels = next(batches)
            real, labels = real.to(ctx.device), labels.to(ctx.device)
            critic_optimizer.zero_grad()
            fake = generator(torch.randn(len(real), plugin.latent, device=ctx.device), labels).detach()
            share = torch.rand(len(real), 1, 1, 1, device=ctx.device)
            between = (share * real + (1 - share) * fake).requires_grad_(True)
            (gradient,) = torch.autograd.grad(critic(between, labels).sum(), between, create_graph=True)
            steepness = (gradient.flatten(1).norm(dim=1) - 1).square().mean()
            c_loss = critic(fake, labels).mean() - critic(real, labels).mean() + plugin.penalty * steepness
            c_loss.backward()
            critic_optimizer.step()

        generator_optimizer.zero_grad()
        fake = generator(torch.randn(len(labels), plugin.latent, device=ctx.device), labels)
        g_loss = -critic(fake, labels).mean()
        g_loss.backward()
        generator_optimizer.step()
        yield {"generator_loss": g_loss.item(), "critic_loss": c_loss.item()}
