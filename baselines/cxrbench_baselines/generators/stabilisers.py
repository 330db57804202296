"""What keeps a GAN from collapsing on a few hundred films: R1, and letting D see its batch's spread."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

from cxrbench_baselines.nets import full_precision, precision


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


def append_spread(maps: Tensor, kinds: Tensor | None = None, count: int = 1) -> Tensor:
    """Append one map that holds how much the films of the batch differ: ``[B, C, H, W]`` to ``[B, C + 1, H, W]``.

    Karras et al., "Progressive growing of GANs" (ICLR 2018), section 3, but place by place, and among films of a
    kind: where a batch holds several classes, their difference would hide that each is one film over and over.
    Without it the generators here collapse to one film per class within minutes: a discriminator that sees one film
    at a time cannot object to films that are all alike.

    Args:
        kinds: int64 ``[B]`` in ``[0, count)``; films of one kind (real or generated, of one class) are compared. One
            kind where None.
    """
    if kinds is None:
        kinds = torch.zeros(len(maps), dtype=torch.int64, device=maps.device)
    # In float32 and in two passes: else rounding would hide how little a collapsed batch differs.
    with full_precision(maps.device):
        member = F.one_hot(kinds, count).float()  # [B, count]
        share = member / member.sum(dim=0).clamp_min(1.0)
        values = maps.float().flatten(1)
        away = values - (share.T @ values)[kinds]
        spread = (share.T @ away.square() + 1e-8).sqrt()[kinds]
    plane = spread.view_as(maps).mean(dim=1, keepdim=True).to(maps.dtype)
    return torch.cat([maps, plane], dim=1)
