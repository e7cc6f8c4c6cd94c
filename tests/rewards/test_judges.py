"""Judges: log-probs against an oracle, both ways of asking, a server that fails and one that is real."""

import json
import math

import httpx
import numpy as np
import pytest
import torch

from tests.conftest import tiny_model
from tests.models.test_export_gguf import LlamaCpp
from trueup.config import Model, Sampling
from trueup.engine.ask import ask
from trueup.engine.rendering import renderer_of, whole_context
from trueup.errors import ConfigError, DataError, ModelError, RunError
from trueup.models.export_folder import find_source
from trueup.models.export_gguf import export_gguf
from trueup.models.policy import open_policy
from trueup.rewards.judge import BROKEN, DECIDE, KEPT, open_judge, think, which
from trueup.rewards.judge_endpoint import Asked, EndpointJudge, probability
from trueup.rewards.judge_model import ModelJudge
from trueup.types import Message

WORDS = [
    "A B YES NO Yes No. Request: Answer A: Answer B: Principle: Which answer is better by this principle? ",
    "YES",
    "NO",
] * 40
RULE, ASKED = "Be kind.", (Message("user", "How?"),)


@pytest.fixture(scope="module")
def policy():
    return open_policy(tiny_model(vocabulary=340, context=400), texts=WORDS, seed=3)


@pytest.fixture(scope="module")
def judge(policy):
    renderer = renderer_of(policy, Model(name=policy.source), whole_context(policy.context))
    return ModelJudge(policy, renderer, "tiny", "weights")


def oracle(policy, judge, question, words):
    """P(first word), by a plain forward pass of transformers in float64."""
    turn = (Message("user", question),) if judge.renderer.chat.exists else f"{question}\nAnswer:"
    ids = judge.renderer.render_prompt(turn)
    lead = "" if judge.renderer.chat.exists else " "
    with torch.no_grad():
        logits_V = policy.model(torch.tensor([ids])).logits[0, -1].double().numpy()
    first, second = (policy.tokenizer(lead + word, add_special_tokens=False).input_ids for word in words)
    assert len(first) == len(second) == 1
    return float(np.exp(logits_V[first[0]]) / (np.exp(logits_V[first[0]]) + np.exp(logits_V[second[0]])))


def test_a_model_judges_by_the_log_probs_of_the_letters(policy, judge):
    asked = [(RULE, ASKED, "Well.", "Badly, and longer."), (RULE, ASKED, "Badly, and longer.", "Well.")]
    wanted = [oracle(policy, judge, which(*one), ("A", "B")) for one in asked]
    assert judge.first_wins(asked) == pytest.approx(wanted, abs=1e-6)
    assert judge.first_wins(asked[:1]) == pytest.approx(wanted[:1], abs=1e-6)  # whatever it is batched with
    assert judge.first_wins([]) == judge.breaks([]) == []


def test_yes_and_no_are_asked_both_ways_round(policy, judge):
    fields = {"principle": RULE, "prompt": "How?", "answer": "Well.", "yes": judge.words[0], "no": judge.words[1]}
    broken, kept = (oracle(policy, judge, form.format(**fields), judge.words) for form in (BROKEN, KEPT))
    assert judge.breaks([(RULE, ASKED, "Well.")]) == pytest.approx([(broken + 1 - kept) / 2], abs=1e-6)


def test_a_judge_is_known_by_its_weights(policy, judge):
    other = ModelJudge(policy, judge.renderer, "tiny", "other weights")
    assert other.fingerprint != judge.fingerprint
    assert ModelJudge(policy, judge.renderer, "elsewhere", "weights").fingerprint == judge.fingerprint


def test_a_question_that_does_not_fit_names_itself(judge):
    with pytest.raises(DataError, match="cannot be put to the judge"):
        judge.breaks([(RULE, ASKED, "word " * 500)])


def test_a_model_without_the_words_cannot_judge():
    from trueup.sandbox.shipped import BASE

    with pytest.raises(ModelError, match="no single tokens"):
        open_judge(str(BASE))


# A server -------------------------------------------------------------------------------------------------------------


def completion(*tokens, text="A"):
    entries = [{"token": token, "logprob": logprob} for token, logprob in tokens]
    logprobs = {"content": [{"token": text, "top_logprobs": entries}]} if tokens else None
    return {
        "choices": [{"message": {"content": text}, "logprobs": logprobs}],
        "usage": {"prompt_tokens": 7, "completion_tokens": 1},
    }


