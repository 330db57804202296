"""The rows of the seed recipe's diagnosis as a page to read."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from bench.quality import MEAN, cells, headings, markdown
from bench.seed_variants import CHOICES, FIFTHS, title, variants

SURE = 3.0  # standard errors
CONVOLUTIONS = ((4, 2),) * 4 + ((4, 1),)  # kernel and stride of the discriminator's; the generator has the first four


def reach(layers: Sequence[tuple[int, int]]) -> int:
    """Pixels across that one feature sees after convolutions of these kernels and strides (of transposed ones: that
    one cell of the input reaches)."""
    seen, apart = 1, 1
    for kernel, stride in layers:
        seen, apart = seen + (kernel - 1) * apart, apart * stride
    return seen


def page(rows: Mapping[str, dict[str, Any]], size: int) -> str:
    """The tables of one size, of the variants that are there (name -> row)."""
    first = next(iter(rows.values()))
    asked, floor = first["asked"], first["floor"]
    classes = [name for name in floor if name != MEAN]
    done = {name: row for name, row in rows.items() if row["status"] == "ok"}
    table = [["held-out real films", *cells(floor, classes), *[""] * 5]]
    for name, row in rows.items():
        if name not in done:
            table.append([title(name), row["error"], *[""] * (len(headings(classes)) + 4)])
            continue
        felt, minutes = row["sensitivity"], row["cost"]["cpu_seconds"] / 60
        told = " ".join(f"{share:.2f}" for share in row["accuracy"])
        last = [told, f"{felt['noise']:.1f}", f"{felt['label']:.1f}", f"{row['checkerboard']:.1f}", f"{minutes:.1f}"]
        table.append([title(name), *cells(row["scores"], classes), *last])
    more = ["discriminator is right", "noise", "label", "checkerboard", "CPU minutes"]
    effects = [
        [choice.study, choice.undone, *(_shown(done, *pair) for pair in pairs_of(name))]
        for name, choice in CHOICES.items()
    ]
    real = next((row["real_sensitivity"] for row in done.values()), {"noise": 0.0, "label": 0.0})
    return f"""## {size} px

{asked["steps"]} steps of batch {asked["params"]["batch"]}, nets of width {asked["params"]["width"]} (the study's: 64),
each variant fitted once.

{markdown(["variant", *headings(classes), *more], table)}

What undoing a choice does to the mean KID-lite0 x 1000, and to diversity (below 0 the KID falls, films get better):

{markdown(["the study's choice", "undone", "undone alone", "undone as the last of all"], effects)}

{blame(done)}
The discriminator's share of right answers is given for {FIFTHS} equal stretches of training. *Noise* and *label* are
root mean square differences of two films in grey levels: of one label under two noises, and of one noise under two
labels ({real["noise"]:.1f} and {real["label"]:.1f} between real films of one class, and of two). *Checkerboard* is the
strength of the pattern of period 2 px over that in real films.

![The first films of each variant]({size}px.png)
"""


def pairs_of(choice: str) -> tuple[tuple[str, str], tuple[str, str]]:
    """The variants before and after a choice is undone: alone, and as the last of all."""
    return ("study", f"undo-{choice}"), (f"keep-{choice}", "undo-all")


def blame(rows: Mapping[str, dict[str, Any]]) -> str:
    """Which choices break the recipe, in a paragraph; nothing where a variant is missing."""
    said: dict[str, list[str]] = {"breaks": [], "late": [], "not": []}
    for name, choice in CHOICES.items():
        alone, last = (_fall(rows, *pair) for pair in pairs_of(name))
        if alone is None or last is None:
            return ""
        kind = "breaks" if alone.sure and last.sure else "late" if alone.sure or last.sure else "not"
        said[kind].append(f"{choice.study} (KID falls by {alone.kid:.0f} undone alone, by {last.kid:.0f} undone last)")
    titles = {"breaks": "Breaks it", "late": "Harms it beside some of the others", "not": "Not shown to harm it"}
    lines = [f"* **{titles[kind]}**: {'; '.join(choices)}." for kind, choices in said.items() if choices]
    counted = f"A fall counts from {SURE:g} standard errors on, of the films measured; not of the fit."
    return "\n".join([*lines, "", counted, ""])


class _Fall(NamedTuple):
    """By how much the KID x 1000 falls, and whether by more than its standard errors allow."""

    kid: float
    sure: bool


def _fall(rows: Mapping[str, dict[str, Any]], before: str, after: str) -> _Fall | None:
    """From one variant to another; None where one is missing."""
    if before not in rows or after not in rows:
        return None
    one, other = rows[before]["scores"][MEAN], rows[after]["scores"][MEAN]
    fall, error = one["kid_mean"] - other["kid_mean"], math.hypot(one["kid_std"], other["kid_std"])
    return _Fall(1000 * fall, fall > SURE * error)


def _shown(rows: Mapping[str, dict[str, Any]], before: str, after: str) -> str:
    found = _fall(rows, before, after)
    if found is None:
        return ""
    diversity = rows[after]["scores"][MEAN]["diversity"] - rows[before]["scores"][MEAN]["diversity"]
    return f"{-found.kid:+.1f}; diversity {diversity:+.2f}"


def on_size(sizes: Sequence[int], stored: Sequence[Mapping[str, Any]]) -> str:
    """What films of 300 px ask of a stack of 4x4 kernels, and what variants that were fitted at several sizes say."""
    cell, seen = reach(CONVOLUTIONS[:4]), reach(CONVOLUTIONS)
    table = [
        [str(size), f"{-(-size // 16)} x {-(-size // 16)}", f"{min(1, cell / size):.0%}", f"{min(1, seen / size):.0%}"]
        for size in sizes
    ]
    return f"""## Is it the 300 px?

{markdown(["px", "cells drawn from the noise", "of the width, one cell reaches", "one feature sees"], table)}

By geometry one would think so. Four doublings by 4x4 kernels carry a cell of the generator's first layer {cell} px far,
and a feature of the discriminator's last convolution sees {seen} px, whatever the size: at 64 px that is the film. At
300 px no feature of the discriminator sees both lungs, its only look at the whole is a weighted sum of 17 x 17 local
opinions, and the generator lays 19 x 19 cells side by side that nothing but the first dense layer makes agree.

{_by_size(stored)}
A kernel of 4 at stride 2 overlaps evenly (Odena, Dumoulin & Olah, "Deconvolution and checkerboard artifacts", Distill
2016), so the stack does not force a checkerboard: that comes from weights not yet learned, with a period of 2 px, or
16 px where cells differ.
"""


def _by_size(stored: Sequence[Mapping[str, Any]]) -> str:
    """A paragraph on variants that were fitted at more than one size; empty where there is none."""
    found: dict[str, dict[int, str]] = {}
    for row in stored:
        if row["status"] == "ok":
            mean = row["scores"][MEAN]
            kid = f"{1000 * mean['kid_mean']:.0f} ± {1000 * mean['kid_std']:.0f}"
            found.setdefault(row["row"], {})[row["asked"]["size"]] = kid
    lines = [
        f"* {title(name)}: " + ", ".join(f"{kid} at {size} px" for size, kid in sorted(kids.items()))
        for name in variants(1)
        if len(kids := found.get(name, {})) > 1
    ]
    told = "What the fits say, KID-lite0 x 1000, each against real films of its own size:"
    meant = "A variant that does no worse at the larger size is not held back by the reach of its kernels."
    return "\n".join([told, "", *lines, "", meant, ""]) if lines else ""
