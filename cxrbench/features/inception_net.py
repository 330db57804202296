"""torch-fidelity's InceptionV3, made into the same function of grey films that takes less time."""

from __future__ import annotations

import functools
from pathlib import Path

import torch
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from cxrbench.errors import UsageError
from cxrbench.features.pretrained import Network

INPUT_SIZE = 299
PRECISIONS = {"float32": torch.float32, "bfloat16": torch.bfloat16}


@functools.lru_cache(maxsize=2)
def read_network(weights: Path, digest: str, device: str, precision: str) -> Network:
    """The network with the weights of a file; kept, since a run extracts one set of films after the other, and reading
    the file takes as long as some films.

    Args:
        digest: of the file, so that another of the same name is read anew.
        precision: a key of ``PRECISIONS``.

    Raises:
        UsageError: an unknown ``precision``.
    """
    if precision not in PRECISIONS:
        raise UsageError(f"inception: precision {precision!r} is unknown; use {' or '.join(PRECISIONS)}")
    from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

    net = FeatureExtractorInceptionV3("inception-v3-compat", ["2048"], feature_extractor_weights_path=str(weights))
    return for_grey_films(net, device, PRECISIONS[precision])


def for_grey_films(net: nn.Module, device: str, dtype: torch.dtype) -> Network:
    """The 2,048 features of torch-fidelity's InceptionV3, for films of one channel.

    Batch norms are folded into the convolutions. Three equal channels under a kernel are one channel under its sum,
    so films stay grey. Maps are channels-last. In ``bfloat16`` the first convolution and the last mean stay in
    float32: they cost next to nothing, and their rounding would meet every film.

    Args:
        net: used up.
        dtype: of all convolutions but the first.

    Returns:
        A function from uint8 ``[B, 1, H, W]`` on the device to float32 ``[B, 2048]``.
    """
    net.double()  # folds and sums are rounded once, at the end
    for block in net.modules():
        if isinstance(norm := getattr(block, "bn", None), nn.BatchNorm2d):
            convolution = block.get_submodule("conv")
            assert isinstance(convolution, nn.Conv2d)
            block.conv, block.bn = fuse_conv_bn_eval(convolution, norm), nn.Identity()
    first, *others, _, _ = net.children()  # in the order of the forward pass; last come its mean and the classifier
    colour = first.get_submodule("conv")
    assert isinstance(colour, nn.Conv2d)
    colour.weight = nn.Parameter(colour.weight.sum(dim=1, keepdim=True), requires_grad=False)
    colour.in_channels = 1
    first.to(device, torch.float32)
    maps = nn.Sequential(*others).to(device, dtype)
    maps.to(memory_format=torch.channels_last)

    def features(films: torch.Tensor) -> torch.Tensor:
        x = first(network_input(films)).to(dtype, memory_format=torch.channels_last)
        pooled: torch.Tensor = maps(x).float().mean(dim=(2, 3))
        return pooled

    return features


def network_input(films: torch.Tensor) -> torch.Tensor:
    """uint8 ``[B, C, H, W]`` to float32 ``[B, C, 299, 299]`` in [-1, 1), bit for bit as torch-fidelity does it."""
    from torch_fidelity.interpolate_compat_tensorflow import interpolate_bilinear_2d_like_tensorflow1x

    x = films.float()
    if x.shape[-2:] != (INPUT_SIZE, INPUT_SIZE):  # else each pixel would be its own mean
        x = interpolate_bilinear_2d_like_tensorflow1x(x, (INPUT_SIZE, INPUT_SIZE), align_corners=False)
    return (x - 128) / 128
