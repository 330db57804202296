"""What the family's table and the seed recipe's diagnosis share: what a fit costs, and what its films are worth.

Generated films are measured against training films of their class in ``lite0`` features, beside what as many held-out
real films score there. A page is made of stored rows alone, so that rows can be measured one by one and side by side.
"""

from __future__ import annotations

import io
import json
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from cxrbench.cache import Cache, write_atomically
from cxrbench.comparison import RealSets, choose_real_sets
from cxrbench.contracts import Features, Generator, Images, Pixels, RunContext, Scores, no_progress
from cxrbench.datasets.resolve import resolve_dataset
from cxrbench.errors import DataError, UsageError
from cxrbench.film_features import extract_features
from cxrbench.metrics.distances import kernel_distance
from cxrbench.metrics.diversity import vendi_score
from cxrbench.metrics.nearest import appearance, nearest
from cxrbench.metrics.prdc import LEAST_PRDC, density_coverage, precision_recall
from cxrbench.registry import EXTRACTORS
from cxrbench.spec import spec_of_tier
from cxrbench.stages import DataIndex, LoadedData, index_data, load_and_split

PER_CLASS = 400  # films of each class that are measured, where there are as many held-out ones
SHOWN = 10  # films of each class in a picture
PICTURED = 128  # px of a film in a picture, at most: figures draw them smaller than that
FIT_SEED, SAMPLING_SEED = 0, 1  # they differ, or the noise of the first training step would be drawn again
MEAN = "mean"  # in scores: over the classes
MEASURES = f"""KID-lite0 is the unbiased kernel distance to as many training films of the class, x 1000, with its
standard error; precision, recall, density and coverage are taken in the same features. Diversity is the mean distance
of two films of a class over that of two training films; Vendi counts the films that a class amounts to. Nearest is
the median distance to the nearest training film (in small pictures, mirrored or not) over that of held-out films:
copies have 0. All but KID by class are means over the classes. Fits have seed {FIT_SEED}; held-out films show what
real ones score."""

T = TypeVar("T")


@dataclass(frozen=True)
class Cost:
    """What a piece of work took: ``cpu_seconds`` of all threads together, and ``wall_seconds``."""

    cpu_seconds: float
    wall_seconds: float


def timed(work: Callable[[], T]) -> tuple[T, Cost]:
    """Do the work; its result and its cost."""
    cpu, wall = time.process_time(), time.perf_counter()
    found = work()
    return found, Cost(round(time.process_time() - cpu, 2), round(time.perf_counter() - wall, 2))


@dataclass
class Yardstick:
    """Real films of one size, and what films of that size score against them."""

    data: LoadedData
    sets: RealSets
    device: str
    cache: Cache

    def measure(self, films: Images) -> dict[str, Scores]:
        """Class name or ``mean`` -> ``kid_mean``, ``kid_std``, ``precision``, ``recall``, ``density``, ``coverage``,
        ``diversity``, ``vendi`` and ``nn_ratio`` (see ``MEASURES``).

        Args:
            films: of this yardstick's size, of each class as many as ``sets.n`` says.
        """
        return self._scores(films, EXTRACTORS.create("lite0").extract(films.pixels, self.device, no_progress))

    def floor(self) -> dict[str, Scores]:
        """The same of held-out real films; their ``nn_ratio`` is 1."""
        return self._scores(self.sets.held_out, self._features(self.sets.held_out))

    def _scores(self, films: Images, features: Features) -> dict[str, Scores]:
        found: dict[str, Scores] = {}
        for label, name in enumerate(films.classes):
            mine, theirs = features[films.labels == label], self._reference[self.sets.reference.labels == label]
            kid, error = kernel_distance(mine, theirs)
            precision, recall = precision_recall(mine, theirs)
            density, coverage = density_coverage(mine, theirs)
            near, usual = (self._to_nearest(some.of_class(label).pixels) for some in (films, self.sets.held_out))
            found[name] = {
                "kid_mean": kid,
                "kid_std": error,
                "precision": precision,
                "recall": recall,
                "density": density,
                "coverage": coverage,
                "diversity": mean_distance(mine) / mean_distance(theirs),
                "vendi": vendi_score(mine),
                "nn_ratio": near / usual,
            }
        return found | {MEAN: _mean(list(found.values()))}

    def _to_nearest(self, pixels: Pixels) -> float:
        return float(np.median(nearest(appearance(pixels), *self._train).distance))

    @cached_property
    def _train(self) -> tuple[Features, Features]:
        pixels = self.data.train.pixels
        return appearance(pixels), appearance(pixels[..., ::-1])

    @cached_property
    def _reference(self) -> Features:
        return self._features(self.sets.reference)

    def _features(self, films: Images) -> Features:
        return extract_features(films, EXTRACTORS.create("lite0"), self.device, self.cache, no_progress)


def index_real(text: str) -> DataIndex:
    """List the data set that ``--data`` means; raises UsageError or DataError as ``cxrbench run`` does."""
    return index_data(*resolve_dataset(text))


def load_yardstick(index: DataIndex, size: int, per_class: int, device: str, cache: Cache) -> Yardstick:
    """Decode and split the real films as a run of tier ``cpu`` does, at this size in pixels.

    Raises:
        DataError: a class has too few films to measure with.
    """
    spec = spec_of_tier("cpu").model_copy(update={"image_size": size, "fidelity_images": per_class})
    data = load_and_split(index, spec, 0, cache)
    sets = choose_real_sets(data, spec)
    for label, count in sets.n.items():
        if count < LEAST_PRDC:
            raise DataError(
                f"{index.name}: {count} films of class {data.images.classes[label]!r} can be measured, {LEAST_PRDC} "
                "are needed; give more films, or a larger --per-class"
            )
    return Yardstick(data, sets, device, cache)


