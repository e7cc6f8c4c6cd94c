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
