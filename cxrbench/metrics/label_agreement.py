"""Do films show the class they are labelled with? Asked of their nearest real films."""

from __future__ import annotations

import numpy as np

from cxrbench.contracts import Features, Labels
from cxrbench.metrics.sets import check_sets

NEIGHBOURS = 5


def label_agreement(generated: Features, wanted: Labels, reference: Features, labels: Labels) -> dict[int, float]:
    """Share of each class's films whose nearest real films are mostly of that class.

    A generator whose films are right and whose labels are wrong has good distances over all classes; here it
    stands at chance or below. Read it beside the value of held-out real films: classes that look alike in these
    features agree badly whoever made the films.

    Args:
        generated: float ``[N, D]``; wanted: int64 ``[N]``, the labels they were sampled for.
        reference: float ``[M, D]``, real films, equally many of each class; labels: int64 ``[M]``.

    Returns:
        Class -> share in [0, 1], for the classes that ``wanted`` holds.

    Raises:
        ValueError: malformed features, or fewer than five reference films.
    """
    from sklearn.neighbors import KNeighborsClassifier

    x, y = check_sets(generated, reference, 1)
    if len(y) < NEIGHBOURS:
        raise ValueError(f"at least {NEIGHBOURS} reference films are needed, got {len(y)}")
    predicted = KNeighborsClassifier(NEIGHBOURS, algorithm="brute").fit(y, labels).predict(x)
    return {int(label): float((predicted[wanted == label] == label).mean()) for label in np.unique(wanted)}
