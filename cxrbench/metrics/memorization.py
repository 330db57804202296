"""Does a generator copy the films it has learned from, or films it should never have seen?

Films are compared by ``appearance`` (see ``nearest``), in pixels and without a network. Real films that were held
out say how near to a training film a new film comes by itself: all chests look alike.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from cxrbench.contracts import Features
from cxrbench.metrics.nearest import Nearest, nearest, nearest_other
from cxrbench.metrics.sets import check_sets

QUANTILE = 0.01  # of new real films would be called copies
FLOOR = 0.02  # relighting and rounding to grey levels moves real films of 32 pixels by 0.008 or less
FEWEST_TESTED = 4  # films per side; with 3, no p-value lies below 0.05
FEWEST_CALLED = 20  # held-out films; with fewer, 5 % of new real films or more would be called copies
CELL_FEWEST = 20  # films per side in a cell
CELL_MEAN = 50  # films per side that a cell has on average, or more, so that few cells fall short
CELLS = 10  # at most


def copy_threshold(held_out_distances: NDArray[np.float64]) -> float:
    """The distance to a training film below which a film is called a copy of it.

    It is the 1st percentile of the distances at which real films that were held out lie from their nearest
    training films, so that 1 % of new real films would be called copies; but at least 0.02, so that an exact copy
    is called one even where held-out films are copies, too. With n < 100 held-out films it lies between the two
    smallest of their distances, and 1 / (n + 1) to 2 / (n + 1) of new real films would be called copies.

    Raises:
        ValueError: no distance, or one that is not finite.
    """
    if not held_out_distances.size or not np.isfinite(held_out_distances).all():
        raise ValueError("the distances of held-out films must be finite, and there must be some")
    return max(FLOOR, float(np.quantile(held_out_distances, QUANTILE)))


def held_out_copies(
    generated: Features, held_out: Features, held_out_mirrored: Features, threshold: float
) -> NDArray[np.bool_]:
    """Synthetic films that look like copies of validation or test films: a sign of leakage.

    Args:
        generated: float ``[N, D]``.
        held_out, held_out_mirrored: float ``[K, D]``, as for ``nearest``.
        threshold: of ``copy_threshold``. A film finds a near one more easily among many: where K is larger than
            the number of training films, more than 1 % of new real films would be called copies.

    Returns:
        bool ``[N]``.

    Raises:
        ValueError: as ``nearest``.
    """
    return nearest(generated, held_out, held_out_mirrored).distance < threshold


def measure_memorization(
    generated: Features, held_out: Features, train: Features, mirrored: Features, seed: int
) -> dict[str, float]:
    """How near to the training films synthetic films of one class lie, against real films that were held out.

    The average chest lies near to every film, so films that are blurred or too much alike move the first four keys
    the way copies do; ``copies`` moves far less. A key is left out where it cannot be computed:

    * ``nn_ratio``: median distance of synthetic films to their nearest training films over that of held-out
      films. About 1 for new films, 0 for copies. Left out where half of the held-out films are exact copies.
    * ``nn_p``: one-sided p-value (Mann-Whitney) of the claim that synthetic films lie nearer to training films than
      held-out films do. It takes films for independent; several films of a patient make it too small. From 4 films
      per side.
    * ``authpct``: percentage of authentic films, those farther from their nearest training film than that film is
      from its own nearest other (Alaa et al., "How Faithful is your Synthetic Data?", ICML 2022). 0 for copies; new
      real films reach about 70, not 100.
    * ``ct``: see ``data_copying``. Below -3: nearer than new films lie; above 3: farther. From 20 films per side.
    * ``copies``: share of synthetic films below ``copy_threshold``; ``copies_expected``: the same of the held-out
      films that the threshold was taken from, about 0.01 from 100 films on and 1 / n below. From 20 held-out films.

    Args:
        generated, held_out, train: float ``[N, D]``, ``[K, D]``, ``[M, D]`` of ``appearance``.
        mirrored: float ``[M, D]``, the training films' mirror images.
        seed: of the cells of ``ct``.

    Raises:
        ValueError: shapes that do not fit, fewer than 2 films in a set, or a value that is not finite.
    """
    from scipy.stats import mannwhitneyu

    for name, films in (("synthetic", generated), ("held-out", held_out), ("mirrored", mirrored)):
        try:
            check_sets(films, train)
        except ValueError as error:
            raise ValueError(f"{name} and training films: {error}") from error
    synthetic, real = nearest(generated, train, mirrored), nearest(held_out, train, mirrored)
    fewest = min(len(generated), len(held_out))
    scores = {}
    if (usual := float(np.median(real.distance))) > 0:
        scores["nn_ratio"] = float(np.median(synthetic.distance)) / usual
    if fewest >= FEWEST_TESTED:
        scores["nn_p"] = float(mannwhitneyu(synthetic.distance, real.distance, alternative="less").pvalue)
    crowding = nearest_other(train, mirrored).distance
    scores["authpct"] = 100 * float((synthetic.distance > crowding[synthetic.index]).mean())
    if (ct := data_copying(generated, held_out, train, synthetic, real, seed)) is not None:
        scores["ct"] = ct
    if len(held_out) >= FEWEST_CALLED:
        threshold = copy_threshold(real.distance)
        scores["copies"] = float((synthetic.distance < threshold).mean())
        scores["copies_expected"] = float((real.distance < threshold).mean())
    return scores


def data_copying(
    generated: Features, held_out: Features, train: Features, synthetic: Nearest, real: Nearest, seed: int
) -> float | None:
    """C_T of Meehan, Chaudhuri and Dasgupta, "A Non-Parametric Test to Detect Data-Copying in Generative Models"
    (AISTATS 2020): are synthetic films nearer to training films than new real films are?

    Space is cut into the k-means cells of the training films. In each, the Mann-Whitney U of synthetic against
    held-out distances is made a z-score; C_T is their mean, weighted by the share of held-out films. So a generator
    that copies some kinds of film and draws others badly does not come out even. Each z-score has standard
    deviation 1 where nothing is copied, the mean over k cells about 1 / sqrt(k). Ties are not corrected for: they
    only bring C_T nearer to 0. The authors' program looks for the nearest training film in a film's own cell; here
    it may lie in any, as a mirror image's may. They drop cells with few synthetic films, we those with few of
    either side.

    Args:
        generated, held_out, train: float ``[N, D]``, ``[K, D]``, ``[M, D]``.
        synthetic, real: ``nearest`` of the first two.
        seed: of k-means.

    Returns:
        C_T, or None where no cell has 20 films of each side.
    """
    from scipy.stats import mannwhitneyu
    from sklearn.cluster import KMeans

    cells = min(max(min(len(generated), len(held_out)) // CELL_MEAN, 1), CELLS, len(train))
    means = KMeans(cells, n_init=1, random_state=seed).fit(np.asarray(train, np.float32))
    ours, theirs = (means.predict(np.asarray(films, np.float32)) for films in (generated, held_out))
    scores, weights = [], []
    for cell in range(cells):
        near, usual = synthetic.distance[ours == cell], real.distance[theirs == cell]
        n, m = len(near), len(usual)
        if min(n, m) >= CELL_FEWEST:
            u = mannwhitneyu(near, usual).statistic  # pairs in which the synthetic film is the farther one
            scores.append((u - n * m / 2) / np.sqrt(n * m * (n + m + 1) / 12))
            weights.append(m)
    return float(np.average(scores, weights=weights)) if scores else None
