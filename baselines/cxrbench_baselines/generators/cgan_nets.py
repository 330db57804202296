"""The nets of ``cgan``: a generator in the manner of StyleGAN2 and a projection discriminator, without batch norm."""

from __future__ import annotations

import itertools
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from cxrbench_baselines.generators.stabilisers import append_spread
from cxrbench_baselines.nets import doublings, full_precision

LayerT = TypeVar("LayerT", nn.Conv2d, nn.Linear)

FAINTEST = 1e-4  # power that is added, so that maps of nearly nothing are not blown up
STYLE = 128  # dimensions of the vector that noise and label are mapped to
FULL_WIDTH_TO = 16  # pixels up to which maps have all channels; above, memory and time are what they cost


class StyleNorm(nn.Module):
    """Maps brought to unit power film by film, then scaled and shifted by what noise and label were mapped to.

    In the place of conditional batch norm (Miyato & Koyama, 2018), as Karras et al., "A style-based generator
    architecture" (CVPR 2019), equation 1, but for the mean, which is kept.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.affine = nn.Linear(STYLE, 2 * channels)
        nn.init.normal_(self.affine.weight, 0.0, 0.05)
        nn.init.zeros_(self.affine.bias)

    def forward(self, maps: Tensor, style: Tensor) -> Tensor:
        scale, shift = self.affine(style)[:, :, None, None].chunk(2, dim=1)
        styled: Tensor = UnitPower.apply(maps, 1 + scale, shift)
        return styled


class UnitPower(torch.autograd.Function):
    """``maps * (mean(maps^2) + FAINTEST)^(-1/2) * scale + shift``, the mean over each film.

    Autograd's own passes over the maps are most of what this takes on a CPU: with these it takes a fifth of the time.

    Args:
        maps: ``[B, C, H, W]``.
        scale, shift: ``[B, C, 1, 1]``.
    """

    @staticmethod
    def forward(ctx: Any, maps: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
        at_least_float32 = torch.promote_types(maps.dtype, torch.float32)
        length = torch.linalg.vector_norm(maps, dim=(1, 2, 3), keepdim=True, dtype=at_least_float32)
        to_unit = (length.square() / maps[0].numel() + FAINTEST).rsqrt()
        factor = (to_unit * scale).to(maps.dtype)
        ctx.save_for_backward(maps, scale, to_unit, factor)
        return torch.addcmul(shift, maps, factor)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        maps, scale, to_unit, factor = ctx.saved_tensors
        along = (gradient * maps).sum(dim=(2, 3), keepdim=True, dtype=to_unit.dtype)
        by_power = -(to_unit**3) * (scale * along).sum(dim=1, keepdim=True) / maps[0].numel()
        to_maps = torch.addcmul(gradient * factor, maps, by_power.to(maps.dtype))
        return to_maps, (to_unit * along).to(scale.dtype), gradient.sum(dim=(2, 3), keepdim=True)


class CGANGenerator(nn.Module):
    """Noise ``[B, latent]`` and labels ``[B]`` to films ``[B, 1, size, size]`` in [-1, 1].

    Every resolution adds its part of the film (Karras et al., "Analyzing and improving the image quality of
    StyleGAN", CVPR 2020, section 4.1), so that the coarse film is learned first.
    """

    def __init__(self, size: int, classes: int, width: int, latent: int) -> None:
        super().__init__()
        count, self.start = doublings(size)
        channels = [_channels(width, self.start * 2**level) for level in range(count)]
        self.size = size
        self.embed = nn.Embedding(classes, latent)
        self.style = nn.Sequential(
            nn.Linear(2 * latent, STYLE), nn.LeakyReLU(0.2), nn.Linear(STYLE, STYLE), nn.LeakyReLU(0.2)
        )
        self.project = nn.Linear(STYLE, channels[0] * self.start**2)
        self.norms_in = nn.ModuleList(StyleNorm(c) for c in channels)
        self.convolutions = nn.ModuleList(nn.Conv2d(c, c, 3, padding=1) for c in channels)
        self.norms_out = nn.ModuleList(StyleNorm(c) for c in channels)
        self.ups = nn.ModuleList(nn.ConvTranspose2d(a, b, 4, 2, 1) for a, b in itertools.pairwise(channels))
        self.films = nn.ModuleList(_faint(nn.Conv2d(c, 4, 3, padding=1)) for c in channels)

    def forward(self, noise: Tensor, labels: Tensor) -> Tensor:
        noise = noise * (noise.square().mean(dim=1, keepdim=True) + 1e-8).rsqrt()
        style = self.style(torch.cat([noise, self.embed(labels)], dim=1))
        maps = self.project(style).unflatten(1, (-1, self.start, self.start))
        maps = maps.contiguous(memory_format=torch.channels_last)  # all that follow keep that layout
        film: Tensor | None = None
        for level, convolution in enumerate(self.convolutions):
            if level:
                maps = self.ups[level - 1](maps)
            maps = F.leaky_relu(self.norms_in[level](maps, style), 0.2)
            maps = F.leaky_relu(self.norms_out[level](maps + convolution(maps), style), 0.2)
            part = F.pixel_shuffle(self.films[level](maps), 2).float()
            if film is not None:
                part = part + F.interpolate(film, scale_factor=2.0, mode="bilinear", align_corners=False)
            film = part
        assert film is not None
        return torch.tanh(film)[:, :, : self.size, : self.size]


class CGANDiscriminator(nn.Module):
    """Films ``[B, 1, size, size]`` in [-1, 1] and labels ``[B]`` to logits ``[B]``."""

    def __init__(self, size: int, classes: int, width: int) -> None:
        super().__init__()
        count, _ = doublings(size)
        channels = [1, *(width * 2 ** min(level, 2) for level in range(count))]
        layers: list[nn.Module] = []
        for c_in, c_out in itertools.pairwise(channels):
            layers += [_even(nn.Conv2d(c_in, c_out, 4, 2, 1)), nn.LeakyReLU(0.2)]
        self.encode = nn.Sequential(*layers)
        with torch.no_grad():
            maps = self.encode(torch.zeros(1, 1, size, size))
        self.hidden = _even(nn.Linear((maps.shape[1] + 1) * maps.shape[2] * maps.shape[3], 128))
        self.judge = nn.Linear(128, 1)
        self.project = nn.Embedding(classes, 128)
        nn.init.normal_(self.project.weight, 0.0, 0.1)

    def forward(self, films: Tensor, labels: Tensor, groups: int = 1) -> Tensor:
        """``groups`` equal parts of the batch are judged in one pass; each class of each part has its own spread."""
        classes = self.project.num_embeddings
        part = torch.arange(groups, device=labels.device).repeat_interleave(len(labels) // groups)
        maps = append_spread(self.encode(films), part * classes + labels, groups * classes)
        hidden = F.leaky_relu(self.hidden(maps.flatten(1)), 0.2)
        with full_precision(films.device):  # the differences of logits count
            hidden = hidden.float()
            logits: Tensor = self.judge(hidden)[:, 0] + (hidden * self.project(labels)).sum(dim=1)
        return logits


def _even(layer: LayerT) -> LayerT:
    """He et al., "Delving deep into rectifiers" (ICCV 2015), equation 14: signals keep their power through the layers.

    torch's own start loses more than half of it in each, and a discriminator without norms then needs hundreds of
    steps to see anything.
    """
    nn.init.kaiming_normal_(layer.weight, a=0.2)
    return layer


def _faint(layer: nn.Conv2d) -> nn.Conv2d:
    """Start films near a middle grey, where Tanh has slope."""
    nn.init.normal_(layer.weight, 0.0, 0.01)
    return layer


def _channels(width: int, side: int) -> int:
    """Channels of the maps of ``side`` pixels: fewer the finer they are."""
    return 4 * width if side <= FULL_WIDTH_TO else 2 * width if side <= 2 * FULL_WIDTH_TO else width
