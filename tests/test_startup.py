"""What a command does not need it does not import: torch alone takes longer than a plan or a finished run."""

import subprocess
import sys

import pytest

SMALL = ["--data", "phantom:patients_per_class=8", "--tier", "smoke", "--device", "auto", "--controls", "none"]

RUN = """
import sys
from cxrbench.cli import main
try:
    main()
except SystemExit as end:
    assert not end.code, end.code
print("imported:", *(name for name in ("torch", "numpy", "scipy.stats") if name in sys.modules))
"""


def imported_by(*arguments):
    """What the command prints in a process of its own, and which of the heavy modules it imports."""
    shown = subprocess.run(
        [sys.executable, "-c", RUN, *map(str, arguments)], capture_output=True, text=True, check=True
    ).stdout
    said, _, names = shown.rpartition("imported:")
    return said, names.split()


def test_help_imports_next_to_nothing():
    assert imported_by("--help")[1] == []


def test_a_plan_and_a_finished_run_do_without_torch(cli, tmp_path):
    asked = [*SMALL, "--seeds", 1, "--generators", "cgan,classical", "--ratios", "0,1", "--results", tmp_path / "r"]
    assert cli("run", *asked) == 0
    said, names = imported_by("plan", *asked)
    assert "0 to run" in said
    assert names == ["numpy"]
    said, names = imported_by("run", *asked)
    assert "0 trials run, 0 failed" in said
    assert "real only" in said
    assert names == ["numpy"]


def test_the_default_extractors_say_which_weights_they_use_without_torch():
    code = "import sys\nfrom cxrbench.registry import EXTRACTORS\nEXTRACTORS.create('inception')\n"
    code += "EXTRACTORS.create('lite0').weights_sha256()\nprint('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "False\n"


@pytest.mark.skipif(sys.platform != "linux", reason="devices are files on Linux")
@pytest.mark.parametrize(("device", "asked"), [("null", False), ("nvidia0", True)])
def test_torch_is_asked_for_a_gpu_only_where_there_is_a_device(tmp_path, device, asked):
    (tmp_path / device).touch()
    code = "import sys\nfrom pathlib import Path\nfrom cxrbench.machine import sees_cuda\n"
    code += "found = sees_cuda(Path(sys.argv[1]))\nprint('torch' in sys.modules)\n"
    code += "import torch\nassert found == (torch.cuda.is_available() and sys.argv[2] == 'True')"
    arguments = [sys.executable, "-c", code, str(tmp_path), str(asked)]
    assert subprocess.run(arguments, capture_output=True, text=True, check=True).stdout == f"{asked}\n"
