"""Tables and kept predictions -> pictures."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from numpy.typing import NDArray

from cxrbench.records import Trial
from cxrbench.report import curves
from cxrbench.report.analysis import Analysis
from cxrbench.report.effects import REAL_ONLY, arm_label
from cxrbench.report.films import sample_grid, save_picture, suspicious_pairs
from cxrbench.report.sections import Section
from cxrbench.store import Store

COLOURS = {"helps": "#0072b2", "hurts": "#d55e00", "undetermined": "#555555"}


def draw_figures(analysis: Analysis, store: Store) -> dict[str, Path]:
    """Draw everything that a section has data for; films of a data set that may not be republished stay private.

    Returns:
        What each picture is -> its file.
    """
    section = analysis.section
    public = store.root / "figures" / section.slug
    pooled = [record for record in section.records if record.trial.kind in ("fidelity", "memorization")]
    films = public if all(store.is_public(r.key) for r in pooled) else store.private / "figures" / section.slug
    arms = _predictions(section, store, analysis.leaking)
    drawings: dict[str, tuple[Path, Callable[[Path], bool]]] = {
        "gains and their intervals": (public / "gains.png", lambda path: gains_plot(analysis, path)),
        "ratio curves": (public / "ratio_curves.png", lambda path: ratio_curves(analysis, path)),
        "ROC curves": (public / "roc.png", lambda path: curves.roc_curves(arms, section.classes, path)),
        "precision-recall curves": (public / "pr.png", lambda path: curves.pr_curves(arms, section.classes, path)),
        "calibration": (public / "calibration.png", lambda path: curves.reliability(arms, section.classes, path)),
        "confusion matrices": (public / "confusion.png", lambda path: confusion_matrices(arms, section, path)),
        "sample grid": (films / "samples.png", lambda path: sample_grid(section, store, path)),
        "most suspicious films": (films / "suspicious.png", lambda path: suspicious_pairs(section, store, path)),
    }
    return {name: path for name, (path, draw) in drawings.items() if draw(path)}


def gains_plot(analysis: Analysis, path: Path) -> bool:
    """Every arm's gain with its pointwise 95 % interval, coloured by its verdict. False where there is none."""
    judged = [effect for effect in analysis.effects if effect.gain and not effect.gain.reason]
    rows = [effect for effect in judged if effect.generator not in analysis.leaking]
    if not rows:
        return False
    order = {"main": 0, "side": 1, "control": 2}
    rows.sort(key=lambda e: (order[e.family], -(e.gain.gain if e.gain else 0.0)))
    figure, axis = plt.subplots(figsize=(8.0, 0.9 + 0.27 * len(rows)))
    for place, effect in enumerate(rows):
        gain = effect.gain
        assert gain is not None
        colour = COLOURS[effect.verdict.word]
        axis.plot([gain.low, gain.high], [place, place], color=colour, linewidth=1.6)
        axis.plot(gain.gain, place, "o", color=colour, markersize=5)
    axis.axvline(0, color="black", linewidth=0.8)
    several = len({e.trial.classifier.name for e in rows if e.trial.classifier}) > 1
    axis.set_yticks(range(len(rows)), [arm_label(effect.trial, several) for effect in rows], fontsize=8)
    axis.invert_yaxis()
    axis.set_xlabel("gain in test AUROC (macro) over real films alone, 95 % interval")
    for word, colour in COLOURS.items():
        axis.plot([], [], "o-", color=colour, label=word)
    axis.legend(fontsize=8, loc="best")
    axis.set_title(f"{analysis.section.data}, tier {analysis.section.tier}", fontsize=10)
    _save(figure, path)
    return True


