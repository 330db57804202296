"""torch-fidelity's InceptionV3, the only features whose Frechet distance may be called FID.

Weights (``weights-inception-2015-12-05``, the port of the network of Heusel et al., "GANs Trained by a Two
Time-Scale Update Rule", NeurIPS 2017) are read from ``$CXRBENCH_WEIGHTS`` (the file, or a folder that
holds it), else fetched by torch-fidelity into torch's hub folder at first use.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar
from urllib.error import URLError

import numpy as np
import torch

from cxrbench.contracts import Features, Pixels, WeightsUnavailable, no_progress
from cxrbench.errors import UsageError
from cxrbench.hashing import file_sha256

WEIGHTS_URL = (
    "https://github.com/toshas/torch-fidelity/releases/download/v0.2.0/weights-inception-2015-12-05-6726825d.pth"
)
BATCH = 32


@dataclass
class Inception:
    """The 2,048 features before the classifier; torch-fidelity resizes to 299 px as TensorFlow 1 did.

    Args:
        url: where the weights are fetched from when no file is given.
        sha256_prefix: what the sha256 of the weights must begin with. torch-fidelity unpickles the file,
            which can run code, so nothing but the known file is handed to it.
    """

    url: str = WEIGHTS_URL
    sha256_prefix: str = "6726825d"

    name: ClassVar[str] = "inception"
    dim: ClassVar[int] = 2048
    fd_label: ClassVar[str] = "FID"
    kd_label: ClassVar[str] = "KID"

    def weights_sha256(self) -> str:
        """The sha256 of the weights in use.

        Raises:
            WeightsUnavailable: no file was given and none can be fetched.
        """
        path = self.weights_file()
        digest = file_sha256(path)
        if not digest.startswith(self.sha256_prefix):
            raise WeightsUnavailable(
                f"{path} is not the known InceptionV3 weights file: its sha256 {digest[:16]}... does not begin "
                f"with {self.sha256_prefix}; replace it"
            )
        return digest

    def weights_file(self) -> Path:
        """Find the weights, or fetch them once.

        Raises:
            UsageError: ``$CXRBENCH_WEIGHTS`` names nothing that exists.
            WeightsUnavailable: they cannot be fetched.
        """
        named = os.environ.get("CXRBENCH_WEIGHTS")
        if named:
            path = Path(named)
            path = path / Path(self.url).name if path.is_dir() else path
            if path.is_file():
                return path
            if Path(named).is_file() or not Path(named).exists():
                raise UsageError(f"$CXRBENCH_WEIGHTS names {named}, which does not exist")
        path = Path(torch.hub.get_dir()) / "checkpoints" / Path(self.url).name
        if not path.is_file():
            path.parent.mkdir(parents=True, exist_ok=True)
            try:
                torch.hub.download_url_to_file(self.url, str(path), hash_prefix=self.sha256_prefix, progress=False)
            except (URLError, OSError, RuntimeError) as error:
                reason = getattr(error, "reason", error)
                raise WeightsUnavailable(
                    f"InceptionV3 weights cannot be fetched ({reason}); set CXRBENCH_WEIGHTS to a local copy of "
                    f"{Path(self.url).name} to get FID"
                ) from None
        return path

    def extract(self, pixels: Pixels, device: str, progress: Callable[[int, int], None] = no_progress) -> Features:
        """uint8 ``[N, 1, H, W]`` to float32 ``[N, 2048]``."""
        from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

        self.weights_sha256()
        net = FeatureExtractorInceptionV3(
            "inception-v3-compat", ["2048"], feature_extractor_weights_path=str(self.weights_file())
        )
        net = net.to(device).eval()
        rows = []
        with torch.inference_mode():
            for start in range(0, len(pixels), BATCH):
                grey = torch.from_numpy(np.asarray(pixels[start : start + BATCH])).to(device)
                rows.append(net(grey.expand(-1, 3, -1, -1).contiguous())[0].float().cpu().numpy())
                progress(min(start + BATCH, len(pixels)), len(pixels))
        return np.concatenate(rows) if rows else np.empty((0, self.dim), np.float32)
