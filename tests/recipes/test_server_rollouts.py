"""Rollouts over HTTP: beside the local run, with servers that are late, restarted, dead, or answer something else."""

import json
import logging

import pytest
import torch

from tests.engine.servers.vllm_server import VllmServer
from tests.recipes.test_recipes import config_of
from tests.recipes.test_settings_are_read import reads
from trueup.engine.score import sequence_logps
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
    fast = {"steps": 3, "model__kernels": "plain", "probes": 1}
    return config_of(kind, material, **(fast | changes), rollout=block | dict(rollout))


@pytest.mark.parametrize("kind", ["rloo", "grpo", "ppo"])
def test_a_run_over_http_is_the_local_run_with_other_draws(kind, material, tmp_path):
    plain = config_of(kind, material, steps=1, model__kernels="plain", probes=1)
    local = execute(kind, plain, tmp_path / "local", quiet=True)
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


def test_a_bad_file_of_servers_is_noticed_before_a_model_is_opened(material, tmp_path, monkeypatch):
    from trueup.recipes.rollouts import session

    monkeypatch.setattr(session, "open_actors", lambda *_, **__: pytest.fail("a model is opened"))
    file = tmp_path / "servers.txt"
    file.write_text("http://gpu1:8000\ngpu2:8000\n")
    with pytest.raises(ConfigError, match="'gpu2:8000' is no address; expected http://host:port") as stop:
        execute("rloo", settings("rloo", material, rollout={"servers": str(file)}), tmp_path / "r", quiet=True)
    assert stop.value.where == f"{file}:2"


def test_a_server_one_version_late_is_measured_within_the_bound(material, tmp_path):
    with VllmServer(material["policy"], late=1) as server:
        config = settings("rloo", material, server, rollout={"max_staleness": 2, "attempts": 1, "keep_weights": 4})
        out = execute("rloo", config, tmp_path / "r", quiet=True)
    rows = metric_rows(out)
    assert [row["staleness"] for row in rows] == [0, 1, 1]  # the first weights are the policy's own
    assert [row["staleness_max"] for row in rows] == [0, 1, 1]
    assert rows[0]["mismatch"] < 1e-5
    assert all(row["mismatch"] > 1e-3 and row["mismatch_kl"] > 0 and row["importance_ess"] < 1 for row in rows[1:])
    assert all(row["first_ratio_error"] < 1e-4 for row in rows)  # old log-probs are the trainer's own
    assert all(row["regenerated"] == 0 for row in rows)


def test_a_late_server_beyond_the_bound_is_left_out_and_never_trains(material, tmp_path, caplog):
    with VllmServer(material["policy"], late=1) as late, VllmServer(material["policy"]) as good:
        config = settings("rloo", material, late, good, rollout={"attempts": 1, "keep_weights": 4})
        with caplog.at_level(logging.WARNING):
            out = execute("rloo", config, tmp_path / "r", quiet=True)
    assert [row["staleness_max"] for row in metric_rows(out)] == [0, 0, 0]
    assert [row["servers"] for row in metric_rows(out)] == [2, 1, 1]
    assert "left out until the next synchronisation: it still holds version 0" in caplog.text


def test_a_server_that_asks_twice_catches_up(material, tmp_path):
    """A reload that comes too early is asked for again, and looked at again."""
    with VllmServer(material["policy"], late=1) as server:
        config = settings("rloo", material, server, rollout={"attempts": 2})
        out = execute("rloo", config, tmp_path / "r", quiet=True)
    assert all(row["staleness_max"] == 0 and row["mismatch"] < 1e-5 for row in metric_rows(out))


def test_rollouts_of_a_server_that_was_restarted_are_drawn_again(material, tmp_path, caplog):
    done = []

    def restart(path, answer):
        if path == "/v1/completions" and "token_logprobs" in json.dumps(answer):
            done.append(path)
            if len(done) == 6:  # in the middle of the second step
                server.restart()
        return 200, answer

    with VllmServer(material["policy"], tamper=restart) as server, caplog.at_level(logging.WARNING):
        out = execute("rloo", settings("rloo", material, server), tmp_path / "r", quiet=True)
    rows = metric_rows(out)
    assert [row["regenerated"] for row in rows] == [0, 4, 0]
    assert all(row["staleness_max"] == 0 and row["mismatch"] < 1e-5 for row in rows)
    assert "4 of 4 rollouts" in caplog.text


def test_weights_are_sent_as_seldom_as_the_settings_allow(material, tmp_path):
    with VllmServer(material["policy"]) as server:
        config = settings("rloo", material, server, steps=4, rollout={"sync_every": 2, "max_staleness": 1})
        out = execute("rloo", config, tmp_path / "r", quiet=True)
    assert server.loaded[1:] == ["version-00000000", "version-00000002"]
    assert [row["staleness"] for row in metric_rows(out)] == [0, 1, 0, 1]
    assert [row["mismatch"] > 1e-3 for row in metric_rows(out)] == [False, True, False, True]


def test_importance_weights_change_the_update_of_stale_rollouts_and_no_other(material, tmp_path):
    finals = []
    for cap in (None, 1.0):
        with VllmServer(material["policy"]) as server:
            given = {"sync_every": 2, "max_staleness": 1, "tis_cap": cap}
            config = settings("rloo", material, server, steps=2, save_every=1, rollout=given)
            out = execute("rloo", config, tmp_path / str(cap), quiet=True)
        finals.append([row["policy_loss"] for row in metric_rows(out)])
    assert finals[0][0] == pytest.approx(finals[1][0], rel=1e-4)
    assert finals[0][1] != pytest.approx(finals[1][1], rel=1e-3)


