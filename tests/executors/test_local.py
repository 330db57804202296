"""What becomes of a trial's error."""

import pytest
import torch

from cxrbench.executors.local import execute
from cxrbench.records import Status, Trial


@pytest.fixture
def status_of(setting):
    """How a trial ends that is measured so."""

    def run(measure):
        record, found = execute(Trial(kind="data", setting=setting()), measure, {})
        assert found is None
        assert record.error
        return record.status

    return run


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
def test_a_want_of_memory_is_called_so(error, status_of):
    def measure():
        raise error

    assert status_of(measure) is Status.OOM


def test_torch_is_understood_when_it_gets_no_memory_here(status_of):
    assert status_of(too_large) is Status.OOM


@pytest.mark.parametrize("error", [RuntimeError("boom"), ValueError("memory of the patient"), KeyError("x")], ids=repr)
def test_other_errors_are_failures(error, status_of):
    def measure():
        raise error

    assert status_of(measure) is Status.FAILED
