"""EfficientNet-Lite0 itself: Tan & Le, "EfficientNet" (ICML 2019), section 4, in its "Lite" variant."""

from __future__ import annotations

import functools
from pathlib import Path

import torch
from torch import nn
from torch.nn import functional as F
from torch.nn.utils.fusion import fuse_conv_bn_eval

from cxrbench.contracts import WeightsUnavailable

# One row per stage: blocks, kernel, stride of the first block, expansion, output channels.
STAGES = (
    (1, 3, 1, 1, 16),
    (2, 3, 2, 6, 24),
    (2, 5, 2, 6, 40),
    (3, 3, 2, 6, 80),
    (3, 5, 1, 6, 112),
    (4, 5, 2, 6, 192),
    (1, 3, 1, 6, 320),
)
INPUT_SIZE = 224


def network_input(pixels: torch.Tensor) -> torch.Tensor:
    """uint8 ``[B, 1 or 3, H, W]`` to float32 RGB ``[B, 3, 224, 224]``, scaled as ``(x - 127) / 128``."""
    x = pixels.float()
    if x.shape[-2:] != (INPUT_SIZE, INPUT_SIZE):
        x = F.interpolate(x, (INPUT_SIZE, INPUT_SIZE), mode="bilinear", antialias=True, align_corners=False)
    x = (x - 127.0) / 128.0
    return x.expand(-1, 3, -1, -1).contiguous(memory_format=torch.channels_last)


class _SamePad(nn.Module):
    """TensorFlow's SAME padding: the odd pixel goes to the right and the bottom."""

    def __init__(self, kernel: int, stride: int) -> None:
        super().__init__()
        self.kernel, self.stride = kernel, stride

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        pads = [
            max((-(-side // self.stride) - 1) * self.stride + self.kernel - side, 0)
            for side in (x.shape[-1], x.shape[-2])
        ]
        return F.pad(x, (pads[0] // 2, pads[0] - pads[0] // 2, pads[1] // 2, pads[1] - pads[1] // 2))


def _conv(c_in: int, c_out: int, kernel: int, stride: int = 1, groups: int = 1, act: bool = True) -> nn.Sequential:
    same = (kernel - 1) // 2 if stride == 1 else 0
    layers: list[nn.Module] = [] if stride == 1 else [_SamePad(kernel, stride)]
    layers += [
        nn.Conv2d(c_in, c_out, kernel, stride, same, groups=groups, bias=False),
        nn.BatchNorm2d(c_out, eps=1e-3),
    ]
    return nn.Sequential(*layers, *([nn.ReLU6(inplace=True)] if act else []))


class _Block(nn.Module):
    """Inverted residual: expand, depthwise, project."""

    def __init__(self, c_in: int, c_out: int, kernel: int, stride: int, expansion: int) -> None:
        super().__init__()
        wide = c_in * expansion
        expand = [_conv(c_in, wide, 1)] if expansion > 1 else []
        self.path = nn.Sequential(
            *expand, _conv(wide, wide, kernel, stride, groups=wide), _conv(wide, c_out, 1, act=False)
        )
        self.residual = stride == 1 and c_in == c_out

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.path(x)
        return out + x if self.residual else out


def build_network(weights: Path) -> nn.Sequential:
    """The whole classifier (children ``features`` and ``head``) in eval mode, with the ImageNet weights.

    Raises:
        WeightsUnavailable: the file holds those of another net.
    """
    layers: list[nn.Module] = [_conv(3, 32, 3, 2)]
    channels = 32
    for blocks, kernel, stride, expansion, out in STAGES:
        for number in range(blocks):
            layers.append(_Block(channels, out, kernel, stride if number == 0 else 1, expansion))
            channels = out
    layers.append(_conv(channels, 1280, 1))
    network = nn.Sequential()
    network.add_module("features", nn.Sequential(*layers))
    network.add_module("head", nn.Linear(1280, 1000))
    # Both list their tensors from input to output, so they pair up in order; shapes are checked on load.
    stored = torch.load(weights, map_location="cpu", weights_only=True)
    own = network.state_dict()
    if len(own) != len(stored):
        raise WeightsUnavailable(f"lite0: {weights} holds {len(stored)} tensors, expected {len(own)}")
    network.load_state_dict(dict(zip(own, stored.values(), strict=True)))
    return network.eval()


@functools.cache
def folded_features(weights: Path) -> nn.Module:
    """The feature layers with batch norms and paddings folded into the convolutions (same function, 1/2 faster)."""
    features = build_network(weights).get_submodule("features")
    for module in features.modules():
        if not isinstance(module, nn.Sequential):
            continue
        for index, layer in enumerate(module):
            if isinstance(layer, nn.BatchNorm2d):
                convolution = module[index - 1]
                assert isinstance(convolution, nn.Conv2d)
                module[index - 1] = fuse_conv_bn_eval(convolution, layer)
                module[index] = nn.Identity()
        if isinstance(module[0], _SamePad):
            module[0], module[1] = nn.Identity(), _without_pad(module[1])
    features.to(memory_format=torch.channels_last)
    return features


def _without_pad(convolution: nn.Module) -> nn.Conv2d:
    """The convolution of an even side at stride 2 that needs no ``_SamePad`` before it.

    A kernel with a zero row and column in front, padded alike on both sides, reaches one pixel further to the
    right and the bottom, as SAME padding does; copying every map into a padded one takes a sixth of the time.
    """
    assert isinstance(convolution, nn.Conv2d)
    assert convolution.bias is not None
    kernel = convolution.kernel_size[0]
    wider = nn.Conv2d(
        convolution.in_channels,
        convolution.out_channels,
        kernel + 1,
        stride=2,
        padding=(kernel - 1) // 2,
        groups=convolution.groups,
    )
    wider.weight = nn.Parameter(F.pad(convolution.weight, (1, 0, 1, 0)))
    wider.bias = convolution.bias
    return wider
