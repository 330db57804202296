"""R1 and the batch's spread, by closed forms."""

import pytest
import torch

from cxrbench_baselines.generators.stabilisers import append_spread, r1_penalty


def test_r1_of_a_linear_discriminator_is_its_squared_weight():
    weight = torch.randn(1, 8, 8)
    real = torch.randn(5, 1, 8, 8)
    penalty = r1_penalty(lambda x: (x * weight).sum(dim=(1, 2, 3)), real, "cpu")
    assert penalty.item() == pytest.approx(weight.square().sum().item(), rel=2e-2)  # bf16 where the CPU has it


def test_the_spread_is_the_mean_over_channels_of_each_places_deviation():
    maps = torch.randn(6, 3, 2, 2)
    plane = append_spread(maps)[:, 3]
    assert torch.allclose(plane, maps.std(dim=0, correction=0).mean(dim=0).expand(6, 2, 2), atol=1e-4)


def test_each_kind_of_films_has_its_own_spread():
    same, varied = torch.ones(4, 3, 2, 2), torch.randn(4, 3, 2, 2)
    kinds = torch.tensor([0, 2] * 4)
    maps = torch.stack([same, varied], dim=1).flatten(0, 1)
    spread = append_spread(maps, kinds, 3)[:, -1]
    assert spread[kinds == 0].abs().max() < 1e-3
    assert torch.equal(spread[1], spread[3])
    assert torch.allclose(spread[kinds == 2], append_spread(varied)[:, -1], atol=1e-5)


def test_classes_that_differ_do_not_hide_that_each_is_one_film():
    labels = torch.tensor([0, 0, 1, 1])
    collapsed = labels.float()[:, None, None, None].expand(4, 3, 2, 2)
    assert append_spread(collapsed)[:, -1].min() > 0.4
    assert append_spread(collapsed, labels, 2)[:, -1].max() < 1e-3


def test_the_spread_passes_gradients_to_films_that_differ():
    maps = torch.randn(4, 2, 2, 2, requires_grad=True)
    append_spread(maps, torch.tensor([0, 0, 1, 1]), 2)[:, -1].sum().backward()
    assert maps.grad.abs().min() > 0


def test_rounding_to_bf16_hides_no_collapse():
    """A third is no bf16 number, so a mean taken in bf16 would differ from films that are all alike."""
    maps = torch.full((6, 64, 4, 4), 1.01)
    with torch.autocast("cpu", torch.bfloat16):
        spread = append_spread(maps, torch.tensor([0, 0, 0, 1, 1, 1]), 2)[:, -1]
    assert spread.max() < 1e-3
