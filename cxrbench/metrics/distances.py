"""Distances between two sets of features: exact, fast enough to be resampled, each with its uncertainty."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from cxrbench.contracts import Features, Scores
from cxrbench.metrics.sets import COVERAGE, Estimate, centred_interval, check_sets

MINIMUM_FILMS = 4  # fewer films per side have no covariance worth the name, and no jackknife of KID
LEAST_INFINITY = 2  # films per side and per dimension; below that the distance is no straight line in 1/n
DRAWS = 10  # of nested subsets, for the distance at infinity
DISTINCT = 1 - math.exp(-1)  # the share of the films that a bootstrap sample holds

Floats = NDArray[np.float64]


def frechet_distance(generated: Features, reference: Features) -> float:
    """Frechet distance of the two Gaussians with the sets' means and covariances.

    Heusel et al. (NeurIPS 2017), equation 6: ``|m1 - m2|^2 + tr(S1 + S2 - 2 (S1 S2)^(1/2))``. With
    ``X``, ``Y`` the centred sets (n1 and n2 rows), the trace of the root is the nuclear norm of
    ``X Y^T / sqrt((n1 - 1)(n2 - 1))``. A side with more films than dimensions enters by the R of its
    QR decomposition, which changes no singular value. So no covariance is formed, no condition number is
    squared, and the matrix has at most min(n, D) rows and columns.

    Args:
        generated, reference: float ``[N, D]`` and ``[M, D]``; computed in float64.

    Returns:
        The distance, >= 0: what rounding makes negative (sets that are the same) is 0.

    Raises:
        ValueError: different D, fewer than 2 rows, or a value that is not finite.
    """
    return max(0.0, _frechet(*check_sets(generated, reference)))


def frechet_interval(generated: Features, reference: Features, resamples: int = 200, seed: int = 0) -> Estimate:
    """The Frechet distance with the spread that the choice of films gives it (bootstrap over both sides).

    A resample is a vector of whole-number weights per side, so the features are multiplied once: a film that
    was not drawn leaves its row of ``X Y^T``, the others are scaled by the root of their weight and centred by
    the weighted means. With fewer dimensions than drawn films the weighted rows are reduced as in
    ``frechet_distance`` instead. The interval is that of the distance at this n, bias and all: compare it only
    with distances at the same n. Where both sets have one distribution it is about twice as wide as it had to be,
    and may reach below 0.

    Args:
        generated, reference: as for ``frechet_distance``.
        resamples: bootstrap samples, at least 2.
        seed: of the bootstrap.

    Raises:
        ValueError: as ``frechet_distance``; fewer than 4 rows; or fewer than 2 resamples.
    """
    from threadpoolctl import threadpool_limits

    x, y = check_sets(generated, reference, MINIMUM_FILMS)
    n, m = len(x), len(y)
    weights_x, weights_y = _draw_weights((n, m), resamples, seed)
    value = max(0.0, _frechet(x, y))
    gap = x.mean(axis=0) - y.mean(axis=0)
    x, y = x - x.mean(axis=0), y - y.mean(axis=0)
    means_x, means_y = weights_x @ x / n, weights_y @ y / m
    spread = (weights_x @ (x**2).sum(axis=1) - n * (means_x**2).sum(axis=1)) / (n - 1)
    spread += (weights_y @ (y**2).sum(axis=1) - m * (means_y**2).sum(axis=1)) / (m - 1)
    product = x @ y.T if x.shape[1] >= DISTINCT * min(n, m) else None
    crosses = np.empty(resamples)
    with threadpool_limits(1):  # small matrices: more threads are no faster, and far slower on a busy machine
        for i, (w, v) in enumerate(zip(weights_x, weights_y, strict=True)):
            if product is None:
                crosses[i] = _nuclear_norm(_weighted_rows(x, w, means_x[i]), _weighted_rows(y, v, means_y[i]))
            else:
                crosses[i] = _singular_sum(_weighted_block(product, w, v))
    crosses /= np.sqrt((n - 1) * (m - 1))
    return centred_interval(value, ((gap + means_x - means_y) ** 2).sum(axis=1) + spread - 2 * crosses)


def frechet_infinity(generated: Features, reference: Features, seed: int = 0, points: int = 10) -> Estimate | None:
    """What the Frechet distance would be for endlessly many films.

    Chong & Forsyth (CVPR 2020): the distance at n films is to first order a straight line in 1/n, whose value at
    0 is the estimate. Here n runs from half of the films to all (evenly in 1/n) through nested random subsets,
    and the estimate is the mean over ``DRAWS`` draws of them. Like KID it may be negative.

    A distance at half of the films, drawn without replacement, varies about the one at all films as much as
    that varies about the truth (half-samples; McCarthy, Rev. Int. Stat. Inst. 1969), and the intercept inherits
    that: the interval is Student's t times the standard deviation over draws. Seen on Gaussians, it is 1.5 to 2
    times as wide as it had to be.

    The line is straight only where there are more films than dimensions. For two sets of one Gaussian (variances
    equal, or falling as 1/i; D = 64 to 1280) the estimate is 3 to 8 % of ``tr(S1 + S2)`` too high at n = D, and
    within its noise of 0 from n = 2 D on; hence None below that. Not covered: heavy tails. With Student's t of 8
    degrees of freedom all is well at D = 64, but at D = 1280 the interval misses 0: 14 % of the distance at
    n = 2 D is left, and 9 % at n = 4 D.

    Args:
        generated, reference: as for ``frechet_distance``; the larger set is cut to the size of the other.
        seed: of the subsets.
        points: sizes of subset, at least 2.

    Returns:
        The estimate, or None for fewer than ``LEAST_INFINITY * D`` films (and 16) on one side.

    Raises:
        ValueError: as ``frechet_distance``; or fewer than 2 points.
    """
    from scipy.special import stdtrit
    from threadpoolctl import threadpool_limits

    x, y = check_sets(generated, reference)
    if points < 2:
        raise ValueError(f"a line needs at least 2 points, got {points}")
    n = min(len(x), len(y))
    if n < max(LEAST_INFINITY * x.shape[1], 4 * MINIMUM_FILMS):
        return None
    rng = np.random.default_rng(seed)
    sizes = np.unique(np.round(n / np.linspace(1, 2, points)).astype(int))
    intercept = np.linalg.pinv(np.stack([np.ones(len(sizes)), 1 / sizes], axis=1))[0]
    draws = []
    with threadpool_limits(1):
        for _ in range(DRAWS):
            rows_x, rows_y = rng.permutation(len(x)), rng.permutation(len(y))
            draws.append(intercept @ [_frechet(x[rows_x[:size]], y[rows_y[:size]]) for size in sizes])
    value, half = float(np.mean(draws)), float(stdtrit(DRAWS - 1, (1 + COVERAGE) / 2) * np.std(draws, ddof=1))
    return Estimate(value, value - half, value + half)


def kernel_distance(generated: Features, reference: Features) -> tuple[float, float]:
    """Kernel distance: the unbiased estimate of MMD^2 from all pairs, with its standard error.

    Binkowski et al., "Demystifying MMD GANs" (ICLR 2018), section 4, with the kernel ``(x.y / D + 1)^3``, as
    the full U-statistic (Gretton et al., JMLR 2012, equation 3) instead of a mean over random subsets, which
    has the same expectation and more noise. The standard error is the jackknife over the films of both sides
    (Arvesen, Ann. Math. Stat. 1969); leaving out film i changes the sums by its row only. Such an error is too
    large rather than too small (Efron & Stein, Ann. Stat. 1981), by about half where both sets have one distribution.

    Args:
        generated, reference: float ``[N, D]`` and ``[M, D]``; computed in float64.

    Returns:
        The distance, slightly negative at times, and its standard error.

    Raises:
        ValueError: different D, fewer than 4 rows, or a value that is not finite.
    """
    return _kernel_estimate(*_kernel_matrices(*check_sets(generated, reference, MINIMUM_FILMS)))


def kernel_interval(generated: Features, reference: Features, resamples: int = 200, seed: int = 0) -> Estimate:
    """The kernel distance with the spread that the choice of films gives it (bootstrap over both sides).

    Resamples are weights on the rows and columns of the three kernel matrices. Pairs of a film with itself are
    left out, also where it was drawn twice: a side is ``sum_(i != j) w_i w_j k_ij / (n^2 - sum_i w_i^2)``.

    Args:
        generated, reference: as for ``kernel_distance``.
        resamples: bootstrap samples, at least 2.
        seed: of the bootstrap.

    Raises:
        ValueError: as ``kernel_distance``; or fewer than 2 resamples.
    """
    own_x, own_y, between = _kernel_matrices(*check_sets(generated, reference, MINIMUM_FILMS))
    n, m = between.shape
    w, v = _draw_weights((n, m), resamples, seed)
    resampled = ((w @ own_x) * w).sum(axis=1) / (n**2 - (w**2).sum(axis=1))
    resampled += ((v @ own_y) * v).sum(axis=1) / (m**2 - (v**2).sum(axis=1))
    resampled -= 2 * ((w @ between) * v).sum(axis=1) / (n * m)
    return centred_interval(_kernel_estimate(own_x, own_y, between)[0], resampled)


@dataclass
class Frechet:
    """``fid``: the Frechet distance; lower is better."""

    higher_is_better: ClassVar[bool] = False

    def __call__(self, generated: Features, reference: Features) -> Scores:
        return {"fid": frechet_distance(generated, reference)}


@dataclass
class Kernel:
    """``kid_mean`` and its standard error ``kid_std``; lower is better, slightly negative at times (unbiased)."""

    higher_is_better: ClassVar[bool] = False

    def __call__(self, generated: Features, reference: Features) -> Scores:
        value, error = kernel_distance(generated, reference)
        return {"kid_mean": value, "kid_std": error}


def _frechet(x: Floats, y: Floats) -> float:
    """The Frechet distance, not clipped at 0."""
    mean_x, mean_y = x.mean(axis=0), y.mean(axis=0)
    x, y = x - mean_x, y - mean_y
    free_x, free_y = len(x) - 1, len(y) - 1
    spread = (x**2).sum() / free_x + (y**2).sum() / free_y
    return float(((mean_x - mean_y) ** 2).sum() + spread - 2 * _nuclear_norm(x, y) / math.sqrt(free_x * free_y))


def _nuclear_norm(x: Floats, y: Floats) -> float:
    """Sum of the singular values of ``x y^T``."""
    return _singular_sum(_reduced(x) @ _reduced(y).T)


def _reduced(x: Floats) -> Floats:
    """At most D rows with the same ``x^T x``."""
    return np.asarray(np.linalg.qr(x, mode="r")) if len(x) > x.shape[1] else x


def _singular_sum(matrix: Floats) -> float:
    return float(np.linalg.svd(matrix, compute_uv=False).sum())


def _draw_weights(films: tuple[int, int], resamples: int, seed: int) -> tuple[Floats, Floats]:
    """How often each film of either side is drawn: ``[resamples, films]``, rows sum to ``films``.

    A row with one film only has neither a spread nor a pair and is drawn again; it matters below 6 films.
    """
    if resamples < 2:
        raise ValueError(f"an interval needs at least 2 resamples, got {resamples}")
    rng = np.random.default_rng(seed)
    sides = []
    for n in films:
        weights = rng.multinomial(n, np.full(n, 1 / n), size=resamples)
        while (alone := (weights == n).any(axis=1)).any():
            weights[alone] = rng.multinomial(n, np.full(n, 1 / n), size=int(alone.sum()))
        sides.append(weights.astype(np.float64))
    return sides[0], sides[1]


def _weighted_rows(x: Floats, weights: Floats, mean: Floats) -> Floats:
    """The drawn films of ``x``, centred, times the root of their weights: ``[drawn, D]``."""
    drawn = np.flatnonzero(weights)
    rows: Floats = (x[drawn] - mean) * np.sqrt(weights[drawn])[:, None]
    return rows


def _weighted_block(product: Floats, weights_x: Floats, weights_y: Floats) -> Floats:
    """``_weighted_rows`` of x times those of y, transposed, from ``product`` = x y^T: ``[drawn x, drawn y]``."""
    rows, columns = np.flatnonzero(weights_x), np.flatnonzero(weights_y)
    w, v = weights_x[rows], weights_y[columns]
    block: Floats = product[np.ix_(rows, columns)]
    block -= w @ block / w.sum()
    block -= (block @ v / v.sum())[:, None]
    block *= np.sqrt(w)[:, None]
    block *= np.sqrt(v)
    return block


def _kernel_matrices(x: Floats, y: Floats) -> tuple[Floats, Floats, Floats]:
    """``(x.y / D + 1)^3`` within x and within y (zero on the diagonal) and between them."""
    own_x, own_y, between = ((a @ b.T / x.shape[1] + 1) ** 3 for a, b in ((x, x), (y, y), (x, y)))
    np.fill_diagonal(own_x, 0.0)
    np.fill_diagonal(own_y, 0.0)
    return own_x, own_y, between


def _kernel_estimate(own_x: Floats, own_y: Floats, between: Floats) -> tuple[float, float]:
    """The U-statistic of ``_kernel_matrices`` and its jackknife standard error."""
    n, m = between.shape
    rows_x, rows_y, rows_xy, rows_yx = own_x.sum(axis=1), own_y.sum(axis=1), between.sum(axis=1), between.sum(axis=0)
    sum_x, sum_y, sum_xy = rows_x.sum(), rows_y.sum(), rows_xy.sum()
    mean_x, mean_y = sum_x / (n * (n - 1)), sum_y / (m * (m - 1))
    without_x = (sum_x - 2 * rows_x) / ((n - 1) * (n - 2)) + mean_y - 2 * (sum_xy - rows_xy) / ((n - 1) * m)
    without_y = mean_x + (sum_y - 2 * rows_y) / ((m - 1) * (m - 2)) - 2 * (sum_xy - rows_yx) / (n * (m - 1))
    error = math.sqrt((n - 1) * without_x.var() + (m - 1) * without_y.var())
    return float(mean_x + mean_y - 2 * sum_xy / (n * m)), error
