"""What keeps a GAN from collapsing on a few hundred films: R1, and letting D see its batch's spread."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from cxrbench_baselines.nets import precision


def r1_penalty(discriminate: Callable[[Tensor], Tensor], real: Tensor, device: str) -> Tensor:
    """Mean squared gradient of the discriminator at real films.

    Mescheder, Geiger & Nowozin, "Which training methods for GANs do actually converge?" (ICML 2018),
    equation 9. Applied every k-th step with k times the weight (Karras et al., StyleGAN2, 2020, section 3.1).

    Args:
        discriminate: films ``[B, 1, H, W]`` to logits ``[B]``.
    """
    real = real.detach().requires_grad_(True)
    with precision(device):
        logits = discriminate(real).float().sum()
    (gradient,) = torch.autograd.grad(logits, real, create_graph=True)
    return gradient.float().square().sum(dim=(1, 2, 3)).mean()


def append_spread(maps: Tensor, groups: int = 1) -> Tensor:
    """Append one map that holds the batch's standard deviation: ``[B, C, H, W]`` to ``[B, C + 1, H, W]``.

    Karras et al., "Progressive growing of GANs" (ICLR 2018), section 3. Without it the generators here
    collapse to one film per class within minutes: a discriminator that sees one film at a time cannot
    object to films that are all alike.

    Args:
        groups: equal parts of the batch (e.g. real, generated) whose spreads are taken apart.
    """
    parts = maps.float().unflatten(0, (groups, -1))
    spread = (parts.var(dim=1, correction=0) + 1e-8).sqrt().mean(dim=(1, 2, 3))
    plane = spread.repeat_interleave(parts.shape[1])[:, None, None, None].to(maps.dtype)
    return torch.cat([maps, plane.expand(-1, 1, *maps.shape[2:])], dim=1)
