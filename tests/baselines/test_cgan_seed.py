"""The student study's GAN: it is theirs to the letter, and each of its choices can be undone alone."""

import copy

import pytest
import torch
from torch import nn

from cxrbench.checks import check_generator, toy_films
from cxrbench.contracts import RunContext
from cxrbench.errors import UsageError
from cxrbench.registry import GENERATORS
from cxrbench_baselines.generators.cgan_seed import SeedCGAN, SeedDiscriminator, SeedGenerator

UNDONE = [{"discriminator_every": 1}, {"normalise": "group"}, {"conditioning": "projection"}, {"dropout": 0.0}]


def ready(tmp_path, seed=0, **choices):
    generator = SeedCGAN(width=4, **choices)
    generator.setup(toy_films(32), RunContext(seed, "cpu", 0, tmp_path))
    return generator


def layers(net, kind):
    return [module for module in net.modules() if isinstance(module, kind)]


def block(convolution, activation):
    return [convolution, nn.BatchNorm2d(convolution.out_channels), activation]


def test_the_recipe_is_the_studys():
    recipe = SeedCGAN()
    assert (recipe.width, recipe.batch, recipe.rate, recipe.beta1) == (64, 4, 2e-4, 0.5)
    assert (recipe.discriminator_every, recipe.dropout) == (10, 0.5)
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


def test_the_default_generator_is_the_studys_weight_for_weight():
    torch.manual_seed(0)
    embed, project = nn.Sequential(nn.Embedding(3, 50), nn.Linear(50, 4)), nn.Linear(100, 8 * 4 * 4)
    decode = nn.Sequential(
        *block(nn.ConvTranspose2d(33, 16, 4, 2, 1), nn.ReLU()),
        *block(nn.ConvTranspose2d(16, 8, 4, 2, 1), nn.ReLU()),
        *block(nn.ConvTranspose2d(8, 4, 4, 2, 1), nn.ReLU()),
        nn.ConvTranspose2d(4, 1, 4, 2, 1),
        nn.Tanh(),
    )
    noise, labels = torch.randn(5, 100), torch.tensor([0, 1, 2, 0, 1])
    theirs = decode(torch.cat([project(noise).view(5, 32, 2, 2), embed(labels).view(5, 1, 2, 2)], dim=1))
    torch.manual_seed(0)
    ours = SeedGenerator(32, 3, 4, 100)
    torch.testing.assert_close(ours(noise, labels), theirs)  # sums run in another order: our maps lie channels-last


def test_the_default_discriminator_is_the_studys_weight_for_weight():
    torch.manual_seed(0)
    embed = nn.Sequential(nn.Embedding(3, 50), nn.Linear(50, 32 * 32))
    judge = nn.Sequential(
        nn.Conv2d(2, 4, 4, 2, 1),
        nn.LeakyReLU(0.2),
        *block(nn.Conv2d(4, 8, 4, 2, 1), nn.LeakyReLU(0.2)),
        *block(nn.Conv2d(8, 16, 4, 2, 1), nn.LeakyReLU(0.2)),
        *block(nn.Conv2d(16, 32, 4, 2, 1), nn.LeakyReLU(0.2)),
        nn.Conv2d(32, 32, 4, 1, 1),
        nn.LeakyReLU(0.2),
        nn.Flatten(),
        nn.Dropout(0.5),
        nn.Linear(32, 1),
        nn.Sigmoid(),
    )
    films, labels = torch.randn(5, 1, 32, 32), torch.tensor([0, 1, 2, 0, 1])
    torch.manual_seed(1)  # dropout draws
    theirs = judge(torch.cat([films, embed(labels).view(5, 1, 32, 32)], dim=1))[:, 0]
    torch.manual_seed(0)
    ours = SeedDiscriminator(32, 3, 4, 0.5)
    torch.manual_seed(1)
    torch.testing.assert_close(ours(films, labels), theirs)


def test_the_discriminator_moves_at_every_tenth_step_only(tmp_path):
    generator = ready(tmp_path)
    parts = generator.parts()
    moved, told = [], []
    for step in range(12):
        before = {name: [p.clone() for p in parts[name].parameters()] for name in ("generator", "discriminator")}
        losses = generator.training_step(step)
        told += ["discriminator_accuracy" in losses]
        changed = {
            name: any(not torch.equal(a, b) for a, b in zip(old, parts[name].parameters(), strict=True))
            for name, old in before.items()
        }
        assert changed["generator"]
        moved.append(changed["discriminator"])
    assert [step for step, has_moved in enumerate(moved) if has_moved] == [0, 10]
    assert told == moved


