"""What is done with nets: sizes that fit, gradients that stop."""

import torch
from hypothesis import given
from hypothesis import strategies as st

from cxrbench_baselines.nets import doublings, frozen


@given(st.integers(8, 400))
def test_doublings_reach_any_size(size):
    count, start = doublings(size)
    assert start * 2**count >= size
    assert start * 2**count - size < 2**count


def test_frozen_nets_get_no_gradient_and_thaw():
    net = torch.nn.Linear(2, 1)
    with frozen(net):
        assert not any(p.requires_grad for p in net.parameters())
    assert all(p.requires_grad for p in net.parameters())
