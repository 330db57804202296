"""Killed at any moment and started again, a fit ends in the same bits as one that nobody touched.

The kills are real (SIGKILL), so fits run in processes of their own. This file is also their program: it imports torch
once and forks, which is much cheaper than a Python for each.
"""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from cxrbench.checks import toy_films
from cxrbench.contracts import RunContext
from cxrbench_baselines import training
from cxrbench_baselines.batches import FilmBatches, step_noise
from cxrbench_baselines.generators.dcgan import DCGAN
from cxrbench_baselines.nets import adam, averaged

BUDGET = 12
FITS = ("tiny", "tiny on two threads", "dcgan")
Kill = Callable[[int], None]  # called at every step; it may not return


class TinyGAN:
    """One of everything a fit may hold: batch norm, dropout, a moving average, two optimizers, a schedule."""

    def __init__(self, seed: int) -> None:
        torch.manual_seed(seed)
        self.seed, self.batches = seed, FilmBatches(toy_films(16), 8, "cpu", seed, balanced=True)
        self.generator = nn.Sequential(
            nn.Linear(8, 64), nn.Unflatten(1, (1, 8, 8)), nn.BatchNorm2d(1), nn.Upsample(scale_factor=2), nn.Tanh()
        )
        self.discriminator = nn.Sequential(
            nn.Conv2d(1, 8, 4, 2, 1), nn.BatchNorm2d(8), nn.ReLU(), nn.Flatten(), nn.Dropout(), nn.Linear(512, 1)
        )
        self.average = averaged(self.generator, 0.9)
        self.optimizers = [adam(net, 1e-2, 0.5, 0.99) for net in (self.generator, self.discriminator)]
        self.schedule = torch.optim.lr_scheduler.OneCycleLR(self.optimizers[0], 1e-2, total_steps=BUDGET + 1)

    def parts(self) -> dict[str, training.Stateful]:
        return {
            "generator": self.generator,
            "discriminator": self.discriminator,
            "average": self.average,
            "generator_optimizer": self.optimizers[0],
            "discriminator_optimizer": self.optimizers[1],
            "schedule": self.schedule,
        }

    def step(self, number: int) -> dict[str, torch.Tensor]:
        real, _ = self.batches.at(number)
        fake = self.generator(step_noise(self.seed, number, (len(real), 8), "cpu"))
        judged = self.discriminator(torch.cat([real, fake.detach()]))
        d_loss = F.softplus(judged[len(real) :]).mean() + F.softplus(-judged[: len(real)]).mean()
        self.optimizers[1].zero_grad()
        d_loss.backward()
        self.optimizers[1].step()
        g_loss = F.softplus(-self.discriminator(fake)).mean()
        self.optimizers[0].zero_grad()
        g_loss.backward()
        self.optimizers[0].step()
        self.schedule.step()
        self.average.update_parameters(self.generator)
        return {"generator_loss": g_loss.detach(), "discriminator_loss": d_loss.detach()}


class History:
    """A watch that remembers every loss."""

    def __init__(self) -> None:
        self.losses: list[dict[str, float]] = []

    def due(self, number: int, budget: int) -> bool:
        return True

    def look(self, number: int, losses: Any) -> None:
        self.losses.append({name: float(value) for name, value in losses.items()})

    def state_dict(self) -> dict[str, Any]:
        return {"losses": self.losses}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.losses = state["losses"]


def digest(state: Any) -> str:
    """sha256 of a state dict: every tensor's bytes, every plain value, in order."""
    found = hashlib.sha256()

    def add(value: Any) -> None:
        if isinstance(value, torch.Tensor):
            found.update(f"{value.dtype} {tuple(value.shape)}".encode() + value.detach().contiguous().numpy().tobytes())
        elif isinstance(value, dict):
            for key, inner in value.items():
                found.update(str(key).encode())
                add(inner)
        elif isinstance(value, list | tuple):
            for inner in value:
                add(inner)
        else:
            found.update(repr(value).encode())

    add(state)
    return found.hexdigest()


def with_kill(step: Callable[[int], Any], kill: Kill) -> Callable[[int], Any]:
    def killable(number: int) -> Any:
        kill(number)
        return step(number)

    return killable


def fit(name: str, folder: Path, kill: Kill) -> dict[str, str]:
    """Fit from whatever lies in ``folder``; the digests of all that came out."""
    ctx = RunContext(3, "cpu", BUDGET, folder, save_every=0.0)
    torch.set_num_threads(2 if "two threads" in name else 1)
    if name == "dcgan":
        model = DCGAN(width=4, batch=8)
        model.training_step = with_kill(model.training_step, kill)  # type: ignore[method-assign]
        model.fit(toy_films(32), ctx)
        history = (folder / "history.csv").read_bytes() + (folder / "evolution.png").read_bytes()
        parts, watched = model.parts(), [hashlib.sha256(history).hexdigest(), model.diagnosis()]
    else:
        tiny, diary = TinyGAN(3), History()
        training.train(with_kill(tiny.step, kill), ctx, parts=tiny.parts(), watch=diary)
        assert len(diary.losses) == BUDGET
        parts, watched = tiny.parts(), diary.losses
    return {**{name: digest(part.state_dict()) for name, part in parts.items()}, "history": digest(watched)}


