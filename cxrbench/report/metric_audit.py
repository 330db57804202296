"""Does fidelity tell which generator helps? Rank correlation of each measure with the gain, in this very run."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from cxrbench.metrics.fidelity import LOWER_IS_BETTER
from cxrbench.report.effects import Effect
from cxrbench.statistics.ranks import rank_correlation

AUDITED = ("fid", "fid_infinity", "kid_mean", "precision", "recall", "density", "coverage", "vendi", "label_agreement")


def metric_audit(long: pd.DataFrame, effects: Sequence[Effect]) -> pd.DataFrame:
    """One row per classifier, extractor and measure: Spearman's rho with the gain, better fidelity counted upwards.

    A point is one pool (generator, split and seed) at the controls' ratio (at the largest, where no arm has that),
    controls included, since they span the scale; the oracle is left out, since its gain is over fewer real films.
    Pools of one generator are resampled together for the interval.

    Args:
        long: of ``fidelity_long``; effects: of ``effects``.
    """
    if long.empty:
        return long
    long = long[long["class"] == "all"]
    ratios = {effect.trial.ratio or 0.0 for effect in effects if effect.family == "main"}
    controls = {effect.trial.ratio or 0.0 for effect in effects if effect.family == "control"}
    rows = []
    for classifier, gains in _gains(effects, max(ratios & controls or ratios, default=0.0)).items():
        for extractor in long["extractor"].unique():
            for metric in AUDITED:
                own = long[(long["extractor"] == extractor) & (long["metric"] == metric)]
                points = own.merge(gains, on=["generator", "split", "seed"])
                sign = -1.0 if metric in LOWER_IS_BETTER else 1.0
                found = rank_correlation(
                    sign * points["value"].to_numpy(float),
                    points["gain"].to_numpy(float),
                    points["generator"].to_numpy(str),
                )
                if found:
                    about = {"classifier": classifier, "extractor": extractor, "metric": metric}
                    rows.append({**about, "rho": found.rho, "low": found.low, "high": found.high, "pools": len(points)})
    return pd.DataFrame(rows)


def _gains(effects: Sequence[Effect], ratio: float) -> dict[str, pd.DataFrame]:
    """Classifier -> mean gain of each pool."""
    rows: dict[str, list[dict[str, object]]] = {}
    for effect in effects:
        trial = effect.trial
        role = trial.generator.control if trial.generator else None
        if trial.generator is None or trial.arm != "augment" or trial.ratio != ratio or role == "oracle":
            continue
        for run, gain in effect.gains:
            row = {"generator": trial.generator.name, "split": run.split, "seed": run.generator_seed, "gain": gain}
            rows.setdefault(trial.classifier.name if trial.classifier else "", []).append(row)
    names = ["generator", "split", "seed"]
    return {name: pd.DataFrame(own).groupby(names, as_index=False)["gain"].mean() for name, own in rows.items()}
