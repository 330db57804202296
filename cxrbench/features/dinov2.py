"""DINOv2 features (vision transformer S/14), which agree with people better than Inception's.

Oquab et al., "DINOv2", TMLR 2024; for Frechet distances: Stein et al., "Exposing flaws of generative model
evaluation metrics", NeurIPS 2023, who take the large network (L/14): these distances are not comparable with
theirs. torch-fidelity gets the same network through torch.hub, which runs code from GitHub; here its forward pass
is written anew and the published tensors (Apache-2.0) are all that is fetched. Films go in as torch-fidelity
prepares them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import torch
from torch.nn import functional as F

from cxrbench.features.pretrained import Network, PretrainedNet, in_colour

WEIGHTS_URL = "https://dl.fbaipublicfiles.com/dinov2/dinov2_vits14/dinov2_vits14_pretrain.pth"
INPUT_SIZE = 224
HEADS = 6
MEAN, SD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # ImageNet's, of the three channels
EPSILON = 1e-6  # of every layer norm
GRID_EXCESS = 0.1  # the published network was trained with positions resized to a grid this much larger


@dataclass
class DinoV2(PretrainedNet):
    """The 384 numbers of the class token after the last layer norm."""

    url: str = WEIGHTS_URL
    sha256_prefix: str = "b938bf1bc15cd2ec0feacfe3a1bb553fe8ea9ca46a7e1d8d00217f29aef60cd9"

    name: ClassVar[str] = "dinov2-vit-s-14"
    dim: ClassVar[int] = 384
    fd_label: ClassVar[str] = "FD-dinov2-vit-s-14"
    kd_label: ClassVar[str] = "KID-dinov2-vit-s-14"
    resize: ClassVar[str] = "bilinear as in TensorFlow 1, no antialias, to 224 px"

    def network(self, weights: Path, device: str) -> Network:
        """Reads tensors, never code."""
        tensors = torch.load(weights, map_location=device, weights_only=True)
        return lambda films: class_token(tensors, network_input(in_colour(films)), HEADS)


def network_input(films: torch.Tensor) -> torch.Tensor:
    """uint8 ``[B, 3, H, W]`` to float32 ``[B, 3, 224, 224]`` with ImageNet's mean 0 and standard deviation 1."""
    from torch_fidelity.interpolate_compat_tensorflow import interpolate_bilinear_2d_like_tensorflow1x

    x = interpolate_bilinear_2d_like_tensorflow1x(films.float(), (INPUT_SIZE, INPUT_SIZE), align_corners=False)
    mean, sd = (torch.tensor(values, device=x.device).view(3, 1, 1) * 255 for values in (MEAN, SD))
    return (x - mean) / sd


def class_token(tensors: Mapping[str, torch.Tensor], x: torch.Tensor, heads: int) -> torch.Tensor:
    """The forward pass of Dosovitskiy et al. (ICLR 2021), equations 1 to 4, each branch scaled per channel.

    Args:
        tensors: the published ones, by their published names; their shapes give the network's.
        x: float32 ``[B, 3, H, W]``; H and W are multiples of the patch size.
        heads: of the attention.

    Returns:
        float32 ``[B, width]``.
    """

    def linear(x: torch.Tensor, layer: str) -> torch.Tensor:
        return F.linear(x, tensors[f"{layer}.weight"], tensors[f"{layer}.bias"])

    def norm(x: torch.Tensor, layer: str) -> torch.Tensor:
        return F.layer_norm(x, x.shape[-1:], tensors[f"{layer}.weight"], tensors[f"{layer}.bias"], EPSILON)

    def attention(x: torch.Tensor, block: str) -> torch.Tensor:
        split = linear(x, f"{block}.attn.qkv").unflatten(2, (3, heads, -1))
        query, key, value = split.permute(2, 0, 3, 1, 4)
        mixed = F.scaled_dot_product_attention(query, key, value)
        return linear(mixed.transpose(1, 2).flatten(2), f"{block}.attn.proj")

    kernel = tensors["patch_embed.proj.weight"]
    patches = F.conv2d(x, kernel, tensors["patch_embed.proj.bias"], stride=kernel.shape[-1])
    class_position, positions = positions_for(tensors["pos_embed"], patches.shape[-2], patches.shape[-1])
    first = (tensors["cls_token"] + class_position).expand(len(x), -1, -1)
    x = torch.cat([first, patches.flatten(2).transpose(1, 2) + positions], dim=1)
    depth = sum(name.endswith(".ls1.gamma") for name in tensors)
    for block in (f"blocks.{number}" for number in range(depth)):
        x = x + tensors[f"{block}.ls1.gamma"] * attention(norm(x, f"{block}.norm1"), block)
        hidden = F.gelu(linear(norm(x, f"{block}.norm2"), f"{block}.mlp.fc1"))
        x = x + tensors[f"{block}.ls2.gamma"] * linear(hidden, f"{block}.mlp.fc2")
    return norm(x[:, 0], "norm")


def positions_for(embedding: torch.Tensor, rows: int, columns: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Position embeddings of the class token and of a grid of patches.

    Args:
        embedding: float ``[1, 1 + S * S, width]``: the class token's, then those of a square grid.

    Returns:
        float ``[1, 1, width]`` and ``[1, rows * columns, width]``.
    """
    side = round((embedding.shape[1] - 1) ** 0.5)
    grid = embedding[:, 1:].unflatten(1, (side, side)).permute(0, 3, 1, 2)
    if (rows, columns) != (side, side):
        scale = ((rows + GRID_EXCESS) / side, (columns + GRID_EXCESS) / side)
        grid = F.interpolate(grid, scale_factor=scale, mode="bicubic", align_corners=False)
    return embedding[:, :1], grid.flatten(2).transpose(1, 2)
