"""Small extractors, folders of phantom films, and the command that compares them."""

import functools
import json
import shutil
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
import pytest
from PIL import Image

from cxrbench.contracts import WeightsUnavailable
from cxrbench.datasets.phantom import CLASSES, Phantom
from cxrbench.feature_files import FeatureSet, save_features
from cxrbench.registry import EXTRACTORS


@dataclass
class Tiny:
    """Mean and spread of each quarter of a film."""

    name: ClassVar[str] = "tiny"
    dim: ClassVar[int] = 8
    fd_label: ClassVar[str] = "FD-tiny"
    kd_label: ClassVar[str] = "KID-tiny"
    resize: ClassVar[str] = "no further"
    weights: ClassVar[str] = "a" * 64

    def weights_sha256(self):
        return self.weights

    def extract(self, pixels, device, progress):
        half = pixels.shape[-1] // 2
        quarters = [
            pixels[..., :half, :half],
            pixels[..., half:, :half],
            pixels[..., :half, half:],
            pixels[..., half:, half:],
        ]
        means = [quarter.mean(axis=(1, 2, 3)) / 255 for quarter in quarters]
        spreads = [quarter.std(axis=(1, 2, 3)) / 255 for quarter in quarters]
        return np.stack([*means, *spreads], axis=1).astype(np.float32)


class Constant(Tiny):
    name = "constant"

    def extract(self, pixels, device, progress):
        return np.ones((len(pixels), 8), np.float32)


class Broken(Tiny):
    name = "broken"

    def extract(self, pixels, device, progress):
        return np.full((len(pixels), 8), np.nan, np.float32)


class Absent(Tiny):
    name = "absent"
    fd_label = "FD-absent"

    def weights_sha256(self):
        raise WeightsUnavailable("its weights are nowhere")


@pytest.fixture(autouse=True)
def extractors(monkeypatch):
    for extractor in (Tiny, Constant, Broken, Absent):
        monkeypatch.setitem(EXTRACTORS._decorated, extractor.name, extractor)
    monkeypatch.setenv("COLUMNS", "120")


def write_films(root, per_class=16, seed=0, classes=CLASSES[:2], noise=False):
    """Phantom films of 32 px (or noise) in class folders."""
    for number, (label, pixels) in enumerate(draw(per_class, seed)):
        if label in classes:
            (root / label).mkdir(parents=True, exist_ok=True)
            grain = np.random.default_rng([seed, number]).integers(0, 256, pixels.shape, np.uint8)
            Image.fromarray(grain if noise else pixels).save(root / label / f"{number:03d}.png")
    return root


@functools.cache
def draw(per_class, seed):
    phantom = Phantom(patients_per_class=per_class, max_films=1, seed=seed)
    return [(CLASSES[film.label], phantom.read(film, 32)) for film in phantom.listing().films]


@pytest.fixture
def films(tmp_path):
    """``films(name, ...)`` is ``write_films`` to a folder of that name."""
    return lambda name, *args, **options: write_films(tmp_path / name, *args, **options)


@pytest.fixture
def compare(cli, tmp_path):
    """Runs the command with few resamples and returns its JSON."""

    def command(generated, reference, *options, extractor="tiny"):
        out = tmp_path / "out.json"
        extractors = ["--extractors", extractor] if extractor else []
        usual = ["--size", "32", "--device", "cpu", "--resamples", "20", "--out", out, *extractors]
        assert cli("compare", generated, reference, *usual, *options) == 0
        return json.loads(out.read_text())

    return command


@pytest.fixture(scope="module")
def material(tmp_path_factory):
    """Sets to refuse: name -> path."""
    root = tmp_path_factory.mktemp("material")
    made = {"nowhere": root / "nowhere", "gone": root / "gone.npz", "empty": root / "empty"}
    for seed, name in enumerate(("generated", "real", "blank", "others")):
        made[name] = write_films(root / name, 8, seed)
    for path in made["blank"].rglob("*.png"):
        Image.fromarray(np.full((32, 32), 90, np.uint8)).save(path)
    for name in CLASSES[:2]:
        (made["others"] / name).rename(made["others"] / f"not {name}")
    (made["empty"] / "COVID").mkdir(parents=True)
    made["mixed"] = write_films(root / "mixed", 8, classes=["COVID"])
    shutil.copy(next((made["real"] / "COVID").iterdir()), made["mixed"] / "loose.png")
    rng = np.random.default_rng(0)
    features, labels = rng.random((16, 8), np.float32), np.repeat([0, 1], 8)
    kept = FeatureSet(features, labels, CLASSES[:2], "tiny", Tiny.weights, Tiny.resize, 32, "a hash")
    changes = {"kept": {}, "other weights": {"weights_sha256": "b" * 64}, "other extractor": {"extractor": "constant"}}
    for name, change in {**changes, "other size": {"size": 64}}.items():
        made[name] = root / f"{name}.npz"
        save_features(made[name], replace(kept, **change))
    made["pickled"], made["torn"] = root / "pickled.npz", root / "torn.npz"
    np.savez(made["pickled"], features=np.asarray([{}]))
    made["torn"].write_bytes(made["kept"].read_bytes()[:-100])
    return made


@pytest.fixture(name="Tiny")
def tiny_fixture():
    """``Tiny``, for tests that change it."""
    return Tiny
