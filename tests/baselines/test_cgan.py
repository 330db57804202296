"""The conditional GAN: that it learns class and variety."""

import contextlib

import numpy as np
import pytest
import torch

from cxrbench.checks import toy_films
from cxrbench.contracts import Images, RunContext
from cxrbench.errors import UsageError
from cxrbench_baselines.generators.cgan import CGAN
from cxrbench_baselines.generators.cgan_nets import FAINTEST, CGANGenerator, UnitPower
from cxrbench_baselines.generators.detail import excess_likeness


def context(tmp_path, seed=0, budget=0):
    return RunContext(seed, "cpu", budget, tmp_path)


def test_a_film_does_not_depend_on_the_others_of_its_batch():
    net = CGANGenerator(32, 3, width=4, latent=8).eval()
    noise, labels = torch.randn(5, 8), torch.tensor([0, 1, 2, 0, 1])
    with torch.inference_mode():
        together, alone = net(noise, labels), net(noise[2:3], labels[2:3])
    assert torch.allclose(together[2:3], alone, atol=1e-5)


def test_each_net_moves_at_every_step(tmp_path):
    generator = CGAN(width=4, discriminator_width=4, batch=6)
    generator.setup(toy_films(16), context(tmp_path))
    for step in range(2):
        before = {name: [p.clone() for p in net.parameters()] for name, net in nets_of(generator).items()}
        losses = generator.training_step(step)
        assert 0 <= losses["discriminator_accuracy"] <= 1
        for name, net in nets_of(generator).items():
            assert any(not torch.equal(a, b) for a, b in zip(before[name], net.parameters(), strict=True)), name


def test_variety_adds_what_generated_detail_is_too_alike_by_to_the_generators_loss(tmp_path):
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (24, 1, 32, 32), dtype=np.uint8)
    losses = {}
    for variety in (0.0, 2.0):
        generator = CGAN(width=4, discriminator_width=4, batch=6, variety=variety)
        generator.setup(Images(pixels, np.repeat([0, 1], 12), ("a", "b")), context(tmp_path))
        [part] = generator._parts_of_batch(0)
        fake = generator._drawn(part)[:1].repeat(6, 1, 1, 1)
        losses[variety] = generator._generator_loss(part, fake).item()
    excess = excess_likeness(fake, part.real, part.labels).item()
    assert excess > 0.5
    assert losses[2.0] - losses[0.0] == pytest.approx(2 * excess, rel=1e-3)


def test_unit_power_is_what_its_formula_says_forwards_and_backwards():
    generator = torch.Generator().manual_seed(0)
    maps = torch.randn(3, 4, 5, 5, generator=generator, dtype=torch.float64).requires_grad_(True)
    scale, shift = (torch.randn(3, 4, 1, 1, generator=generator, dtype=torch.float64) for _ in range(2))
    scale, shift = scale.requires_grad_(True), shift.requires_grad_(True)
    plain = maps * (maps.square().mean(dim=(1, 2, 3), keepdim=True) + FAINTEST).rsqrt() * scale + shift
    ours = UnitPower.apply(maps, scale, shift)
    assert torch.allclose(ours, plain, rtol=1e-12)
    weight = torch.randn(plain.shape, generator=generator, dtype=torch.float64)
    expected = torch.autograd.grad((plain * weight).sum(), (maps, scale, shift))
    for found, wanted in zip(torch.autograd.grad((ours * weight).sum(), (maps, scale, shift)), expected, strict=True):
        assert torch.allclose(found, wanted, rtol=1e-10, atol=1e-12)


def test_maps_of_nothing_have_finite_gradients():
    maps = torch.zeros(2, 3, 4, 4, requires_grad=True)
    UnitPower.apply(maps, torch.ones(2, 3, 1, 1), torch.zeros(2, 3, 1, 1)).sum().backward()
    assert torch.isfinite(maps.grad).all()


def test_a_batch_in_parts_gives_the_gradients_of_the_whole(tmp_path, monkeypatch):
    """Sorted by class, so that the spread within each class is that of a part; step 0 has the penalties."""
    gradients = {}
    for parts in (1, 2):
        generator = CGAN(width=4, discriminator_width=4, batch=12, accumulate=parts)
        generator.setup(toy_films(16), context(tmp_path))
        films, labels = generator._nets.batches.at(0)
        labels = torch.arange(12, device=labels.device) // 6
        monkeypatch.setattr(generator._nets.batches, "at", lambda step, films=films, labels=labels: (films, labels))
        monkeypatch.setattr("cxrbench_baselines.generators.cgan.precision", lambda device: contextlib.nullcontext())
        monkeypatch.setattr(
            "cxrbench_baselines.generators.stabilisers.precision", lambda device: contextlib.nullcontext()
        )
        for name in ("generator_optimizer", "discriminator_optimizer"):
            monkeypatch.setattr(getattr(generator._nets, name), "step", lambda: None)
        losses = generator.training_step(0)
        gradients[parts] = {
            f"{name}.{key}": weight.grad
            for name, net in nets_of(generator).items()
            for key, weight in net.named_parameters()
            if weight.grad is not None
        } | losses
    assert gradients[1].keys() == gradients[2].keys()
    for key, whole in gradients[1].items():
        assert torch.allclose(gradients[2][key], whole, rtol=1e-3, atol=1e-6), key


@pytest.mark.parametrize("parts", [0, 5, 24])
def test_a_batch_that_does_not_divide_is_refused(tmp_path, parts):
    with pytest.raises(UsageError, match="does not divide the batch of 12"):
        CGAN(batch=12, accumulate=parts).setup(toy_films(16), context(tmp_path))


def nets_of(generator):
    return {name: part for name, part in generator.parts().items() if name in ("generator", "discriminator")}


def test_cgan_learns_the_class_and_keeps_films_apart(tmp_path):
    """Direction: after a short fit, class means are ordered as in the data and films differ."""
    rng = np.random.default_rng(0)
    labels = np.repeat([0, 1, 2], 40)
    levels = 40 + 80 * labels + rng.integers(-25, 25, len(labels))
    pixels = np.broadcast_to(levels[:, None, None, None], (len(labels), 1, 32, 32)).astype(np.uint8)
    train = Images(pixels.copy(), labels, ("a", "b", "c"))
    generator = CGAN(width=4, discriminator_width=16, batch=24, average_over=0.05, augment=False)
    generator.fit(train, context(tmp_path, budget=200))
    labels = np.repeat([0, 1, 2], 24)
    films = generator.sample(labels, context(tmp_path, seed=1))
    means = [films[labels == label].mean() for label in range(3)]
    assert means == sorted(means)
    assert means[2] - means[0] > 40
    assert films[labels == 0].astype(float).std(axis=0).mean() > 3
