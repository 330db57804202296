"""Distances between two sets of features."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from cxrbench.contracts import Features, Scores

MINIMUM_FILMS = 4  # fewer films per side have no covariance and no KID subset worth the name


def frechet_distance(generated: Features, reference: Features) -> float:
    """Frechet distance of the two Gaussians with the sets' means and covariances.

    Heusel et al. (NeurIPS 2017), equation 6: ``|m1 - m2|^2 + tr(S1 + S2 - 2 (S1 S2)^(1/2))``. With
    ``X``, ``Y`` the centred sets (n1 and n2 rows), the trace of the root is the nuclear norm of
    ``X Y^T / sqrt((n1 - 1)(n2 - 1))``, an n1 x n2 matrix: exact, and far cheaper than the root of a D x D
    product when there are fewer films than dimensions. Above that, the eigenvalues of the product are used,
    as torch-fidelity does.

    Args:
        generated, reference: float ``[N, D]`` and ``[M, D]``; computed in float64.

    Raises:
        ValueError: different D, fewer than 2 rows, or a value that is not finite.
    """
    x, y = _checked(generated, reference)
    mean_x, mean_y = x.mean(axis=0), y.mean(axis=0)
    x, y = x - mean_x, y - mean_y
    scale_x, scale_y = 1.0 / (len(x) - 1), 1.0 / (len(y) - 1)
    if max(len(x), len(y)) <= x.shape[1]:
        cross = np.linalg.svd(x @ y.T, compute_uv=False).sum() * np.sqrt(scale_x * scale_y)
    else:
        eigenvalues = np.linalg.eigvals((x.T @ x) @ (y.T @ y)) * (scale_x * scale_y)
        cross = np.sqrt(eigenvalues.astype(np.complex128)).real.sum()
    spread = (x**2).sum() * scale_x + (y**2).sum() * scale_y
    return float(((mean_x - mean_y) ** 2).sum() + spread - 2.0 * cross)


def kernel_distance(generated: Features, reference: Features, subsets: int, seed: int) -> tuple[float, float]:
    """Kernel distance (unbiased MMD^2, cubic kernel) by torch-fidelity's own function.

    Binkowski et al., "Demystifying MMD GANs" (ICLR 2018), section 4. Averaged over random subsets of half
    the films: subsets as large as the set would all be the same one and hide the spread.

    Returns:
        Mean and standard deviation over the subsets.

    Raises:
        ValueError: as ``frechet_distance``; or fewer than 4 rows.
    """
    import torch
    from torch_fidelity.metric_kid import (
        KEY_METRIC_KID_MEAN,
        KEY_METRIC_KID_STD,
        kid_features_to_metric,
    )

    x, y = _checked(generated, reference)
    if min(len(x), len(y)) < MINIMUM_FILMS:
        raise ValueError(f"KID needs at least {MINIMUM_FILMS} films per side, got {len(x)} and {len(y)}")
    result = kid_features_to_metric(
        torch.from_numpy(x),
        torch.from_numpy(y),
        kid_subsets=subsets,
        kid_subset_size=min(len(x), len(y)) // 2,
        rng_seed=seed,
        verbose=False,
    )
    return float(result[KEY_METRIC_KID_MEAN]), float(result[KEY_METRIC_KID_STD])


@dataclass
class Frechet:
    """``fid``: the Frechet distance; lower is better."""

    higher_is_better: ClassVar[bool] = False

    def __call__(self, generated: Features, reference: Features) -> Scores:
        return {"fid": frechet_distance(generated, reference)}


@dataclass
class Kernel:
    """``kid_mean`` and ``kid_std``; lower is better, and may be slightly negative (it is unbiased)."""

    subsets: int = 50
    seed: int = 0

    higher_is_better: ClassVar[bool] = False

    def __call__(self, generated: Features, reference: Features) -> Scores:
        mean, std = kernel_distance(generated, reference, self.subsets, self.seed)
        return {"kid_mean": mean, "kid_std": std}


def _checked(generated: Features, reference: Features) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    x, y = np.asarray(generated, dtype=np.float64), np.asarray(reference, dtype=np.float64)
    if x.ndim != 2 or y.ndim != 2 or x.shape[1] != y.shape[1]:
        raise ValueError(f"features must be [N, D] and [M, D], got {x.shape} and {y.shape}")
    if min(len(x), len(y)) < 2:
        raise ValueError(f"a covariance needs at least 2 films per side, got {len(x)} and {len(y)}")
    if not (np.isfinite(x).all() and np.isfinite(y).all()):
        raise ValueError("features hold NaN or infinity")
    return x, y
