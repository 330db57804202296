"""Captured work does at every replay what it would do as it stands; here by a stand-in for a GPU's graphs."""

import gc
import warnings
import weakref

import pytest
import torch

from cxrbench.checks import toy_films
from cxrbench.contracts import RunContext
from cxrbench_baselines.generators import cgan_seed
from cxrbench_baselines.generators.cgan_seed import SeedCGAN
from cxrbench_baselines.replay import WARM_UP, Replayed, unreplayed

STEPS = 3 * WARM_UP


class Standin:
    """As a CUDA graph it does nothing when it captures, and at a replay knows no inputs but those it was captured
    with."""

    def capture(self, work):
        self.work, self.results = work, {}
        return self.results

    def replay(self):
        self.results.update(self.work())


class Unable:
    made = 0

    def __init__(self):
        Unable.made += 1

    def capture(self, work):
        raise RuntimeError("operation not permitted when stream is capturing\nand a long story")


def trained(tmp_path, monkeypatch, graph, device="cpu", steps=2 * STEPS):
    """Parameters and buffers of both nets after some steps, and every loss on the way."""
    monkeypatch.setattr(cgan_seed, "Replayed", lambda device, optimizer: Replayed(device, optimizer, graph))
    gan = SeedCGAN(width=4, discriminator_every=2)
    gan.setup(toy_films(32), RunContext(1, device, STEPS, tmp_path))
    losses = []
    for step in range(steps):
        torch.manual_seed(step)  # as the training loop does: dropout draws from it
        losses.append(gan.training_step(step))
    nets = torch.nn.ModuleList([gan._nets.generator, gan._nets.discriminator])
    weights, buffers = (
        torch.cat([v.detach().float().flatten() for v in kind()]).cpu() for kind in (nets.parameters, nets.buffers)
    )
    return weights, buffers, [{name: float(value) for name, value in loss.items()} for loss in losses]


def test_steps_that_are_replayed_are_the_same_to_the_bit(tmp_path, monkeypatch):
    plain, buffers, losses = trained(tmp_path, monkeypatch, None)
    replayed, also_buffers, also = trained(tmp_path, monkeypatch, Standin)
    assert torch.equal(plain, replayed)
    assert torch.equal(buffers, also_buffers)
    assert losses == also
    assert {"discriminator_loss", "generator_loss"} <= set(losses[-2])
    assert len({loss["generator_loss"] for loss in losses}) == len(losses)  # kept losses are not written over


def test_what_cannot_be_captured_is_done_as_it_stands_and_said_once(tmp_path, monkeypatch):
    plain, _, _ = trained(tmp_path, monkeypatch, None)
    Unable.made = 0
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        found, _, _ = trained(tmp_path, monkeypatch, Unable)
    assert torch.equal(plain, found)
    assert Unable.made == len(said) == 2  # of the discriminator's steps and of the generator's
    assert str(said[0].message).endswith("slower: operation not permitted when stream is capturing")


class Full(Unable):
    def capture(self, work):
        raise torch.OutOfMemoryError("CUDA out of memory")


def test_a_graph_that_finds_no_memory_ends_the_fit(tmp_path, monkeypatch):
    with pytest.raises(torch.OutOfMemoryError):
        trained(tmp_path, monkeypatch, Full)


def optimizer():
    return torch.optim.Adam([torch.zeros(1, requires_grad=True)])


def test_inputs_are_copied_before_each_replay_and_nothing_is_captured_before_the_warm_up():
    calls = []

    def work(values):
        calls.append(values)
        return {"sum": values.sum()}

    replayed = Replayed("cpu", optimizer(), Standin)
    given = [torch.full((3,), float(number)) for number in range(WARM_UP + 3)]
    assert [float(replayed(work, values)["sum"]) for values in given] == [3.0 * n for n in range(WARM_UP + 3)]
    assert all(call is values for call, values in zip(calls[:WARM_UP], given, strict=False))
    assert len({id(call) for call in calls[WARM_UP:]}) == 1


def test_who_counts_operations_can_have_the_work_as_it_stands():
    replayed, calls = Replayed("cpu", optimizer(), Standin), []

    def work(values):
        calls.append(values)
        return {"sum": values.sum()}

    for number in range(WARM_UP + 2):
        replayed(work, torch.full((3,), float(number)))
    given = torch.full((3,), 9.0)
    with unreplayed():
        assert float(replayed(work, given)["sum"]) == 27.0
    assert calls[-1] is given
    assert float(replayed(work, torch.ones(3))["sum"]) == 3.0
    assert calls[-1] is not given


def test_a_plug_in_and_its_works_do_not_hold_each_other(tmp_path):
    """Else its nets would stay on the device until Python looks for circles."""
    gan = SeedCGAN(width=4)
    gan.setup(toy_films(32), RunContext(0, "cpu", 1, tmp_path))
    gan.training_step(0)
    nets = weakref.ref(gan._nets)
    gc.disable()
    try:
        del gan
        assert nets() is None
    finally:
        gc.enable()


def test_on_a_cpu_nothing_is_captured(tmp_path):
    gan = SeedCGAN(width=4)
    gan.setup(toy_films(32), RunContext(0, "cpu", 1, tmp_path))
    assert gan._works.generator._make is None
    assert not gan._nets.generator_optimizer.param_groups[0]["capturable"]


@pytest.mark.gpu
def test_on_a_gpu_steps_are_replayed_and_learn_the_same(tmp_path, monkeypatch):
    start, _, _ = trained(tmp_path, monkeypatch, None, "cuda", steps=0)
    plain, buffers, losses = trained(tmp_path, monkeypatch, Unable, "cuda")
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # a capture that fails says so
        replayed, also_buffers, also = trained(tmp_path, monkeypatch, None, "cuda")
    # Not to the bit: sums of convolutions are taken in no fixed order there.
    assert (replayed - plain).norm() < 0.3 * (plain - start).norm()
    assert torch.allclose(buffers, also_buffers, rtol=0.1, atol=0.02)
    for one, other in zip(losses, also, strict=True):
        assert one == pytest.approx(other, abs=0.1)


@pytest.mark.gpu
def test_on_a_gpu_work_that_waits_for_it_is_done_as_it_stands():
    replayed, stream = Replayed("cuda", optimizer()), torch.cuda.current_stream()

    def work(values):
        return {"sum": values * values.sum().item()}

    def squared(number):
        return float(replayed(work, torch.full((1,), float(number), device="cuda"))["sum"])

    assert [squared(number) for number in range(WARM_UP)] == [number**2 for number in range(WARM_UP)]
    with pytest.warns(UserWarning, match="not replayed as a CUDA graph"):
        assert squared(7) == 49
    assert squared(8) == 64
    assert torch.cuda.current_stream() == stream
    assert float(torch.ones(3, device="cuda").sum()) == 3.0
