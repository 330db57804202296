"""Records -> pictures."""

from __future__ import annotations

from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
import seaborn as sns
from numpy.typing import NDArray

from cxrbench.report.tables import REAL_ONLY, Section, utility_table
from cxrbench.store import Store

SHOWN = 8  # films per row of a sample grid
DPI = 100


def ratio_curves(section: Section, path: Path) -> bool:
    """Macro AUROC against the ratio: a line per generator, a dot per seed. False where nothing was drawn."""
    table = utility_table(section)
    if table.empty or (table["generator"] != REAL_ONLY).sum() == 0:
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
    figure.suptitle(f"{section.data}, tier {section.tier}: a dot is one seed", fontsize=10)
    _save(figure, path)
    return True


def confusion_matrices(section: Section, store: Store, path: Path) -> bool:
    """Row-normalised confusion of every arm, summed over seeds. False where nothing was drawn."""
    arms: dict[tuple[str, str, float], NDArray[np.int64]] = {}
    size = len(section.classes)
    for record in section.of("utility"):
        arrays = store.arrays(record.key)
        if not arrays:
            continue
        trial = record.trial
        name = trial.generator.name if trial.generator else REAL_ONLY
        arm = (trial.classifier.name if trial.classifier else "", name, trial.ratio or 0.0)
        cells = arrays["labels"] * size + arrays["probabilities"].argmax(axis=1)
        arms[arm] = arms.get(arm, np.zeros((size, size), np.int64)) + np.bincount(cells, minlength=size * size).reshape(
            size, size
        )
    if not arms:
        return False
    columns = min(4, len(arms))
    rows = -(-len(arms) // columns)
    figure, axes = plt.subplots(rows, columns, figsize=(2.7 * columns, 2.7 * rows), squeeze=False)
    for axis in axes.flat[len(arms) :]:
        axis.axis("off")
    for axis, ((classifier, generator, ratio), counts) in zip(axes.flat, sorted(arms.items()), strict=False):
        share = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
        axis.imshow(share, cmap="Blues", vmin=0, vmax=1)
        for (row, column), value in np.ndenumerate(counts):
            colour = "white" if share[row, column] > 0.5 else "black"
            axis.text(column, row, str(value), ha="center", va="center", fontsize=8, color=colour)
        axis.set_xticks(range(size), section.classes, fontsize=6)
        axis.set_yticks(range(size), section.classes, fontsize=6, rotation=90, va="center")
        label = generator if generator == REAL_ONLY else f"{generator} x {ratio:g}"
        axis.set_title(f"{classifier}: {label}", fontsize=8)
    figure.supxlabel("predicted", fontsize=8)
    figure.supylabel("true", fontsize=8)
    _save(figure, path)
    return True


def sample_grid(section: Section, store: Store, path: Path) -> bool:
    """Per class: a row of real films, then a row of each generator's (its first seed). False if none."""
    blocks: dict[str, NDArray[np.uint8]] = {}
    for record in sorted(section.of("fidelity"), key=lambda r: r.trial.generator_seed or 0):
        name = record.trial.generator.name if record.trial.generator else "real"
        pictures = store.pictures(record.key)
        stack = pictures.get("real" if name == "real" else "generated")
        if stack is not None:
            blocks.setdefault(name, stack.reshape(len(section.classes), SHOWN, *stack.shape[-2:]))
    if not blocks:
        return False
    names = sorted(blocks, key=lambda name: (name != "real", name))
    size = blocks[names[0]].shape[-1]
    rows = len(section.classes) * len(names)
    figure, axes = plt.subplots(rows, 1, figsize=(9.5, 1.08 * rows), squeeze=False)
    for axis, (label, name) in zip(
        axes[:, 0], [(label, name) for label in range(len(section.classes)) for name in names], strict=True
    ):
        strip = blocks[name][label].transpose(1, 0, 2).reshape(size, SHOWN * size)
        axis.imshow(strip, cmap="gray", vmin=0, vmax=255, interpolation="nearest")
        axis.set_xticks([])
        axis.set_yticks([])
        text = f"{section.classes[label]}\n{name}"
        axis.set_ylabel(text, rotation=0, ha="right", va="center", fontsize=8)
    figure.suptitle(f"{section.data}, {size} px: real films and each generator's first films", fontsize=10)
    _save(figure, path)
    return True


def _means(arm) -> NDArray[np.float64]:  # type: ignore[no-untyped-def]
    means = arm.groupby("ratio")["auroc_macro"].mean().sort_index()
    return np.stack([means.index.to_numpy(float), means.to_numpy(float)], axis=1)


def _save(figure: plt.Figure, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.tight_layout()
    # Without the software's version in it, the same records give the same bytes.
    figure.savefig(path, dpi=DPI, metadata={"Software": None})
    plt.close(figure)
