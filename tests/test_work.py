"""Work that is counted, done or imagined: operations and memory, and the seconds that follow from them."""

import os
import subprocess
import sys
import textwrap

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from cxrbench.costs.plugins import extrapolated
from cxrbench.costs.work import counting


def test_the_flops_of_matrix_products_and_convolutions_are_the_textbooks():
    with counting() as work:
        torch.ones(3, 5) @ torch.ones(5, 7)
    assert work.flops == 2 * 3 * 5 * 7
    films, kernel = torch.ones(2, 3, 8, 8), torch.ones(4, 3, 3, 3)
    with counting() as work:
        torch.nn.functional.conv2d(films, kernel, padding=1)
    assert work.flops == 2 * (2 * 8 * 8 * 4) * (3 * 3 * 3)


def test_the_peak_is_what_was_held_at_once():
    with counting() as work:
        for _ in range(3):
            torch.ones(1000)  # freed before the next
    assert work.peak_bytes == 4000
    with counting() as work:
        kept = [torch.ones(1000) for _ in range(3)]
    assert work.peak_bytes == 4000 * len(kept)


def test_imagined_work_counts_as_done_work_does_and_computes_nothing():
    def penalised(net, films):
        films = films.requires_grad_()
        (gradient,) = torch.autograd.grad(net(films).sum(), films, create_graph=True)
        (net(films).square().mean() + gradient.square().mean()).backward()
        torch.optim.Adam(net.parameters(), fused=True).step()

    counts = []
    for imagined in (False, True):
        net = torch.nn.Sequential(torch.nn.Linear(50, 40), torch.nn.Tanh(), torch.nn.Linear(40, 1))
        before = [weight.detach().clone() for weight in net.parameters()]
        films = torch.ones(16, 50)
        with counting(imagined=imagined) as work:
            penalised(net, films)
        counts.append((work.flops, work.peak_bytes))
        changed = [not torch.equal(old, new) for old, new in zip(before, net.parameters(), strict=True)]
        assert any(changed) is not imagined
    (flops, peak), (imagined_flops, imagined_peak) = counts
    assert imagined_flops == flops > 0
    assert imagined_peak == pytest.approx(peak, rel=0.2)  # a weight and its imagined double count as two


@pytest.mark.skipif(not hasattr(os, "fork"), reason="processes cannot be forked here")
def test_a_process_forked_after_imagined_work_can_still_differentiate():
    """In a process of its own: autograd decides once, at the first backward."""
    code = """
        import os, torch
        from cxrbench.costs.work import counting
        with counting(imagined=True):
            torch.ones(3, requires_grad=True).sum().backward()
        child = os.fork()
        if child == 0:
            os._exit(int(torch.autograd.grad((weight := torch.ones(3, requires_grad=True)).sum(), weight)[0].sum()))
        print(os.waitstatus_to_exitcode(os.wait()[1]))
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, check=True, timeout=120
    )
    assert done.stdout.strip() == "3"


def test_an_average_that_asks_how_many_steps_it_is_of_can_be_imagined():
    net = torch.nn.Linear(3, 3)
    averaged = torch.optim.swa_utils.AveragedModel(net)
    with counting(imagined=True) as work:
        averaged.update_parameters(net)
        averaged(torch.ones(2, 3))
    assert work.flops == 2 * 2 * 3 * 3


def test_operations_of_a_linear_layer_and_a_convolution_are_those_of_the_textbook():
    linear, films = nn.Linear(16, 32), torch.randn(8, 16)
    with counting() as counts:
        linear(films).sum().backward()
    assert counts.flops_by_kind == {"matmul fp32": 2 * (2 * 8 * 16 * 32)}  # films have no gradient

    convolution, films = nn.Conv2d(4, 8, 3, padding=1), torch.randn(2, 4, 10, 10, requires_grad=True)
    once = 2 * 2 * 100 * 4 * 8 * 9
    with counting() as counts, torch.autocast("cpu", torch.bfloat16):
        convolution(films).float().sum().backward()
    assert counts.flops_by_kind == {"conv bf16": 3 * once}


def test_a_gradient_penalty_is_counted():
    """Forward, gradient by the films, and of both the gradient by the weights; ``FlopCounterMode`` refuses it."""
    convolution, films = nn.Conv2d(4, 8, 3, padding=1, bias=False), torch.randn(2, 4, 10, 10, requires_grad=True)
    with counting() as counts:
        (gradient,) = torch.autograd.grad(convolution(films).square().sum(), films, create_graph=True)
        gradient.square().sum().backward()
    assert counts.flops_by_kind == {"conv fp32": 6 * (2 * 2 * 100 * 4 * 8 * 9)}


def test_memory_is_what_lives_at_once_not_what_ever_lived():
    megabyte = 1 << 18  # float32
    with counting() as counts:
        for _ in range(5):
            passing = torch.zeros(megabyte)
            del passing
        kept = [torch.zeros(megabyte) for _ in range(3)]
        kept[0].view(-1, 2).add_(1)
    assert counts.peak_bytes == 3 * 4 * megabyte


@given(st.floats(0, 1), st.floats(1e-6, 1e-2), st.floats(1, 1e3), st.floats(1.01, 10), st.floats(1, 100))
def test_a_machine_of_fixed_rate_and_overhead_is_found_out(overhead, per_flop, flops, more, further):
    def seconds(count):
        return overhead + per_flop * count

    timed = [(flops, seconds(flops)), (flops * more, seconds(flops * more))]
    wanted = flops * more * further
    assert extrapolated(timed, wanted, area=1.0) == pytest.approx(seconds(wanted), rel=1e-6)


def test_without_flops_seconds_grow_with_the_area():
    assert extrapolated([(0.0, 2.0)], 0.0, area=4.0) == 8.0
    assert extrapolated([(10.0, 2.0)], 30.0, area=4.0) == 6.0
    assert extrapolated([(10.0, 2.0), (20.0, 1.0)], 30.0, area=4.0) == 1.0  # noise: more work takes no less time
