"""Our feature extraction beside torch-fidelity's own call: the same films, the same features, in less time?

    python -m bench.feature_speed results/features [--data DIR] [--weights FILE]

Writes ``features.json`` (everything) and ``FEATURES.md``. The films go through torch-fidelity's public function for
features and through ours, by turns. Without the published weights its network gets random ones, in two ways
(``NETS``) that make rounding matter in different places.
"""

from __future__ import annotations

import argparse
import copy
import itertools
import json
import os
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
from torch import nn

from bench.quality import index_real, machine_lines, markdown
from cxrbench.cache import write_atomically
from cxrbench.contracts import Features, Pixels, no_progress
from cxrbench.errors import CxrbenchError, DataError, UsageError
from cxrbench.features.inception import Inception
from cxrbench.features.inception_net import PRECISIONS
from cxrbench.features.lite0 import BATCH, Lite0, weights_file
from cxrbench.features.lite0_net import folded_features, network_input
from cxrbench.features.pretrained import in_batches, in_colour
from cxrbench.features.weights import weights_digest
from cxrbench.machine import choose_device, describe_machine
from cxrbench.metrics.distances import frechet_distance, kernel_distance

Way = Callable[[Pixels], Features]

NETS = {
    "He's start": "random weights; films differ little beside what they share, and rounding is large beside that",
    "He's start, normalised": "the same after batch norms have seen films; every channel is spread, and rounding "
    "grows from layer to layer",
}
PUBLISHED = "published weights"
FD_BOUND = 1e-3  # of the distance: the most by which two ways may differ and be called the same
HALVINGS = 20  # ways to deal the films into two halves
FEWEST = 16  # films
THEIR_BATCH = 64  # torch-fidelity's default
WARM_UP = 4  # films
NORMALISED_BY = 32  # films, not among those measured


class GreyFilms(torch.utils.data.Dataset[torch.Tensor]):
    """Films as torch-fidelity takes them: uint8 ``[3, H, W]`` each."""

    def __init__(self, pixels: Pixels) -> None:
        self.pixels = pixels

    def __len__(self) -> int:
        return len(self.pixels)

    def __getitem__(self, row: int) -> torch.Tensor:
        return torch.from_numpy(np.repeat(self.pixels[row], 3, axis=0))


def torch_fidelity_ways(weights: Path, device: str) -> dict[str, Way]:
    """torch-fidelity's own extraction with its defaults, and its network alone; it is read beforehand."""
    from torch_fidelity.utils import create_feature_extractor, extract_featuresdict_from_input_id

    asked = {"cuda": device == "cuda", "verbose": False}
    name, layer = "inception-v3-compat", "2048"
    net = create_feature_extractor(name, [layer], feature_extractor_weights_path=str(weights), **asked)

    def call(pixels: Pixels) -> Features:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # torch's, of the many processes it starts
            found = extract_featuresdict_from_input_id(1, net, input1=GreyFilms(pixels), **asked)
        features: Features = found[layer].numpy()
        return features

    def alone(pixels: Pixels) -> Features:
        return in_batches(
            lambda films: net(in_colour(films))[0], pixels, THEIR_BATCH, Inception.dim, device, no_progress
        )

    return {"torch-fidelity's own call": call, "its network alone": alone}


def inception_ways(weights: Path, device: str) -> dict[str, Way]:
    """torch-fidelity's call first, then ours in each precision; ``$CXRBENCH_WEIGHTS`` must name ``weights``."""

    def ours(precision: str) -> Way:
        extractor = Inception(sha256_prefix=weights_digest(weights), precision=precision)
        return lambda pixels: extractor.extract(pixels, device)

    return torch_fidelity_ways(weights, device) | {f"inception, {name}": ours(name) for name in PRECISIONS}


def lite0_ways(device: str) -> dict[str, Way]:
    """lite0 as it is, and what it would be in bfloat16."""
    rounded = copy.deepcopy(folded_features(weights_file())).to(device, torch.bfloat16)

    def network(films: torch.Tensor) -> torch.Tensor:
        maps: torch.Tensor = rounded(network_input(films).bfloat16())
        return maps.float().mean(dim=(2, 3))

    return {
        "lite0, float32": lambda pixels: Lite0().extract(pixels, device),
        "lite0, bfloat16": lambda pixels: in_batches(network, pixels, BATCH, Lite0.dim, device, no_progress),
    }


