"""Texture statistics as features: no network, no weights, every number with a name.

After the Frechet radiomic distance of Konz, Osuala et al. ("FRD: A versatile metric for comparing medical imaging
datasets", Medical Image Analysis 2026, arXiv 2412.01496), which found radiomic features nearer to readers' and
downstream judgement of medical images than ImageNet's. Not the same: whole films without masks, the measures of
``texture.py`` instead of pyradiomics', fixed scales instead of the reference set's, and no logarithm at the end;
so the distance is printed as ``FD-radio-texture``, and never as FRD.

The Frechet distance depends on scale, so each measure has a centre and a spread of its own, fixed below for all
films. They were measured once, by ``measure_scales``, on eight sets of 300 films: phantoms, and every 18th film of
the COVID-19 Radiography Database, at 32, 64, 128 and 224 pixels::

    from cxrbench.features.radio_texture import measure_scales
    from cxrbench.registry import DATASETS

    phantom = DATASETS.create("phantom", patients_per_class=100, max_films=1)
    real = DATASETS.create("radiography", root=ROOT)
    sets = [
        np.stack([source.read(film, size) for film in films[:300]])[:, None]
        for source, films in ((phantom, phantom.listing().films), (real, real.listing().films[::18]))
        for size in (32, 64, 128, 224)
    ]
    for name, (centre, spread) in measure_scales(sets).items():
        print(f'    "{name}": ({centre:.4g}, {spread:.4g}),')
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from cxrbench.contracts import Features, Pixels, no_progress
from cxrbench.features import texture
from cxrbench.hashing import canonical_hash

DEFINITION = 1  # raised when the same film comes to have other features
BATCH_PIXELS = 1 << 17  # films are measured as many at a time as have so many pixels, which fit in the cache

NAMES = (*texture.FIRST_ORDER_NAMES, *texture.CO_OCCURRENCE_NAMES, *texture.PATTERN_NAMES, *texture.EDGE_NAMES)

# Centre and spread of each measure, in the order of NAMES; how they were measured is said above.
SCALES: dict[str, tuple[float, float]] = {
    "mean": (125.8, 17.68),
    "sd": (61.37, 10.04),
    "skewness": (-0.4094, 0.2836),
    "kurtosis": (0.8018, 0.2264),
    "percentile/1": (6.619, 13.87),
    "percentile/10": (30.29, 27.66),
    "percentile/25": (79.99, 24.92),
    "percentile/50": (142.2, 22.22),
    "percentile/75": (172.5, 19.42),
    "percentile/90": (197.8, 19.42),
    "percentile/99": (224.4, 18.44),
    "entropy": (4.325, 0.2291),
    "uniformity": (0.06795, 0.01367),
    "contrast/1/mean": (1.832, 0.311),
    "dissimilarity/1/mean": (1.423, 0.2609),
    "homogeneity/1/mean": (0.6139, 0.04274),
    "energy/1/mean": (0.1568, 0.02751),
    "correlation/1/mean": (0.9241, 0.03093),
    "entropy/1/mean": (6.603, 0.4015),
    "contrast/1/range": (0.6771, 0.1556),
    "dissimilarity/1/range": (0.7397, 0.1653),
    "homogeneity/1/range": (0.1191, 0.02072),
    "energy/1/range": (0.02142, 0.00529),
    "correlation/1/range": (0.06201, 0.02317),
    "entropy/1/range": (0.518, 0.08356),
    "contrast/2/mean": (2.604, 0.3515),
    "dissimilarity/2/mean": (2.417, 0.4306),
    "homogeneity/2/mean": (0.4982, 0.04661),
    "energy/2/mean": (0.1349, 0.02625),
    "correlation/2/mean": (0.8156, 0.04893),
    "entropy/2/mean": (7.125, 0.4299),
    "contrast/2/range": (0.7836, 0.1788),
    "dissimilarity/2/range": (1.358, 0.3207),
    "homogeneity/2/range": (0.1482, 0.02552),
    "energy/2/range": (0.0266, 0.007575),
    "correlation/2/range": (0.1538, 0.04411),
    "entropy/2/range": (0.5912, 0.1033),
    "contrast/4/mean": (3.303, 0.3736),
    "dissimilarity/4/mean": (3.801, 0.6756),
    "homogeneity/4/mean": (0.3821, 0.04652),
    "energy/4/mean": (0.1134, 0.02383),
    "correlation/4/mean": (0.6403, 0.07064),
    "entropy/4/mean": (7.594, 0.446),
    "contrast/4/range": (0.8314, 0.1977),
    "dissimilarity/4/range": (2.159, 0.5158),
    "homogeneity/4/range": (0.1687, 0.03056),
    "energy/4/range": (0.03026, 0.01037),
    "correlation/4/range": (0.2901, 0.07283),
    "entropy/4/range": (0.6105, 0.1163),
    "pattern/1/0": (0.05001, 0.007751),
    "pattern/1/1": (0.06408, 0.00952),
    "pattern/1/2": (0.04695, 0.007279),
    "pattern/1/3": (0.1098, 0.01009),
    "pattern/1/4": (0.2422, 0.03521),
    "pattern/1/5": (0.1533, 0.01725),
    "pattern/1/6": (0.06415, 0.008759),
    "pattern/1/7": (0.0635, 0.009732),
    "pattern/1/8": (0.09898, 0.03476),
    "pattern/1/9": (0.107, 0.01513),
    "pattern/2/0": (0.05214, 0.009887),
    "pattern/2/1": (0.07194, 0.01118),
    "pattern/2/2": (0.05301, 0.007851),
    "pattern/2/3": (0.1041, 0.01382),
    "pattern/2/4": (0.2253, 0.03788),
    "pattern/2/5": (0.1315, 0.01737),
    "pattern/2/6": (0.06276, 0.009001),
    "pattern/2/7": (0.06613, 0.0107),
    "pattern/2/8": (0.07987, 0.02758),
    "pattern/2/9": (0.1533, 0.023),
    "gradient/1": (6.062, 0.4427),
    "laplacian/1": (6.459, 0.4713),
    "gradient/2": (6.805, 0.4376),
    "laplacian/2": (7.253, 0.4685),
    "gradient/4": (7.422, 0.4343),
    "laplacian/4": (8.027, 0.4597),
}


@dataclass
class RadioTexture:
    """75 measures: grey values, co-occurrence of levels, local binary patterns, edges; see ``texture.py``.

    A film of at least 12 pixels a side is measured at its own size, so sets of different sizes cannot be compared.
    """

    name: ClassVar[str] = "radio-texture"
    dim: ClassVar[int] = len(NAMES)
    fd_label: ClassVar[str] = "FD-radio-texture"
    kd_label: ClassVar[str] = "KID-radio-texture"
    resize: ClassVar[str] = "none: every film at its own size"

    def weights_sha256(self) -> str:
        """The sha256 of the definition: its number and the fixed scales (there are no weights)."""
        return canonical_hash({"definition": DEFINITION, "scales": [[name, *SCALES[name]] for name in NAMES]})

    def extract(self, pixels: Pixels, device: str, progress: Callable[[int, int], None] = no_progress) -> Features:
        """uint8 ``[N, 1, H, W]`` to float32 ``[N, 75]``: how many spreads each measure lies from its centre.

        Args:
            device: not used; counting is done on the CPU.

        Raises:
            ValueError: films of fewer than 12 pixels a side.
        """
        if min(pixels.shape[2:]) < texture.LEAST_SIDE:
            raise ValueError(f"radio-texture needs films of {texture.LEAST_SIDE} pixels a side, got {pixels.shape[2:]}")
        centre, spread = np.array([SCALES[name] for name in NAMES]).T
        rows = np.empty((len(pixels), self.dim), np.float32)
        batch = max(1, BATCH_PIXELS // (pixels.shape[2] * pixels.shape[3]))
        for start in range(0, len(pixels), batch):
            rows[start : start + batch] = (measures(pixels[start : start + batch]) - centre) / spread
            progress(min(start + batch, len(pixels)), len(pixels))
        return rows


def measures(pixels: Pixels) -> NDArray[np.float64]:
    """The measures in their own units: uint8 ``[N, 1, H, W]`` to float64 ``[N, 75]``, in the order of ``NAMES``."""
    films = np.ascontiguousarray(pixels[:, 0])
    parts = (texture.first_order, texture.co_occurrence, texture.binary_patterns, texture.edges)
    return np.concatenate([part(films) for part in parts], axis=1)


def measure_scales(sets: Sequence[Pixels]) -> dict[str, tuple[float, float]]:
    """Where the constants come from: the mean of the sets' means, and the root mean square of their deviations.

    Args:
        sets: uint8 ``[N, 1, H, W]`` each; one origin and one size per set, so that a measure's spread is that
            within a set, which is what a distance of two sets stands against.

    Returns:
        Name -> centre and spread.
    """
    measured = [measures(pixels) for pixels in sets]
    centre = np.mean([rows.mean(axis=0) for rows in measured], axis=0)
    spread = np.sqrt(np.mean([rows.var(axis=0) for rows in measured], axis=0))
    return {name: (float(c), float(s)) for name, c, s in zip(NAMES, centre, spread, strict=True)}