def served(*replies, **settings):
    """A judge behind a server that gives these replies in turn, what it was asked, and how long it waited."""
    left, requests, waits = list(replies), [], []

    def handler(request):
        requests.append(request)
        reply = left.pop(0) if len(left) > 1 else left[0]
        if isinstance(reply, Exception):
            raise reply
        return reply if isinstance(reply, httpx.Response) else httpx.Response(200, json=reply)

    client = httpx.Client(transport=httpx.MockTransport(handler))
    asked = Asked(**({"model": "m", "concurrency": 1} | settings))
    return EndpointJudge("http://server/v1/", asked, client, waits.append), requests, waits


PAIR = (RULE, ASKED, "Well.", "Badly.")


def test_a_server_is_asked_for_log_probs_of_one_token():
    judge, requests, _ = served(completion(("A", -0.1), ("B", -2.5)))
    assert judge.first_wins([PAIR]) == pytest.approx([math.exp(-0.1) / (math.exp(-0.1) + math.exp(-2.5))])
    body = json.loads(requests[0].content)
    assert str(requests[0].url) == "http://server/v1/chat/completions"
    assert body["messages"] == [{"role": "user", "content": which(*PAIR)}]
    assert (body["max_tokens"], body["temperature"], body["logprobs"], body["top_logprobs"]) == (1, 0, True, 20)
    assert (judge.cost.requests, judge.cost.prompt_tokens, judge.cost.completion_tokens) == (1, 7, 1)


def test_a_server_that_reasons_first_is_asked_twice_and_reads_its_own_thoughts():
    judge, requests, _ = served(
        completion(text=" The first is kind. "), completion(("A", -0.1), ("B", -2.5)), reasons=64
    )
    (p,) = judge.first_wins([PAIR])
    assert p == pytest.approx(1 / (1 + math.exp(-2.4)))
    thinking, deciding = (json.loads(request.content) for request in requests)
    assert (thinking["max_tokens"], "logprobs" in thinking) == (64, False)
    assert thinking["messages"][0]["content"] == think(*PAIR)
    assert deciding["messages"][0]["content"] == DECIDE.format(question=think(*PAIR), thoughts="The first is kind.")
    assert judge.fingerprint != served(completion(text="A"))[0].fingerprint


def test_a_model_that_reasons_first_reads_its_own_thoughts(policy, judge):
    reasoning = ModelJudge(policy, judge.renderer, "tiny", "weights", reasons=6)
    asked = (RULE, ASKED, "Well.", "Badly.")
    prompt = (Message("user", think(*asked)),) if judge.renderer.chat.exists else f"{think(*asked)}\nAnswer:"
    written = ask(policy, judge.renderer, [prompt], Sampling(max_new_tokens=6, temperature=0), seed=0)[1][0].text
    question = DECIDE.format(question=think(*asked), thoughts=written.strip())
    assert reasoning.first_wins([asked]) == pytest.approx([oracle(policy, judge, question, ("A", "B"))], abs=1e-6)
    assert reasoning.first_wins([]) == []
    assert reasoning.fingerprint != judge.fingerprint


def test_what_stands_behind_a_judges_hash_is_checked():
    with pytest.raises(ConfigError, match="did you mean 'reasons'"):
        open_judge("anything#reason=3")


@pytest.mark.parametrize(
    ("choice", "wanted"),
    [
        (completion(("A", -1.0), ("B", -1.0)), 0.5),
        (completion((" A", -1.0), ("A", -3.0), ("B", -1.0)), 0.5),
        (completion(("A", 0.0), ("B", -9999.0)), 1.0),
        (completion(("B", 0.0), ("A", -9999.0)), 0.0),
        (completion(("A", -0.1), ("C", -3.0)), None),
        (completion(("The", -0.1)), None),
        (completion(text=" B."), 0.0),
        (completion(text="**A**"), 1.0),
        (completion(text="Answer A"), None),
        (completion(text=""), None),
    ],
)
def test_no_verdict_is_made_up_of_what_a_server_says(choice, wanted):
    assert probability(choice["choices"][0], ("A", "B")) == (None if wanted is None else pytest.approx(wanted))


def test_no_verdict_in_one_way_of_asking_is_none_at_all():
    judge, _, _ = served(completion(("YES", -0.1), ("NO", -1.0)), completion(("Perhaps", -0.1)))
    assert judge.breaks([(RULE, ASKED, "Well.")]) == [None]


