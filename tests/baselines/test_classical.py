"""Classical augmentation: what flips and rotations do, and that they do what they always did."""

import numpy as np
import torch
from torch.nn import functional as F

from cxrbench.checks import toy_films
from cxrbench.contracts import Images, RunContext
from cxrbench_baselines.generators.classical import Classical


def context(tmp_path, seed=0):
    return RunContext(seed, "cpu", 0, tmp_path)


def asymmetric_films():
    """One film per class with a single bright corner (top left)."""
    pixels = np.zeros((3, 1, 16, 16), np.uint8)
    pixels[:, :, :4, :4] = 200
    pixels += np.asarray([0, 20, 40], np.uint8)[:, None, None, None]
    return Images(pixels, np.arange(3), ("a", "b", "c"))


def test_classical_without_flip_or_rotation_returns_training_films(tmp_path):
    train = asymmetric_films()
    generator = Classical(flip=0.0, degrees=0.0).fit(train, context(tmp_path))
    labels = np.asarray([2, 0, 1])
    assert np.array_equal(generator.sample(labels, context(tmp_path)), train.pixels[labels])


def test_classical_flip_is_a_mirror_image(tmp_path):
    train = asymmetric_films()
    generator = Classical(flip=1.0, degrees=0.0).fit(train, context(tmp_path))
    labels = np.asarray([0, 1, 2])
    assert np.array_equal(generator.sample(labels, context(tmp_path)), train.pixels[..., ::-1])


def test_classical_rotation_moves_the_corner_but_keeps_the_brightness(tmp_path):
    train = asymmetric_films()
    films = (
        Classical(flip=0.0, degrees=10.0)
        .fit(train, context(tmp_path))
        .sample(np.zeros(20, np.int64), context(tmp_path))
    )
    assert not np.array_equal(films[0], films[1])
    assert abs(films.mean() - train.pixels[0].mean()) < 6


def test_classical_takes_films_of_the_wanted_class_only(tmp_path):
    train = toy_films(16)
    generator = Classical().fit(train, context(tmp_path))
    labels = np.repeat([0, 2], 30)
    films = generator.sample(labels, context(tmp_path))
    assert films[labels == 0].mean() + 80 < films[labels == 2].mean()


def test_classical_returns_what_it_did_before_its_warp_was_shared(tmp_path):
    """The first version's draws and formula, written out: committed results must stay reproducible bit by bit."""
    train, labels = toy_films(19, per_class=5), np.arange(300, dtype=np.int64) % 3
    films = Classical().fit(train, context(tmp_path)).sample(labels, context(tmp_path, seed=4))
    rng = np.random.default_rng(4)
    own = [train.pixels[train.labels == label] for label in range(3)]
    chosen = np.stack([own[label][int(u * 5)] for label, u in zip(labels, rng.random(300), strict=True)])
    mirror = np.where(rng.random(300) < 0.5, -1.0, 1.0)
    angles = np.deg2rad(rng.uniform(-10.0, 10.0, 300))
    cos, sin, zero = np.cos(angles), np.sin(angles), np.zeros(300)
    matrix = np.stack([np.stack([mirror * cos, -mirror * sin, zero], 1), np.stack([sin, cos, zero], 1)], 1)
    for rows in (slice(0, 256), slice(256, 300)):
        old = torch.from_numpy(chosen[rows]).float()
        grid = F.affine_grid(torch.from_numpy(matrix[rows]).float(), list(old.shape), align_corners=False)
        turned = F.grid_sample(old, grid, mode="bilinear", padding_mode="border", align_corners=False)
        assert np.array_equal(films[rows], turned.round().clamp(0, 255).to(torch.uint8).numpy())
