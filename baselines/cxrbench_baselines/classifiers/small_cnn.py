"""A small convolutional net that learns something in a few hundred steps on a few hundred films."""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn

from cxrbench.registry import CLASSIFIERS
from cxrbench_baselines.classifiers.net import NetClassifier


@CLASSIFIERS.register("small-cnn")
@dataclass
class SmallCNN(NetClassifier):
    """Four convolutions, batch norm, global average pooling.

    Args:
        width: channels of the first layer; doubled at every halving, at most 4 times.
    """

    width: int = 32

    def build(self, classes: int, size: int) -> nn.Module:
        layers: list[nn.Module] = []
        c_in = 1
        for level in range(4):
            c_out = self.width * 2 ** min(level, 2)
            stride = 2 if size >= 4 * 2**level else 1
            layers += [nn.Conv2d(c_in, c_out, 3, stride, 1, bias=False), nn.BatchNorm2d(c_out), nn.ReLU()]
            c_in = c_out
        return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(c_in, classes))
