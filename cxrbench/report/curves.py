"""Predictions -> ROC, precision-recall and reliability curves: what single scores hide.

Two arms of equal AUROC may differ where it matters (few false alarms), and a classifier that ranks well may
be far too sure of itself.
"""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import seaborn as sns
from matplotlib import style
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from numpy.typing import NDArray

from cxrbench.contracts import Labels, Probabilities
from cxrbench.metrics.calibration import expected_calibration_error, reliability_bins
from cxrbench.metrics.classification import check_probabilities

Predictions = tuple[Labels, Probabilities]
Arms = Mapping[str, Sequence[Predictions]]

REAL_ONLY = "real only"
MOST_ARMS = 8  # more lines cannot be told apart
GRID = np.linspace(0, 1, 201)
DPI = 100
WIDTH = 4.2  # of a panel, in inches
NAME_LENGTH = 34  # of a name in a legend; longer ones lose their middle
FEW = 20  # films of all seeds in a bin; below that its accuracy is mostly chance
LARGEST_DOT = 600.0  # area in square points, of a bin that holds every film


@dataclass(frozen=True)
class _Curve:
    """How one kind of curve is drawn.

    ``line`` maps ``_operating_points`` to heights over ``GRID``, ``area`` to the number in the legend. ``rising``: the
    line leaves the origin and guessing is the diagonal; else guessing is level, at the class's share of the films.
    """

    title: str
    x: str
    y: str
    area_name: str
    line: Callable[[NDArray[np.float64], NDArray[np.float64]], NDArray[np.float64]]
    area: Callable[[NDArray[np.float64], NDArray[np.float64]], float]
    rising: bool


def roc_curves(arms: Arms, classes: Sequence[str], path: Path) -> bool:
    """ROC curves: a panel per class (against the rest), a line per arm.

    A line is the mean over seeds at fixed false-positive rates (vertical averaging: Fawcett 2006, section 9),
    its band one standard deviation on either side. The legend gives the AUROC, mean and standard deviation.

    Args:
        arms: name -> labels int64 ``[N]`` and probabilities float32 ``[N, C]`` of each seed. ``real only`` is
            drawn in black; at most ``MOST_ARMS`` are drawn, the first ones: the best come first.
        classes: the C names. A seed that has no film of a class, or no other film, has no line in its panel;
            a class that no seed has gets no panel.
        path: of the PNG. The same predictions give the same bytes.

    Returns:
        False where nothing was drawn.

    Raises:
        ValueError: malformed probabilities.
    """
    curve = _Curve("ROC", "1 - specificity", "sensitivity", "AUROC", _sensitivity, _roc_area, rising=True)
    return _draw_panels(curve, arms, classes, path)


def pr_curves(arms: Arms, classes: Sequence[str], path: Path) -> bool:
    """Precision-recall curves, laid out as ``roc_curves``; averaged over seeds at fixed recall.

    The precision at a recall is that of the highest threshold which reaches it, so the curve is the one whose
    area is the average precision in the legend (no linear interpolation: Davis & Goadrich, ICML 2006). The
    dotted line is what guessing scores: the class's share of the films.

    Raises:
        ValueError: malformed probabilities.
    """
    curve = _Curve("Precision-recall", "recall", "precision", "AP", _precision, _average_precision, rising=False)
    return _draw_panels(curve, arms, classes, path)


@style.context("default")  # whatever the user, or the process, has set
def reliability(arms: Arms, classes: Sequence[str], path: Path) -> bool:
    """Accuracy against confidence (the top probability), a panel per arm with ``real only`` in each.

    The films of all seeds are sorted into the 15 bins together; the area of a dot is the share of the films in
    it, and the line passes by bins of fewer than ``FEW`` films. Below the diagonal the classifier is too sure of
    itself. The legend gives the expected calibration error as it is scored: of each seed, then mean and standard
    deviation. Arguments and result as ``roc_curves``.

    Raises:
        ValueError: malformed probabilities.
    """
    shown, left_out = _shown(arms, classes)
    if not shown:
        return False
    styles = _styles(shown)
    panels = [[name] for name in shown if name != REAL_ONLY]
    if REAL_ONLY in shown:
        panels = [[REAL_ONLY, *names] for names in panels] or [[REAL_ONLY]]
    figure, axes = _panels(len(panels), "accuracy", most_lines=2)
    floor = 1 / len(classes)  # the top probability cannot be lower
    for axis, names in zip(axes, panels, strict=True):
        axis.plot([floor, 1], [floor, 1], color="0.6", linewidth=0.9, linestyle=":")
        for name in names:
            labels = np.concatenate([labels for labels, _ in shown[name]])
            probabilities = np.concatenate([probabilities for _, probabilities in shown[name]])
            bins = reliability_bins(labels, probabilities)
            filled = bins.share > 0
            x, y, area = bins.confidence[filled], bins.accuracy[filled], bins.share[filled]
            errors = [expected_calibration_error(*seed) for seed in shown[name]]
            steady = area * len(labels) >= FEW
            axis.plot(x[steady], y[steady], label=_legend_text(errors, name), linewidth=1.4, **styles[name])
            axis.scatter(x, y, LARGEST_DOT * area, color=styles[name]["color"], alpha=0.7, linewidths=0, zorder=3)
        margin = 0.04 * (1 - floor)
        axis.set(xlim=(floor - margin, 1 + margin), ylim=(-0.04, 1.04))
        axis.set_xlabel("confidence", fontsize=9)
        _legend_below(axis, "ECE")
    title = f"Reliability over {_seeds(shown)}; the area of a dot is its share of the films"
    title += f"; dots of fewer than {FEW} films are not joined"
    _save(figure, title, left_out, path)
    return True