def ratio_curves(analysis: Analysis, path: Path) -> bool:
    """Macro AUROC against the ratio: a line per generator, a dot per run. False where nothing was drawn."""
    section, table = analysis.section, analysis.utility
    if table.empty:
        return False
    table = table[(table["arm"] == "augment") & (table["real_share"] == 1) & table["control"].isna()]
    if (table["generator"] != REAL_ONLY).sum() == 0:
        return False
    classifiers = list(table["classifier"].unique())
    figure, axes = plt.subplots(1, len(classifiers), figsize=(5.2 * len(classifiers), 3.8), squeeze=False, sharey=True)
    palette = dict(
        zip(
            table["generator"].unique(),
            sns.color_palette("colorblind", table["generator"].nunique()),
            strict=True,
        )
    )
    for axis, classifier in zip(axes[0], classifiers, strict=True):
        rows = table[table["classifier"] == classifier]
        base = rows[rows["generator"] == REAL_ONLY]
        for generator, arm in rows[rows["generator"] != REAL_ONLY].groupby("generator", sort=False):
            line = np.concatenate([[[0.0, base["auroc_macro"].mean()]], _means(arm)])
            axis.plot(line[:, 0], line[:, 1], color=palette[generator], label=generator)
            axis.plot(arm["ratio"], arm["auroc_macro"], "o", color=palette[generator], alpha=0.5, markersize=4)
        axis.plot(base["ratio"], base["auroc_macro"], "ko", alpha=0.6, markersize=4)
        axis.axhline(base["auroc_macro"].mean(), color="black", linewidth=0.8, linestyle="--", label=REAL_ONLY)
        axis.set(title=classifier, xlabel="synthetic films per real training film", ylabel="test AUROC (macro)")
        axis.legend(fontsize=8)
    figure.suptitle(f"{section.data}, tier {section.tier}: a dot is one run", fontsize=10)
    _save(figure, path)
    return True


def confusion_matrices(arms: curves.Arms, section: Section, path: Path) -> bool:
    """Row-normalised confusion of every arm, summed over runs. False where nothing was drawn."""
    if not arms:
        return False
    size, columns = len(section.classes), min(4, len(arms))
    rows = -(-len(arms) // columns)
    figure, axes = plt.subplots(rows, columns, figsize=(2.7 * columns, 2.7 * rows), squeeze=False)
    for axis in axes.flat[len(arms) :]:
        axis.axis("off")
    for axis, (name, runs) in zip(axes.flat, arms.items(), strict=False):
        counts = np.zeros((size, size), np.int64)
        for labels, probabilities in runs:
            np.add.at(counts, (labels, probabilities.argmax(axis=1)), 1)
        share = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
        axis.imshow(share, cmap="Blues", vmin=0, vmax=1)
        for (row, column), value in np.ndenumerate(counts):
            colour = "white" if share[row, column] > 0.5 else "black"
            axis.text(column, row, str(value), ha="center", va="center", fontsize=8, color=colour)
        axis.set_xticks(range(size), section.classes, fontsize=6)
        axis.set_yticks(range(size), section.classes, fontsize=6, rotation=90, va="center")
        axis.set_title(name, fontsize=8)
    figure.supxlabel("predicted", fontsize=8)
    figure.supylabel("true", fontsize=8)
    _save(figure, path)
    return True


def _predictions(section: Section, store: Store, leaking: Sequence[str]) -> dict[str, list[curves.Predictions]]:
    """Kept predictions of the real-only arm and of those that augment it, by the arm's label; without controls and
    generators that return films they must not know.

    Pictures show the first arms only: real films alone, then those of the highest mean AUROC.
    """
    arms: dict[str, list[curves.Predictions]] = {}
    scores: dict[str, list[float]] = {}
    several = len({r.trial.classifier.name for r in section.of("utility") if r.trial.classifier}) > 1
    for record in sorted(section.of("utility"), key=lambda r: _place(r.trial)):
        trial = record.trial
        control = trial.generator.control if trial.generator else None
        if control or trial.arm != "augment" or trial.real_share != 1:
            continue
        if trial.generator and trial.generator.name in leaking:
            continue
        arrays = store.arrays(record.key)
        if arrays:
            label = arm_label(trial, several)
            arms.setdefault(label, []).append((arrays["labels"], arrays["probabilities"]))
            scores.setdefault(label, []).append(record.scores["auroc_macro"] if trial.generator else math.inf)
    return dict(sorted(arms.items(), key=lambda arm: -math.fsum(scores[arm[0]]) / len(arm[1])))


def _place(trial: Trial) -> tuple[str, float, str, int, int]:
    """Of a trial among the others: by generator, ratio and classifier."""
    generator = trial.generator.name if trial.generator else ""
    classifier = trial.classifier.name if trial.classifier else ""
    return generator, trial.ratio or 0.0, classifier, trial.setting.split_seed, trial.classifier_seed or 0


def _means(arm: pd.DataFrame) -> NDArray[np.float64]:
    means = arm.groupby("ratio")["auroc_macro"].mean().sort_index()
    return np.stack([means.index.to_numpy(float), means.to_numpy(float)], axis=1)


def _save(figure: plt.Figure, path: Path) -> None:
    figure.tight_layout()
    save_picture(figure, path)
