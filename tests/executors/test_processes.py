"""Trials side by side: the same records as one after the other, whatever ends a process."""

import os
import signal
import time

import pytest

from cxrbench.executors.local import Measurement, run_here
from cxrbench.executors.packing import packed
from cxrbench.executors.processes import can_fork, run_side_by_side
from cxrbench.records import PluginRef, Setting, Status, Trial

pytestmark = pytest.mark.skipif(not can_fork(), reason="processes cannot be forked here")

SETTING = Setting(
    data="toy",
    data_hash="0" * 64,
    split_seed=0,
    split_key="0" * 64,
    spec_hash="0" * 64,
    tier="smoke",
    image_size=32,
    split_by="patient",
    clean="none",
)
FACTS = {"device": "toy"}


class Heard:
    """A listener that remembers."""

    def __init__(self, stop_after=None):
        self.begun, self.records, self.steps, self.stop_after = [], [], [], stop_after

    def begin(self, trial):
        self.begun.append(trial.describe())

    def step(self, trial, done, total):
        self.steps.append((trial.describe(), done, total))

    def end(self, record, found):
        self.records.append((record, found))
        return len(self.records) != self.stop_after

    def statuses(self):
        return {record.trial.ratio: record.status for record, _ in self.records}


def trial(name, seed=0, ratio=1.0, kind="utility"):
    who = PluginRef(name=name, kind="generator", params={}, identity=name.ljust(64, "0"))
    judge = PluginRef(name="judge", kind="classifier", params={}, identity="1" * 64)
    return Trial(
        kind=kind,
        setting=SETTING,
        generator=who,
        generator_seed=seed,
        classifier=judge,
        classifier_seed=seed,
        ratio=ratio,
    )


def groups_of(count, each=2):
    return [[trial("gan", seed, ratio=1.0 + seed + 100 * number) for number in range(each)] for seed in range(count)]


def its_ratio(trial, progress):
    progress(1, 2)
    return Measurement(("a", "b"), {"ratio": float(trial.ratio), "process": float(os.getpid())})


def test_every_trial_has_its_record_and_a_group_shares_a_process():
    heard = Heard()
    assert run_side_by_side(groups_of(5), its_ratio, FACTS, heard, jobs=2)
    assert len(heard.records) == len(heard.begun) == 10
    assert all(found.scores["ratio"] == record.trial.ratio for record, found in heard.records)
    assert all(record.status is Status.OK and record.provenance["device"] == "toy" for record, _ in heard.records)
    processes = {}
    for record, found in heard.records:
        processes.setdefault(record.trial.generator_seed, set()).add(found.scores["process"])
    assert all(len(ids) == 1 for ids in processes.values())
    assert len({next(iter(ids)) for ids in processes.values()}) == 5
    assert os.getpid() not in {ids for found in processes.values() for ids in found}
    assert heard.steps


def test_two_groups_run_at_the_same_time_and_never_three(tmp_path):
    def measure(trial, progress):
        mine = tmp_path / f"{os.getpid()}"
        mine.touch()
        seen = 0
        for _ in range(30):
            seen = max(seen, len(list(tmp_path.iterdir())))
            time.sleep(0.01)
        mine.unlink()
        return Measurement(("a", "b"), {"beside": float(seen)})

    heard = Heard()
    run_side_by_side(groups_of(6, each=1), measure, FACTS, heard, jobs=2)
    assert max(found.scores["beside"] for _, found in heard.records) == 2


def test_a_child_computes_with_one_thread():
    import torch

    def measure(trial, progress):
        return Measurement(("a", "b"), {"threads": float(torch.get_num_threads())})

    heard, before = Heard(), torch.get_num_threads()
    run_side_by_side(groups_of(2, each=1), measure, FACTS, heard, jobs=2)
    assert [found.scores["threads"] for _, found in heard.records] == [1.0, 1.0]
    assert torch.get_num_threads() == before


def test_nets_learn_the_same_side_by_side_as_here():
    import torch

    def measure(trial, progress):
        torch.manual_seed(trial.generator_seed)
        net = torch.nn.Conv2d(3, 8, 3)
        for _ in range(3):
            (gradient,) = torch.autograd.grad(net(torch.randn(4, 3, 16, 16)).square().sum(), net.weight)
            net.weight.data -= 1e-3 * gradient
        return Measurement(("a", "b"), {"sum": float(net.weight.detach().double().abs().sum())})

    torch.nn.Conv2d(3, 8, 3)(torch.randn(4, 3, 64, 64)).sum().backward()  # this process has used its threads, too
    apart, here, groups = Heard(), Heard(), groups_of(2, each=1)
    run_side_by_side(groups, measure, FACTS, apart, jobs=2)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    run_here([trial for group in groups for trial in group], measure, FACTS, here)
    torch.set_num_threads(threads)
    assert {r.key: f.scores for r, f in apart.records} == {r.key: f.scores for r, f in here.records}


def test_a_failure_is_a_record_and_the_others_go_on():
    def measure(trial, progress):
        if trial.ratio == 1.0:
            raise ValueError("broken")
        return its_ratio(trial, progress)

    heard = Heard()
    assert run_side_by_side(groups_of(2), measure, FACTS, heard, jobs=2)
    assert heard.statuses() == {1.0: "failed", 101.0: "ok", 2.0: "ok", 102.0: "ok"}
    (error,) = {record.error for record, _ in heard.records if record.status is Status.FAILED}
    assert error == "ValueError: broken"