def write_random_weights(path: Path, films: Pixels | None = None) -> None:
    """A file in the format of the published weights: kernels of He et al. (ICCV 2015), equation 10, and batch norms
    that do nothing, or that normalise every channel over ``films``."""
    import torch_fidelity.feature_extractor_inceptionv3 as upstream

    kind = upstream.FeatureExtractorInceptionV3
    with patch.object(upstream, "load_state_dict_from_url"), patch.object(kind, "load_state_dict"):
        net = kind("inception-v3-compat", ["2048"])  # nothing is fetched
    generator = torch.Generator().manual_seed(0)
    for layer in net.modules():
        if isinstance(layer, nn.Conv2d):
            nn.init.kaiming_normal_(layer.weight, nonlinearity="relu", generator=generator)
        elif isinstance(layer, nn.BatchNorm2d) and films is not None:
            layer.momentum = 1.0
            layer.train()
    if films is not None:
        net(in_colour(torch.from_numpy(films)))
    torch.save(net.state_dict(), path)


def measure(ways: Mapping[str, Way], pixels: Pixels, rounds: int) -> list[dict[str, Any]]:
    """Extract by turns, and compare each way's features with the first way's; a row per way."""
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    features: dict[str, Features] = {}
    for way in ways.values():
        way(pixels[:WARM_UP])
    for _ in range(rounds):
        for name, way in ways.items():
            started = time.perf_counter()
            features[name] = way(pixels)
            seconds[name].append(time.perf_counter() - started)
    first = next(iter(ways))
    rows = []
    for name, taken in seconds.items():
        ratio = float(np.median([theirs / mine for theirs, mine in zip(seconds[first], taken, strict=True)]))
        speed = {"seconds": taken, "films_per_second": len(pixels) / float(np.median(taken)), "times_as_fast": ratio}
        rows.append({"way": name, **speed, **differences(features[name], features[first])})
        print(f"{name}: {speed['films_per_second']:.1f} films/s, {ratio:.2f} x", flush=True)
    return rows


