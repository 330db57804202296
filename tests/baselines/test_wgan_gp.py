"""WGAN-GP: the penalty in closed form, algorithm 1's order of steps, and a critic that points the right way."""

import copy

import numpy as np
import pytest
import torch
from torch import nn

from cxrbench.checks import check_generator, toy_films
from cxrbench.contracts import RunContext
from cxrbench.errors import UsageError
from cxrbench_baselines.generators.wgan_gp import WGANGP, WGANGPCritic, WGANGPGenerator, gradient_penalty


def ready(tmp_path, train=None, seed=0, **params):
    generator = WGANGP(**{"width": 4, "batch": 12, "latent": 8, "critic_steps": 2} | params)
    generator.setup(toy_films(32) if train is None else train, RunContext(seed, "cpu", 0, tmp_path))
    return generator


def weights(net):
    return torch.cat([parameter.detach().flatten() for parameter in net.parameters()])


def test_the_defaults_are_algorithm_1s():
    recipe = WGANGP()
    assert (recipe.penalty, recipe.critic_steps, recipe.rate, recipe.batch) == (10.0, 5, 1e-4, 64)
    assert (recipe.beta1, recipe.beta2) == (0.0, 0.9)
    norms = [m for m in WGANGPCritic(64, 2, 4).modules() if isinstance(m, nn.BatchNorm2d)]
    assert norms == []


@pytest.mark.parametrize("length", [0.0, 0.5, 1.0, 3.0])
def test_penalty_of_a_linear_critic_is_its_squared_distance_from_length_one(length):
    weight = torch.randn(1, 8, 8)
    weight *= length / weight.norm()
    real, fake, share = torch.randn(5, 1, 8, 8), torch.randn(5, 1, 8, 8), torch.rand(5)
    penalty = gradient_penalty(lambda x: (x * weight).sum(dim=(1, 2, 3)), real, fake, share, "cpu")
    assert penalty.item() == pytest.approx((length - 1) ** 2, abs=2e-2)  # bf16 where the CPU has it


@pytest.mark.parametrize(("share", "expected"), [(1.0, 0.6), (0.0, 0.2), (0.25, 0.3)])
def test_penalty_is_taken_at_the_mixture_that_share_says(share, expected):
    """The gradient of half the squared length is the film itself."""
    real, fake = torch.full((2, 1, 4, 4), 0.6 / 4), torch.full((2, 1, 4, 4), 0.2 / 4)
    penalty = gradient_penalty(lambda x: x.square().sum(dim=(1, 2, 3)) / 2, real, fake, torch.full((2,), share), "cpu")
    assert penalty.item() == pytest.approx((expected - 1) ** 2, rel=2e-2)


def test_penalty_of_a_flat_critic_has_a_finite_gradient():
    scale = torch.zeros((), requires_grad=True)
    films = torch.randn(2, 1, 4, 4)
    penalty = gradient_penalty(lambda x: (scale * x).sum(dim=(1, 2, 3)), films, films, torch.rand(2), "cpu")
    penalty.backward()
    assert penalty.item() == 1.0
    assert torch.isfinite(scale.grad)


@pytest.mark.parametrize("size", [32, 50, 75, 299, 300])
def test_any_size_is_reached_by_construction(size):
    labels = torch.tensor([0, 2])
    films = WGANGPGenerator(size, 3, 4, 10)(torch.zeros(2, 10), labels)
    assert films.shape == (2, 1, size, size)
    assert WGANGPCritic(size, 3, 4)(films, labels).shape == (2,)


def test_wgan_gp_keeps_the_contract_with_other_parameters():
    check_generator(WGANGP(width=2, batch=3, latent=5, critic_steps=1), size=50)


def test_the_critic_starts_near_slope_one_at_any_size():
    """He et al.'s initial weights: without them the signal fades with every doubling."""
    labels = torch.zeros(8, dtype=torch.int64)
    for size in (32, 128):
        films = torch.randn(8, 1, size, size, requires_grad=True)
        (slope,) = torch.autograd.grad(WGANGPCritic(size, 1, 8)(films, labels).sum(), films)
        assert 0.2 < slope.flatten(1).norm(dim=1).mean() < 5