def sample_set(generator: Generator, sets: RealSets, ctx: RunContext) -> Images:
    """As many generated films of each class as there are real ones to measure them by."""
    labels = np.repeat(np.fromiter(sets.n, np.int64), np.fromiter(sets.n.values(), np.int64))
    return Images(generator.sample(labels, ctx), labels, sets.reference.classes)


def shrunk(films: Images, size: int) -> Images:
    """Films averaged over areas to ``size`` pixels; unchanged where they have that size."""
    if films.size == size:
        return films
    small = [
        np.asarray(Image.fromarray(film).resize((size, size), Image.Resampling.BOX)) for film in films.pixels[:, 0]
    ]
    return Images(np.stack(small)[:, None], films.labels, films.classes, films.groups)


def mean_distance(features: NDArray[Any]) -> float:
    """Mean Euclidean distance of two different rows of ``[N, D]``; N > 1."""
    from scipy.spatial.distance import pdist

    return float(pdist(features).mean())


def _mean(scores: Sequence[Scores]) -> Scores:
    found = {name: float(np.mean([one[name] for one in scores])) for name in scores[0]}
    return found | {"kid_std": math.hypot(*(one["kid_std"] for one in scores)) / len(scores)}  # of a mean of KIDs


def write_row(path: Path, row: Mapping[str, Any]) -> None:
    """Store a row as JSON; a reader finds the old one or the new one, never a part."""
    write_atomically(path, (json.dumps(row, indent=1, allow_nan=False) + "\n").encode())


def read_row(path: Path, asked: Mapping[str, Any]) -> dict[str, Any] | None:
    """The stored row, or None where there is none or something else was asked of it.

    What was asked includes the data and the parameters, not the code: delete the file to measure changed code.
    """
    if not path.exists():
        return None
    row: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return row if row["asked"] == json.loads(json.dumps(asked)) else None


def write_picture(films: Images, path: Path) -> None:
    """A PNG of the first ``SHOWN`` films of each class: a row per class, pixel for pixel up to ``PICTURED``."""
    films = shrunk(films, min(films.size, PICTURED))
    rows = [np.resize(np.flatnonzero(films.labels == label), SHOWN) for label in range(len(films.classes))]
    picture = np.concatenate([np.concatenate(films.pixels[row, 0], axis=1) for row in rows])
    held = io.BytesIO()
    Image.fromarray(picture).save(held, "PNG", optimize=True)
    write_atomically(path, held.getvalue())


def draw_pictures(pictures: Mapping[str, Path], classes: Sequence[str], path: Path) -> None:
    """One figure of what ``write_picture`` wrote, each under its name."""
    from cxrbench.report.films import plt, save_picture

    figure, axes = plt.subplots(len(pictures), 1, figsize=(9.5, 2.9 * len(pictures)), squeeze=False)
    for axis, (name, file) in zip(axes[:, 0], pictures.items(), strict=True):
        picture = np.asarray(Image.open(file))
        axis.imshow(picture, cmap="gray", vmin=0, vmax=255)
        places = (np.arange(len(classes)) + 0.5) * len(picture) / len(classes)
        axis.set_yticks(places, [who.replace(" ", "\n") for who in classes], fontsize=8)
        axis.set_xticks([])
        axis.set_title(name, fontsize=9, loc="left")
    figure.tight_layout(rect=(0.03, 0, 1, 1))  # it measures names of two lines too narrow
    save_picture(figure, path)
    with Image.open(path) as drawn:  # films are grey, and static compresses badly: half of the bytes
        grey = drawn.convert("L")
    grey.save(path, optimize=True)


def chosen_names(only: str | None, known: Sequence[str]) -> list[str]:
    """The names that ``--only`` lists; all where it is not given.

    Raises:
        UsageError: one of them is not known.
    """
    chosen = only.split(",") if only else list(known)
    if unknown := set(chosen) - set(known):
        raise UsageError(f"--only {', '.join(sorted(unknown))}: there are {', '.join(known)}")
    return chosen


def headings(classes: Sequence[str]) -> list[str]:
    """Of ``cells``."""
    kids = [f"KID-lite0, {name}" for name in classes]
    return [*kids, "KID-lite0, mean", "precision", "recall", "density", "coverage", "diversity", "Vendi", "nearest"]


def cells(scores: Mapping[str, Scores], classes: Sequence[str]) -> list[str]:
    """The scores of ``Yardstick.measure`` as they are shown."""
    mean = scores[MEAN]
    shares = [f"{mean[name]:.2f}" for name in ("precision", "recall", "density", "coverage", "diversity")]
    kids = [f"{1000 * scores[name]['kid_mean']:.1f}" for name in classes]
    error = f"{1000 * mean['kid_mean']:.1f} ± {1000 * mean['kid_std']:.1f}"
    return [*kids, error, *shares, f"{mean['vendi']:.1f}", f"{mean['nn_ratio']:.2f}"]


def markdown(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table."""
    lines = ["| " + " | ".join(row) + " |" for row in (head, *rows)]
    return "\n".join([lines[0], "| --- " * len(head) + "|", *lines[1:]])


def machine_lines(machines: Sequence[Mapping[str, Any]]) -> str:
    """A line for each machine that rows were measured on."""
    lines = []
    for machine in machines:
        versions = ", ".join(f"{name} {number}" for name, number in machine["versions"].items())
        lines.append(f"- {machine['device']}, {machine['threads']} threads, python {machine['python']}; {versions}")
    return "\n".join(dict.fromkeys(lines))
