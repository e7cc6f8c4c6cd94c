"""The benchmarks' own road, on a model that is too small to say anything about speed."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks import peers

ROOT = Path(__file__).parents[1]


def test_the_gpu_comparison_runs_through_on_a_cpu(tmp_path):
    command = [sys.executable, "-m", "benchmarks.gpu", "--size", "tiny", "--device", "cpu", "--sides", "trueup"]
    command += ["--rounds", "1", "--steps", "2", "--batch", "4"]
    command += ["--out", str(tmp_path / "work"), "--results", str(tmp_path / "gpu.json")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found = json.loads((tmp_path / "gpu.json").read_text())
    assert set(found["jobs"]) == {"dpo-bf16", "sft-bf16"}
    for row in found["jobs"].values():
        assert len(row["trueup"]["losses"]) == 2
        assert row["trueup"]["seconds"] > 0
    assert found["jobs"]["dpo-bf16"]["trueup"]["losses"][0] == pytest.approx(0.6931, abs=2e-3)
    assert "| dpo-bf16 | trueup |" in done.stdout


def test_comparisons_of_two_things_stop():
    runs = {"trueup": [{"losses": [0.69, 0.60]}], "trl": [{"losses": [0.69, 0.70]}]}
    with pytest.raises(SystemExit, match="two things"):
        peers.same_losses("dpo-bf16", runs)
    with pytest.raises(SystemExit, match="two things"):
        peers._same_work("dpo-bf16", runs)
    lengths = {"trueup": [{"losses": [], "lengths": [32.0]}], "trl": [{"losses": [], "lengths": [31.0]}]}
    with pytest.raises(SystemExit, match="differ in length"):
        peers._same_work("rlhf-tiny", lengths)
