"""The bench of start-up: a command that fails is no measurement, and the page says what was timed."""

import subprocess
import sys

import pytest

from bench.startup import commands, page, timed_process
from cxrbench.machine import describe_machine


def test_a_process_is_charged_for_what_it_computes():
    busy = "import time\nwhile time.process_time() < 0.5: pass"
    wall, cpu = timed_process((sys.executable, "-c", busy))
    assert 0.5 <= cpu <= wall + 0.1
    assert timed_process((sys.executable, "-c", "import time; time.sleep(0.5)"))[1] < 0.4
    with pytest.raises(subprocess.CalledProcessError):
        timed_process((sys.executable, "-c", "raise SystemExit(2)"))


def test_the_page_has_a_row_for_every_command(tmp_path):
    timed = {"wall_seconds": [3.0, 1.0, 2.0], "cpu_seconds": [0.5, 0.25, 0.75]}
    names = list(commands(tmp_path))
    shown = page({"rounds": 3, "commands": dict.fromkeys(names, timed), "machine": describe_machine("cpu")})
    assert all(f"| `{name}` | 2.00 | 0.50 |" in shown for name in names)
