"""Several seeds as one net: it computes what each computes alone."""

import pytest
import torch
from torch import nn

from bench.seeds_at_once import SideBySide, compare


def test_side_by_side_every_seed_computes_and_learns_what_it_would_alone():
    nets = []
    for seed in range(3):
        torch.manual_seed(seed)
        nets.append(nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(64, 2)))
    merged, films = SideBySide(nets), torch.randn(5, 3, 6, 6)
    alone = torch.stack([net(films[:, i : i + 1]) for i, net in enumerate(nets)], dim=1)
    together = merged(films)
    assert torch.allclose(together, alone, atol=1e-5)
    together.square().sum().backward()
    alone.square().sum().backward()
    own = torch.cat([net[0].weight.grad for net in nets])
    assert torch.allclose(merged.parts[0].weight.grad, own, rtol=1e-4, atol=1e-5)


def test_a_layer_that_cannot_be_merged_is_refused():
    with pytest.raises(TypeError, match="GroupNorm"):
        SideBySide([nn.Sequential(nn.GroupNorm(1, 4))])


def test_both_ways_are_timed():
    found = compare(2, 0.0)
    assert found["times as fast at once"]["pairs"] >= 2
    assert min(found["one by one, ms"], found["at once, ms"]) > 0
