"""Building blocks of the flows' nets: what they are told (time, class) and residual blocks that listen to it."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

TIME_FREQUENCIES = 32
CHANNELS_PER_GROUP = 16
CHANNELS_PER_HEAD = 32


class Condition(nn.Module):
    """Time ``[B]`` in [0, 1] and label ``[B]`` to one vector ``[B, dims]``."""

    rates: Tensor

    def __init__(self, classes: int, dims: int) -> None:
        super().__init__()
        self.label = nn.Embedding(classes, dims)
        self.time = nn.Sequential(nn.Linear(2 * TIME_FREQUENCIES, dims), nn.SiLU(), nn.Linear(dims, dims))
        rates = 1000 * torch.exp(-math.log(1e4) * torch.arange(TIME_FREQUENCIES) / TIME_FREQUENCIES)
        self.register_buffer("rates", rates, persistent=False)

    def forward(self, time: Tensor, labels: Tensor) -> Tensor:
        angles = time[:, None] * self.rates
        told: Tensor = self.time(torch.cat([angles.cos(), angles.sin()], dim=1)) + self.label(labels)
        return F.silu(told)


class ConvBlock(nn.Module):
    """Two convolutions around which the maps flow on; the condition scales and shifts between them.

    Perez et al., "FiLM: visual reasoning with a general conditioning layer" (AAAI 2018), equation 1, in the place
    that Dhariwal & Nichol, "Diffusion models beat GANs on image synthesis" (NeurIPS 2021), section 3.1, give it. It
    starts as the identity, so that a deep net starts as a shallow one.
    """

    def __init__(self, c_in: int, c_out: int, dims: int, *, attention: bool = False, dropout: float = 0.0) -> None:
        super().__init__()
        self.norm_in = nn.GroupNorm(_groups(c_in), c_in)
        self.conv_in = nn.Conv2d(c_in, c_out, 3, padding=1)
        self.norm_out = nn.GroupNorm(_groups(c_out), c_out, affine=False)
        self.film = nn.Linear(dims, 2 * c_out)
        self.drop = nn.Dropout(dropout)
        self.conv_out = nn.Conv2d(c_out, c_out, 3, padding=1)
        self.skip = nn.Conv2d(c_in, c_out, 1) if c_in != c_out else nn.Identity()
        self.attention = Attention(c_out) if attention else nn.Identity()
        for layer in (self.film, self.conv_out):
            silence(layer)

    def forward(self, maps: Tensor, condition: Tensor) -> Tensor:
        scale, shift = self.film(condition)[:, :, None, None].chunk(2, dim=1)
        inner = self.norm_out(self.conv_in(F.silu(self.norm_in(maps))))
        inner = self.conv_out(self.drop(F.silu(torch.addcmul(shift, inner, 1 + scale))))
        attended: Tensor = self.attention(self.skip(maps) + inner)
        return attended


class Attention(nn.Module):
    """Every place of the map looks at every other (Vaswani et al., 2017, equation 1), added to what is there."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(_groups(channels), channels)
        self.heads = math.gcd(channels, max(channels // CHANNELS_PER_HEAD, 1))
        self.ask = nn.Conv2d(channels, 3 * channels, 1)
        self.answer = nn.Conv2d(channels, channels, 1)
        silence(self.answer)

    def forward(self, maps: Tensor) -> Tensor:
        places = self.ask(self.norm(maps)).flatten(2).unflatten(1, (3, self.heads, -1)).transpose(-1, -2)
        seen = F.scaled_dot_product_attention(places[:, 0], places[:, 1], places[:, 2])
        answer: Tensor = maps + self.answer(seen.transpose(-1, -2).reshape(maps.shape))
        return answer


def silence(layer: nn.Linear | nn.Conv2d) -> None:
    """Start a layer with an output of zero."""
    nn.init.zeros_(layer.weight)
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)


def _groups(channels: int) -> int:
    """Of about ``CHANNELS_PER_GROUP``: a number of groups that divides the channels."""
    return math.gcd(channels, max(channels // CHANNELS_PER_GROUP, 1))
