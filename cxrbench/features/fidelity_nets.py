"""torch-fidelity's other networks: VGG16 and CLIP, as second opinions beside FID.

Their distances are printed under their own names. VGG16 (Simonyan & Zisserman, ICLR 2015) is torch-fidelity's
default for precision and recall (Kynkaanniemi et al., NeurIPS 2019); CLIP (Radford et al., ICML 2021) was trained
on more than ImageNet's classes, which Kynkaanniemi et al. ("The Role of ImageNet Classes in FID", ICLR 2023)
advise. Its DINOv2 runs code from the net through torch.hub; ``dinov2.py`` is ours.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import torch

from cxrbench.features.pretrained import Network, PretrainedNet, in_colour

VGG16_URL = "https://download.pytorch.org/models/vgg16-397923af.pth"
CLIP_SHA256 = "40d365715913c9da98579312b702a82c18be219cc2a73407c4526f58eba950af"
CLIP_URL = f"https://openaipublic.azureedge.net/clip/models/{CLIP_SHA256}/ViT-B-32.pt"


@dataclass
class VGG16(PretrainedNet):
    """The 4,096 features of the second fully connected layer, after its ReLU."""

    url: str = VGG16_URL
    sha256_prefix: str = "397923af8e79cdbb6a7127f12361acd7a2f83e06b05044ddf496e83de57a5bf0"

    name: ClassVar[str] = "vgg16"
    dim: ClassVar[int] = 4096
    fd_label: ClassVar[str] = "FD-vgg16"
    kd_label: ClassVar[str] = "KID-vgg16"
    resize: ClassVar[str] = "bilinear as in TensorFlow 1, no antialias, to 224 px"

    def network(self, weights: Path, device: str) -> Network:
        """torch-fidelity's network; it resizes and scales the films itself."""
        from torch_fidelity.feature_extractor_vgg16 import FeatureExtractorVGG16

        net = FeatureExtractorVGG16("vgg16", ["fc2_relu"], feature_extractor_weights_path=str(weights)).to(device)
        net.to(memory_format=torch.channels_last)  # a third off the time on a CPU
        return lambda films: net(in_colour(films))[0]


@dataclass
class ClipViTB32(PretrainedNet):
    """The 512 numbers by which CLIP (vision transformer B/32) compares a picture with a sentence."""

    url: str = CLIP_URL
    sha256_prefix: str = CLIP_SHA256

    name: ClassVar[str] = "clip-vit-b-32"
    dim: ClassVar[int] = 512
    fd_label: ClassVar[str] = "FD-clip-vit-b-32"
    kd_label: ClassVar[str] = "KID-clip-vit-b-32"
    resize: ClassVar[str] = "bilinear as in TensorFlow 1, no antialias, to 224 px"

    @property
    def filename(self) -> str:
        """What torch-fidelity calls the file in torch's hub folder."""
        return f"clip-vit-b-32-{CLIP_SHA256}.pt"

    def network(self, weights: Path, device: str) -> Network:
        """torch-fidelity's network; it resizes and scales the films itself."""
        from torch_fidelity.feature_extractor_clip import FeatureExtractorCLIP

        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # torch's, of the TorchScript that the file is
            net = FeatureExtractorCLIP("clip-vit-b-32", ["clip"], feature_extractor_weights_path=str(weights))
        net = net.to(device)
        return lambda films: net(in_colour(films))[0]
