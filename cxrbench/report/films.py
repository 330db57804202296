"""Pictures that show films: what a generator draws, and which of its films look copied."""

from __future__ import annotations

from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
from numpy.typing import NDArray

from cxrbench.report.sections import Section
from cxrbench.store import Store

SHOWN = 8  # films per row of a sample grid
DPI = 100


def sample_grid(section: Section, store: Store, path: Path) -> bool:
    """Per class: a row of real films, then a row of each generator's (its first seed). False if none."""
    blocks: dict[str, NDArray[np.uint8]] = {}
    for record in sorted(section.of("fidelity"), key=lambda r: r.trial.generator_seed or 0):
        if record.trial.generator and record.trial.generator.control:
            continue
        name = record.trial.generator.name if record.trial.generator else "real"
        stack = store.pictures(record.key).get("generated" if record.trial.generator else "real")
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
        text = "\n".join([section.classes[label], *name.split(":")])
        axis.set_ylabel(text, rotation=0, ha="right", va="center", fontsize=8)
    _title(figure, f"{section.data}, {size} px: real films and each generator's first films")
    save_picture(figure, path)
    return True


def suspicious_pairs(section: Section, store: Store, path: Path) -> bool:
    """Per generator (its first seed): the films nearest to a training film, above that film. False if none."""
    strips: dict[str, NDArray[np.uint8]] = {}
    for record in sorted(section.of("memorization"), key=lambda r: r.trial.generator_seed or 0):
        pairs = store.pictures(record.key).get("suspicious")
        generator = record.trial.generator
        shown = generator is not None and generator.control in (None, "copy", "oracle")  # what to compare with
        if pairs is not None and shown:
            strips.setdefault(generator.name if generator else "", pairs)
    if not strips:
        return False
    figure, axes = plt.subplots(len(strips), 1, figsize=(9.5, 2.2 * len(strips)), squeeze=False)
    for axis, (name, pairs) in zip(axes[:, 0], sorted(strips.items()), strict=True):
        count, size = len(pairs), pairs.shape[-1]
        rows = pairs[:, :, 0].transpose(1, 2, 0, 3).reshape(2 * size, count * size)  # synthetic above real
        axis.imshow(rows, cmap="gray", vmin=0, vmax=255, interpolation="nearest")
        axis.set_xticks([])
        axis.set_yticks([size / 2, 1.5 * size], ["synthetic", "training"], fontsize=8)
        axis.set_title(name, fontsize=9, loc="left")
    _title(figure, f"{section.data}: synthetic films nearest to a training film, and that film")
    save_picture(figure, path)
    return True


def _title(figure: plt.Figure, text: str) -> None:
    """A line above everything, however tall the figure is."""
    height = figure.get_figheight()  # inches
    figure.suptitle(text, fontsize=10, y=1 - 0.05 / height, va="top")
    figure.tight_layout(rect=(0, 0, 1, 1 - 0.3 / height))


def save_picture(figure: plt.Figure, path: Path) -> None:
    """Write a PNG and close the figure."""
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.set_layout_engine(None)  # it is laid out: with an engine, even a spent one, saving draws twice
    # Without the software's version in it, the same records give the same bytes.
    figure.savefig(path, dpi=DPI, metadata={"Software": None})
    plt.close(figure)
