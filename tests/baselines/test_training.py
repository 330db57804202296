"""The shared loop: every step once, each with its own random numbers; divergence and signals are noticed."""

import contextlib
import os
import signal
import threading
import warnings

import pytest
import torch

from cxrbench.contracts import RunContext
from cxrbench.errors import Diverged, UsageError
from cxrbench_baselines.training import train


def context(folder, budget=10, seed=0, save_every=0.0):
    return RunContext(seed, "cpu", budget, folder, save_every=save_every)


class Walk:
    """One weight that takes a random step; what it is after k steps tells the random numbers of all k."""

    def __init__(self):
        self.net = torch.nn.Linear(1, 1, bias=False)
        torch.nn.init.zeros_(self.net.weight)
        self.done = []

    @property
    def parts(self):
        return {"net": self.net}

    @property
    def place(self):
        return self.net.weight.item()

    def step(self, number):
        self.done.append(number)
        with torch.no_grad():
            self.net.weight += torch.rand(())
        return {"loss": torch.tensor(0.0)}


class Diary:
    """A watch that looks at every second step."""

    def __init__(self, stop_at=None):
        self.looks, self.stop_at = [], stop_at

    def due(self, number, budget):
        return number % 2 == 1

    def look(self, number, losses):
        if number == self.stop_at:
            raise Diverged("the films are all alike")
        self.looks.append([number, float(losses["loss"])])

    def state_dict(self):
        return {"looks": self.looks}

    def load_state_dict(self, state):
        self.looks = state["looks"]


def saved_steps(folder):
    return sorted(int(p.name.removeprefix("step-")) for p in (folder / "checkpoint").glob("step-*"))


def failing_at(walk, step, error):
    """The walk's step, which fails at one number as a killed process does: nothing is tidied up."""

    def fail(number):
        if number == step:
            raise error
        return walk.step(number)

    return fail


def left_by_a_kill(folder, at, **options):
    with contextlib.suppress(MemoryError):
        train(failing_at(walk := Walk(), at, MemoryError()), context(folder), parts=walk.parts, **options)


def test_every_step_of_the_budget_is_run_and_reported(tmp_path):
    shown = []
    ctx = RunContext(0, "cpu", 5, tmp_path, lambda done, total: shown.append((done, total)))
    walk = Walk()
    train(walk.step, ctx)
    assert walk.done == [0, 1, 2, 3, 4]
    assert shown == [(1, 5), (2, 5), (3, 5), (4, 5), (5, 5)]
    assert not any(tmp_path.iterdir())


def test_random_numbers_depend_on_seed_and_step_alone(tmp_path):
    drawn = {}

    def draw(number):
        drawn.setdefault(number, []).append(torch.rand(3))
        torch.rand(number)  # a step that draws more changes none after it
        return {}

    train(draw, context(tmp_path))
    torch.rand(5)
    train(draw, context(tmp_path, budget=4))
    assert all(torch.equal(*drawn[number]) for number in range(4))
    assert len({tuple(values[0].tolist()) for values in drawn.values()}) == 10
    train(draw, context(tmp_path, budget=1, seed=1))
    assert not torch.equal(drawn[0][0], drawn[0][2])


@pytest.mark.parametrize("killed_at", [1, 5, 9])
def test_a_killed_fit_goes_on_where_it_was(tmp_path, killed_at):
    whole, history = Walk(), Diary()
    train(whole.step, context(tmp_path / "whole"), parts=whole.parts, watch=history)
    left_by_a_kill(tmp_path / "killed", killed_at, watch=Diary())
    resumed, diary = Walk(), Diary()
    train(resumed.step, context(tmp_path / "killed"), parts=resumed.parts, watch=diary)
    assert resumed.done == list(range(killed_at, 10))
    assert resumed.place == whole.place
    assert diary.looks == history.looks


