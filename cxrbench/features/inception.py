"""torch-fidelity's InceptionV3, the only features whose Frechet distance may be called FID.

The weights (``weights-inception-2015-12-05``) are a port of the network of Heusel et al., "GANs Trained by a
Two Time-Scale Update Rule", NeurIPS 2017.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from cxrbench.features.pretrained import Network, PretrainedNet, in_colour

WEIGHTS_URL = (
    "https://github.com/toshas/torch-fidelity/releases/download/v0.2.0/weights-inception-2015-12-05-6726825d.pth"
)


@dataclass
class Inception(PretrainedNet):
    """The 2,048 features before the classifier.

    torch-fidelity unpickles the weights, which can run code: the sha256 of the whole file is known, and nothing
    else is handed to it.
    """

    url: str = WEIGHTS_URL
    sha256_prefix: str = "6726825d0af5f729cebd5821db510b11b1cfad8faad88a03f1befd49fb9129b2"

    name: ClassVar[str] = "inception"
    dim: ClassVar[int] = 2048
    fd_label: ClassVar[str] = "FID"
    kd_label: ClassVar[str] = "KID"
    resize: ClassVar[str] = "bilinear as in TensorFlow 1, no antialias, to 299 px"

    def network(self, weights: Path, device: str) -> Network:
        """torch-fidelity's network; it resizes and scales the films itself."""
        from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

        net = FeatureExtractorInceptionV3(
            "inception-v3-compat", ["2048"], feature_extractor_weights_path=str(weights)
        ).to(device)
        return lambda films: net(in_colour(films))[0]