def differences(features: Features, reference: Features) -> dict[str, float]:
    """How far two ways to the features of the same films lie apart.

    Args:
        features, reference: float32 ``[N, D]``.

    Returns:
        ``largest`` of one number, and ``relative``: the norm of the difference over that of the reference about its
        mean. Over ``HALVINGS`` random halvings of the films: of the Frechet distance of the halves the relative
        difference (``fd_median``, ``fd_worst``), of KID the difference over its standard error (``kid_worst``).
    """
    apart = features - reference
    fd, kid = [], []
    for seed in range(HALVINGS):
        order = np.random.default_rng(seed).permutation(len(reference))
        one, other = order[: len(order) // 2], order[len(order) // 2 :]
        real = frechet_distance(reference[one], reference[other])
        fd.append(abs(frechet_distance(features[one], features[other]) - real) / real)
        value, error = kernel_distance(reference[one], reference[other])
        kid.append(abs(kernel_distance(features[one], features[other])[0] - value) / error)
    return {
        "largest": float(abs(apart).max()),
        "relative": float(np.linalg.norm(apart) / np.linalg.norm(reference - reference.mean(axis=0))),
        "fd_median": float(np.median(fd)),
        "fd_worst": max(fd),
        "kid_worst": max(kid),
    }


def read_films(text: str, count: int, size: int) -> tuple[Pixels, str]:
    """The first films of each class by turns, uint8 ``[count, 1, size, size]``, and the data set's name.

    Raises:
        UsageError: as ``cxrbench run --data``.
        DataError: the data set has not as many.
    """
    index = index_real(text)
    if len(index.films) < count:
        raise DataError(f"{index.name} has {len(index.films)} films, {count} are needed; ask for fewer with --films")
    by_class = [[film for film in index.films if film.label == label] for label in range(len(index.classes))]
    chosen = [film for row in itertools.zip_longest(*by_class) for film in row if film is not None][:count]
    return np.stack([index.dataset.read(film, size) for film in chosen])[:, None], index.name


def measure_all(
    pixels: Pixels, others: Pixels, device: str, rounds: int, weights: Path | None
) -> dict[str, list[dict[str, Any]]]:
    """Rows of ``measure`` by network: the published weights where they are given, else ``NETS``; and lite0.

    Args:
        pixels: the films that are measured.
        others: further films, for batch norms to see.

    Raises:
        UsageError: ``weights`` are not the published ones.
    """
    found: dict[str, list[dict[str, Any]]] = {}
    with tempfile.TemporaryDirectory(prefix="cxrbench-") as folder:
        files = {PUBLISHED: weights} if weights else _write_nets(Path(folder), others)
        for name, path in files.items():
            print(name)
            with patch.dict(os.environ, {"CXRBENCH_WEIGHTS": str(path)}):  # where extractors look first
                found[name] = measure(inception_ways(path, device), pixels, rounds)
    print("lite0")
    return found | {"lite0": measure(lite0_ways(device), pixels, rounds)}


def _write_nets(folder: Path, films: Pixels) -> dict[str, Path]:
    plain, normalised = NETS
    files = {name: folder / f"{number}.pth" for number, name in enumerate(NETS)}
    write_random_weights(files[plain])
    write_random_weights(files[normalised], films)
    return files


def page(record: Mapping[str, Any]) -> str:
    """The text of ``FEATURES.md``."""
    asked = record["asked"]
    head = ["network", "way", "films/s", "times as fast", "largest difference", "relative", "FD, median", "FD, worst"]
    rows = []
    for net, measured in record["nets"].items():
        for row in measured:
            speed = [f"{row['films_per_second']:.1f}", f"{row['times_as_fast']:.2f}"]
            apart = [f"{row[key]:.1e}" for key in ("largest", "relative", "fd_median", "fd_worst", "kid_worst")]
            rows.append([net, row["way"], *speed, *apart, "yes" if row["fd_worst"] <= FD_BOUND else "no"])
    notes = [f"* {net}: {what}." for net, what in NETS.items() if net in record["nets"]]
    return f"""# Features in less time

{asked["films"]} films of {asked["data"]}, {asked["size"]} px, {asked["rounds"]} rounds by turns.

{markdown([*head, "KID, worst", f"FD within {FD_BOUND:g}"], rows)}

Each network's first way is what the others are measured by. Times as fast: the median over rounds. Relative: the norm
of the difference over that of the features about their mean. FD: the relative difference of the distance between two
halves of the films, over {HALVINGS} random halvings; KID: the difference over its standard error.

{chr(10).join(notes)}

{machine_lines([record["machine"]])}
- `python -m bench.feature_speed FOLDER --data DIR` makes this page; `--weights FILE` takes the published weights.
"""


def main() -> int:
    """Measure, and write both files."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--data", default="phantom")
    parser.add_argument("--weights", type=Path, help="the published weights; else random ones")
    parser.add_argument("--films", type=int, default=64)
    parser.add_argument("--size", type=int, default=299, help="of the films, in pixels")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--device", default="cpu")
    asked = parser.parse_args()
    try:
        device = choose_device(asked.device)
        if asked.films < FEWEST or asked.rounds < 1:
            raise UsageError(f"--films must be at least {FEWEST}, --rounds at least 1")
        if asked.weights:
            check_weights(asked.weights)
        pixels, name = read_films(asked.data, asked.films + NORMALISED_BY, asked.size)
        facts = {"data": name, "films": asked.films, "size": asked.size, "rounds": asked.rounds}
        nets = measure_all(pixels[: asked.films], pixels[asked.films :], device, asked.rounds, asked.weights)
    except CxrbenchError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    record = {"asked": facts, "nets": nets, "machine": describe_machine(device)}
    write_atomically(asked.folder / "features.json", (json.dumps(record, indent=1) + "\n").encode())
    write_atomically(asked.folder / "FEATURES.md", page(record).encode())
    print(f"wrote {asked.folder / 'FEATURES.md'}")
    return 0


def check_weights(path: Path) -> None:
    """Raises UsageError unless the file is the published one; nothing is fetched."""
    if not path.is_file():
        raise UsageError(f"--weights {path} is no file")
    if (digest := weights_digest(path)) != (known := Inception().sha256_prefix):
        raise UsageError(f"--weights {path} has sha256 {digest}, the published file {known}; leave the option out")


if __name__ == "__main__":
    sys.exit(main())
