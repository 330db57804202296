"""The cascaded flows: sizes, what each stage is given, and that they learn."""

import copy
import itertools

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from cxrbench.checks import toy_films
from cxrbench.contracts import Images, RunContext
from cxrbench_baselines.generators.cascade import padded, padded_size, shrunk, stage_sizes
from cxrbench_baselines.generators.flow import Flow
from cxrbench_baselines.generators.flow_quilt import FlowQuilt
from cxrbench_baselines.generators.pca_flow import PCAFlow, Perceptron, base_size
from cxrbench_baselines.generators.refinement import Refinement

SMALL_FLOW = {"base_width": 16, "width": 16, "depth": 1, "batch": 24, "fine_batch": 8, "steps": 6}


def context(tmp_path, seed=0, budget=3):
    return RunContext(seed, "cpu", budget, tmp_path)


@given(st.integers(16, 512))
def test_stages_lead_from_a_coarse_film_to_the_wanted_size(size):
    sizes = stage_sizes(size)
    assert sizes[0] % 4 == 0
    assert 8 <= sizes[0] <= 28
    assert sizes[0] >= 12 or size < 23
    assert size <= sizes[-1] == padded_size(size) < 1.5 * size + 16
    assert all(finer // coarser in (2, 4) and finer % coarser == 0 for coarser, finer in itertools.pairwise(sizes))
    assert padded_size(size) % base_size(size) == 0


@pytest.mark.parametrize(
    ("size", "sizes"), [(32, [16, 32]), (64, [16, 64]), (128, [16, 64, 128]), (299, [20, 80, 320])]
)
def test_the_tiers_sizes_have_the_stages_they_should(size, sizes):
    assert stage_sizes(size) == sizes


def test_padding_continues_the_edge_and_keeps_the_film():
    films = torch.arange(50 * 50).view(1, 1, 50, 50) % 251
    wide = padded(films.to(torch.uint8))
    assert wide.shape[-1] == padded_size(50)
    assert torch.equal(wide[..., :50, :50], films)
    assert torch.equal(wide[..., :50, -1], films[..., :, -1])


def test_shrinking_averages():
    assert shrunk(torch.arange(16.0).view(1, 1, 4, 4), 2).flatten().tolist() == [2.5, 4.5, 10.5, 12.5]


@pytest.mark.parametrize("size", [32, 50, 75, 150])
@pytest.mark.parametrize("kind", [Flow, PCAFlow])
def test_flows_reach_any_size(tmp_path, kind, size):
    small = SMALL_FLOW if kind is Flow else {"hidden": 16, "layers": 1, "width": 16, "depth": 1, "batch": 8, "steps": 2}
    films = toy_films(size, per_class=3)
    made = kind(**{**small, "steps": 2, "batch": 6, "fine_batch": 2}).fit(films, context(tmp_path, budget=1))
    assert made.sample(np.asarray([0, 2]), context(tmp_path)).shape == (2, 1, size, size)


def test_components_and_their_inverse_give_back_films_that_lie_in_them():
    films = torch.rand(12, 1, 8, 8) * 2 - 1
    base = Perceptron(8, 2, components=11, hidden=8, layers=1)
    base.measure(films)
    assert torch.allclose(base.drawn(base.numbers(films)), films, atol=1e-4)
    assert torch.allclose(base.numbers(films).std(dim=0), torch.ones(11), atol=1e-3)


def test_matching_gives_the_mean_and_spread_of_the_real_films():
    base = Perceptron(8, 2, components=5, hidden=8, layers=1)
    drawn, real = torch.randn(400, 5) * 0.5 + 3, torch.randn(300, 5) * 2 - 1
    base.match(1, drawn, real)
    matched = drawn * base.scale[1] + base.shift[1]
    assert torch.allclose(matched.mean(dim=0), real.mean(dim=0), atol=1e-4)
    assert torch.allclose(matched.std(dim=0), real.std(dim=0), atol=1e-4)
    assert torch.equal(base.scale[0], torch.ones(5))


def test_an_untrained_refinement_adds_noise_of_the_measured_spread():
    stage = Refinement(16, 2, width=16, depth=1)
    films, coarse = torch.rand(64, 1, 16, 16), torch.full((64, 1, 4, 4), 0.5)
    stage.measure(films, coarse)
    with torch.inference_mode():
        fine = stage(coarse, torch.zeros(64, dtype=torch.int64), torch.randn(64, 1, 16, 16), 10, stage, 1.0)
    assert (fine - 0.5).std().item() == pytest.approx(films.std().item(), rel=0.1)


def striped_films(size):
    """Class 0 is dark, class 1 bright; each film has stripes of its own phase."""
    rng = np.random.default_rng(0)
    labels = np.repeat([0, 1], 60)
    phase = rng.uniform(0, 2 * np.pi, 120)[:, None, None]
    stripes = np.sin(np.arange(size)[None, None] * 0.5 + phase) * 40 + 70 + 100 * labels[:, None, None]
    pixels = np.broadcast_to(stripes, (120, size, size))[:, None]
    return Images(pixels.round().clip(0, 255).astype(np.uint8), labels, ("dark", "bright"))


@pytest.mark.parametrize(
    ("kind", "place", "guided"),
    [
        (Flow, "base.leave", True),
        (Flow, "stages.0.leave", True),
        (PCAFlow, "base.leave", False),
        (PCAFlow, "stages.0.leave", True),
    ],
)
def test_stages_are_led_away_from_the_earlier_ones(tmp_path, kind, place, guided):
    small = SMALL_FLOW if kind is Flow else {"hidden": 16, "layers": 1, "width": 16, "depth": 1, "batch": 8, "steps": 4}
    made = kind(**small).fit(toy_films(32, per_class=4), context(tmp_path))
    cascade, labels, noise = made._sampler.eval().final, torch.tensor([0, 1]), torch.randn(2, made.noise_dims())
    worse = copy.deepcopy(cascade)
    with torch.inference_mode():
        alone = cascade(noise, labels, worse, 1.0)
        assert torch.allclose(cascade(noise, labels, worse, 3.0), alone, atol=1e-4)  # no worse yet
        worse.get_submodule(place).bias.add_(0.5)
        led = cascade(noise, labels, worse, 3.0)
        assert torch.equal(cascade(noise, labels, worse, 1.0), alone)
    # Components hold most of toy films, little is left to refine.
    assert ((led - alone).abs().max() > 5e-4) == guided


@pytest.mark.parametrize(
    "generator",
    [
        Flow(**SMALL_FLOW, decay=0.95, rate=3e-3, dropout=0.0),
        PCAFlow(components=8, hidden=64, layers=2, width=16, depth=1, batch=48, decay=0.95, rate=3e-3),
        FlowQuilt(width=16, batch=48, decay=0.95, rate=3e-3, steps=6, dropout=0.0),
    ],
    ids=["flow", "pca-flow", "flow-quilt"],
)
def test_flows_learn_class_and_variety(tmp_path, generator):
    train = striped_films(16)
    made = generator.fit(train, context(tmp_path, budget=90))
    films = made.sample(np.repeat([0, 1], 40), context(tmp_path, seed=1)).astype(float)
    assert abs(films[:40].mean() - 70) < 25
    assert abs(films[40:].mean() - 170) < 25
    columns = films[:40, 0].mean(axis=1)  # [40, 16]: stripes survive averaging over rows, noise does not
    assert columns.std(axis=0).mean() > 0.5 * train.pixels[:60, 0].mean(axis=1).std(axis=0).mean()