@pytest.mark.parametrize(
    ("number", "status", "words"), [(signal.SIGKILL, "oom", "memory is short"), (signal.SIGSEGV, "failed", "SIGSEGV")]
)
def test_a_process_that_is_killed_ends_one_trial(number, status, words):
    def measure(trial, progress):
        if trial.ratio == 1.0:
            os.kill(os.getpid(), number)
        return its_ratio(trial, progress)

    heard = Heard()
    assert run_side_by_side(groups_of(2), measure, FACTS, heard, jobs=2)
    assert heard.statuses() == {1.0: status, 101.0: "ok", 2.0: "ok", 102.0: "ok"}
    (error,) = {record.error for record, _ in heard.records if record.status is not Status.OK}
    assert words in error


def test_a_process_that_ends_itself_ends_one_trial():
    def measure(trial, progress):
        if trial.ratio == 1.0:
            os._exit(3)
        return its_ratio(trial, progress)

    heard = Heard()
    assert run_side_by_side(groups_of(1), measure, FACTS, heard, jobs=2)
    assert heard.statuses() == {1.0: "failed", 101.0: "ok"}
    assert "exit code 3" in heard.records[0][0].error


def test_what_kills_two_processes_of_a_group_is_not_tried_a_third_time(tmp_path):
    def measure(trial, progress):
        (tmp_path / str(os.getpid())).touch()
        os._exit(3)

    heard = Heard()
    assert run_side_by_side(groups_of(1, each=5), measure, FACTS, heard, jobs=2)
    assert len(list(tmp_path.iterdir())) == 2
    assert len(heard.begun) == 5
    assert list(heard.statuses().values()) == ["failed"] * 5


def test_after_a_trial_that_ran_out_of_memory_a_fresh_process_goes_on():
    held = []

    def measure(trial, progress):
        if trial.ratio == 1.0:
            held.append(bytearray(1024))
            raise MemoryError
        assert not held  # what the first one holds is not there any more
        return its_ratio(trial, progress)

    heard = Heard()
    assert run_side_by_side(groups_of(1, each=3), measure, FACTS, heard, jobs=2)
    assert heard.statuses() == {1.0: "oom", 101.0: "ok", 201.0: "ok"}
    assert len(heard.begun) == 3
    (process,) = {found.scores["process"] for _, found in heard.records if found}
    assert process != os.getpid()


def test_a_fit_that_does_not_fit_into_memory_is_tried_by_three_processes_and_no_more(tmp_path):
    """Each remembers what failed: in the last one, all that share the fit fail at once."""
    failed = []

    def measure(trial, progress):
        if not failed:
            (tmp_path / str(os.getpid())).touch()
            failed.append(MemoryError("no room for the fit"))
        raise failed[0]

    heard = Heard()
    assert run_side_by_side(groups_of(1, each=6), measure, FACTS, heard, jobs=2)
    assert list(heard.statuses().values()) == ["oom"] * 6
    assert len(list(tmp_path.iterdir())) == 3
    assert len(heard.begun) == 6


def test_a_process_that_is_killed_after_one_ran_out_of_memory_ends_one_trial():
    def measure(trial, progress):
        if trial.ratio == 1.0:
            raise MemoryError
        if trial.ratio == 101.0:
            os._exit(3)
        return its_ratio(trial, progress)

    heard = Heard()
    assert run_side_by_side(groups_of(1, each=3), measure, FACTS, heard, jobs=2)
    assert heard.statuses() == {1.0: "oom", 101.0: "failed", 201.0: "ok"}


def test_a_listener_that_stops_leaves_no_process():
    def measure(trial, progress):
        for number in range(2000):
            progress(number, 2000)
            time.sleep(0.01 if trial.generator_seed else 0.0)
        return its_ratio(trial, progress)

    heard, started = Heard(stop_after=1), time.monotonic()
    assert not run_side_by_side(groups_of(4), measure, FACTS, heard, jobs=2)
    assert time.monotonic() - started < 10
    assert len(heard.records) == 1
    with pytest.raises(ChildProcessError):
        os.waitpid(-1, os.WNOHANG)


def test_an_interruption_is_passed_on_and_what_is_under_way_leaves_its_record(tmp_path):
    def measure(trial, progress):
        (tmp_path / str(trial.generator_seed)).touch()
        if trial.generator_seed == 0:
            while not (tmp_path / "1").exists():
                time.sleep(0.01)
            os.kill(os.getppid(), signal.SIGINT)
        for number in range(1000):
            progress(number, 1000)
            time.sleep(0.01)
        return its_ratio(trial, progress)

    heard = Heard()
    with pytest.raises(KeyboardInterrupt):
        run_side_by_side(groups_of(3), measure, FACTS, heard, jobs=2)
    assert set(heard.statuses().values()) == {"interrupted"}
    assert len(heard.records) == 2
    with pytest.raises(ChildProcessError):
        os.waitpid(-1, os.WNOHANG)


def test_groups_share_a_fit_and_what_is_timed_stays_apart():
    trials = [trial("a"), trial("b"), trial("a", ratio=0.5), trial("a", seed=1), trial("a", kind="throughput")]
    groups, alone = packed(trials, lambda trial: 3.0 if trial.generator.name == "b" else 1.0)
    assert [trial.kind for trial in alone] == ["throughput"]
    assert [[(t.generator.name, t.generator_seed) for t in group] for group in groups] == [
        [("b", 0)],
        [("a", 0), ("a", 0)],
        [("a", 1)],
    ]
