"""What each arm does to the AUROC: kept predictions -> gains with intervals, verdicts, and what they are worth."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import pandas as pd

from cxrbench.records import Record, Trial
from cxrbench.report.sections import Section
from cxrbench.statistics.components import Component, variance_components
from cxrbench.statistics.exchange import Exchange, exchange_rate, learning_curve, sentence
from cxrbench.statistics.gains import TEST_TO_TRAIN, Gain, estimate_gain
from cxrbench.statistics.influence import ScoredRun, score_run
from cxrbench.statistics.verdicts import Verdict, judge
from cxrbench.store import Store

Family = Literal["main", "side", "control"]
NAN = float("nan")
REAL_ONLY = "real only"
CLASSICAL = "classical"  # what every learned generator must beat


@dataclass(frozen=True)
class Effect:
    """One arm against real films alone; the repetitions of an arm are one row.

    Attributes:
        trial: one of the arm's trials, for its names.
        gains: each run that has a real-only partner, and its own gain.
        family: arms whose verdicts are corrected together.
        gain, verdict: over the real-only runs of the same seeds and share of the real films.
        components: of the variance of one run's gain; None where the runs do not allow it.
        over_classical, verdict_over_classical: over flips and rotations at the same ratio; None for other arms.
        worth: in real films; None for arms that are not ranked.
    """

    trial: Trial
    family: Family
    gains: tuple[tuple[ScoredRun, float], ...]
    gain: Gain | None
    verdict: Verdict
    components: tuple[Component, ...] | None = None
    over_classical: Gain | None = None
    verdict_over_classical: Verdict | None = None
    worth: Exchange | None = None

    @property
    def generator(self) -> str:
        """Its name, as in tables."""
        return _generator(self.trial)


class Predictions:
    """Scored test predictions of the records of a store, each read once."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._runs: dict[str, ScoredRun | None] = {}

    def runs(self, records: Sequence[Record]) -> list[ScoredRun]:
        """Those that have predictions."""
        return [run for record in records if (run := self._run(record)) is not None]

    def _run(self, record: Record) -> ScoredRun | None:
        if record.key not in self._runs:
            arrays, trial = self._store.arrays(record.key), record.trial
            self._runs[record.key] = (
                score_run(
                    arrays["labels"],
                    arrays["probabilities"],
                    arrays["groups"],
                    split=trial.setting.split_seed,
                    generator_seed=trial.generator_seed,
                    classifier_seed=trial.classifier_seed or 0,
                )
                if arrays
                else None
            )
        return self._runs[record.key]


def effects(
    section: Section, predictions: Predictions, kind: Literal["utility", "external"] = "utility"
) -> list[Effect]:
    """Every arm but the real-only ones, judged by families.

    Args:
        kind: ``external`` judges the same arms on external films, the set that was measured last.
    """
    records = section.of(kind)
    if kind == "external" and records:
        newest = max(records, key=lambda r: str(r.provenance.get("started", ""))).trial.external
        records = [record for record in records if record.trial.external == newest]
    by_row: dict[str, list[Record]] = {}
    for record in records:
        by_row.setdefault(record.trial.row, []).append(record)
    base = {_base(group[0].trial): group for group in by_row.values() if _is_base(group[0].trial)}
    classical = {
        _beside(group[0].trial): predictions.runs(group) for group in by_row.values() if _is_classical(group[0].trial)
    }
    found: list[Effect] = []
    for group in by_row.values():
        trial, runs = group[0].trial, predictions.runs(group)
        if _is_base(trial) or not runs:
            continue
        others = classical.get(_beside(trial), []) if _family(trial) == "main" and not _is_classical(trial) else []
        partners = predictions.runs(base.get(_base(trial), []))
        ratio = _test_to_train(section, trial.real_share)
        try:
            gain, over_classical = estimate_gain(runs, partners, ratio), estimate_gain(runs, others, ratio)
        except ValueError as error:  # e.g. films that could be read when one of two runs was made
            unpaired = Verdict("undetermined", NAN, NAN, f"its runs cannot be paired: {error}")
            found.append(Effect(trial, _family(trial), (), None, unpaired))
            continue
        found.append(
            Effect(
                trial,
                _family(trial),
                _single_gains(runs, partners),
                gain,
                UNJUDGED,
                _components(runs, partners) if _family(trial) == "main" else None,
                over_classical,
            )
        )
    return _judged(found)


def with_worth(found: Sequence[Effect], section: Section) -> list[Effect]:
    """The main arms priced in real films, by each classifier's learning curve on real films alone."""
    curves = {
        classifier: learning_curve([(films, score) for films, scores in points.items() for score in scores])
        for classifier, points in learning_points(section).items()
    }
    sizes: dict[str, list[int]] = {}
    for record in section.of("utility"):
        sizes.setdefault(record.trial.row, []).append(record.counts["train_synthetic"])
    priced = []
    for effect in found:
        curve = curves.get(effect.trial.classifier.name if effect.trial.classifier else "")
        if effect.family == "main" and effect.gain:
            effect = replace(effect, worth=exchange_rate(effect.gain, round(np.mean(sizes[effect.trial.row])), curve))
        priced.append(effect)
    return priced


def learning_points(section: Section) -> dict[str, dict[int, list[float]]]:
    """Classifier -> real training films -> AUROC of each run, on real films alone.

    Splits whose shares differ by a few films are one size: their mean.
    """
    shares: dict[str, dict[float, list[Record]]] = {}
    for record in section.of("utility"):
        trial = record.trial
        if _is_base(trial) and trial.classifier:
            shares.setdefault(trial.classifier.name, {}).setdefault(trial.real_share, []).append(record)
    return {
        name: {
            round(np.mean([r.counts["train_real"] for r in group])): [r.scores["auroc_macro"] for r in group]
            for _, group in sorted(own.items())
        }
        for name, own in shares.items()
    }


