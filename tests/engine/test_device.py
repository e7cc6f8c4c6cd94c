"""Process settings end with the job: other code in the process keeps the standard's arithmetic."""

import subprocess
import sys

import pytest
import torch

from trueup.engine.device import peak_memory, tuned_process


def product() -> float:
    return float(torch.tensor(1e-30) * 1e-10)


@pytest.mark.parametrize("before", [False, True])
def test_tiny_numbers_are_flushed_only_inside_the_block(before: bool) -> None:
    torch.set_flush_denormal(before)
    try:
        with tuned_process():
            assert product() == 0
        assert (product() == 0) is before
    finally:
        torch.set_flush_denormal(False)


def test_the_setting_ends_with_a_job_that_failed() -> None:
    with pytest.raises(RuntimeError, match="stop"), tuned_process():
        raise RuntimeError("stop")
    assert product() > 0


def test_peak_memory_grows_with_what_is_held() -> None:
    before = peak_memory()
    assert 10e6 < before < 1e12
    held = torch.ones(max(1, before) // 4 + (64 << 20) // 4)  # float32: as much again, and 64 MB
    assert peak_memory() > before + (32 << 20)
    del held


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="elsewhere the parent's peak is counted in")
def test_peak_memory_is_not_the_parents() -> None:
    held = torch.ones(200 << 18)  # 200 MB
    found = subprocess.run(
        [sys.executable, "-c", "import resource\nfrom trueup.engine.device import peak_memory\nprint(peak_memory())"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert int(found.stdout) < peak_memory()
    del held


HOLES = """
import torch
from trueup.engine import device
from trueup.engine.device import Heap, _glibc, tuned_process

def held():
    with open("/proc/self/status") as lines:
        return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("VmRSS"))

if _glibc() is None:
    print("no glibc")
    raise SystemExit
with tuned_process():
    kept = [torch.ones(500_000) for _ in range(200)][::2]
    with_holes = held()
    heap = Heap()
    first = heap.trim()
    device.LEAST_WAIT = device.WAIT_PER_GIB = 0.0
    second = heap.trim()
    print(first, second, with_holes - held(), float(sum(t.sum() for t in kept)))
"""


@pytest.mark.skipif(torch.cuda.is_available(), reason="the heap is left alone where a GPU holds the tensors")
def test_holes_in_the_heap_are_given_back_but_not_at_every_step() -> None:
    ran = subprocess.run([sys.executable, "-c", HOLES], capture_output=True, text=True, check=True)
    if ran.stdout.startswith("no glibc"):
        pytest.skip("the C library is not glibc")
    first, second, given_back, total = ran.stdout.split()
    assert (first, second) == ("False", "True")
    assert float(given_back) > 150  # of 190 MB
    assert float(total) == 5e7
