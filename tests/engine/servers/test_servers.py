"""One rollout server over real HTTP: what is asked of it, and answers that cannot be used."""

import pytest
import torch

from tests.conftest import tiny_model
from tests.engine.servers.vllm_server import VllmServer
from trueup.config import Sampling
from trueup.engine.score import sequence_logps
from trueup.engine.servers.pool import Pool, ServersGone
from trueup.engine.servers.server import RolloutServer
from trueup.engine.servers.settings import ServerRollouts
from trueup.engine.servers.weights import Versions, WeightFolder
from trueup.errors import ConfigError, RunError
from trueup.models.policy import open_policy
from trueup.types import StopReason

SAMPLING, PROMPT, STOPS = Sampling(max_new_tokens=6), (5, 6, 7), {1, 2}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("served") / "model"
    open_policy(tiny_model(), texts=["a cat and a dog"] * 20, seed=3).export(path)
    return path


@pytest.fixture(scope="module")
def vllm(folder):
    with VllmServer(folder) as server:
        yield server


@pytest.fixture
def asked(vllm, monkeypatch):
    """The server of vLLM's protocol, as plain as it was, and a client of it."""
    monkeypatch.setattr(vllm, "tamper", lambda path, answer: (200, answer))
    client = RolloutServer(vllm.address, options(vllm), vllm.policy.vocabulary, lambda seconds: None)
    client.version = 3
    yield vllm, client
    client.endpoint.close()


def options(*servers, **more):
    return ServerRollouts(servers=tuple(server.address for server in servers), attempts=2, **more)


def test_token_ids_go_in_and_come_out_with_the_log_probs_of_the_policy(asked):
    vllm, client = asked
    client.connect()
    drawn = [client.complete(PROMPT, SAMPLING, STOPS, seed) for seed in range(8)]
    assert {one.version for one in drawn} == {3}
    assert len({one.ids for one in drawn}) > 1
    wanted = sequence_logps(vllm.policy, [(PROMPT, one.ids) for one in drawn])
    for one, logps in zip(drawn, wanted, strict=True):
        assert torch.allclose(one.logps, logps, atol=1e-5)
        assert (one.stop is StopReason.EOS) == (one.ids[-1] in STOPS)
        assert len(one.ids) == 6 or one.stop is StopReason.EOS
    body = vllm.asked[-1][1]
    assert (body["model"], body["prompt"], body["stop_token_ids"], body["max_tokens"]) == ("tiny", [5, 6, 7], [1, 2], 6)
    assert client.complete(PROMPT, SAMPLING, STOPS, 4).ids == drawn[4].ids
    (scored,) = client.score([(5, 6, 7, 8)])
    assert torch.allclose(scored, sequence_logps(vllm.policy, [((5,), (6, 7, 8))])[0], atol=1e-5)


def choice(**changes):
    """A tampered answer to a request for a completion; others stay."""

    def tamper(path, answer):
        if path == "/v1/completions" and answer["choices"][0].get("logprobs"):
            answer["choices"][0] |= changes
        return 200, answer

    return tamper


def raw(data, at="/v1/completions", status=200):
    return lambda path, answer: (status, data) if path == at else (200, answer)


BROKEN = {
    "a page": (raw(b"<html>gateway</html>"), "no JSON.*gateway"),
    "another form": (raw({"choices": []}), "another form"),
    "text only": (choice(token_ids=None), "no token ids"),
    "another tokenizer": (choice(token_ids=[31999]), "token 31999 came back, and the policy.s vocabulary has"),
    "a list of words": (choice(token_ids=["a"]), "another form"),
    "too few log-probs": (choice(logprobs={"token_logprobs": [-0.1]}), r"1 log-probs came for \d+ tokens"),
    "no log-probs": (choice(logprobs={"tokens": []}), "another form"),
    "a log-prob that is none": (
        choice(token_ids=[5], logprobs={"token_logprobs": [0.5]}),
        "log-prob of token 0 is 0.5",
    ),
    "another prompt": (choice(prompt_token_ids=[1, 2]), "read another prompt"),
    "a stop string": (choice(finish_reason="stop", token_ids=[7, 7], logprobs={"token_logprobs": [-1, -1]}), "'stop'"),
    "a short context": (
        choice(finish_reason="length", token_ids=[7, 7], logprobs={"token_logprobs": [-1, -1]}),
        "cut at 2 tokens",
    ),
    "no reload": (raw({"detail": "Not Found"}, "/collective_rpc", 404), "404"),
    "no key": (raw({"error": "Unauthorized"}, "/v1/models", 401), "401"),
    "no models": (raw({"data": []}, "/v1/models"), "list of models"),
}


def everything(client, folder):
    """All that a run asks of a server."""
    client.connect()
    client.complete(PROMPT, SAMPLING, STOPS, 0)
    client.reload(folder)