def test_the_label_reaches_the_score():
    critic, films = WGANGPCritic(32, 2, 4), torch.randn(3, 1, 32, 32)
    nn.init.normal_(critic.project.weight)
    assert not torch.allclose(critic(films, torch.tensor([0, 0, 0])), critic(films, torch.tensor([1, 1, 1])))


def test_either_net_moves_in_its_own_step_only(tmp_path):
    state = (gan := ready(tmp_path))._nets
    real, labels = state.batches.at(0)
    before = weights(state.generator), weights(state.discriminator)
    gan._critic_step(real, labels, 0)
    between = weights(state.generator), weights(state.discriminator)
    assert torch.equal(before[0], between[0])
    assert not torch.equal(before[1], between[1])
    gan._generator_step(labels, 2)
    assert not torch.equal(between[0], weights(state.generator))
    assert torch.equal(between[1], weights(state.discriminator))


def test_a_step_is_so_many_critic_steps_on_films_of_their_own_and_one_generator_step(tmp_path):
    gan, order = ready(tmp_path, critic_steps=3), []
    batches_at = gan._nets.batches.at
    gan._nets.batches.at = lambda number: (order.append(number), batches_at(number))[1]
    for name, which in (("generator", "generator"), ("critic", "discriminator")):
        getattr(gan._nets, f"{which}_optimizer").register_step_post_hook(lambda *_, name=name: order.append(name))
    gan.training_step(0)
    gan.training_step(1)
    assert order[:7] == [0, "critic", 1, "critic", 2, "critic", "generator"]
    assert order[7:] == [3, "critic", 4, "critic", 5, "critic", "generator"]
    assert gan.images_per_step() == 3 * 12


def test_every_step_has_noise_of_its_own_which_depends_on_the_seed_and_the_step_alone(tmp_path):
    def noises(seed, steps):
        gan, seen = ready(tmp_path, seed=seed), []
        gan._nets.generator.register_forward_pre_hook(lambda net, inputs: seen.append(inputs[0].clone()))
        for step in steps:
            gan.training_step(step)
        return seen

    all_steps = noises(3, range(3))
    assert len({noise.numpy().tobytes() for noise in all_steps}) == len(all_steps) == 9
    assert all(torch.equal(a, b) for a, b in zip(all_steps[6:], noises(3, [2]), strict=True))
    assert not torch.equal(all_steps[6], noises(4, [2])[0])


def test_the_critic_scores_real_films_higher_and_the_films_follow_their_class(tmp_path):
    """Direction: the critic's estimate of the distance is positive, and class means are ordered as in the data."""
    gan = ready(tmp_path, toy_films(32, per_class=40), width=8, batch=24, rate=2e-3)
    for step in range(100):
        losses = gan.training_step(step)
    assert losses["critic_loss"] < 0
    labels = np.repeat([0, 1, 2], 20)
    films = gan.sample(labels, RunContext(1, "cpu", 0, tmp_path))
    low, middle, high = (films[labels == label].mean() for label in range(3))
    assert low + 15 < middle < high - 15


def test_parts_name_all_that_training_changes(tmp_path):
    gan = ready(tmp_path)
    before = {name: str(part.state_dict()) for name, part in gan.parts().items()}
    gan.training_step(0)
    assert all(str(part.state_dict()) != before[name] for name, part in gan.parts().items())
    again = ready(tmp_path)
    for name, part in again.parts().items():
        part.load_state_dict(copy.deepcopy(gan.parts()[name].state_dict()))  # Adam keeps what it is given
    for each in (gan, again):
        each.training_step(1)
    assert torch.equal(weights(gan._nets.generator), weights(again._nets.generator))


def test_a_class_of_one_film_and_a_batch_larger_than_the_films_are_trained(tmp_path):
    films = toy_films(32, per_class=3)
    rare = films.subset(np.flatnonzero((films.labels != 2) | (np.arange(len(films)) < 3)))
    assert np.bincount(rare.labels)[2] == 1
    losses = ready(tmp_path, rare, batch=40).training_step(0)
    assert all(np.isfinite(value.item()) and not value.requires_grad for value in losses.values())


@pytest.mark.parametrize(("params", "said"), [({"batch": 1}, "batch=1"), ({"critic_steps": 0}, "critic_steps=0")])
def test_parameters_it_cannot_train_with_are_refused(params, said):
    with pytest.raises(UsageError, match=f"wgan-gp:{said}"):
        WGANGP(**params).preflight(32)
