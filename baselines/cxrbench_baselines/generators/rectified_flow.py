"""Rectified flow: films are made by following, from noise, the velocity that leads to them on straight lines.

Liu, Gong & Liu, "Flow straight and fast: learning to generate and transfer data with rectified flow" (ICLR
2023), equation 1; Lipman et al., "Flow matching for generative modeling" (ICLR 2023). With data ``x`` and noise
``e``, both of unit variance, the state at time t is ``t x + (1 - t) e`` and its velocity ``x - e``.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

VelocityAt = Callable[[Tensor, Tensor], Tensor]  # (state [B, ...], time [B]) to velocities of the state's shape


def mixed(data: Tensor, noise: Tensor, time: Tensor) -> Tensor:
    """The state at ``time`` (``[B]``, 0 is noise and 1 is data) on the line from ``noise`` to ``data``."""
    t = _beside(time, data)
    return t * data + (1 - t) * noise


def drawn_times(normal: Tensor) -> Tensor:
    """Times in (0, 1) from standard normal draws: logit-normal, so that the middle, where most is to be learned, is
    trained on most (Esser et al., "Scaling rectified flow transformers", ICML 2024, section 3.1)."""
    return normal.sigmoid()


def spread_at(time: Tensor, like: Tensor) -> Tensor:
    """Standard deviation of the state at ``time``, shaped to multiply ``like``."""
    t = _beside(time, like)
    return (t.square() + (1 - t).square()).sqrt()


def velocity(raw: Tensor, state: Tensor, time: Tensor) -> Tensor:
    """The velocity from a net's output of unit variance.

    What is known without a net is added: for standard normal data the velocity is ``state (2t - 1) / s^2`` with
    ``s = spread_at(t)``, and what remains to be told has variance ``1 / s^2`` whatever the time. This is for
    straight lines what Karras et al., "Elucidating the design space of diffusion-based generative models" (NeurIPS
    2022), equation 7 and table 1, are for theirs: a net of zeros samples a standard normal.
    """
    s, t = spread_at(time, state), _beside(time, state)
    return state * (2 * t - 1) / s.square() + raw / s


def guided(velocity_at: VelocityAt, worse_at: VelocityAt, guidance: float) -> VelocityAt:
    """The velocity that leads away from a worse net's: ``worse + guidance * (velocity - worse)``.

    Karras et al., "Guiding a diffusion model with a bad version of itself" (NeurIPS 2024), section 4 and equation 3,
    there of denoisers; velocities are affine in them, so that the same weights serve. A ``guidance`` of 1 is none.
    """
    if guidance == 1.0:
        return velocity_at

    def at(state: Tensor, time: Tensor) -> Tensor:
        worse = worse_at(state, time)
        return worse + guidance * (velocity_at(state, time) - worse)

    return at


def followed(velocity_at: VelocityAt, noise: Tensor, steps: int) -> Tensor:
    """Follow the velocity from time 0 to 1 by Heun's method (Karras et al., 2022, algorithm 1).

    Args:
        steps: of equal length; each asks twice for the velocity, the last once.
    """
    state = noise
    for number in range(steps):
        now = torch.full((len(noise),), number / steps, device=noise.device)
        slope = velocity_at(state, now)
        ahead = state + slope / steps
        if number < steps - 1:  # at time 1 the velocity is hardly trained
            slope = (slope + velocity_at(ahead, now + 1 / steps)) / 2
            ahead = state + slope / steps
        state = ahead
    return state


def _beside(time: Tensor, like: Tensor) -> Tensor:
    return time.view(-1, *[1] * (like.ndim - 1))