@pytest.mark.parametrize("name", BROKEN)
def test_an_answer_that_cannot_be_used_says_why(name, asked, folder, monkeypatch):
    vllm, client = asked
    tamper, message = BROKEN[name]
    monkeypatch.setattr(vllm, "tamper", tamper)
    with pytest.raises(RunError, match=f"(?s)127.0.0.1.*{message}") as stop:
        everything(client, folder)
    assert type(stop.value) is RunError
    assert stop.value.fix or stop.value.expected
    if name == "no reload":
        assert "VLLM_SERVER_DEV_MODE=1" in stop.value.fix
    if name == "no key":
        assert "TRUEUP_ROLLOUT_KEY" in stop.value.fix


def test_log_probs_of_another_text_are_refused(asked, monkeypatch):
    vllm, client = asked
    monkeypatch.setattr(vllm, "tamper", raw({"choices": [{"token_ids": [0], "prompt_logprobs": [None, {}]}]}))
    with pytest.raises(RunError, match="another form") as stop:
        client.score([(5, 6, 7)])
    assert "3 tokens" in stop.value.expected


def test_the_key_comes_from_the_environment(asked, monkeypatch):
    vllm, _ = asked
    monkeypatch.setenv("TRUEUP_ROLLOUT_KEY", "s3cret")
    client = RolloutServer(vllm.address, options(vllm), 300)
    client.connect()
    client.endpoint.close()
    assert {key.lower(): value for key, value in vllm.asked[-1][2].items()}["authorization"] == "Bearer s3cret"
    assert "s3cret" not in f"{client.__dict__} {client.endpoint.__dict__}"


# Several servers, and versions ----------------------------------------------------------------------------------------


def test_tasks_of_a_server_that_stops_answering_go_to_the_others(vllm, folder):
    versions = Versions(0.5)
    pool = Pool(options(vllm, concurrency=2), vllm.policy.vocabulary, versions, [PROMPT], lambda seconds: None)
    ill = RolloutServer("http://127.0.0.1:9", options(vllm), 300, lambda seconds: None)
    well = RolloutServer(vllm.address, options(vllm), vllm.policy.vocabulary, lambda seconds: None)
    pool._servers = {"ill": ill, vllm.address: well}
    ill.address = "ill"
    results = pool.run(range(8), lambda server, task: server.complete(PROMPT, SAMPLING, STOPS, task).ids and task)
    assert {task: (value, server) for task, (value, server) in results.items()} == {n: (n, well) for n in range(8)}
    assert pool.usable == [well]
    pool.leave_out(well, "on fire")
    with pytest.raises(ServersGone, match=r"no rollout server is left: ill: no answer in 2 attempts.*on fire"):
        pool.run([1], lambda server, task: task)
    pool.close()


def test_an_older_version_is_recognised_only_where_it_fits_clearly_better():
    versions = Versions(limit=0.5)
    base = torch.linspace(-3, -1, 20)
    for version in range(3):
        versions.add(version, [base[:10] + 0.1 * version, base[10:] + 0.1 * version])
    assert versions.recognise([base + 0.2]) == (2, pytest.approx(0, abs=1e-6))
    assert versions.recognise([base]) == (0, pytest.approx(0, abs=1e-6))
    assert versions.recognise([base + 0.11])[0] == 1
    assert versions.recognise([base + 0.15])[0] == 2  # as near to one as to the other: rounding of the newest
    assert versions.recognise([base + 0.9]) == (None, pytest.approx(0.7, abs=1e-6))


def test_a_folder_of_weights_keeps_the_newest_and_is_emptied_at_a_start(tmp_path):
    path = tmp_path / "weights"
    weights = WeightFolder(path, keep=2)
    for version in range(4):
        made = weights.write(version, lambda folder, v=version: (folder / "model").write_text(str(v)))
    assert [(p.name, (p / "model").read_text()) for p in sorted(path.iterdir())] == [
        ("version-00000002", "2"),
        ("version-00000003", "3"),
    ]
    assert made.is_absolute()

    def fails(folder):
        (folder / "model").write_text("half")
        raise OSError(28, "No space left on device")

    with pytest.raises(RunError, match="version 4 of the weights cannot be written"):
        weights.write(4, fails)
    assert [p.name for p in sorted(path.iterdir())] == ["version-00000002", "version-00000003"]
    WeightFolder(path, keep=2)
    assert list(path.iterdir()) == []


def test_a_file_of_servers_says_what_is_wrong_with_it(tmp_path):
    file = tmp_path / "servers.txt"
    with pytest.raises(ConfigError, match="cannot be read"):
        ServerRollouts(servers=str(file)).addresses()
    file.write_text("# none yet\n")
    with pytest.raises(ConfigError, match="names none"):
        ServerRollouts(servers=str(file)).addresses()
    file.write_text("http://a:1/v1\n\nhost\n")
    with pytest.raises(ConfigError, match="is no address") as stop:
        ServerRollouts(servers=str(file)).addresses()
    assert stop.value.where == f"{file}:3"
    file.write_text("http://a:1/v1\nhttp://a:1/\nhttp://b:2\n")
    assert ServerRollouts(servers=str(file)).addresses() == ("http://a:1", "http://b:2")
    assert ServerRollouts(servers="http://a:1, http://b:2").addresses() == ("http://a:1", "http://b:2")