@style.context("default")  # whatever the user, or the process, has set
def _draw_panels(curve: _Curve, arms: Arms, classes: Sequence[str], path: Path) -> bool:
    shown, left_out = _shown(arms, classes)
    drawable = {
        label: {name: kept for name, seeds in shown.items() if (kept := [s for s in seeds if _has_both(s, label)])}
        for label in range(len(classes))
    }
    drawable = {label: lines for label, lines in drawable.items() if lines}
    if not drawable:
        return False
    styles = _styles(shown)
    figure, axes = _panels(len(drawable), curve.y, most_lines=max(len(lines) for lines in drawable.values()))
    for axis, (label, lines) in zip(axes, drawable.items(), strict=True):
        faint = max(0.05, min(0.15, 0.4 / len(lines)))  # many bands lie on each other
        for name, seeds in lines.items():
            found = [_operating_points(labels == label, scores[:, label]) for labels, scores in seeds]
            heights = np.stack([curve.line(*seed) for seed in found])
            mean, areas = heights.mean(axis=0), [curve.area(*seed) for seed in found]
            start = 0.0 if curve.rising else mean[0]
            axis.plot([0.0, *GRID], [start, *mean], label=_legend_text(areas, name), linewidth=1.4, **styles[name])
            if len(found) > 1:
                spread = heights.std(axis=0, ddof=1)
                low, high = np.clip(mean - spread, 0, 1), np.clip(mean + spread, 0, 1)
                axis.fill_between(GRID, low, high, color=styles[name]["color"], alpha=faint, linewidth=0)
        share = np.concatenate([labels == label for seeds in lines.values() for labels, _ in seeds]).mean()
        guessing = [0, 1] if curve.rising else [share, share]
        axis.plot([0, 1], guessing, color="0.6", linewidth=0.9, linestyle=":")
        axis.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02))
        axis.set_title(_plain(classes[label]), fontsize=10)
        axis.set_xlabel(curve.x, fontsize=9)
        _legend_below(axis, curve.area_name)
    several = any(len(seeds) > 1 for seeds in shown.values())
    title = f"{curve.title}, each class against the rest: " + (
        f"mean of {_seeds(shown)}; band: ± 1 standard deviation" if several else "one seed"
    )
    _save(figure, title, left_out, path)
    return True


