"""Captured work does at every replay what it would do as it stands; here by a stand-in for a GPU's graphs."""

import warnings

import pytest
import torch

from cxrbench.checks import toy_films
from cxrbench.contracts import RunContext
from cxrbench_baselines.generators import cgan_seed
from cxrbench_baselines.generators.cgan_seed import SeedCGAN
from cxrbench_baselines.replay import WARM_UP, Replayed, capturable

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


def trained(tmp_path, monkeypatch, graph, device="cpu"):
    """Weights of both nets after some steps, and every loss on the way."""
    monkeypatch.setattr(cgan_seed, "Replayed", lambda work, device: Replayed(work, device, graph))
    gan = SeedCGAN(width=4, discriminator_every=2)
    gan.setup(toy_films(32), RunContext(1, device, STEPS, tmp_path))
    losses = []
    for step in range(2 * STEPS):
        torch.manual_seed(step)  # as the training loop does: dropout draws from it
        losses.append(gan.training_step(step))
    nets = (gan._nets.generator, gan._nets.discriminator)
    weights = torch.cat([value.float().flatten() for net in nets for value in net.state_dict().values()])
    return weights.cpu(), [{name: float(value) for name, value in loss.items()} for loss in losses]


def test_steps_that_are_replayed_are_the_same_to_the_bit(tmp_path, monkeypatch):
    plain, losses = trained(tmp_path, monkeypatch, None)
    replayed, also = trained(tmp_path, monkeypatch, Standin)
    assert torch.equal(plain, replayed)
    assert losses == also
    assert {"discriminator_loss", "generator_loss"} <= set(losses[-2])
    assert len({loss["generator_loss"] for loss in losses}) == len(losses)  # kept losses are not written over


def test_what_cannot_be_captured_is_done_as_it_stands_and_said_once(tmp_path, monkeypatch):
    plain, _ = trained(tmp_path, monkeypatch, None)
    Unable.made = 0
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        found, _ = trained(tmp_path, monkeypatch, Unable)
    assert torch.equal(plain, found)
    assert Unable.made == len(said) == 2  # of the discriminator's steps and of the generator's
    assert str(said[0].message).endswith("slower: operation not permitted when stream is capturing")


def test_inputs_are_copied_before_each_replay_and_nothing_is_captured_before_the_warm_up():
    calls = []

    def work(values):
        calls.append(values)
        return {"sum": values.sum()}

    replayed = Replayed(work, "cpu", Standin)
    given = [torch.full((3,), float(number)) for number in range(WARM_UP + 3)]
    assert [float(replayed(values)["sum"]) for values in given] == [3.0 * number for number in range(WARM_UP + 3)]
    assert all(call is values for call, values in zip(calls[:WARM_UP], given, strict=False))
    assert len({id(call) for call in calls[WARM_UP:]}) == 1


def test_on_a_cpu_nothing_is_captured(tmp_path):
    gan = SeedCGAN(width=4)
    gan.setup(toy_films(32), RunContext(0, "cpu", 1, tmp_path))
    assert gan._works.generator._make is None
    assert not gan._nets.generator_optimizer.param_groups[0]["capturable"]
    assert capturable(torch.optim.Adam([torch.zeros(1)]), "cuda").param_groups[0]["capturable"]


@pytest.mark.gpu
def test_on_a_gpu_steps_are_replayed_and_learn_the_same(tmp_path, monkeypatch):
    plain, losses = trained(tmp_path, monkeypatch, Unable, "cuda")
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # a capture that fails says so
        replayed, also = trained(tmp_path, monkeypatch, None, "cuda")
    assert torch.allclose(plain, replayed, atol=2e-2)  # sums of convolutions are taken in no fixed order
    for one, other in zip(losses, also, strict=True):
        assert one == pytest.approx(other, abs=0.1)
