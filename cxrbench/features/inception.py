"""torch-fidelity's InceptionV3, the only features whose Frechet distance may be called FID.

The weights (``weights-inception-2015-12-05``) are a port of the network of Heusel et al., "GANs Trained by a
Two Time-Scale Update Rule", NeurIPS 2017. The network is torch-fidelity's own; what is the same function in less time
is done to it first (``inception_net``).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from cxrbench.features.pretrained import Network, PretrainedNet
from cxrbench.features.weights import weights_digest

WEIGHTS_URL = (
    "https://github.com/toshas/torch-fidelity/releases/download/v0.2.0/weights-inception-2015-12-05-6726825d.pth"
)


@dataclass
class Inception(PretrainedNet):
    """The 2,048 features before the classifier.

    torch-fidelity unpickles the weights, which can run code: the sha256 of the whole file is known, and nothing
    else is handed to it.

    Args:
        precision: ``float32``; or ``bfloat16``, in which all convolutions but the first are computed. That is faster
            where the hardware has it, but moves FID by more than 1e-3 of itself: see ``bench/feature_speed.py``.
    """

    url: str = WEIGHTS_URL
    sha256_prefix: str = "6726825d0af5f729cebd5821db510b11b1cfad8faad88a03f1befd49fb9129b2"
    precision: str = "float32"

    name: ClassVar[str] = "inception"
    dim: ClassVar[int] = 2048
    fd_label: ClassVar[str] = "FID"
    kd_label: ClassVar[str] = "KID"
    resize: ClassVar[str] = "bilinear as in TensorFlow 1, no antialias, to 299 px"

    def network(self, weights: Path, device: str) -> Network:
        """torch-fidelity's network; the films are resized and scaled as it does.

        Raises:
            UsageError: an unknown ``precision``.
        """
        from cxrbench.features.inception_net import read_network  # with torch, which a plan needs not

        return read_network(weights, weights_digest(weights), device, self.precision)