def effects_table(found: Sequence[Effect]) -> pd.DataFrame:
    """One row per arm, best first within its family."""
    rows = []
    for effect in found:
        trial, gain, verdict = effect.trial, effect.gain, effect.verdict
        row = {
            **arm_names(trial),
            "family": effect.family,
            "verdict": verdict.word,
            "p_holm": verdict.p_holm,
            "mde": verdict.mde,
            "reason": verdict.reason,
            "gain": NAN,  # a column also where no arm has a partner
            **_gain_columns(gain, ""),
            **_gain_columns(effect.over_classical, "over_classical_"),
        }
        if effect.verdict_over_classical:
            row["over_classical_verdict"] = effect.verdict_over_classical.word
            row["over_classical_p_holm"] = effect.verdict_over_classical.p_holm
        if effect.worth:
            row |= {
                "worth": NAN if effect.worth.per_thousand is None else effect.worth.per_thousand,
                "worth_low": effect.worth.low,
                "worth_high": effect.worth.high,
                "worth_reason": effect.worth.reason,
                "worth_text": sentence(effect.worth),
            }
        rows.append(row)
    table = pd.DataFrame(rows)
    return table if table.empty else table.sort_values(["classifier", "gain"], ascending=[True, False], kind="stable")


def arm_names(trial: Trial) -> dict[str, object]:
    """What an arm is called, for a table."""
    return {
        "row": trial.row,
        "classifier": trial.classifier.name if trial.classifier else "",
        "generator": _generator(trial),
        "control": trial.generator.control if trial.generator else None,
        "arm": trial.arm,
        "ratio": trial.ratio,
        "real_share": trial.real_share,
    }


def arm_label(trial: Trial, with_classifier: bool) -> str:
    """A short name for a picture."""
    name = _generator(trial)
    share = "" if trial.real_share == 1 else f" on {trial.real_share:.0%} real"
    if trial.arm == "copy-adjusted":
        label = f"{name} x {trial.ratio:g}, copies removed"
    elif trial.arm != "augment":
        label = f"{name}, {trial.arm}"
    else:
        label = f"{name} x {trial.ratio:g}{share}" if trial.generator else f"{name}{share}"
    return f"{trial.classifier.name}: {label}" if with_classifier and trial.classifier else label


UNJUDGED = Verdict("undetermined", NAN, NAN, "not judged")


def _generator(trial: Trial) -> str:
    return trial.generator.name if trial.generator else REAL_ONLY


def _judged(found: list[Effect]) -> list[Effect]:
    verdicts: dict[int, Verdict] = {}
    against: dict[int, Verdict] = {}
    for family in ("main", "side", "control"):
        places = [i for i, effect in enumerate(found) if effect.family == family and effect.verdict is UNJUDGED]
        verdicts |= dict(zip(places, judge([found[i].gain for i in places]), strict=True))
    places = [i for i, effect in enumerate(found) if effect.over_classical]
    against |= dict(zip(places, judge([found[i].over_classical for i in places]), strict=True))
    return [
        replace(effect, verdict=verdicts.get(i, effect.verdict), verdict_over_classical=against.get(i))
        for i, effect in enumerate(found)
    ]


def _components(runs: Sequence[ScoredRun], partners: Sequence[ScoredRun]) -> tuple[Component, ...] | None:
    try:
        return variance_components(runs, partners)
    except ValueError:  # a grid that was interrupted: its levels cannot be told apart yet
        return None


def _single_gains(runs: Sequence[ScoredRun], partners: Sequence[ScoredRun]) -> tuple[tuple[ScoredRun, float], ...]:
    score = {(run.split, run.classifier_seed): run.score for run in partners}
    keys = [(run.split, run.classifier_seed) for run in runs]
    return tuple((run, run.score - score[key]) for run, key in zip(runs, keys, strict=True) if key in score)


def _family(trial: Trial) -> Family:
    if trial.generator and trial.generator.control:
        return "control"
    return "main" if trial.arm == "augment" else "side"


def _is_base(trial: Trial) -> bool:
    return trial.generator is None and trial.arm == "augment"


def _is_classical(trial: Trial) -> bool:
    return trial.generator is not None and trial.generator.name.partition(":")[0] == CLASSICAL


def _base(trial: Trial) -> tuple[str, float]:
    """Which real-only runs an arm is measured against."""
    return trial.classifier.identity if trial.classifier else "", trial.real_share


def _beside(trial: Trial) -> tuple[str, float, str, float | None]:
    return *_base(trial), trial.arm, trial.ratio


def _test_to_train(section: Section, share: float) -> float:
    """Of the splits, whose training sets overlap; whatever films are scored."""
    sizes = [
        r.counts["test"] / r.counts["train_real"]
        for r in section.of("utility")
        if _is_base(r.trial) and r.trial.real_share == share
    ]
    return float(np.mean(sizes)) if sizes else TEST_TO_TRAIN


def _gain_columns(gain: Gain | None, prefix: str) -> Mapping[str, object]:
    if gain is None:
        return {}
    return {
        f"{prefix}gain": gain.gain,
        f"{prefix}low": gain.low,
        f"{prefix}high": gain.high,
        f"{prefix}se_film": gain.se_film,
        f"{prefix}se_seed": gain.se_seed,
        f"{prefix}df": gain.df,
        f"{prefix}units": gain.units,
        f"{prefix}unit": gain.unit,
    }
