"""How flows descend, and films led away from what was drawn halfway."""

import pytest
import torch
from torch import nn

from cxrbench_baselines.generators.blocks import ConvBlock
from cxrbench_baselines.generators.guided import PREVIEW_STEPS, Descent, Guided, kernels_of_blocks


class Line(nn.Module):
    """Draws ``slope * noise`` in place of films, guided in closed form."""

    def __init__(self, slope=0.0, steps=16):
        super().__init__()
        self.slope, self.steps = nn.Parameter(torch.tensor(slope)), steps

    def forward(self, noise, labels, earlier, guidance):
        return (earlier.slope + guidance * (self.slope - earlier.slope)) * noise


def descent(budget, decay=0.5):
    return Descent.of(Line(), [], 0.1, decay, budget)


def walk(down, steps):
    for step in steps:
        down.descend((down.net.slope - 1).square(), step, (down.net,))


@pytest.mark.parametrize("budget", [1, 2, 7, 8])
def test_the_earlier_net_is_the_average_at_half_of_the_budget(budget):
    down, half = descent(budget), (budget - 1) // 2
    walk(down, range(half))
    assert down.earlier.slope.item() == 0.0
    walk(down, [half])
    then = down.average.module.slope.item()
    walk(down, range(half + 1, budget))
    assert down.earlier.slope.item() == then != 0.0
    assert budget == 1 or down.average.module.slope.item() != then or half == budget - 1


def test_films_go_on_from_the_earlier_net_beyond_the_last():
    noise = torch.ones(3)
    films = Guided(Line(0.5), Line(0.2), 2.0)(noise, None)
    assert films.tolist() == pytest.approx([0.8] * 3)


def test_haste_is_over_also_after_a_fault():
    guided = Guided(Line(0.5, steps=9), Line(0.2), 2.0)
    with guided.hasty():
        assert guided(torch.ones(1), None).item() == pytest.approx(0.5)
        assert guided.final.steps == PREVIEW_STEPS
    with pytest.raises(TypeError), guided.hasty():
        guided()
    assert (guided.final.steps, guided.guidance) == (9, 2.0)


def test_each_weight_has_one_optimizer_and_kernels_of_blocks_have_muon():
    net = nn.ModuleList([ConvBlock(16, 32, 8, attention=True), nn.Conv2d(32, 1, 3)])
    kernels = kernels_of_blocks(net)
    assert {kernel.shape for kernel in kernels} == {(32, 16, 3, 3), (32, 32, 3, 3)}
    down = Descent.of(net, kernels, 0.1, 0.9, 5)
    assert set(down.parts()) == {"net", "average", "earlier", "adamw", "muon"}
    rest = [weight for group in down.optimizers["adamw"].param_groups for weight in group["params"]]
    assert {id(weight) for weight in net.parameters()} == {id(weight) for weight in (*kernels, *rest)}
    assert len(kernels) + len(rest) == len(list(net.parameters()))
    assert set(Descent.of(net, [], 0.1, 0.9, 5).parts()) == {"net", "average", "earlier", "adamw"}


def test_a_wild_part_does_not_hold_another_back():
    """Two parts, clipped apart: the tame one's gradient stays what it is."""
    net = nn.ModuleList([Line(0.5), Line(0.5)])
    down = Descent.of(net, [], 0.1, 0.9, 5)
    tame, wild = net
    down.descend(0.1 * tame.slope + 1e6 * wild.slope, 0, net)
    assert tame.slope.grad.item() == pytest.approx(0.1)
    assert wild.slope.grad.item() == pytest.approx(1.0, rel=1e-3)
