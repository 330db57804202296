"""What is told to the machine before anything is computed."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from cxrbench.machine import describe_machine, keep_freed_memory, slow_precision_note

TOUCH_MUCH = """
import resource, sys
from cxrbench.machine import keep_freed_memory
told = sys.argv[1] == "keep" and keep_freed_memory()
for _ in range(20):
    b"x" * (40 * 2**20)  # each freed before the next
print(int(told), resource.getrusage(resource.RUSAGE_SELF).ru_minflt)
"""


def without_malloc_settings():
    return {name: value for name, value in os.environ.items() if not name.startswith("MALLOC_")}


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="glibc's malloc")
def test_memory_that_was_freed_is_used_again_without_asking_the_system():
    faults = {}
    for what in ("keep", "as-it-is"):
        done = subprocess.run(
            [sys.executable, "-c", TOUCH_MUCH, what],
            capture_output=True,
            text=True,
            check=True,
            env=without_malloc_settings(),
        )
        told, faults[what] = (int(word) for word in done.stdout.split())
        if what == "keep" and not told:
            pytest.skip("this libc has no mallopt")
    pages = 20 * 40 * 2**20 // os.sysconf("SC_PAGE_SIZE")
    assert faults["as-it-is"] - faults["keep"] > pages / 2


def test_whoever_has_settings_of_their_own_is_not_overruled(monkeypatch):
    monkeypatch.setenv("MALLOC_ARENA_MAX", "2")
    monkeypatch.setattr("ctypes.CDLL", lambda name: pytest.fail("told glibc nonetheless"))
    assert not keep_freed_memory()


def test_a_libc_without_mallopt_is_left_alone(monkeypatch):
    for name in [name for name in os.environ if name.startswith("MALLOC_")]:
        monkeypatch.delenv(name)
    monkeypatch.setattr("ctypes.CDLL", lambda name: object())
    assert not keep_freed_memory()


SETTLED = """
import resource, sys
from bench.allocator import settle_memory
for ours in (True, False, True, False):
    settle_memory(ours=ours)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(20):
        b"x" * (40 * 2**20)
    print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="glibc's malloc")
def test_loops_that_take_turns_have_each_its_own_way_with_memory():
    if not keeps_here():
        pytest.skip("this libc has no mallopt")
    done = subprocess.run(
        [sys.executable, "-c", SETTLED],
        capture_output=True,
        text=True,
        check=True,
        env=without_malloc_settings(),
        cwd=Path(__file__).parents[1],
    )
    ours, plain, ours_again, plain_again = (int(word) for word in done.stdout.split())
    assert max(ours, ours_again) < min(plain, plain_again) / 5


def keeps_here():
    command = [sys.executable, "-c", "from cxrbench.machine import keep_freed_memory as k; print(k())"]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=without_malloc_settings())
    return done.stdout.strip() == "True"


@pytest.mark.parametrize(("flags", "slow"), [("avx2 avx512_bf16", False), ("amx_bf16 amx_tile", False), ("avx2", True)])
def test_a_cpu_without_bf16_is_told_of(tmp_path, flags, slow):
    (tmp_path / "cpuinfo").write_text(f"model name : some CPU\nflags : fpu {flags}\n")
    assert ("float32" in slow_precision_note("cpu", tmp_path / "cpuinfo")) == slow
    assert slow_precision_note("cuda", tmp_path / "cpuinfo") == ""


def test_a_system_that_does_not_say_is_taken_to_have_no_bf16(tmp_path):
    assert "float32" in slow_precision_note("cpu", tmp_path / "nowhere")


def test_a_package_that_is_not_installed_is_left_out_of_the_provenance(monkeypatch):
    monkeypatch.setattr("cxrbench.machine.RECORDED_PACKAGES", ("numpy", "no-such-package"))
    assert list(describe_machine("cpu")["versions"]) == ["numpy"]
