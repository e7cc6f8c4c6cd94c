"""A real vLLM server, where ``TRUEUP_VLLM`` names its command: the same protocol, weights and checks."""

import os
import socket
import subprocess
import time

import httpx
import pytest

from tests.recipes.test_recipes import config_of
from trueup.ledger import metric_rows
from trueup.recipes.registry import execute

COMMAND = os.environ.get("TRUEUP_VLLM")
START_SECONDS = 240

pytestmark = [
    pytest.mark.vllm,
    pytest.mark.timeout(600),
    pytest.mark.skipif(not COMMAND, reason="TRUEUP_VLLM does not name vLLM's command; see make test-vllm"),
]


@pytest.fixture
def server(material, tmp_path):
    """The address of a server of the tiny policy."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [str(COMMAND), "serve", material["policy"], "--host", "127.0.0.1", "--port", str(port)]
    command += ["--dtype", "float32", "--enforce-eager", "--max-model-len", "96", "--max-num-seqs", "8"]
    command += ["--logprobs-mode", "processed_logprobs", "--generation-config", "vllm"]
    more = {"VLLM_SERVER_DEV_MODE": "1", "VLLM_CPU_KVCACHE_SPACE": "1", "VLLM_NO_USAGE_STATS": "1"}
    with open(tmp_path / "vllm.log", "wb") as log:
        process = subprocess.Popen(command, env=os.environ | more, stdout=log, stderr=subprocess.STDOUT)
    address, end = f"http://127.0.0.1:{port}", time.monotonic() + START_SECONDS
    try:
        while time.monotonic() < end:
            if process.poll() is not None:
                pytest.fail((tmp_path / "vllm.log").read_text(errors="replace")[-4000:])
            try:
                if httpx.get(f"{address}/health", timeout=2).status_code == 200:
                    break
            except httpx.TransportError:
                time.sleep(1)
        else:
            pytest.fail(f"vLLM did not come up: {(tmp_path / 'vllm.log').read_text(errors='replace')[-4000:]}")
        yield address
    finally:
        process.terminate()
        process.wait(30)


@pytest.mark.parametrize("temperature", [1.0, 0.8])
def test_a_run_is_drawn_by_vllm(server, material, tmp_path, temperature):
    config = config_of(
        "rloo", material, steps=3, sampling__temperature=temperature, rollout={"servers": [server], "tis_cap": 2.0}
    )
    rows = metric_rows(execute("rloo", config, tmp_path / "r", quiet=True))
    assert len(rows) == 3
    assert all(row["mismatch"] < 1e-3 and row["mismatch_outside"] == 0 for row in rows)
    assert all(row["staleness_max"] == 0 and row["regenerated"] == 0 for row in rows)
    assert all(row["first_ratio_error"] < 1e-4 for row in rows)