@pytest.mark.parametrize("bias", [9.0, -9.0])
def test_a_discriminator_that_says_one_thing_is_right_half_the_time(tmp_path, bias):
    generator = ready(tmp_path)
    judge = generator.parts()["discriminator"].judge
    nn.init.zeros_(judge.weight)
    nn.init.constant_(judge.bias, bias)
    assert float(generator.training_step(0)["discriminator_accuracy"]) == 0.5


def test_a_discriminator_that_knows_the_films_is_always_right(tmp_path):
    class Brightness(nn.Module):
        """Says real above a grey that no fresh generator reaches."""

        def __init__(self):
            super().__init__()
            self.scale = nn.Parameter(torch.tensor(20.0))

        def forward(self, films, labels):
            return (self.scale * (films.mean(dim=(1, 2, 3)) - 0.7)).sigmoid()

    generator = ready(tmp_path)
    generator._nets.discriminator = Brightness()
    generator._nets.batches.pixels.fill_(255)
    told = generator.training_step(0)["discriminator_accuracy"]
    assert float(told) == 1.0
    assert not told.requires_grad


@pytest.mark.parametrize("choice", [*UNDONE, {name: value for one in UNDONE for name, value in one.items()}])
def test_each_choice_undone_keeps_the_contract(choice):
    check_generator(SeedCGAN(width=4, **choice))


@pytest.mark.parametrize(("normalise", "alone"), [("batch", False), ("group", True)])
def test_only_group_norm_judges_a_film_by_itself(normalise, alone):
    torch.manual_seed(0)
    discriminator = SeedDiscriminator(32, 3, 4, 0.0, normalise)
    films, labels = torch.randn(4, 1, 32, 32), torch.tensor([0, 1, 2, 0])
    together, first = discriminator(films, labels), discriminator(films[:1], labels[:1])
    assert torch.allclose(together[:1], first, atol=1e-6) == alone


@pytest.mark.parametrize("conditioning", ["map", "projection"])
def test_the_label_changes_the_film_and_the_verdict(conditioning):
    torch.manual_seed(0)
    generator = SeedGenerator(32, 3, 4, 100, conditioning=conditioning).eval()
    discriminator = SeedDiscriminator(32, 3, 4, 0.0, conditioning=conditioning).eval()
    noise, films = torch.randn(1, 100), torch.randn(1, 1, 32, 32)
    drawn = [generator(noise, torch.tensor([label])) for label in (0, 1)]
    said = [discriminator(films, torch.tensor([label])) for label in (0, 1)]
    assert not torch.equal(*drawn)
    assert not torch.equal(*said)
    assert all(0 < share.item() < 1 for share in said)


def test_a_fresh_projection_does_not_decide_alone():
    """Its standard deviation is that of a dense layer's sum, not the root of the number of features."""
    torch.manual_seed(0)
    discriminator = SeedDiscriminator(64, 3, 64, 0.0, conditioning="projection")
    features = torch.randn(200, discriminator.judge.in_features)
    assert 0.5 < (features @ discriminator.embed.weight.T).std().item() < 2


def test_everything_that_a_step_changes_is_a_part(tmp_path):
    """A second fit that is given the first one's parts goes on as the first does."""
    first, second = ready(tmp_path, dropout=0.0), ready(tmp_path, dropout=0.0)
    for step in range(11):
        first.training_step(step)
    for name, part in first.parts().items():
        second.parts()[name].load_state_dict(copy.deepcopy(part.state_dict()))
    for generator in (first, second):
        generator.training_step(20)
    weights = [torch.cat([p.flatten() for p in g.parts()["generator"].parameters()]) for g in (first, second)]
    assert torch.equal(*weights)


def test_films_that_the_stack_cannot_take_are_refused():
    with pytest.raises(UsageError, match="at least 32 px"):
        SeedCGAN().preflight(16)


def test_an_unknown_way_is_refused_by_name():
    with pytest.raises(UsageError, match="'batch' or 'group'"):
        GENERATORS.create("cgan-seed", normalise="layer")