def test_a_busy_server_is_asked_again_after_longer_and_longer():
    busy = httpx.Response(503, text="loading")
    limited = httpx.Response(429, headers={"retry-after": "17"})
    judge, requests, waits = served(
        busy, limited, httpx.ConnectError("refused"), completion(("A", -0.7), ("B", -0.7)), attempts=4
    )
    assert judge.first_wins([PAIR]) == pytest.approx([0.5])
    assert len(requests) == 4
    assert 0.5 <= waits[0] <= 1
    assert waits[1] == 17
    assert 2 <= waits[2] <= 4
    assert judge.cost.retries == 3


@pytest.mark.parametrize("reply", [httpx.Response(500), httpx.ReadTimeout("slow"), httpx.ConnectError("refused")])
def test_a_server_that_stays_ill_stops_the_run(reply):
    judge, requests, waits = served(reply, attempts=3)
    with pytest.raises(RunError, match="no answer in 3 attempts"):
        judge.first_wins([PAIR])
    assert (len(requests), len(waits)) == (3, 2)


@pytest.mark.parametrize(("status", "fix"), [(401, "TRUEUP_JUDGE_KEY"), (404, "ends in /v1"), (400, "see what")])
def test_a_server_that_refuses_is_not_asked_again(status, fix):
    judge, requests, _ = served(httpx.Response(status, text="no"))
    with pytest.raises(RunError, match=fix):
        judge.first_wins([PAIR])
    assert len(requests) == 1


@pytest.mark.parametrize(
    "reply", [{}, {"choices": []}, {"choices": [{}]}, {"choices": [{"logprobs": {"content": [3]}}]}]
)
def test_an_answer_of_another_form_stops_the_run(reply):
    judge, _, _ = served(reply)
    with pytest.raises(RunError, match="another form"):
        judge.first_wins([PAIR])


def test_the_key_comes_from_the_environment_and_stays_there(monkeypatch):
    monkeypatch.setenv("TRUEUP_JUDGE_KEY", "s3cret")
    judge = EndpointJudge.at("http://server/v1#model=m")
    assert judge.endpoint.client.headers["authorization"] == "Bearer s3cret"
    assert "s3cret" not in f"{judge.name} {judge.fingerprint} {judge.cost} {judge.asked}"


@pytest.mark.parametrize(
    "source",
    ["http://server/v1", "http://server/v1#", "http://server/v1#modle=m", "http://server/v1#model=m,attempts=0"],
)
def test_an_address_says_what_is_missing(source):
    with pytest.raises(ConfigError, match=r"model|attempts"):
        open_judge(source)


def test_a_real_server_and_the_same_model_opened_here_say_the_same(tmp_path):
    """llama.cpp's server with a tiny model, over HTTP, beside the model itself."""
    pytest.importorskip("xllamacpp", reason="xllamacpp (llama.cpp) is not installed")
    tiny = open_policy(tiny_model(vocabulary=340, context=400), texts=WORDS, seed=3)
    renderer = renderer_of(tiny, Model(name="tiny"), whole_context(tiny.context))
    here = ModelJudge(tiny, renderer, "tiny", "w")
    with torch.no_grad():  # of random weights the 20 likeliest tokens rarely hold a letter; of these two rows they do
        rows = tiny.model.get_output_embeddings().weight
        ids = torch.tensor([renderer.render_prompt((Message("user", which(*PAIR)),))])
        hidden_D = tiny.model.get_decoder()(ids).last_hidden_state[0, -1]
        rows[list(here.letters)] = torch.stack([hidden_D, 0.7 * hidden_D]) * 8 / hidden_D.square().sum()
    tiny.export(tmp_path / "model")
    made = export_gguf(find_source(str(tmp_path / "model")), tmp_path / "gguf", "f32")
    server = LlamaCpp(next(made.path.glob("*.gguf")), context=400)
    there = EndpointJudge(f"{server.server.listening_address}/v1", Asked(model="tiny", concurrency=1))
    (wanted,) = open_judge(str(tmp_path / "model")).first_wins([PAIR])
    assert 0.5 < wanted < 0.999
    assert there.first_wins([PAIR]) == pytest.approx([wanted], abs=2e-3)
    assert there.cost.prompt_tokens == len(ids[0])
