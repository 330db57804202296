"""How many trials run side by side where nobody says."""

import pytest

from cxrbench import runner
from cxrbench.runner import MEMORY_OF_A_TRIAL, best_jobs, chosen_jobs


@pytest.fixture
def machine(monkeypatch):
    """Of so many cores, with memory for so many trials."""
    monkeypatch.delenv("CXRBENCH_JOBS", raising=False)

    def make(cores, room=99, fork=True):
        monkeypatch.setattr(runner, "usable_cores", lambda: cores)
        monkeypatch.setattr(runner, "memory_bytes", lambda: room * MEMORY_OF_A_TRIAL + 1)
        monkeypatch.setattr(runner, "can_fork", lambda: fork)

    return make


@pytest.mark.parametrize(("cores", "room", "jobs"), [(1, 99, 1), (2, 99, 2), (8, 3, 3), (8, 0, 1)])
def test_one_a_core_if_there_is_memory_for_them(machine, cores, room, jobs):
    machine(cores, room)
    assert best_jobs("cpu") == jobs
    assert chosen_jobs(None, "cpu") == jobs


def test_no_other_process_on_a_gpu_and_where_nothing_can_be_forked(machine):
    machine(8)
    assert best_jobs("cuda") == chosen_jobs(1, "cuda") == 0
    machine(8, fork=False)
    assert best_jobs("cpu") == chosen_jobs(1, "cpu") == 0


def test_what_the_user_says_counts(machine, monkeypatch):
    machine(1)
    monkeypatch.setenv("CXRBENCH_JOBS", "3")
    assert best_jobs("cpu") == 3
    assert chosen_jobs(2, "cpu") == 2
    assert chosen_jobs(0, "cpu") == 0


@pytest.mark.usefixtures("undrawn")
def test_one_core_runs_to_the_end(machine, run, tmp_path):
    machine(1)
    assert run(tmp_path / "r") == 0
