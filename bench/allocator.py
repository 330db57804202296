"""glibc's memory as the command line has it, and as a plain script finds it: each loop is timed with its own."""

from __future__ import annotations

import ctypes

from cxrbench.machine import M_MMAP_MAX, M_TOP_PAD, M_TRIM_THRESHOLD, keep_freed_memory

M_MMAP_THRESHOLD = -3
# What glibc comes to by itself once large blocks were freed: those of more than 32 MiB in mappings of their own, twice
# that kept at the top. (Any call of mallopt ends its coming to that.)
GLIBCS_OWN = {M_MMAP_MAX: 65536, M_MMAP_THRESHOLD: 32 * 2**20, M_TRIM_THRESHOLD: 64 * 2**20, M_TOP_PAD: 128 * 2**10}


def settle_memory(*, ours: bool) -> None:
    """From now on memory is kept as ``cxrbench`` keeps it, or given back as glibc does by itself.

    What is free is given back first, so that neither inherits from the other.
    """
    if not keep_freed_memory():  # without glibc, or where the user has settings, all is left alone
        return
    libc = ctypes.CDLL(None)
    libc.malloc_trim(0)
    if not ours:
        for option, value in GLIBCS_OWN.items():
            libc.mallopt(option, value)
