"""Features of TorchXRayVision's DenseNet-121, which was trained to name findings on chest films.

Cohen et al., "TorchXRayVision: A library of chest X-ray datasets and models", MIDL 2022; weights
``densenet121-res224-all``. Its training sets include NIH ChestX-ray14, RSNA, PadChest, CheXpert and MIMIC: films
of those collections are not new to it. The library is an optional dependency, the extra ``xrv``.
"""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import io
import warnings
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import ClassVar

import torch
from torch.nn import functional as F

from cxrbench.contracts import WeightsUnavailable
from cxrbench.features.pretrained import Network, PretrainedNet

WEIGHTS_URL = (
    "https://github.com/mlmed/torchxrayvision/releases/download/v1/"
    "nih-pc-chex-mimic_ch-google-openi-kaggle-densenet121-d121-tw-lr001-rot45-tr15-sc15-seed0-best.pt"
)
LIBRARY = "torchxrayvision"
INPUT_SIZE = 224
LARGEST = 1024.0  # the network was trained on greys from -1024 to 1024


@dataclass
class XRVDenseNet(PretrainedNet):
    """The 1,024 average-pooled channels before the classifier.

    The published file is a whole pickled module, which no safe reader takes. It is read once its sha256 is found
    to be the known one, from the very bytes that were hashed; only its tensors are kept.
    """

    url: str = WEIGHTS_URL
    sha256_prefix: str = "56524913dd16a906422e8d8b66a7a5c46be1d82eb7ac012d8103776f1aa68899"

    name: ClassVar[str] = "xrv-densenet121"
    dim: ClassVar[int] = 1024
    fd_label: ClassVar[str] = "FD-xrv-densenet121"
    kd_label: ClassVar[str] = "KID-xrv-densenet121"
    resize: ClassVar[str] = "bilinear, antialias, to 224 px"

    def weights_file(self) -> Path:
        """As any extractor's.

        Raises:
            UsageError: ``$CXRBENCH_WEIGHTS`` names something that does not exist.
            WeightsUnavailable: the library is not installed; or the weights are another file, or cannot be had.
        """
        if not installed():
            raise WeightsUnavailable("torchxrayvision is not installed: pip install 'cxrbench[xrv]'")
        return super().weights_file()

    def network(self, weights: Path, device: str) -> Network:
        """The library's network with the published tensors.

        Raises:
            WeightsUnavailable: the file was exchanged after it had been checked.
        """
        library = _library()
        content = weights.read_bytes()
        if not hashlib.sha256(content).hexdigest().startswith(self.sha256_prefix):
            raise WeightsUnavailable(f"{weights} was exchanged while it was read; replace it by {self.url}")
        published = torch.load(io.BytesIO(content), map_location="cpu", weights_only=False)
        net = library.models.DenseNet()
        net.load_state_dict(published.state_dict())
        net = net.to(device).eval()
        return lambda films: pooled(net.features(network_input(films)))


def installed() -> bool:
    """Is the library there?"""
    return importlib.util.find_spec(LIBRARY) is not None


def network_input(films: torch.Tensor) -> torch.Tensor:
    """uint8 ``[B, 1, H, W]`` to float32 ``[B, 1, 224, 224]`` from -1024 to 1024."""
    x = films.float() / 255 * (2 * LARGEST) - LARGEST
    if x.shape[-2:] != (INPUT_SIZE, INPUT_SIZE):
        x = F.interpolate(x, (INPUT_SIZE, INPUT_SIZE), mode="bilinear", antialias=True, align_corners=False)
    return x


def pooled(maps: torch.Tensor) -> torch.Tensor:
    """``[B, C, H, W]`` after the last batch norm to what the classifier sees, ``[B, C]``."""
    return maps.relu().mean(dim=(2, 3))


def _library() -> ModuleType:
    with warnings.catch_warnings():  # importing it silences every warning of the process
        return importlib.import_module(LIBRARY)
