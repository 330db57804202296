"""Train a classifier on real and synthetic films, choose among its configurations on validation films, predict."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from cxrbench.contracts import Classifier, Images, Pixels, Probabilities, RunContext, Tunable
from cxrbench.errors import UsageError
from cxrbench.hashing import plugin_parameters
from cxrbench.metrics.classification import check_probabilities, score_present


@dataclass(frozen=True)
class Trained:
    """What a trained classifier predicts.

    Attributes:
        predictions: float32 ``[N, classes]`` for each set of films.
        tried: hyper-parameters and validation AUROC of each configuration; the best of them predicts. Without a
            choice the AUROC is not computed.
    """

    predictions: list[Probabilities]
    tried: Sequence[tuple[dict[str, Any], float | None]]


def join(real: Images | None, synthetic: Images | None) -> Images:
    """A training set of real films, synthetic films or both.

    Raises:
        ValueError: neither holds a film.
    """
    parts = [part for part in (real, synthetic) if part is not None and len(part)]
    if not parts:
        raise ValueError("there is no film to train on")
    return Images(
        np.concatenate([part.pixels for part in parts]),
        np.concatenate([part.labels for part in parts]),
        parts[0].classes,
    )


def train_and_predict(
    classifier: Classifier, train: Images, val: Images, sets: Sequence[Pixels], ctx: RunContext, tuning_trials: int = 1
) -> Trained:
    """Train once for each configuration tried, and predict every set of films with the best.

    Args:
        val: real films: they choose the checkpoint and the configuration.
        sets: uint8 ``[N, 1, H, W]`` each: the test films, external films.

    Raises:
        ValueError: the classifier returned malformed probabilities.
        UsageError: more than one configuration is to be tried, and the classifier proposes none.
    """
    if tuning_trials == 1:
        fitted = classifier.fit(train, val, ctx)
        return Trained(_predict(fitted, sets, len(train.classes), ctx), [(plugin_parameters(classifier), None)])
    if not isinstance(classifier, Tunable):
        raise UsageError(f"{type(classifier).__name__} proposes no other configurations, so --tune must be 1")
    best, predictions, tried = float("-inf"), [], []
    for candidate in classifier.candidates(tuning_trials):
        fitted = candidate.fit(train, val, ctx)
        on_val = _predict(fitted, [val.pixels], len(train.classes), ctx)[0]
        score = score_present(val.labels, on_val, train.classes)["auroc_macro"]
        tried.append((plugin_parameters(candidate), score))
        if score > best:
            best, predictions = score, _predict(fitted, sets, len(train.classes), ctx)
    return Trained(predictions, tried)


def _predict(fitted: Classifier, sets: Sequence[Pixels], classes: int, ctx: RunContext) -> list[Probabilities]:
    predictions = [fitted.predict_proba(pixels, ctx) for pixels in sets]
    for pixels, probabilities in zip(sets, predictions, strict=True):
        check_probabilities(probabilities, len(pixels), classes)
    return predictions
