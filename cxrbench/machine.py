"""What a measurement ran on."""

from __future__ import annotations

import contextlib
import difflib
import functools
import os
import platform
import resource
import sys
from collections.abc import Iterator, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from cxrbench.errors import UsageError

RECORDED_PACKAGES = ("cxrbench", "torch", "torchvision", "torch-fidelity", "numpy", "scikit-learn")

# What a GPU's driver makes in /dev: NVIDIA's, also of a Jetson, AMD's, and that of Windows' subsystem for Linux.
DEVICE_FILES = ("nvidia", "nvhost", "nvmap", "nvgpu", "kfd", "dxg")

# Of glibc's malloc.h: no block in a mapping of its own (it does that with all above 32 MiB), none given back.
M_MMAP_MAX, M_TRIM_THRESHOLD, M_TOP_PAD = -4, -1, -2
KEEPING = {M_MMAP_MAX: 0, M_TRIM_THRESHOLD: 2**31 - 1, M_TOP_PAD: 64 * 2**20}


def choose_device(name: str) -> str:
    """``auto``, ``cpu`` or ``cuda`` to what torch will be given.

    Raises:
        UsageError: an unknown name, or CUDA where there is none.
    """
    known = ("auto", "cpu", "cuda")
    if name not in known:
        near = difflib.get_close_matches(name, known, n=1)
        raise UsageError(
            f"unknown device {name!r}; " + (f"did you mean {near[0]}?" if near else "use auto, cpu or cuda")
        )
    if name == "cpu":
        return name
    if sees_cuda():
        return "cuda"
    if name == "cuda":
        raise UsageError("--device cuda: torch sees no CUDA device here; use --device cpu")
    return "cpu"


def sees_cuda(devices: Path = Path("/dev")) -> bool:
    """Does torch see a CUDA device?

    Importing torch takes longer than all else that a plan needs: it is not asked where it is not there yet and the
    system (Linux) has no file of any device that it could see.
    """
    if "torch" not in sys.modules and sys.platform == "linux":
        if not any(any(devices.glob(f"{name}*")) for name in DEVICE_FILES):
            return False
    import torch

    return torch.cuda.is_available()


def device_name(device: str) -> str:
    """The device as a person would name it."""
    if device == "cuda":
        import torch

        return str(torch.cuda.get_device_name())
    cores = usable_cores()
    return f"{_cpu_model() or platform.machine()}, {cores} core{'s' if cores != 1 else ''}"


@functools.cache
def cpu_has_bf16(cpuinfo: Path = Path("/proc/cpuinfo")) -> bool:
    """Has the CPU instructions for bf16 (AVX-512's or AMX's), as far as the system says?

    Without them torch computes in bf16 all the same, by way of float32, and takes up to twice as long as in float32.
    """
    try:
        flags = cpuinfo.read_text(encoding="utf-8")
    except OSError:  # not Linux
        return False
    return "avx512_bf16" in flags or "amx_bf16" in flags


def slow_precision_note(device: str, cpuinfo: Path = Path("/proc/cpuinfo")) -> str:
    """What a user should know of a CPU on which the reference plug-ins do not compute in bf16, else an empty text."""
    if device != "cpu" or cpu_has_bf16(cpuinfo):
        return ""
    return "no AVX-512 or AMX instructions for bf16 were found: nets are trained in float32, which takes longer"


def usable_cores() -> int:
    """Cores this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def memory_bytes() -> int:
    """Memory of the machine, in bytes."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def keep_freed_memory() -> bool:
    """Tell glibc to keep what is freed for the next step's tensors, which are as large as this one's.

    Else it maps every tensor of more than 32 MiB anew, and the system clears its pages again. To be called before
    anything large is allocated. Whoever has set one of glibc's own ``MALLOC_..._`` variables is not overruled.

    Returns:
        True where it was told; False without glibc, or where the user has settings of their own.
    """
    import ctypes

    if any(name.startswith("MALLOC_") for name in os.environ):
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):  # macOS, musl; TypeError is Windows'
        return False
    told = [mallopt(option, value) for option, value in KEEPING.items()]
    return all(told)


def resident_peak() -> int:
    """Highest resident memory of this process so far, in bytes."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


@contextlib.contextmanager
def computing_with(threads: int) -> Iterator[None]:
    """Let torch and numpy's linear algebra compute with so many threads.

    What a net learns on a CPU depends on their number in the last bits, and soon in the first: trials that are to
    repeat anywhere, whatever runs beside them, compute with one.
    """
    import torch
    from threadpoolctl import threadpool_limits

    before = torch.get_num_threads()
    with threadpool_limits(threads):
        torch.set_num_threads(threads)
        try:
            yield
        finally:
            torch.set_num_threads(before)


def describe_machine(device: str) -> dict[str, Any]:
    """Facts that go into every record's provenance."""
    import torch

    return {
        "device": device_name(device),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "threads": torch.get_num_threads(),
        "versions": _versions(RECORDED_PACKAGES),
    }


def _versions(packages: Sequence[str]) -> dict[str, str]:
    """Of those that are installed: after hours of work a missing one must not cost its record."""
    found = {}
    for name in packages:
        with contextlib.suppress(PackageNotFoundError):
            found[name] = version(name)
    return found


def _cpu_model() -> str:
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            return next((line.partition(":")[2].strip() for line in file if line.startswith("model name")), "")
    except OSError:  # not Linux
        return ""
