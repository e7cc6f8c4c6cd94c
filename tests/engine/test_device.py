"""Process settings end with the job: other code in the process keeps the standard's arithmetic."""

import pytest
import torch

from trueup.engine.device import tuned_process


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
