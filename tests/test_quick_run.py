"""The bench of the quick run: which code runs, by turns, and what the page says of it."""

import contextlib
import os
import subprocess
import sys
from pathlib import Path

import pytest

import cxrbench
from bench import quick_run
from bench.quick_run import HERE, measure, page, with_code_of
from cxrbench.errors import UsageError
from cxrbench.machine import describe_machine

ASK = [sys.executable, "-c", "import cxrbench; print(cxrbench.__file__)"]


def test_processes_import_the_code_they_are_to_run_and_find_a_fresh_cache(tmp_path, monkeypatch):
    monkeypatch.delenv("PYTHONPATH", raising=False)
    kept = os.environ["CXRBENCH_CACHE"]
    (tmp_path / "cxrbench").mkdir()
    (tmp_path / "cxrbench" / "__init__.py").touch()
    for tree in (tmp_path, HERE):
        with with_code_of(tree) as results:
            found = Path(subprocess.run(ASK, capture_output=True, text=True, check=True).stdout.strip())
            assert found.parent.parent == tree
            assert os.environ["CXRBENCH_CACHE"] != kept
            assert not results.exists()
    assert "PYTHONPATH" not in os.environ
    assert os.environ["CXRBENCH_CACHE"] == kept
    assert Path(cxrbench.__file__).parent.parent == HERE


def test_codes_take_turns(monkeypatch, tmp_path):
    ran = []

    def timed(command):
        ran.append(os.environ["PYTHONPATH"].partition(os.pathsep)[0])
        return float(len(ran)), 0.0

    monkeypatch.setattr(quick_run, "timed_process", timed)
    assert measure({"before": tmp_path, "now": HERE}, 2) == {"before": [1.0, 4.0], "now": [2.0, 3.0]}
    assert ran == [str(tmp_path), str(HERE), str(HERE), str(tmp_path)]


def test_the_page_compares_medians():
    record = {"seconds": {"before": [300.0, 320.0], "now": [155.0, 155.0]}, "machine": describe_machine("cpu")}
    record["revisions"] = {"before": "9b2d3cb", "now": "1234567"}
    shown = page(record)
    assert "it took 2.00 times as long before" in shown
    assert "| now | `1234567` | 155, 155 |" in shown


def test_a_revision_that_git_does_not_know_is_one_line(tmp_path, monkeypatch, capsys):
    with pytest.raises(UsageError), quick_run.work_tree("no-such-revision"):
        pass
    monkeypatch.setattr(sys, "argv", ["quick_run", str(tmp_path / "out"), "--before", "no-such-revision"])
    assert quick_run.main() == 2
    shown = capsys.readouterr().err
    assert shown.startswith("quick_run: --before no-such-revision: ")
    assert shown.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_a_run_that_fails_and_no_rounds_are_one_line(tmp_path, monkeypatch, capsys):
    def failing(trees, rounds):
        raise subprocess.CalledProcessError(4, "run", stderr=b"cxrbench: no such data\n")

    monkeypatch.setattr(quick_run, "work_tree", lambda revision: contextlib.nullcontext(tmp_path))
    monkeypatch.setattr(quick_run, "measure", failing)
    for words, code, message in (
        ([], 1, "quick_run: a run ended with 4: cxrbench: no such data"),
        (["--rounds", "0"], 2, "quick_run: --rounds 0: at least one is needed"),
    ):
        monkeypatch.setattr(sys, "argv", ["quick_run", str(tmp_path / "out"), *words])
        assert quick_run.main() == code
        assert capsys.readouterr().err == f"{message}\n"
