"""Which sources to test on, so that the classifier has never seen the hospital of a test film."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from cxrbench.errors import DataError

EXHAUSTIVE_SOURCES = 12  # up to as many sources every choice is looked at
GREEDY_ORDERS = 200  # beyond, as many shuffled orders are walked through


def choose_test_sources(
    counts: NDArray[np.int64], sources: Sequence[str], classes: tuple[str, ...], share: float, seed: int
) -> NDArray[np.bool_]:
    """Whole sources whose films come closest to ``share`` of all, with every class on both sides.

    Args:
        counts: films, int64 ``[sources, classes]``.
        seed: decides between equally good choices.

    Returns:
        bool ``[sources]``: is it a test source?

    Raises:
        DataError: there is no such choice; the message names the classes that come from one source only.
    """
    if len(sources) < 2:
        found = f"there is only {sources[0]!r}" if sources else "no film names its source"
        raise DataError(f"--split-by source needs at least two sources; {found}")
    single = [label for label in range(len(classes)) if (counts[:, label] > 0).sum() == 1]
    if single:
        said = [f"class {classes[i]!r} comes only from source {sources[int(counts[:, i].argmax())]!r}" for i in single]
        raise DataError(
            f"--split-by source: {'; '.join(said)}, so it cannot be trained on one source and tested on another"
        )
    rng = np.random.default_rng(seed)
    choices = _all_choices(counts, rng) if len(sources) <= EXHAUSTIVE_SOURCES else _greedy_choices(counts, share, rng)
    tested = choices @ counts
    usable = (tested > 0).all(axis=1) & (counts.sum(axis=0) - tested > 0).all(axis=1)
    if not usable.any():
        raise DataError(
            f"--split-by source: no choice among the {len(sources)} sources leaves every class with training and "
            "test films"
        )
    distance = np.abs(tested.sum(axis=1) - share * counts.sum())
    return np.asarray(choices[np.where(usable, distance, np.inf).argmin()])


def _all_choices(counts: NDArray[np.int64], rng: np.random.Generator) -> NDArray[np.bool_]:
    """Every set of sources, in an order of the seed's: the first of equally good ones is taken."""
    sources = len(counts)
    bits = np.arange(2**sources)[:, None] >> np.arange(sources)
    return rng.permutation((bits & 1).astype(bool))


def _greedy_choices(counts: NDArray[np.int64], share: float, rng: np.random.Generator) -> NDArray[np.bool_]:
    """Sets grown source by source: one is added where it brings a class that the test side lacks, or brings
    the share closer, and takes no class from the training side."""
    whole, wanted = counts.sum(axis=0), share * counts.sum()
    found = np.zeros((GREEDY_ORDERS, len(counts)), bool)
    for choice in found:
        tested = np.zeros_like(whole)
        for source in rng.permutation(len(counts)):
            grown = tested + counts[source]
            closer = abs(grown.sum() - wanted) < abs(tested.sum() - wanted)
            if (whole - grown > 0).all() and (closer or ((tested == 0) & (grown > 0)).any()):
                choice[source], tested = True, grown
    return found