def test_gradients_that_a_later_step_uses_are_kept(tmp_path):
    """A plug-in may sum the gradients of several batches before it moves."""

    def fit(folder, killed_at=None):
        torch.manual_seed(0)
        net = torch.nn.Linear(3, 1)
        optimizer = torch.optim.SGD(net.parameters(), 0.1)

        def step(number):
            if number == killed_at:
                raise MemoryError
            net(torch.rand(2, 3)).square().mean().backward()
            if number % 4 == 3:
                optimizer.step()
                optimizer.zero_grad()
            return {}

        with contextlib.suppress(MemoryError):
            train(step, context(folder), parts={"net": net, "optimizer": optimizer})
        return net

    whole = fit(tmp_path / "whole")
    fit(tmp_path / "killed", killed_at=6)
    resumed = fit(tmp_path / "killed")
    assert torch.equal(resumed.weight, whole.weight)
    assert torch.equal(resumed.weight.grad, whole.weight.grad)


def test_a_short_fit_leaves_no_checkpoint_so_another_may_follow(tmp_path):
    walk = Walk()
    train(walk.step, context(tmp_path, save_every=60.0), parts=walk.parts)
    assert not (tmp_path / "checkpoint").exists()
    other = Walk()
    train(other.step, context(tmp_path, seed=1), parts=other.parts)
    assert other.done == list(range(10))


def test_a_long_fit_leaves_its_last_step_so_that_a_full_disk_costs_no_training(tmp_path):
    walk, again = Walk(), Walk()
    train(walk.step, context(tmp_path, save_every=0.0), parts=walk.parts)
    assert saved_steps(tmp_path)[-1] == 10
    train(again.step, context(tmp_path), parts=again.parts)
    assert again.done == []
    assert again.place == walk.place


def test_checkpoints_wait_for_their_time(tmp_path):
    walk = Walk()
    with pytest.raises(MemoryError):
        train(failing_at(walk, 9, MemoryError()), context(tmp_path, save_every=3600.0), parts=walk.parts)
    assert saved_steps(tmp_path) == []


@pytest.mark.parametrize(
    ("other", "options", "said"),
    [
        ({"seed": 3}, {}, "seed is 0 there and 3 here"),
        ({"budget": 20}, {}, "budget is 10 there and 20 here"),
        ({}, {"facts": {"size": 32}}, "size is not given there and 32 here"),
    ],
)
def test_a_checkpoint_of_another_fit_is_refused(tmp_path, other, options, said):
    left_by_a_kill(tmp_path, 5)
    walk = Walk()
    with pytest.raises(UsageError, match=said):
        train(walk.step, context(tmp_path, **other), parts=walk.parts, **options)
    assert walk.done == []
    assert saved_steps(tmp_path) == [4, 5]


def test_a_checkpoint_of_other_parts_is_refused(tmp_path):
    left_by_a_kill(tmp_path, 5)
    walk = Walk()
    with pytest.raises(UsageError, match="parts is net there and critic, net here"):
        train(walk.step, context(tmp_path), parts={**walk.parts, "critic": Walk().net})


def test_a_loss_that_is_not_finite_stops_the_fit(tmp_path):
    with pytest.raises(Diverged, match="loss became nan at step 1 of 10"):
        train(lambda step: {"loss": torch.tensor(float("nan"))}, context(tmp_path))


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_no_checkpoint_is_made_of_losses_that_are_not_finite(tmp_path, value):
    walk = Walk()
    with pytest.raises(Diverged, match=r"loss became (nan|inf) at step 7 of 10"):
        train(
            lambda number: {"loss": torch.tensor(value)} if number == 6 else walk.step(number),
            context(tmp_path),
            parts=walk.parts,
        )
    assert saved_steps(tmp_path) == [5, 6]
    with pytest.raises(MemoryError):  # they are intact: the next fit begins at step 7
        train(failing_at(Walk(), 6, MemoryError()), context(tmp_path), parts=walk.parts)


