"""A generator's fit goes on from its own checkpoint and from no other, in a run of the harness, too."""

import os
import signal
import warnings
from contextlib import suppress
from functools import partial

import pytest
import torch
from torch import nn

from cxrbench.cache import Cache
from cxrbench.checks import toy_films
from cxrbench.contracts import RunContext
from cxrbench.datasets.phantom import Phantom
from cxrbench.errors import UsageError
from cxrbench.registry import GENERATORS
from cxrbench.spec import spec_of_tier
from cxrbench.stages import index_data, load_and_split
from cxrbench.synthesis import fit_generator
from cxrbench_baselines.generators.dcgan import DCGAN
from cxrbench_baselines.generators.flow_quilt import FlowQuilt
from cxrbench_baselines.generators.pca_flow import PCAFlow


class Killed(BaseException):
    """Stands for a kill, in this process: nothing but the files is left of the fit."""


def killed_at(model, step):
    real = model.training_step

    def training_step(number):
        if number == step:
            raise Killed
        return real(number)

    model.training_step = training_step
    return model


def steps_of(model):
    """The list of steps that the model will have done."""
    steps, real = [], model.training_step

    def training_step(number):
        steps.append(number)
        return real(number)

    model.training_step = training_step
    return steps


def context(folder, seed=0, budget=8):
    return RunContext(seed, "cpu", budget, folder, save_every=0.0)


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"batch": 8}, "parameter batch is 4 there and 8 here"),
        ({"films": toy_films(32, seed=1)}, "content of the training films differs"),
        ({"films": toy_films(48)}, "size is 32 there and 48 here"),
        ({"seed": 5}, "seed is 0 there and 5 here"),
    ],
)
def test_a_generator_refuses_the_checkpoint_of_another_fit(tmp_path, changed, said):
    with suppress(Killed):
        killed_at(DCGAN(width=4, batch=4), 3).fit(toy_films(32), context(tmp_path))
    other = DCGAN(width=4, batch=changed.get("batch", 4))
    with pytest.raises(UsageError, match=said):
        other.fit(changed.get("films", toy_films(32)), context(tmp_path, changed.get("seed", 0)))


def test_other_classes_are_another_fit(tmp_path):
    films = toy_films(32)
    with suppress(Killed):
        killed_at(DCGAN(width=4, batch=4), 3).fit(films, context(tmp_path))
    renamed = type(films)(films.pixels, films.labels, ("x", "b", "c"))
    with pytest.raises(UsageError, match="classes is a, b, c there and x, b, c here"):
        DCGAN(width=4, batch=4).fit(renamed, context(tmp_path))


def test_other_source_code_is_another_fit(tmp_path, monkeypatch):
    with suppress(Killed):
        killed_at(DCGAN(width=4, batch=4), 3).fit(toy_films(32), context(tmp_path))
    monkeypatch.setattr("cxrbench.hashing.source_hash", lambda module: "edited")
    with pytest.raises(UsageError, match="source of the plug-in differs"):
        DCGAN(width=4, batch=4).fit(toy_films(32), context(tmp_path))


def test_the_diagnosis_survives_saving(tmp_path):
    model = DCGAN(width=4, batch=4).fit(toy_films(32), context(tmp_path / "work", budget=3))
    model._diagnosis = ["the films of class a are all alike"]
    (tmp_path / "saved").mkdir()
    model.save(tmp_path / "saved")
    assert DCGAN(width=4, batch=4).load(tmp_path / "saved").diagnosis() == ["the films of class a are all alike"]


def test_looking_changes_nothing_that_training_depends_on(tmp_path, monkeypatch):
    watched = DCGAN(width=4, batch=4, stabilised=False).fit(toy_films(32), context(tmp_path / "a"))
    monkeypatch.setattr("cxrbench_baselines.monitors.Watch.due", lambda self, number, budget: False)
    alone = DCGAN(width=4, batch=4, stabilised=False).fit(toy_films(32), context(tmp_path / "b"))
    for name, part in watched.parts().items():
        if isinstance(part, nn.Module):
            for key, value in part.state_dict().items():
                assert torch.equal(value, alone.parts()[name].state_dict()[key]), f"{name}: {key}"


@pytest.mark.parametrize(
    "made",
    [
        partial(DCGAN, width=4),
        partial(PCAFlow, batch=4, fine_batch=2, components=8, hidden=8, layers=1, width=16, depth=1, steps=4),
        partial(FlowQuilt, batch=4, width=8, steps=4),
    ],
    ids=["dcgan", "pca-flow", "flow-quilt"],
)
def test_a_run_that_is_killed_in_a_fit_goes_on_in_it(tmp_path, made):
    """The harness keeps a fit's folder until its artifact is complete."""
    spec = spec_of_tier("smoke")
    data = load_and_split(index_data("phantom", Phantom(patients_per_class=12)), spec, 0, Cache(tmp_path / "data"))
    cache = Cache(tmp_path / "cache")
    with suppress(Killed):
        fit_generator(killed_at(made(), 5), "key", data, 1.0, context(tmp_path), cache)
    resumed = made()
    steps = steps_of(resumed)
    fit_generator(resumed, "key", data, 1.0, context(tmp_path), Cache(cache.root))
    assert steps == [5, 6, 7]
    assert not any((cache.root / "work" / "fit").iterdir())
    assert not (tmp_path / "checkpoint").exists()

    whole = Cache(tmp_path / "whole")
    fit_generator(made(), "key", data, 1.0, context(tmp_path), whole)
    nets = [each.folder("fit", "key") / "nets.safetensors" for each in (cache, whole)]
    assert nets[0].read_bytes() == nets[1].read_bytes()


def test_sigterm_in_a_fit_ends_a_run_with_130_and_the_next_run_goes_on(cli, tmp_path, monkeypatch, private_cache):
    steps = []

    def training_step(self, number):
        steps.append(number)
        if steps == [0, 1, 2]:
            os.kill(os.getpid(), signal.SIGTERM)
        return DCGAN.training_step(self, number)

    def sample(self, labels, ctx):
        if not ctx.workdir.is_relative_to(private_cache):  # not a look of the watch: the fit is complete
            raise KeyboardInterrupt
        return DCGAN.sample(self, labels, ctx)

    terminated = type("Terminated", (DCGAN,), {"training_step": training_step, "sample": sample})
    monkeypatch.setitem(GENERATORS._decorated, "terminated", terminated)
    command = ["run", "--data", "phantom:patients_per_class=8", "--tier", "smoke", "--device", "cpu", "--quiet"]
    command += ["--controls", "none", "--generators", "terminated:width=4", "--ratios", "0,1", "--results", tmp_path]
    with warnings.catch_warnings(action="error", category=UserWarning):
        assert cli(*command) == 130
        assert steps == [0, 1, 2]
        assert len(list(private_cache.glob("work/fit/*/checkpoint/step-000000000003"))) == 1
        assert cli(*command) == 130
    assert steps == [0, 1, 2, 3, 4, 5]
    assert len(list(private_cache.glob("fit/*/*/manifest.json"))) == 1
    assert not any((private_cache / "work" / "fit").iterdir())