def never(number: int) -> None:
    """Leaves the fit alone."""


def kill_at(step: int) -> Kill:
    """Inside one step."""
    return lambda number: os.kill(os.getpid(), signal.SIGKILL) if number == step else None


def kill_while_saving(flush: int) -> Kill:
    """While a checkpoint is written: at one of the many times that a file is flushed to the disk."""
    calls, real = iter(range(10**6)), os.fsync
    os.fsync = lambda fd: os.kill(os.getpid(), signal.SIGKILL) if next(calls) == flush else real(fd)
    return never


def forked(action: Callable[[], object]) -> int:
    """Starts a process that does ``action``; its id."""
    process = os.fork()
    if process == 0:
        try:
            action()
        except BaseException:  # noqa: BLE001 - whatever it is, this process must not go on as if it were its parent
            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    return process


def finish(name: str, place: Path) -> None:
    """Fit to the end and write the digests: all of them, or no file."""
    digests = fit(name, place, never)
    (place / "unfinished.json").write_text(json.dumps(digests))
    os.replace(place / "unfinished.json", place / "digests.json")


def run_to_the_end(name: str, place: Path) -> dict[str, str]:
    _, status = os.waitpid(forked(partial(finish, name, place)), 0)
    assert status == 0, f"{name} in {place.name}: {status}"
    return json.loads((place / "digests.json").read_text())


def main(folder: Path) -> None:
    """Writes ``found.json``: fit -> how it was killed -> digests."""
    torch.set_num_threads(1)  # a pool of threads would not survive the forks
    TinyGAN(3)  # what torch imports at first use is imported here, once
    rng = np.random.default_rng()
    found: dict[str, dict[str, Any]] = {}
    for name in FITS:
        # Threads and other nets must make no difference, so they need not be killed as often.
        steps = rng.choice(np.arange(1, BUDGET), 3 if name == "tiny" else 1, replace=False).tolist()
        flushes = rng.choice(np.arange(3, 3 * (BUDGET - 1)), 1 if name != "tiny on two threads" else 0).tolist()
        ways: dict[str, Callable[[], Kill]] = {f"step {step}": partial(kill_at, step) for step in steps}
        ways |= {f"flush {flush}": partial(kill_while_saving, flush) for flush in flushes}
        started = time.monotonic()
        found[name] = {"not at all": run_to_the_end(name, make(folder / name / "not at all"))}
        whole = time.monotonic() - started
        for way, kill in ways.items():
            place = make(folder / name / way)
            _, status = os.waitpid(forked(lambda: fit(name, place, kill())), 0)  # noqa: B023
            assert status == signal.SIGKILL, f"{name}, {way}: {status}"
            assert any((place / "checkpoint").glob("step-*"))
            found[name][way] = run_to_the_end(name, place)
        if name == "tiny":
            place, kills = make(folder / name / "at any time"), 0
            while not (place / "digests.json").exists():
                process = forked(partial(finish, name, place))
                time.sleep(rng.uniform(0, whole / 2) * (1 + kills / 4))
                os.kill(process, signal.SIGKILL)  # not waited for yet, so the id is still its own
                kills += os.waitpid(process, 0)[1] == signal.SIGKILL
            found[name][f"{kills} times"] = json.loads((place / "digests.json").read_text())
    (folder / "found.json").write_text(json.dumps(found))


def make(folder: Path) -> Path:
    folder.mkdir(parents=True)
    return folder


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    folder = tmp_path_factory.mktemp("killed")
    patient = {**os.environ, "OMP_WAIT_POLICY": "passive"}  # threads that spin would starve each other on few cores
    subprocess.run([sys.executable, __file__, str(folder)], check=True, timeout=300, env=patient)
    return json.loads((folder / "found.json").read_text())


@pytest.mark.parametrize("name", FITS)
def test_a_killed_and_resumed_fit_has_the_bits_of_an_undisturbed_one(found, name):
    ways = dict(found[name])
    undisturbed = ways.pop("not at all")
    assert ways
    assert len(set(undisturbed.values())) == len(undisturbed), "two parts with one digest: the digest sees nothing"
    for way, digests in ways.items():
        assert digests == undisturbed, way


if __name__ == "__main__":
    main(Path(sys.argv[1]))