def _operating_points(
    positive: NDArray[np.bool_], score: NDArray[np.float32]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Positives and others that score at least a threshold, from none of them to all.

    scikit-learn has the same points, but its checks of the input take ten times as long.
    """
    order = np.argsort(-score, kind="stable")
    last = np.append(np.flatnonzero(np.diff(score[order])), len(score) - 1)  # of each group of equal scores
    hits = np.cumsum(positive[order])[last]
    return np.append(0.0, hits), np.append(0.0, last + 1 - hits)


def _roc_area(hits: NDArray[np.float64], false_alarms: NDArray[np.float64]) -> float:
    return float(np.trapezoid(hits / hits[-1], false_alarms / false_alarms[-1]))


def _average_precision(hits: NDArray[np.float64], false_alarms: NDArray[np.float64]) -> float:
    return float(np.diff(hits / hits[-1]) @ (hits[1:] / (hits[1:] + false_alarms[1:])))


def _sensitivity(hits: NDArray[np.float64], false_alarms: NDArray[np.float64]) -> NDArray[np.float64]:
    """At every false-positive rate of ``GRID``."""
    rate, sensitivity = false_alarms / false_alarms[-1], hits / hits[-1]
    # The points on either side; where the curve rises upright, its upper end, which np.interp does not promise.
    right = np.searchsorted(rate, GRID, side="right")
    left, right = right - 1, np.minimum(right, len(rate) - 1)
    width = rate[right] - rate[left]
    part = (GRID - rate[left]) / np.where(width > 0, width, 1.0)
    return np.asarray(sensitivity[left] + part * (sensitivity[right] - sensitivity[left]), np.float64)


def _precision(hits: NDArray[np.float64], false_alarms: NDArray[np.float64]) -> NDArray[np.float64]:
    """At every recall of ``GRID``."""
    found = hits > 0
    precision, recall = hits[found] / (hits[found] + false_alarms[found]), hits[found] / hits[-1]
    # Recalls and grid are both quotients of whole numbers, so equal ones may differ in the last digit.
    return np.asarray(precision[np.searchsorted(recall, GRID - 1e-9, side="left")], np.float64)


def _shown(arms: Arms, classes: Sequence[str]) -> tuple[dict[str, Sequence[Predictions]], int]:
    """The arms to draw, ``real only`` first, and how many are left out. Arms and seeds without a film are none."""
    found: dict[str, Sequence[Predictions]] = {}
    for name in sorted(arms, key=lambda name: name != REAL_ONLY):
        for labels, probabilities in arms[name]:
            check_probabilities(probabilities, len(labels), len(classes))
        if seeds := [seed for seed in arms[name] if len(seed[0])]:
            found[name] = seeds
    return dict(list(found.items())[:MOST_ARMS]), max(0, len(found) - MOST_ARMS)


def _has_both(seed: Predictions, label: int) -> bool:
    positive = seed[0] == label
    return bool(positive.any() and not positive.all())


def _styles(names: Iterable[str]) -> dict[str, dict[str, Any]]:
    """Of each arm's line; ``real only`` is black and dashed in every figure."""
    others = [name for name in names if name != REAL_ONLY]
    styles: dict[str, dict[str, Any]] = {REAL_ONLY: {"color": "black", "linestyle": "--", "zorder": 4}}
    for i, (name, colour) in enumerate(zip(others, sns.color_palette("colorblind", len(others)), strict=True)):
        # The later colours are close to earlier ones, so the dashes tell them apart, too.
        styles[name] = {"color": colour, "linestyle": "-" if i < 4 else (0, (6, 1, 1, 1)), "zorder": 2}
    return styles


def _legend_text(values: list[float], name: str) -> str:
    """The number first: digits are all of one width, so the names stand in a column."""
    spread = f" ± {np.std(values, ddof=1):.3f}" if len(values) > 1 else ""
    return f"{np.mean(values):.3f}{spread}  {_plain(name)}"


def _plain(name: str) -> str:
    """Short enough for a panel; its dollar signs are no mathematics."""
    if len(name) > NAME_LENGTH:
        half = (NAME_LENGTH - 1) // 2
        name = f"{name[:half]}…{name[-half:]}"
    return name.replace("$", r"\$")


def _seeds(arms: Mapping[str, Sequence[Predictions]]) -> str:
    counts = sorted({len(seeds) for seeds in arms.values()})
    if len(counts) > 1:
        return f"{counts[0]} to {counts[-1]} seeds"
    return "one seed" if counts[0] == 1 else f"{counts[0]} seeds"


def _panels(count: int, y: str, most_lines: int) -> tuple[Figure, list[Axes]]:
    """A figure with ``count`` panels and room for a legend of ``most_lines`` below each."""
    rows = -(-count // 4)
    columns = -(-count // rows)
    height = 4.4 + 0.17 * (most_lines + 1)
    # Not pyplot's, which keeps every figure until it is told to close it.
    figure = Figure((WIDTH * columns, height * rows + 0.3), layout=ConstrainedLayoutEngine(h_pad=0.1, w_pad=0.08))
    axes = [figure.add_subplot(rows, columns, i + 1) for i in range(count)]
    for axis in axes[::columns]:
        axis.set_ylabel(y, fontsize=9)
    for axis in axes:
        axis.tick_params(labelsize=8)
        axis.grid(alpha=0.25, linewidth=0.6)
        axis.spines[["top", "right"]].set_visible(False)
    return figure, axes


def _legend_below(axis: Axes, title: str) -> None:
    """Below the panel, where it can hide no line."""
    axis.legend(
        loc="upper center",
        bbox_to_anchor=(0.5, -0.13),
        fontsize=8,
        title=title,
        title_fontsize=8,
        frameon=False,
        alignment="left",
    )


def _save(figure: Figure, title: str, left_out: int, path: Path) -> None:
    if left_out:
        title += f"; {left_out} {'arm that ranks lower is' if left_out == 1 else 'arms that rank lower are'} left out"
    width = int(figure.get_size_inches()[0] * 12)  # characters of this size per inch
    figure.suptitle(textwrap.fill(title, width), fontsize=10)
    path.parent.mkdir(parents=True, exist_ok=True)
    # Without the software's version in it, the same predictions give the same bytes.
    figure.savefig(path, dpi=DPI, metadata={"Software": None})