def test_no_checkpoint_is_made_of_weights_that_are_nan_while_the_losses_are_not(tmp_path):
    walk = Walk()

    def step(number):
        if number == 6:
            torch.nn.init.constant_(walk.net.weight, float("nan"))
        return {"loss": torch.tensor(0.0)}

    with pytest.raises(Diverged, match="net holds NaN after step 7"):
        train(step, context(tmp_path), parts=walk.parts)
    assert saved_steps(tmp_path) == [5, 6]


def test_what_the_watch_says_ends_the_fit_and_keeps_the_last_good_checkpoint(tmp_path):
    walk = Walk()
    with pytest.raises(Diverged, match="films are all alike"):
        train(walk.step, context(tmp_path), parts=walk.parts, watch=Diary(stop_at=7))
    assert saved_steps(tmp_path) == [6, 7]


def test_a_watch_looks_without_parts_too(tmp_path):
    diary = Diary()
    train(Walk().step, context(tmp_path), watch=diary)
    assert [number for number, _ in diary.looks] == [1, 3, 5, 7, 9]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("at", [4, 9], ids=["in the middle", "at the last step"])
def test_a_signal_ends_the_step_saves_and_interrupts(tmp_path, number, at):
    before = signal.getsignal(number)
    walk, whole = Walk(), Walk()

    def step(k):
        if k == at:
            os.kill(os.getpid(), number)
        return walk.step(k)

    with pytest.raises(KeyboardInterrupt):
        train(step, context(tmp_path, save_every=3600.0), parts=walk.parts)
    assert walk.done[-1] == at
    assert saved_steps(tmp_path) == [at + 1]
    assert signal.getsignal(number) is before

    resumed = Walk()
    train(resumed.step, context(tmp_path), parts=resumed.parts)
    train(whole.step, context(tmp_path / "whole"), parts=whole.parts)
    assert resumed.done == list(range(at + 1, 10))
    assert resumed.place == whole.place


def test_a_second_signal_does_not_wait_for_the_step(tmp_path):
    walk = Walk()

    def step(number):
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)
        return walk.step(number)

    with pytest.raises(KeyboardInterrupt):
        train(step, context(tmp_path), parts=walk.parts)
    assert walk.done == []


def test_a_signal_is_not_forgotten_where_the_fit_fails_too(tmp_path):
    """Whoever pressed Ctrl-C wants the run to stop, not its next trial."""
    walk = Walk()

    def step(number):
        os.kill(os.getpid(), signal.SIGINT)
        raise ValueError("boom")

    with pytest.raises(KeyboardInterrupt):
        train(step, context(tmp_path), parts=walk.parts)


def test_a_signal_that_finds_nan_stops_without_a_checkpoint_and_says_so(tmp_path):
    def step(number):
        if number == 3:
            os.kill(os.getpid(), signal.SIGTERM)
        return {"loss": torch.tensor(float("nan") if number == 3 else 0.0)}

    with (
        pytest.warns(UserWarning, match="stopped without a new checkpoint: loss became nan"),
        pytest.raises(KeyboardInterrupt),
    ):
        train(step, context(tmp_path), parts=Walk().parts)
    assert saved_steps(tmp_path) == [2, 3]


def test_an_ignored_signal_stays_ignored(tmp_path):
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    walk = Walk()

    def step(number):
        os.kill(os.getpid(), signal.SIGINT)
        return walk.step(number)

    try:
        train(step, context(tmp_path), parts=walk.parts)
    finally:
        signal.signal(signal.SIGINT, before)
    assert len(walk.done) == 10


def test_outside_the_main_thread_a_fit_runs_and_handles_no_signal(tmp_path):
    handlers, walk = [], Walk()

    def step(number):
        handlers.append(signal.getsignal(signal.SIGTERM))
        return walk.step(number)

    with warnings.catch_warnings(action="error"):
        thread = threading.Thread(target=train, args=(step, context(tmp_path)), kwargs={"parts": walk.parts})
        thread.start()
        thread.join()
    assert len(walk.done) == 10
    assert set(handlers) == {signal.getsignal(signal.SIGTERM)}