def test_a_dead_server_is_left_out_and_comes_back(material, tmp_path, caplog):
    """Its share goes to the other one; the next synchronisation asks it again."""
    seen = []

    def fails(path, answer):
        if path == "/v1/completions" and "token_logprobs" in json.dumps(answer):
            seen.append(path)
            return (500, {"error": "out of memory"}) if len(seen) <= 4 else (200, answer)
        return 200, answer

    with VllmServer(material["policy"], tamper=fails) as ill, VllmServer(material["policy"]) as well:
        config = settings("rloo", material, ill, well, rollout={"concurrency": 1})
        with caplog.at_level(logging.INFO):
            out = execute("rloo", config, tmp_path / "r", quiet=True)
    assert metric_rows(out)[0]["servers"] == 1
    assert metric_rows(out)[-1]["servers"] == 2
    assert caplog.text.count(f"rollout server {ill.address} is left out") >= 1
    assert f"rollout server {ill.address} is back" in caplog.text
    assert "status 500" in caplog.text


def test_a_run_without_servers_pauses_and_goes_on_with_others(material, tmp_path):
    listed = tmp_path / "servers.txt"
    gone = []

    def dies(path, answer):
        if path == "/collective_rpc" and len(gone) < 9:
            gone.append(path)
            return (503, {"error": "shutting down"}) if len(gone) > 1 else (200, answer)
        return 200, answer

    with VllmServer(material["policy"], tamper=dies) as first:
        listed.write_text(f"# rollout servers\n{first.address}/v1\n")
        config = settings("rloo", material, rollout={"servers": str(listed)})
        with pytest.raises(
            Paused, match=r"after step 1, and everything is saved: no rollout server is left.*503"
        ) as stop:
            execute("rloo", config, tmp_path / "r", quiet=True)
    assert "the same command goes on" in stop.value.fix
    assert read_run(tmp_path / "r")["status"] == "interrupted"
    assert (tmp_path / "r/checkpoints/latest").read_text() == "step-00000001"
    with VllmServer(material["policy"]) as second:
        listed.write_text(second.address)
        out = execute("rloo", config, tmp_path / "r", quiet=True)
    assert [row["step"] for row in metric_rows(out)] == [0, 1, 2]
    assert all(row["mismatch"] < 1e-5 for row in metric_rows(out))
    assert second.loaded[1:] == ["version-00000001", "version-00000002"]
    assert read_run(out)["status"] == "done"


def test_a_server_of_another_model_is_refused(material, tmp_path):
    with VllmServer(material["policy"]) as server:
        with torch.no_grad():
            server.policy.model.get_output_embeddings().weight.mul_(-40)
        server.load = lambda folder: None  # says that it loads, and does not
        with pytest.raises(RunError, match=r"nats a token from the policy's") as stop:
            execute("rloo", settings("rloo", material, server), tmp_path / "r", quiet=True)
    assert "rollout.weights" in stop.value.fix


def test_log_probs_before_the_temperature_are_noticed(material, tmp_path):
    def untempered(path, answer):
        one = answer["choices"][0] if path == "/v1/completions" else {}
        if one.get("logprobs"):
            request = server.asked[-1][1]
            ids, drawn = tuple(request["prompt"]), tuple(one["token_ids"])
            (logps,) = sequence_logps(server.policy, [(ids, drawn)])
            one["logprobs"]["token_logprobs"] = logps.tolist()
        return 200, answer

    given = {"sampling__temperature": 0.7}
    expected = pytest.raises(RunError, match="those of temperature 1")
    with VllmServer(material["policy"], tamper=untempered) as server, expected as stop:
        execute("rloo", settings("rloo", material, server, **given), tmp_path / "r", quiet=True)
    assert "processed_logprobs" in stop.value.fix
    with VllmServer(material["policy"]) as server:
        out = execute("rloo", settings("rloo", material, server, steps=1, **given), tmp_path / "s", quiet=True)
    assert metric_rows(out)[0]["mismatch"] < 1e-5


def test_requests_are_spread_over_the_servers(material, tmp_path):
    with VllmServer(material["policy"]) as one, VllmServer(material["policy"]) as two:
        config = settings("rloo", material, one, two, steps=2, batch__size=8, rollout={"concurrency": 1})
        out = execute("rloo", config, tmp_path / "r", quiet=True)
    counts = [sum("logprobs" in body for _, body, _ in server.asked) for server in (one, two)]
    assert sum(counts) == 16
    assert min(counts) > 0
    seeds = [body["seed"] for server in (one, two) for _, body, _ in server.asked if "seed" in body]
    assert len(set(seeds)) == 16  # equal prompts with equal seeds would get equal answers
    assert read_lines(out / "samples.jsonl")[0]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"servers": []}, "no server is named"),
        ({"servers": ["localhost:8000"]}, "is no address; expected http://host:port"),
        ({"servers": ["http://me:pw@host:1"]}, "TRUEUP_ROLLOUT_KEY"),
        ({"servers": ["http://h"], "sync_every": 3, "max_staleness": 1}, "raise max_staleness to 2"),
        ({"servers": ["http://h"], "max_stale": 1}, "max_staleness"),
    ],
)
def test_settings_that_cannot_be_meant(given, message, material):
    with pytest.raises(ConfigError, match=message):
        config_of("rloo", material, steps=1, rollout=given)


def test_weights_of_a_policy_gradient_are_refused_where_there_is_none(material):
    with pytest.raises(ConfigError, match="tis_cap weighs the tokens of a policy gradient"):
        config_of("best-of-n", material, steps=1, rollout={"servers": ["http://h"], "tis_cap": 2.0})
