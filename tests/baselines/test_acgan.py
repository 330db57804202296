"""AC-GAN: CovidGAN's nets to the layer, both heads learn, and either net moves in its own step only."""

import copy

import numpy as np
import pytest
import torch
from torch import nn

from cxrbench.checks import check_generator, toy_films
from cxrbench.contracts import RunContext
from cxrbench.errors import UsageError
from cxrbench_baselines.batches import to_signed
from cxrbench_baselines.generators.acgan import ACGAN, ACGANDiscriminator, ACGANGenerator


def ready(tmp_path, train=None, seed=0, **params):
    generator = ACGAN(**{"width": 4, "batch": 12, "latent": 8} | params)
    generator.setup(toy_films(32) if train is None else train, RunContext(seed, "cpu", 0, tmp_path))
    return generator


def layers(net, kind):
    return [module for module in net.modules() if isinstance(module, kind)]


def weights(net):
    return torch.cat([parameter.detach().flatten() for parameter in net.parameters()])


def test_at_112_px_the_nets_are_covidgans():
    recipe = ACGAN()
    assert (recipe.batch, recipe.rate, recipe.beta1, recipe.dropout, recipe.latent) == (64, 2e-4, 0.5, 0.5, 100)
    generator = ACGANGenerator(112, 2, 4 * recipe.width, recipe.latent)
    discriminator = ACGANDiscriminator(112, 2, recipe.width, recipe.dropout)
    assert generator.start == 7
    ups = layers(generator, nn.ConvTranspose2d)
    assert [up.in_channels for up in ups] == [1025, 512, 256, 128]
    assert {up.kernel_size for up in ups} == {(5, 5)}
    downs = layers(discriminator, nn.Conv2d)
    assert [down.out_channels for down in downs] == [32, 64, 128, 256, 512]
    assert [down.stride for down in downs] == [(1, 1)] + [(2, 2)] * 4
    assert [round(len(weights(net)) / 1e6) for net in (generator, discriminator)] == [22, 2]  # as it is quoted
    assert len(layers(generator, nn.BatchNorm2d)) == 3
    assert len(layers(discriminator, nn.BatchNorm2d)) == len(layers(discriminator, nn.Dropout)) == 5


@pytest.mark.parametrize("size", [32, 50, 75, 112, 299, 300])
def test_any_size_is_reached_by_construction(size):
    films = ACGANGenerator(size, 3, 4, 10)(torch.zeros(2, 10), torch.tensor([0, 2]))
    source, classes = ACGANDiscriminator(size, 3, 2, 0.5)(films)
    assert films.shape == (2, 1, size, size)
    assert (source.shape, classes.shape) == ((2,), (2, 3))


def test_acgan_keeps_the_contract_with_other_parameters():
    check_generator(ACGAN(width=2, batch=3, latent=5, dropout=0.0), size=50)


def test_either_net_moves_in_its_own_step_only(tmp_path):
    state = (gan := ready(tmp_path))._nets
    real, labels = state.batches.at(0)
    before = weights(state.generator), weights(state.discriminator)
    gan._discriminator_step(real, labels, 0)
    between = weights(state.generator), weights(state.discriminator)
    assert torch.equal(before[0], between[0])
    assert not torch.equal(before[1], between[1])
    gan._generator_step(labels, 1)
    assert not torch.equal(between[0], weights(state.generator))
    assert torch.equal(between[1], weights(state.discriminator))


def test_every_step_has_noise_of_its_own_which_depends_on_the_seed_and_the_step_alone(tmp_path):
    def noises(seed, steps):
        gan, seen = ready(tmp_path, seed=seed), []
        gan._nets.generator.register_forward_pre_hook(lambda net, inputs: seen.append(inputs[0].clone()))
        for step in steps:
            gan.training_step(step)
        return seen

    all_steps = noises(3, range(4))
    assert len({noise.numpy().tobytes() for noise in all_steps}) == len(all_steps) == 8
    assert all(torch.equal(a, b) for a, b in zip(all_steps[6:], noises(3, [3]), strict=True))
    assert not torch.equal(all_steps[6], noises(4, [3])[0])


def test_the_class_head_learns_and_the_films_follow_it(tmp_path):
    """Direction: class means of the samples are ordered as in the data, and unseen films are named rightly."""
    # At this rate the classes part within 60 steps; at half of it, when they do depends on the last bits of a sum.
    gan = ready(tmp_path, toy_films(32, per_class=40), width=8, batch=24, rate=1e-3, dropout=0.0)
    for step in range(100):
        gan.training_step(step)
    unseen = toy_films(32, per_class=20, seed=1)
    with torch.no_grad():
        _, classes = gan._nets.discriminator.eval()(to_signed(torch.from_numpy(unseen.pixels)))
    assert (classes.argmax(dim=1).numpy() == unseen.labels).mean() > 0.8
    labels = np.repeat([0, 1, 2], 20)
    films = gan.sample(labels, RunContext(1, "cpu", 0, tmp_path))
    low, middle, high = (films[labels == label].mean() for label in range(3))
    assert low + 15 < middle < high - 15


def test_accuracy_is_the_share_of_films_judged_rightly(tmp_path):
    gan = ready(tmp_path)
    real, labels = gan._nets.batches.at(0)
    judge = gan._nets.discriminator.source
    for bias, share in [(1e3, 0.5), (-1e3, 0.5)]:  # all called real, none called real
        nn.init.constant_(judge.bias, bias)
        assert gan._discriminator_step(real, labels, 0)["discriminator_accuracy"].item() == share


def test_parts_name_all_that_training_changes(tmp_path):
    gan = ready(tmp_path)
    before = {name: str(part.state_dict()) for name, part in gan.parts().items()}
    gan.training_step(0)
    assert all(str(part.state_dict()) != before[name] for name, part in gan.parts().items())
    again = ready(tmp_path)
    for name, part in again.parts().items():
        part.load_state_dict(copy.deepcopy(gan.parts()[name].state_dict()))  # Adam keeps what it is given
    for each in (gan, again):
        torch.manual_seed(0)
        each.training_step(1)
    assert torch.equal(weights(gan._nets.generator), weights(again._nets.generator))


def test_a_class_of_one_film_and_a_batch_larger_than_the_films_are_trained(tmp_path):
    films = toy_films(32, per_class=3)
    rare = films.subset(np.flatnonzero((films.labels != 2) | (np.arange(len(films)) < 3)))
    assert np.bincount(rare.labels)[2] == 1
    losses = ready(tmp_path, rare, batch=40).training_step(0)
    assert all(np.isfinite(value.item()) and not value.requires_grad for value in losses.values())


def test_a_batch_of_one_is_refused():
    with pytest.raises(UsageError, match="acgan:batch=1 is too small"):
        ACGAN(batch=1).preflight(32)
