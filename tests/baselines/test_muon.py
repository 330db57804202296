"""Muon for kernels: the same steps as torch's for their matrices, in either memory format."""

import pytest
import torch
from torch import nn

from cxrbench_baselines.muon import KernelMuon

BF16 = 0.03  # torch orthogonalises in bf16: rounding depends on the order of columns


def convolution(memory_format=torch.contiguous_format):
    torch.manual_seed(0)
    return nn.Conv2d(12, 8, 3).to(memory_format=memory_format)


def descend(optimizer, layer, steps=3):
    for number in range(steps):
        films = torch.randn(4, 12, 6, 6, generator=torch.Generator().manual_seed(number))
        optimizer.zero_grad()
        layer(films).square().mean().backward()
        optimizer.step()


def step_of(layer, rate=0.1):
    before = layer.weight.detach().clone()
    descend(KernelMuon([layer.weight], rate, 0.0), layer, steps=1)
    return (layer.weight.detach() - before).flatten(1)


def test_it_is_torchs_muon_on_the_kernel_as_a_matrix():
    ours, theirs = convolution(), convolution()
    descend(KernelMuon([ours.weight], 0.01, 0.1), ours)
    matrix = nn.Parameter(theirs.weight.detach().flatten(1))
    reference = torch.optim.Muon([matrix], lr=0.01, weight_decay=0.1, adjust_lr_fn="match_rms_adamw")
    for number in range(3):
        films = torch.randn(4, 12, 6, 6, generator=torch.Generator().manual_seed(number))
        reference.zero_grad()
        nn.functional.conv2d(films, matrix.view_as(theirs.weight), theirs.bias).square().mean().backward()
        reference.step()
    assert torch.equal(ours.weight.flatten(1), matrix)


def test_the_memory_format_does_not_matter():
    there, here = step_of(convolution(torch.channels_last)), step_of(convolution())
    assert (there - here).norm() < BF16 * here.norm()


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_a_step_goes_about_equally_far_in_every_direction(memory_format):
    lengths = torch.linalg.svdvals(step_of(convolution(memory_format), rate=1.0)) / (0.2 * (12 * 9) ** 0.5)
    assert lengths.max() < 1.35  # where five iterations end (Jordan et al.)
    assert lengths.min() > 0.6


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_a_resumed_descent_is_the_same_to_the_bit(memory_format):
    whole, first = convolution(memory_format), convolution(memory_format)
    optimizer = KernelMuon([first.weight], 0.01, 0.1)
    descend(KernelMuon([whole.weight], 0.01, 0.1), whole, steps=2)
    descend(optimizer, first, steps=1)
    second = convolution(memory_format)
    second.load_state_dict(first.state_dict())
    resumed = KernelMuon([second.weight], 0.01, 0.1)
    resumed.load_state_dict(optimizer.state_dict())
    films = torch.randn(4, 12, 6, 6, generator=torch.Generator().manual_seed(1))
    resumed.zero_grad()
    second(films).square().mean().backward()
    resumed.step()
    # The biases stay as they are, and whole's second step saw the same films.
    assert torch.equal(second.weight, whole.weight)


def test_kernels_without_a_gradient_stay():
    layer = convolution()
    before = layer.weight.detach().clone()
    KernelMuon([layer.weight], 0.1, 0.1).step()
    assert torch.equal(layer.weight, before)


def test_gradients_are_taken_away():
    layer = convolution()
    optimizer = KernelMuon([layer.weight], 0.1, 0.1)
    layer(torch.ones(1, 12, 3, 3)).sum().backward()
    optimizer.zero_grad(set_to_none=False)
    assert not layer.weight.grad.any()
    optimizer.zero_grad()
    assert layer.weight.grad is None


def test_a_kernel_whose_memory_is_no_matrix_is_refused():
    strided = nn.Parameter(torch.randn(16, 12, 3, 3)[:, ::2])
    with pytest.raises(ValueError, match="not dense"):
        KernelMuon([strided], 0.1, 0.1)
