"""Rollouts over HTTP: beside the local run, with servers that are late, restarted, dead, or answer something else."""

import json
import logging

import pytest
import torch

from tests.engine.servers.vllm_server import VllmServer
from tests.recipes.test_recipes import config_of
from tests.recipes.test_settings_are_read import reads
from trueup.engine.servers.settings import ServerRollouts
from trueup.errors import ConfigError, Paused, RunError
from trueup.ledger import metric_rows, read_lines, read_run
from trueup.recipes.registry import execute

QUICK = {"attempts": 2, "concurrency": 4}


@pytest.fixture(autouse=True)
def _no_pauses(monkeypatch):
    from trueup.engine.servers import pool

    monkeypatch.setattr(pool.RolloutServer.__init__, "__defaults__", (lambda seconds: None,))
    monkeypatch.setattr(pool.Pool.__init__, "__defaults__", (lambda seconds: None,))
    from trueup.engine.servers import sampler

    monkeypatch.setattr(sampler.ServerSampler.__init__, "__defaults__", (lambda seconds: None,))


def settings(kind, material, *servers, rollout=(), **changes):
    block = QUICK | {"servers": [server if isinstance(server, str) else server.address for server in servers]}
    return config_of(kind, material, **({"steps": 3} | changes), rollout=block | dict(rollout))


@pytest.mark.parametrize("kind", ["rloo", "grpo", "ppo"])
def test_a_run_over_http_is_the_local_run_with_other_draws(kind, material, tmp_path):
    local = execute(kind, config_of(kind, material, steps=3), tmp_path / "local", quiet=True)
    with VllmServer(material["policy"]) as server:
        config = settings(kind, material, server, rollout={"tis_cap": 2.0})
        with reads() as seen:
            out = execute(kind, config, tmp_path / "served", quiet=True)
        prompts = {tuple(body["prompt"]) for path, body, _ in server.asked if body.get("logprobs")}
    rows, own = metric_rows(out), metric_rows(local)
    assert [row["step"] for row in rows] == [0, 1, 2]
    assert all(row["mismatch"] < 1e-5 and row["mismatch_outside"] == 0 for row in rows)
    assert all(row["mismatch_p95"] < 1e-4 and abs(row["mismatch_kl"]) < 1e-9 for row in rows)
    assert all(row["importance_ess"] == pytest.approx(1) and row["first_ratio_error"] < 1e-4 for row in rows)
    assert all((row["staleness"], row["regenerated"], row["servers"]) == (0, 0, 1) for row in rows)
    assert not any("mismatch" in row or "staleness" in row for row in own)
    assert len(prompts) > 2
    assert set(own[0]) < set(rows[0])
    assert rows[0]["completion_length"] == pytest.approx(own[0]["completion_length"], abs=4)
    assert server.loaded[1:] == [f"version-{step:08d}" for step in range(3)]
    assert sorted(path.name for path in (out / "weights").iterdir()) == ["version-00000001", "version-00000002"]
    read = {name for block, name in seen if block is ServerRollouts}
    assert read == set(ServerRollouts.model_fields)
    assert read_run(out)["status"] == "done"
