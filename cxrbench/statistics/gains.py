"""The gain of an arm over real films alone, and how uncertain it is with as few as two or three seeds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from cxrbench.metrics.sets import COVERAGE
from cxrbench.statistics.influence import ScoredRun
from cxrbench.statistics.intervals import Part, half_width, matching_df, two_sided_p

Seeds = TypeVar("Seeds", bound=tuple[int | None, ...])

NO_SEED = -1  # stands for the generator seed of an arm without a generator
FILM = "film"
NAN = float("nan")
TEST_TO_TRAIN = 1 / 3  # of the default split


@dataclass(frozen=True)
class PairedRuns:
    """Every run of an arm less the real-only run of the same split and classifier seed.

    Attributes:
        split, generator_seed, classifier_seed: int64 ``[R]``; a generator seed of None is -1.
        gain: float64 ``[R]``, differences of AUROCs.
        influence: float64 ``[R, G]``, differences of the influence of the G patients of all test sets; 0 where a
            patient is not in the test set of the run's split.
    """

    split: NDArray[np.int64]
    generator_seed: NDArray[np.int64]
    classifier_seed: NDArray[np.int64]
    gain: NDArray[np.float64]
    influence: NDArray[np.float64]


@dataclass(frozen=True)
class Gain:
    """Mean gain in macro AUROC with its pointwise 95 % interval.

    Without two units of every random level there is no interval: ``low``, ``high``, ``p``, ``se_seed`` and ``df``
    are NaN, and ``reason`` says what is missing.

    Attributes:
        gain: mean over the units, each of which is a mean over its runs; in [-1, 1].
        low, high: of the pointwise interval, which is not corrected for other arms.
        p: two-sided, of a gain of 0.
        se_film: standard error because of the test patients: what a bootstrap over patients would give.
        se_seed: what the units add to that; ``se_film**2 + se_seed**2`` is the squared standard error.
        df: degrees of freedom at which Student's t would give the same interval; at least those of the units.
        pairs: runs that were paired.
        units: independent repetitions that the interval rests on.
        unit: what they are: ``split``, ``generator seed``, ``classifier seed`` or ``seed`` (of both); where
            generators share real-only runs, ``generator seed and classifier seed`` with the lesser number.
        film: variance because of the test patients alone, as a part: a lower bound of the variance.
        parts: the parts of the variance, each with its degrees of freedom.
        reason: empty where there is an interval.
    """

    gain: float
    low: float
    high: float
    p: float
    se_film: float
    se_seed: float
    df: float
    pairs: int
    units: int
    unit: str
    film: Part
    parts: tuple[Part, ...]
    reason: str = ""

    @property
    def standard_error(self) -> float:
        """Of the gain; NaN where there is no interval."""
        return float(np.hypot(self.se_film, self.se_seed))


def pair_runs(arm: Sequence[ScoredRun], base: Sequence[ScoredRun]) -> PairedRuns | None:
    """Pair by (split, classifier seed); None if no run has a partner.

    Raises:
        ValueError: two runs of a side are the same, or partners were tested on different patients.
    """
    partners = _by_seeds(base, [(run.split, run.classifier_seed) for run in base], "real-only")
    own = _by_seeds(arm, [(run.split, run.generator_seed, run.classifier_seed) for run in arm], "augmented")
    pairs = [
        (run, partners[run.split, run.classifier_seed])
        for run in own.values()
        if (run.split, run.classifier_seed) in partners
    ]
    if not pairs:
        return None
    for run, partner in pairs:
        if not np.array_equal(run.clusters, partner.clusters):
            raise ValueError(f"runs of split {run.split} that are to be compared were tested on different patients")
    tests = {run.split: run.clusters for run, _ in pairs}
    clusters = reduce(np.union1d, tests.values())
    places = {split: np.searchsorted(clusters, names) for split, names in tests.items()}
    influence = np.zeros((len(pairs), len(clusters)))
    for row, (run, partner) in enumerate(pairs):
        influence[row, places[run.split]] = run.influence - partner.influence
    runs = [run for run, _ in pairs]
    return PairedRuns(
        np.asarray([run.split for run in runs], np.int64),
        np.asarray([NO_SEED if run.generator_seed is None else run.generator_seed for run in runs], np.int64),
        np.asarray([run.classifier_seed for run in runs], np.int64),
        np.asarray([run.score - partner.score for run, partner in pairs]),
        influence,
    )


def estimate_gain(
    arm: Sequence[ScoredRun], base: Sequence[ScoredRun], test_to_train: float = TEST_TO_TRAIN
) -> Gain | None:
    """The mean gain of an arm, paired with real-only runs, with its interval and p-value.

    Two things make a gain uncertain, and the variance of the mean is the sum of both:

    * The test patients. Their part is the variance of a bootstrap over patients, to first order: the sum over
      patients of the squared influence on the mean gain (infinitesimal jackknife, Efron 2014; films of a patient
      are added first, Obuchowski 1997). A patient whose films stand in the test sets of several splits is one.
    * The repetitions. Units are splits where there are two or more, else generator seeds, else classifier seeds:
      the mean square between units over their number. Means of units hold all that varies beneath them. Repeated
      splits share training films, so that theirs is multiplied by ``1 / J + test_to_train`` in place of ``1 / J``
      (Nadeau & Bengio 2003, "Inference for the generalization error", equation 7). Generators that share real-only
      runs (the same classifier seeds) are a crossed design: both levels count.

    What patients and units do together (which films a seed gets right) is in both. Its size is known from the
    influence values: the mean square between units that the patients alone would cause. It is taken from the
    patients' part, which leaves the total unbiased. The total is never taken for less than the patients' part.

    A level is not pooled with the one beneath where a preliminary test finds them alike. On normal data "sometimes
    pooling" at the customary 25 % (Bancroft 1964) rejects a true null hypothesis in up to 14 % of cases with two
    units of five runs, and in up to 9 % with three units.

    Args:
        arm: runs of one arm: one generator, ratio and classifier.
        base: real-only runs of the same classifier.
        test_to_train: test films per training film of a split; only for two or more splits.

    Returns:
        None if no run can be paired.

    Raises:
        ValueError: as ``pair_runs``.
    """
    paired = pair_runs(arm, base)
    if paired is None:
        return None
    levels, unit = _levels(paired)
    weights = _weights(paired, levels)
    gain, movement = float(weights @ paired.gain), weights @ paired.influence
    patients = paired.influence.shape[1]
    # The sum of squares of G centred values has an expectation of (G - 1) / G times the variance of their sum.
    small_sample = patients / max(patients - 1, 1)
    film = Part(FILM, small_sample * float(movement @ movement), max(patients - 1, 1))
    units = min(int(level.max()) + 1 for level in levels.values())
    lone = [name for name, level in levels.items() if level.max() == 0]
    if lone:
        reason = f"one {lone[0]}: how much the gain varies from one to the next is not known"
        error, runs = film.variance**0.5, len(paired.gain)
        return Gain(gain, NAN, NAN, NAN, error, NAN, NAN, runs, units, unit, film, (), reason)
    between, shared = [], 0.0
    for name, level in levels.items():
        count = int(level.max()) + 1
        share = 1 / count + (test_to_train if name == "split" else 0.0)
        between.append(Part(name, share * _mean_square(paired.gain[:, None], level), count - 1))
        shared += share * small_sample * _mean_square(paired.influence, level)
    parts = (Part(FILM, max(film.variance - shared, 0.0), film.df), *between)
    total = max(sum(part.variance for part in parts), film.variance)
    wide = max(half_width(parts, 1 - COVERAGE), half_width([film], 1 - COVERAGE))
    return Gain(
        gain=gain,
        low=gain - wide,
        high=gain + wide,
        p=max(two_sided_p(gain, parts), two_sided_p(gain, [film])),
        se_film=film.variance**0.5,
        se_seed=(total - film.variance) ** 0.5,
        df=matching_df(wide / total**0.5, 1 - COVERAGE) if total > 0 else float(film.df),
        pairs=len(paired.gain),
        units=units,
        unit=unit,
        film=film,
        parts=parts,
    )


def _by_seeds(runs: Sequence[ScoredRun], keys: Sequence[Seeds], side: str) -> dict[Seeds, ScoredRun]:
    found = dict(zip(keys, runs, strict=True))
    if len(found) < len(runs):
        repeated = next(key for key in keys if keys.count(key) > 1)
        raise ValueError(f"two {side} runs have the same split and seeds: {repeated}")
    return found


def _levels(paired: PairedRuns) -> tuple[Mapping[str, NDArray[np.int64]], str]:
    """Unit number (int64 ``[R]``) of every run at each random level, and what the units are called."""
    splits, generators, classifiers = (
        np.unique(values, return_inverse=True)[1]
        for values in (paired.split, paired.generator_seed, paired.classifier_seed)
    )
    if splits.max() > 0:
        return {"split": splits}, "split"
    if generators.max() == 0:
        return {"classifier seed": classifiers}, "classifier seed"
    if classifiers.max() + 1 == len(paired.gain):  # every run has a real-only run of its own
        own = generators.max() + 1 == len(paired.gain)
        return {"generator seed": generators}, "seed" if own else "generator seed"
    return {"generator seed": generators, "classifier seed": classifiers}, "generator seed and classifier seed"


def _weights(paired: PairedRuns, levels: Mapping[str, NDArray[np.int64]]) -> NDArray[np.float64]:
    """What each run counts in the mean of the units; runs count alike where units are crossed."""
    runs = len(paired.gain)
    if len(levels) > 1:
        return np.full(runs, 1 / runs)
    (level,) = levels.values()
    sizes = np.bincount(level)
    return 1 / (len(sizes) * sizes[level])


def _mean_square(values: NDArray[np.float64], level: NDArray[np.int64]) -> float:
    """Sum of squares of the unit means (rows: ``[R, D]``) about their mean, over the units less one."""
    sizes = np.bincount(level)
    means = np.zeros((len(sizes), values.shape[1]))
    np.add.at(means, level, values)
    means /= sizes[:, None]
    return float(((means - means.mean(axis=0)) ** 2).sum()) / (len(sizes) - 1)
