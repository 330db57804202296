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
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from bench import quality
from bench.quality import MEAN, Yardstick
from bench.seed_diagnosis_page import on_size, page
from bench.seed_variants import FIFTHS, title, variants
from cxrbench.cache import Cache, default_cache_root, write_atomically
from cxrbench.contracts import Pixels, RunContext
from cxrbench.errors import CxrbenchError, Diverged
from cxrbench.hashing import plugin_parameters
from cxrbench.machine import choose_device, describe_machine
from cxrbench.stages import DataIndex
from cxrbench_baselines.generators.cgan_seed import SeedCGAN
from cxrbench_baselines.training import train

SENSED = 32  # noises of each label


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
            quality.write_picture(found.pop("films"), stem.with_suffix(".png"))
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
