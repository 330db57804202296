"""Why does the student study's GAN fail? Its choices are undone one at a time, and kept one at a time.

    python -m bench.seed_diagnosis results/seed-diagnosis --data DIR [--steps 2500] [--size 64]

A variant's result is a file of its own, so variants can be made one by one and by several processes at once; a result
that is there and was asked for with the same settings is kept; delete its file to measure changed code. Nets are half
as wide as the study's unless ``--width 64`` says otherwise: at 64 px a variant takes one to three CPU minutes instead
of four to eight.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from bench import quality
from bench.quality import MEAN, Yardstick, cells, headings, markdown
from cxrbench.cache import Cache, default_cache_root, write_atomically
from cxrbench.contracts import Pixels, RunContext
from cxrbench.errors import CxrbenchError, Diverged
from cxrbench.hashing import plugin_parameters
from cxrbench.machine import choose_device, describe_machine
from cxrbench.stages import DataIndex
from cxrbench_baselines.generators.cgan_seed import SeedCGAN
from cxrbench_baselines.training import train


@dataclass(frozen=True)
class Choice:
    """One of the study's choices, and a parameter of ``SeedCGAN`` that undoes it."""

    study: str
    undone: str
    parameter: str
    value: Any


CHOICES = {
    "discriminator": Choice("a discriminator step per 10 of the generator", "one per step", "discriminator_every", 1),
    "norm": Choice("batch norm, over 4 films", "group norm, film by film", "normalise", "group"),
    "label": Choice("the label as one map", "the label beside the noise, and projected", "conditioning", "projection"),
    "dropout": Choice("dropout of 0.5 before the sigmoid", "none", "dropout", 0.0),
}
BATCH = 16  # batch norm's other cure; no part of "all undone", where it would quadruple the work
FIFTHS = 5  # stretches of training that the discriminator's accuracy is averaged over
SENSED = 32  # noises of each label
SURE = 3.0  # standard errors
PICTURED = 128  # px of a film in a picture, at most: they are drawn smaller than that
CONVOLUTIONS = ((4, 2),) * 4 + ((4, 1),)  # kernel and stride of the discriminator's; the generator has the first four


def variants(width: int) -> dict[str, SeedCGAN]:
    """Name -> unfitted generator: nothing undone, each choice alone, all, and all but one."""
    study = SeedCGAN(width=width)
    undo = {name: {choice.parameter: choice.value} for name, choice in CHOICES.items()}
    keep = {name: {choice.parameter: getattr(study, choice.parameter)} for name, choice in CHOICES.items()}
    every = {choice.parameter: choice.value for choice in CHOICES.values()}
    return {
        "study": study,
        f"batch-{BATCH}": replace(study, batch=BATCH),
        **{f"undo-{name}": replace(study, **undo[name]) for name in CHOICES},
        "undo-all": replace(study, **every),
        **{f"keep-{name}": replace(study, **{**every, **keep[name]}) for name in CHOICES},
    }


def title(name: str) -> str:
    """A variant's name in words."""
    act, _, choice = name.partition("-")
    if choice in CHOICES:
        return f"undone: {CHOICES[choice].study}" if act == "undo" else f"all undone but: {CHOICES[choice].study}"
    return {"study": "as the study has it", "undo-all": "all undone"}.get(name, f"undone: batch of 4 (now {BATCH})")


def sensitivity(films: Mapping[int, Pixels]) -> dict[str, float]:
    """What noise and label do to a film, as root mean square differences of pixels, in grey levels.

    Args:
        films: label -> uint8 ``[N, 1, H, W]``; films i of all labels come from the same noise.

    Returns:
        ``noise``: of two films of one label; ``label``: of two films of one noise.
    """
    flat = {label: some.reshape(len(some), -1).astype(np.float64) for label, some in films.items()}
    side = next(iter(flat.values())).shape[1] ** 0.5
    pairs = [np.linalg.norm(flat[one] - flat[other], axis=1).mean() for one, other in combinations(flat, 2)]
    noise = np.mean([quality.mean_distance(some) for some in flat.values()])
    return {"noise": float(noise / side), "label": float(np.mean(pairs) / side)}


