"""The fast decoder draws what the model draws; where it cannot, the model's own step is used."""

import logging

import pytest
import torch

from tests.models.test_packing import FAMILIES, VOCABULARY, build
from trueup.config import Sampling
from trueup.engine import generate as sampler
from trueup.engine.generate import generate
from trueup.errors import NonFiniteError
from trueup.models import decoder
from trueup.models.decoder import Decoder, supports
from trueup.models.policy import Policy

FAST = ("GPT2", "Llama", "Qwen2", "Qwen3")
PROMPTS = [(3, 4, 5, 6, 7), (8,), (9, 10, 11), (12, 13)]


def policy_of(family, dtype=torch.float64, compute=torch.float32):
    return Policy(build(family, dtype), None, torch.device("cpu"), compute, family)


def draw(policy, **levers):
    return generate(policy, PROMPTS, Sampling(max_new_tokens=14, **levers), stop_ids=frozenset([1, 2, 3]), seed=5)


@pytest.mark.parametrize("family", FAST)
@pytest.mark.parametrize(
    "levers", [{}, {"temperature": 0.7, "top_p": 0.9}, {"temperature": 0, "repetition_penalty": 1.3}]
)
def test_it_draws_what_the_model_draws(family, levers):
    policy = policy_of(family)
    fast = draw(policy, **levers)
    assert policy.decodes is True
    policy.decodes = False
    slow = draw(policy, **levers)
    for one, other in zip(fast, slow, strict=True):
        assert (one.ids, one.stop) == (other.ids, other.stop)
        torch.testing.assert_close(one.logps, other.logps, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("most", [decoder.WIDE_CACHE_BYTES, 0])
@pytest.mark.parametrize("family", ["GPT2", "Qwen3"])
def test_bfloat16_stays_near_the_model(family, most, monkeypatch):
    """With a float32 cache and with a bfloat16 one, which is what large caches are."""
    monkeypatch.setattr(decoder, "WIDE_CACHE_BYTES", most)
    policy = policy_of(family, torch.float32, torch.bfloat16)
    draw(policy)
    assert policy.decodes is True


@pytest.mark.parametrize("prompts", [PROMPTS, [(3, 4, 5), (6, 7, 8)]])
@pytest.mark.parametrize("family", ["GPT2", "Qwen3"])
def test_columns_that_were_not_written_yet_are_hidden(family, prompts, monkeypatch):
    """A bfloat16 cache is read some columns at a time; with one at a time nothing needs hiding."""
    monkeypatch.setattr(decoder, "WIDE_CACHE_BYTES", 0)
    policy = policy_of(family, torch.float32, torch.bfloat16)
    found = []
    for columns in (1, 8):
        monkeypatch.setattr(decoder, "COLUMNS", columns)
        found.append(generate(policy, prompts, Sampling(max_new_tokens=14), stop_ids=frozenset(), seed=5))
    assert policy.decodes is True
    for one, other in zip(*found, strict=True):
        assert one.ids == other.ids
        torch.testing.assert_close(one.logps, other.logps, rtol=0.02, atol=0.02)


@pytest.mark.parametrize("family", ["GPT2", "Qwen3"])
def test_prompts_may_be_read_some_at_a_time(family, monkeypatch):
    prompts = [tuple(range(3, 3 + n)) for n in (1, 9, 4, 4, 17, 2)]
    policy = policy_of(family)
    found = []
    for budget in (1, 9, 1000):
        monkeypatch.setattr(decoder, "PREFILL_TOKENS", budget)
        one = Decoder(policy.model, torch.float64, len(prompts))
        found.append([one.prefill(prompts, 3), *one.keys, *one.values])
    for tensors in zip(*found, strict=True):
        for other in tensors[1:]:  # columns to the left of a prompt hold whatever tokens stand there
            for row, prompt in enumerate(prompts):
                ours, theirs = (t[row] if t.dim() == 2 else t[row, :, 17 - len(prompt) :] for t in (tensors[0], other))
                torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize(
    ("lengths", "budget", "wanted"),
    [([5], 3, [(0, 1)]), ([1, 2, 3], 3, [(0, 2), (2, 3)]), ([9, 1, 9], 4, [(0, 1), (1, 2), (2, 3)])],
)
def test_groups_of_prompts_hold_every_one_once(lengths, budget, wanted):
    assert [(part.start, part.stop) for part in decoder._groups(lengths, budget)] == wanted


def test_equal_prompts_are_read_once_and_continued_apart():
    policy = policy_of("Llama")
    shared = tuple(range(10, 22))
    prompts = [shared, (5,), shared, (8, 9)]

    def drawn():
        return generate(policy, prompts, Sampling(max_new_tokens=9), stop_ids=(), seed=5)

    fast = drawn()
    policy.decodes = False
    assert [c.ids for c in fast] == [c.ids for c in drawn()]
    assert fast[0].ids != fast[2].ids


def test_rows_may_leave_early_without_touching_the_others(monkeypatch):
    policy = policy_of("Llama")
    whole = draw(policy)
    for share in (0.0, 1.0):  # never compact, compact at once
        monkeypatch.setattr(sampler, "COMPACT_BELOW", share)
        assert [c.ids for c in draw(policy)] == [c.ids for c in whole]


@pytest.mark.parametrize("family", sorted(set(FAMILIES) - set(FAST)))
def test_other_families_and_narrow_windows_use_the_model(family):
    model = build(family)
    assert not supports(model, 40)
    policy = policy_of(family, torch.float32)  # in float64, eager attention of Gemma 2 gives NaN under left padding
    draw(policy)
    assert policy.decodes is None


def test_a_decoder_that_differs_is_not_used(monkeypatch, caplog):
    policy = policy_of("GPT2")
    honest = Decoder.step
    monkeypatch.setattr(Decoder, "step", lambda self, *given: honest(self, *given) + torch.arange(VOCABULARY))
    with caplog.at_level(logging.WARNING, "trueup.engine"):
        draw(policy)
    assert policy.decodes is False
    assert "the model's own step is used" in caplog.text


def test_logits_that_are_no_distribution_are_an_error():
    with pytest.raises(NonFiniteError, match="row 1"):
        sampler._inverse_cdf(torch.tensor([[0.0, 1.0], [float("nan"), 0.0]]), torch.tensor([0.5, 0.5]))


@pytest.mark.parametrize("vocabulary", [5, 256, 700])
def test_inverse_cdf_agrees_with_the_plain_scan_and_never_draws_the_impossible(vocabulary):
    logits = torch.randn(1, vocabulary, dtype=torch.float64) * 3
    logits[0, ::3] = float("-inf")
    uniforms = torch.linspace(0, 1, 2001, dtype=torch.float64)[:-1] + 1e-7
    token, logp = sampler._inverse_cdf(logits.repeat(2000, 1), uniforms)
    shares = logits.softmax(-1)[0]
    wanted = torch.searchsorted(shares.cumsum(0), uniforms, right=True)
    assert float((token == wanted).double().mean()) > 0.999  # the two sums round differently at an edge
    assert torch.isfinite(logp).all()
    torch.testing.assert_close(logp, shares.log()[token])
    edge, _ = sampler._inverse_cdf(logits, torch.tensor([1.0], dtype=torch.float64))
    assert torch.isfinite(logits[0, edge])
