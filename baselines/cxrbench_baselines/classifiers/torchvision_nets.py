"""The nets of the published studies (Khalifa et al. 2020, Loey et al. 2020), as torchvision has them.

Grey films are shown three times, as the studies did. From scratch, or fine-tuned from ImageNet.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar
from urllib.error import URLError

import torch
import torchvision
from torch import Tensor, nn

from cxrbench.errors import UsageError
from cxrbench.hashing import file_sha256
from cxrbench.registry import CLASSIFIERS
from cxrbench_baselines.classifiers.net import NetClassifier

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


@dataclass
class TorchvisionNet(NetClassifier):
    """Args:
    pretrained: empty (from scratch), ``imagenet`` (torchvision's weights, fetched once into torch's hub
        folder) or the path of a file with the same state dict.
    """

    rate: float = 5e-4
    pretrained: str = ""

    architecture: ClassVar[str] = ""
    smallest: ClassVar[int] = 32
    options: ClassVar[dict[str, Any]] = {}

    def preflight(self, size: int) -> dict[str, str]:
        """Raises UsageError where the films are too small or the weights cannot be had."""
        if size < self.smallest:
            raise UsageError(
                f"{self.architecture} needs films of at least {self.smallest} px and this tier has {size}; "
                "choose a larger tier"
            )
        return {"weights": file_sha256(self._weights_file())} if self.pretrained else {}

    def build(self, classes: int, size: int) -> nn.Module:
        net = torchvision.models.get_model(self.architecture, **self.options)
        if self.pretrained:
            stored = torch.load(self._weights_file(), map_location="cpu", weights_only=True)
            own = net.state_dict()
            missing = [key for key in own if key not in stored or stored[key].shape != own[key].shape]
            if missing:
                raise UsageError(f"{self.pretrained} is no {self.architecture}: {missing[0]} does not fit")
            net.load_state_dict({key: stored[key] for key in own})
        replace_head(net, classes)
        return nn.Sequential(GreyToImagenet(), net)

    def _weights_file(self) -> Path:
        if self.pretrained != "imagenet":
            path = Path(self.pretrained)
            if not path.is_file():
                raise UsageError(f"{self.architecture}: weights file {path} does not exist")
            return path
        url = torchvision.models.get_model_weights(self.architecture).DEFAULT.url
        path = Path(torch.hub.get_dir()) / "checkpoints" / url.rpartition("/")[2]
        if not path.is_file():
            path.parent.mkdir(parents=True, exist_ok=True)
            prefix = path.stem.rpartition("-")[2]  # torchvision's files are named by their sha256
            try:
                torch.hub.download_url_to_file(url, str(path), hash_prefix=prefix, progress=False)
            except (URLError, OSError, RuntimeError) as error:
                raise UsageError(
                    f"{self.architecture}: ImageNet weights cannot be fetched "
                    f"({getattr(error, 'reason', error)}); download {url} and pass --pretrained FILE"
                ) from None
        return path


@CLASSIFIERS.register("resnet18")
@dataclass
class ResNet18(TorchvisionNet):
    """He et al., "Deep residual learning" (CVPR 2016)."""

    architecture: ClassVar[str] = "resnet18"


@CLASSIFIERS.register("squeezenet1_1")
@dataclass
class SqueezeNet(TorchvisionNet):
    """Iandola et al., "SqueezeNet" (2016)."""

    architecture: ClassVar[str] = "squeezenet1_1"


@CLASSIFIERS.register("alexnet")
@dataclass
class AlexNet(TorchvisionNet):
    """Krizhevsky et al. (NeurIPS 2012)."""

    rate: float = 1e-4

    architecture: ClassVar[str] = "alexnet"
    smallest: ClassVar[int] = 64


@CLASSIFIERS.register("googlenet")
@dataclass
class GoogLeNet(TorchvisionNet):
    """Szegedy et al. (CVPR 2015), without the auxiliary heads."""

    architecture: ClassVar[str] = "googlenet"
    options: ClassVar[dict[str, Any]] = {"aux_logits": False, "init_weights": False}


class GreyToImagenet(nn.Module):
    """Films ``[B, 1, H, W]`` in [-1, 1] to three equal channels with ImageNet's mean and spread."""

    mean: Tensor
    std: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor(IMAGENET_MEAN)[:, None, None], persistent=False)
        self.register_buffer("std", torch.tensor(IMAGENET_STD)[:, None, None], persistent=False)

    def forward(self, films: Tensor) -> Tensor:
        rgb = ((films + 1.0) / 2.0 - self.mean) / self.std
        return rgb.contiguous(memory_format=torch.channels_last)


def replace_head(net: nn.Module, classes: int) -> None:
    """Put a fresh last layer of ``classes`` outputs in place of ImageNet's thousand."""
    if isinstance(net, torchvision.models.SqueezeNet):
        net.classifier[1] = nn.Conv2d(512, classes, kernel_size=1)
        net.num_classes = classes
    elif isinstance(net, torchvision.models.AlexNet):
        net.classifier[6] = nn.Linear(4096, classes)
    elif isinstance(net, torchvision.models.ResNet | torchvision.models.GoogLeNet):
        net.fc = nn.Linear(net.fc.in_features, classes)
    else:
        raise TypeError(f"do not know the last layer of {type(net).__name__}")