def checkerboard(pixels: Pixels) -> float:
    """Root mean square of the pattern of period 2 px (+ - over - +) in uint8 ``[N, 1, H, W]``, in grey levels."""
    even = pixels[..., : pixels.shape[2] // 2 * 2, : pixels.shape[3] // 2 * 2].astype(np.float64)
    a, b, c, d = even[..., ::2, ::2], even[..., ::2, 1::2], even[..., 1::2, ::2], even[..., 1::2, 1::2]
    return float(np.sqrt((((a - b - c + d) / 4) ** 2).mean()))


def reach(layers: Sequence[tuple[int, int]]) -> int:
    """Pixels across that one feature sees after convolutions of these kernels and strides (of transposed ones: that
    one cell of the input reaches)."""
    seen, apart = 1, 1
    for kernel, stride in layers:
        seen, apart = seen + (kernel - 1) * apart, apart * stride
    return seen


def measure_variant(generator: SeedCGAN, stick: Yardstick, steps: int, device: str) -> dict[str, Any]:
    """Fit, sample and measure; where the fit diverges, say so."""
    seen: list[Tensor] = []

    def step(number: int) -> Mapping[str, Tensor]:
        losses = generator.training_step(number)
        seen.extend(value for name, value in losses.items() if name == "discriminator_accuracy")
        return losses

    sets = stick.sets
    with tempfile.TemporaryDirectory(prefix="cxrbench-") as folder:
        fitting, sampling = (
            RunContext(seed, device, steps, Path(folder)) for seed in (quality.FIT_SEED, quality.SAMPLING_SEED)
        )
        generator.setup(stick.data.train, fitting)
        try:
            _, cost = quality.timed(lambda: train(step, fitting))
        except Diverged as error:
            return {"status": "diverged", "error": str(error)}
        films = quality.sample_set(generator, sets, sampling)
        # The noise depends on the seed and the number of films alone, so it is the same for every label.
        same = {label: generator.sample(np.full(SENSED, label), sampling) for label in sets.n}
    fewest = min(SENSED, *sets.n.values())
    real = {label: sets.reference.of_class(label).pixels[:fewest] for label in sets.n}
    parts = np.array_split(np.asarray([float(value) for value in seen]), FIFTHS)
    return {
        "status": "ok",
        "cost": asdict(cost),
        "scores": stick.measure(films),
        "accuracy": [float(part.mean()) for part in parts if len(part)],
        "sensitivity": sensitivity(same),
        "real_sensitivity": sensitivity(real),
        "checkerboard": checkerboard(films.pixels) / checkerboard(sets.reference.pixels),
        "films": films,
    }


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
        found = [_fall(rows, *pair) for pair in pairs_of(name)]
        if None in found:
            return ""
        (alone, sure), (last, sure_last) = (pair for pair in found if pair)
        kind = "breaks" if sure and sure_last else "late" if sure or sure_last else "not"
        said[kind].append(f"{choice.study} (KID falls by {alone:.0f} undone alone, by {last:.0f} undone last)")
    titles = {"breaks": "Breaks it", "late": "Harms it beside some of the others", "not": "Not shown to harm it"}
    lines = [f"* **{titles[kind]}**: {'; '.join(choices)}." for kind, choices in said.items() if choices]
    return (
        "\n".join(
            [*lines, "", f"A fall counts from {SURE:g} standard errors on, of the films measured; not of the fit."]
        )
        + "\n"
    )


def _fall(rows: Mapping[str, dict[str, Any]], before: str, after: str) -> tuple[float, bool] | None:
    """By how much the KID x 1000 falls, and whether by more than its standard errors allow."""
    if before not in rows or after not in rows:
        return None
    one, other = rows[before]["scores"][MEAN], rows[after]["scores"][MEAN]
    fall, error = one["kid_mean"] - other["kid_mean"], math.hypot(one["kid_std"], other["kid_std"])
    return 1000 * fall, fall > SURE * error


def _shown(rows: Mapping[str, dict[str, Any]], before: str, after: str) -> str:
    found = _fall(rows, before, after)
    if found is None:
        return ""
    diversity = rows[after]["scores"][MEAN]["diversity"] - rows[before]["scores"][MEAN]["diversity"]
    return f"{-found[0]:+.1f}; diversity {diversity:+.2f}"


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


def settings_of(index: DataIndex, asked: argparse.Namespace) -> dict[str, Any]:
    """What all variants of a page have in common."""
    data = {"data": index.name, "data_hash": index.hash, "per_class": asked.per_class, "size": asked.size}
    return {"steps": asked.steps, "seed": quality.FIT_SEED, **data}


def make_rows(chosen: Sequence[str], index: DataIndex, asked: argparse.Namespace) -> None:
    """Measure the variants that are not there yet."""
    device, stick = choose_device(asked.device), None
    for name, generator in variants(asked.width).items():
        if name not in chosen:
            continue
        settings = {"params": plugin_parameters(generator), **settings_of(index, asked)}
        stem = asked.folder / "rows" / f"{asked.size}px-{name}"
        if quality.read_row(stem.with_suffix(".json"), settings):
            print(f"{name}: kept")
            continue
        if stick is None:
            cache = Cache(default_cache_root())
            stick = quality.load_yardstick(index, asked.size, asked.per_class, device, cache)
        found = measure_variant(generator, stick, asked.steps, device)
        if "films" in found:
            quality.write_picture(
                quality.shrunk(found.pop("films"), min(asked.size, PICTURED)), stem.with_suffix(".png")
            )
        facts = {"floor": stick.floor(), "machine": describe_machine(device)}
        quality.write_row(stem.with_suffix(".json"), {"row": name, "asked": settings, **found, **facts})
        print(f"{name}: {found['status']}, {found.get('cost', found.get('error'))}", flush=True)


def write_page(folder: Path, common: dict[str, Any], width: int) -> None:
    """``DIAGNOSIS.md``, and a picture for each size, of all variants that are there.

    Rows of other settings than ``common`` (the size may differ) or of another width are left out: they say nothing
    beside these.
    """
    found = [json.loads(path.read_text(encoding="utf-8")) for path in (folder / "rows").glob("*px-*.json")]
    stored = [row for row in found if _settings(row) == {**common, "size": row["asked"]["size"], "width": width}]
    sizes = sorted({row["asked"]["size"] for row in stored})
    parts = [f"# Why the study's GAN fails\n\n{stored[0]['asked']['data']}. {quality.MEASURES}\n"]
    for size in sizes:
        by_name = {row["row"]: row for row in stored if row["asked"]["size"] == size}
        rows = {name: by_name[name] for name in variants(1) if name in by_name}
        pictures = {
            title(name): folder / "rows" / f"{size}px-{name}.png" for name, row in rows.items() if row["status"] == "ok"
        }
        if pictures:
            quality.draw_pictures(
                pictures, [name for name in stored[0]["floor"] if name != MEAN], folder / f"{size}px.png"
            )
        parts.append(page(rows, size))
    parts.append(on_size(sorted({*sizes, 64, 300}), stored))
    machines = quality.machine_lines([row["machine"] for row in stored])
    parts.append(f"{machines}\n- `python -m bench.seed_diagnosis FOLDER --data DIR` makes this page.\n")
    write_atomically(folder / "DIAGNOSIS.md", "\n".join(parts).encode())
    print(f"wrote {folder / 'DIAGNOSIS.md'}")


def _settings(row: dict[str, Any]) -> dict[str, Any]:
    own: dict[str, Any] = row["asked"]
    return {**{key: value for key, value in own.items() if key != "params"}, "width": own["params"]["width"]}


def main() -> int:
    """Make the variants that were asked for, then the page of all that are there."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--data", required=True)
    parser.add_argument("--steps", type=int, default=2500)
    parser.add_argument("--size", type=int, default=64)
    parser.add_argument("--width", type=int, default=32)
    parser.add_argument("--only", help="names of variants, with commas between them")
    parser.add_argument("--per-class", type=int, default=quality.PER_CLASS)
    parser.add_argument("--device", default="cpu")
    asked = parser.parse_args()
    try:
        chosen = quality.chosen_names(asked.only, list(variants(asked.width)))
        index = quality.index_real(asked.data)
        make_rows(chosen, index, asked)
        write_page(asked.folder, settings_of(index, asked), asked.width)
    except CxrbenchError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
