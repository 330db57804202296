"""What becomes of a trial's error."""

import pytest
import torch

from cxrbench.executors.local import execute
from cxrbench.records import Setting, Status, Trial

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


def status_of(measure):
    record, found = execute(Trial(kind="data", setting=SETTING), measure, {})
    assert found is None
    assert record.error
    return record.status


def too_large():
    torch.empty(2**60, dtype=torch.uint8)


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB"),
        RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
        RuntimeError("CUDA error: out of memory\nCUDA kernel errors might be reported later"),
        RuntimeError("DefaultCPUAllocator: not enough memory: you tried to allocate 1024 bytes."),
    ],
    ids=repr,
)
def test_a_want_of_memory_is_called_so(error):
    def measure():
        raise error

    assert status_of(measure) is Status.OOM


def test_torch_is_understood_when_it_gets_no_memory_here():
    assert status_of(too_large) is Status.OOM


@pytest.mark.parametrize("error", [RuntimeError("boom"), ValueError("memory of the patient"), KeyError("x")], ids=repr)
def test_other_errors_are_failures(error):
    def measure():
        raise error

    assert status_of(measure) is Status.FAILED
