"""What each generator is, and that it learns something."""

import numpy as np
import pytest
import torch
from torch import nn

from cxrbench.checks import toy_films
from cxrbench.contracts import Images, RunContext
from cxrbench.errors import UsageError
from cxrbench_baselines.generators.cgan import CGAN
from cxrbench_baselines.generators.cgan_seed import SeedCGAN, SeedDiscriminator, SeedGenerator
from cxrbench_baselines.generators.classical import Classical
from cxrbench_baselines.generators.stabilisers import append_spread, r1_penalty


def context(tmp_path, seed=0, budget=0):
    return RunContext(seed, "cpu", budget, tmp_path)


def layers(net, kind):
    return [module for module in net.modules() if isinstance(module, kind)]


def test_the_seed_recipe_is_the_studys():
    recipe = SeedCGAN()
    assert (recipe.batch, recipe.rate, recipe.beta1, recipe.discriminator_every) == (4, 2e-4, 0.5, 10)
    generator, discriminator = SeedGenerator(300, 2, 64, 100), SeedDiscriminator(300, 2, 64, 0.5)
    ups = layers(generator, nn.ConvTranspose2d)
    assert [up.kernel_size for up in ups] == [(4, 4)] * 4
    assert ups[-2].out_channels == 64
    assert len(layers(generator, nn.BatchNorm2d)) == 3
    convolutions = layers(discriminator, nn.Conv2d)
    assert convolutions[0].in_channels == 2
    assert len(convolutions) == 5
    assert len(layers(discriminator, nn.BatchNorm2d)) == 3
    assert layers(discriminator, nn.Dropout)[0].p == 0.5
    assert isinstance(list(discriminator.judge)[-1], nn.Sigmoid)


def test_the_seed_discriminator_moves_at_every_tenth_step_only(tmp_path):
    generator = SeedCGAN(width=4)
    generator.setup(toy_films(32), context(tmp_path))
    discriminator, sampler = generator._state.discriminator, generator._state.generator
    moved = []
    for step in range(12):
        before = [p.clone() for p in discriminator.parameters()], [p.clone() for p in sampler.parameters()]
        generator.training_step(step)
        moved.append(any(not torch.equal(a, b) for a, b in zip(before[0], discriminator.parameters(), strict=True)))
        assert any(not torch.equal(a, b) for a, b in zip(before[1], sampler.parameters(), strict=True))
    assert [step for step, has_moved in enumerate(moved) if has_moved] == [0, 10]


def test_the_seed_recipe_refuses_films_its_stack_cannot_take():
    with pytest.raises(UsageError, match="at least 32 px"):
        SeedCGAN().preflight(16)


def test_r1_of_a_linear_discriminator_is_its_squared_weight():
    weight = torch.randn(1, 8, 8)
    real = torch.randn(5, 1, 8, 8)
    penalty = r1_penalty(lambda x: (x * weight).sum(dim=(1, 2, 3)), real, "cpu")
    assert penalty.item() == pytest.approx(weight.square().sum().item(), rel=2e-2)  # bf16 where the CPU has it


def test_spread_is_zero_for_equal_films_and_taken_per_group():
    same, varied = torch.ones(4, 3, 2, 2), torch.randn(4, 3, 2, 2)
    spread = append_spread(torch.cat([same, varied]), groups=2)[:, -1]
    assert spread[:4].abs().max() < 1e-3
    assert spread[4:].min() > 0.1
    assert spread[4:].std() < 1e-6


def test_cgan_learns_the_class_and_keeps_films_apart(tmp_path):
    """Direction: after a short fit, class means are ordered as in the data and films differ."""
    rng = np.random.default_rng(0)
    labels = np.repeat([0, 1, 2], 40)
    levels = 40 + 80 * labels + rng.integers(-25, 25, len(labels))
    pixels = np.broadcast_to(levels[:, None, None, None], (len(labels), 1, 32, 32)).astype(np.uint8)
    train = Images(pixels.copy(), labels, ("a", "b", "c"))
    generator = CGAN(width=8, batch=24, decay=0.9).fit(train, context(tmp_path, budget=200))
    labels = np.repeat([0, 1, 2], 24)
    films = generator.sample(labels, context(tmp_path, seed=1))
    means = [films[labels == label].mean() for label in range(3)]
    assert means == sorted(means)
    assert means[2] - means[0] > 40
    assert films[labels == 0].astype(float).std(axis=0).mean() > 5


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
