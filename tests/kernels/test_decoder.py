"""The fast decoder draws what the model draws; where it cannot, the model's own step is used."""

import logging

import pytest
import torch

from tests.kernels.test_packing import FAMILIES, VOCABULARY, build
from trueup.config import Sampling
from trueup.engine import generate as sampler
from trueup.engine.generate import generate
from trueup.errors import NonFiniteError
from trueup.kernels import cache, decoder
from trueup.kernels.cache import Cache
from trueup.kernels.decoder import Decoder, supports
from trueup.models.policy import Policy

FAST = ("GPT2", "Llama", "Qwen2", "Qwen3")
PROMPTS = [(3, 4, 5, 6, 7), (8,), (9, 10, 11), (12, 13)]


def policy_of(family, dtype=torch.float64, compute=torch.float32):
    return Policy(build(family, dtype), None, torch.device("cpu"), compute, family)


def packs_bfloat16() -> bool:
    """Whether oneDNN has bfloat16 products on this processor, which the fast decoder keeps its weights for."""
    try:
        torch.ops.mkldnn._reorder_linear_weight(torch.ones(8, 8, dtype=torch.bfloat16), 4)
    except RuntimeError:
        return False
    return True


def draw(policy, **filters):
    return generate(policy, PROMPTS, Sampling(max_new_tokens=14, **filters), stop_ids=frozenset([1, 2, 3]), seed=5)


@pytest.mark.parametrize("family", FAST)
@pytest.mark.parametrize(
    "filters", [{}, {"temperature": 0.7, "top_p": 0.9}, {"temperature": 0, "repetition_penalty": 1.3}]
)
def test_it_draws_what_the_model_draws(family, filters):
    policy = policy_of(family)
    fast = draw(policy, **filters)
    assert policy.decodes is True
    policy.decodes = False
    slow = draw(policy, **filters)
    for one, other in zip(fast, slow, strict=True):
        assert (one.ids, one.stop) == (other.ids, other.stop)
        torch.testing.assert_close(one.logps, other.logps, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("amx", [True, False])
@pytest.mark.parametrize("family", ["GPT2", "Qwen3"])
def test_bfloat16_stays_near_the_model_by_either_attention(family, amx, monkeypatch):
    policy, used = policy_of(family, torch.float32, torch.bfloat16), set()
    monkeypatch.setattr(decoder, "has_amx", lambda: amx)
    for name in ("_attend_once", "_attend_by_pytorch"):
        honest = getattr(decoder, name)

        def spy(*tensors, name=name, honest=honest, **more):
            used.add(name)
            return honest(*tensors, **more)

        monkeypatch.setattr(decoder, name, spy)
    found = draw(policy)
    assert policy.decodes is packs_bfloat16()
    assert used == ({"_attend_by_pytorch" if amx else "_attend_once"} if policy.decodes else set())
    with torch.no_grad():
        for prompt, completion in zip(PROMPTS, found, strict=True):
            ids, begin = torch.tensor([prompt + completion.ids]), len(prompt) - 1
            wanted = torch.log_softmax(policy.full_logits(ids)[0, begin:-1].float(), -1)
            picked = wanted.gather(-1, ids[0, begin + 1 :, None])[:, 0]
            torch.testing.assert_close(completion.logps, picked, rtol=0.05, atol=0.05)


@pytest.mark.parametrize("prompts", [PROMPTS, [(3, 4, 5), (6, 7, 8)]])
@pytest.mark.parametrize("growth", [1, 5, 100])
def test_columns_that_were_not_written_yet_are_hidden(prompts, growth, monkeypatch):
    """However many a block has to spare, and however often it grows, the same is drawn."""
    policy = policy_of("Qwen3")
    sampling = Sampling(max_new_tokens=40)
    policy.decodes = False
    wanted = generate(policy, prompts, sampling, stop_ids=frozenset(), seed=5)
    policy.decodes = True
    monkeypatch.setattr(cache, "LEAST_GROWTH", growth)
    monkeypatch.setattr(cache, "rounded", lambda count, share: count)
    found = generate(policy, prompts, sampling, stop_ids=frozenset(), seed=5)
    for one, other in zip(found, wanted, strict=True):
        assert one.ids == other.ids
        torch.testing.assert_close(one.logps, other.logps, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("lengths", [[3, 1, 5, 5], [4, 4, 4, 4]])
@torch.inference_mode()
def test_a_cache_that_grows_and_one_that_does_not_hold_the_same(lengths, monkeypatch):
    monkeypatch.setattr(cache, "LEAST_GROWTH", 2)
    monkeypatch.setattr(cache, "rounded", lambda count, share: count)
    facts = {"layers": 2, "heads": 2, "size": 4, "dtype": torch.float64, "device": torch.device("cpu")}
    both = [Cache(lengths, 9, grows=grows, **facts) for grows in (True, False)]
    width = max(lengths)
    written = torch.randn(2, 2, 4, 2, width, 4, dtype=torch.float64)
    for one in both:
        for layer in range(2):
            one.keys[layer][:, :, :width], one.values[layer][:, :, :width] = written[layer]
    rows = torch.tensor([0, 2, 3])
    for step in range(9):
        if step == 4:
            for one in both:
                one.keep(rows)
        token = torch.randn(2, 3 if step >= 4 else 4, 2, 4, dtype=torch.float64)
        bias, plain_bias = (one.open() for one in both)
        for layer in range(2):
            (keys, values), (plain_keys, plain_values) = (one.add(layer, *token) for one in both)
            seen = width + step + 1
            assert plain_keys.shape[2] == seen <= keys.shape[2] <= width + 9
            assert torch.equal(keys[:, :, :seen], plain_keys)
            assert torch.equal(values[:, :, :seen], plain_values)
            assert bool(torch.isinf(bias[..., seen:]).all())
            assert torch.isfinite(values).all()
            if plain_bias is None:
                assert len(set(lengths)) == 1
                assert not bool(bias[..., :seen].any())
            else:
                assert torch.equal(bias[..., :seen], plain_bias)
                assert [int(torch.isinf(b).sum()) for b in plain_bias[:, 0, 0]] == [
                    width - n for n in (torch.tensor(lengths)[rows].tolist() if step >= 4 else lengths)
                ]


@pytest.mark.parametrize("kv_heads", [4, 2])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_attention_of_one_query_is_pytorchs(kv_heads, dtype):
    query, key, value = (torch.randn(3, n, *more, 8, dtype=dtype) for n, *more in ((4,), (kv_heads, 7), (kv_heads, 7)))
    bias = torch.zeros(3, 1, 1, 7, dtype=dtype)
    bias[0, ..., :2] = bias[1, ..., 5:] = float("-inf")
    found = decoder._attend_once(query, key, value, bias.expand(-1, kv_heads, -1, -1).flatten(0, 1))
    rtol = {torch.float64: 1e-10, torch.float32: 1e-5, torch.bfloat16: 3e-2}[dtype]
    torch.testing.assert_close(found, decoder._attend_by_pytorch(query, key, value, bias), rtol=rtol, atol=rtol)


def test_rows_that_are_read_in_batches_are_packed_once(monkeypatch):
    policy = policy_of("GPT2")
    whole = draw(policy)
    built = []
    honest = Decoder.__init__
    monkeypatch.setattr(Decoder, "__init__", lambda self, *given: (built.append(1), honest(self, *given))[1])
    parts = generate(policy, PROMPTS, Sampling(max_new_tokens=14), stop_ids=frozenset([1, 2, 3]), seed=5, batch=1)
    assert [c.ids for c in parts] == [c.ids for c in whole]
    assert len(built) == 1


@pytest.mark.parametrize("family", ["GPT2", "Qwen3"])
def test_prompts_may_be_read_some_at_a_time(family, monkeypatch):
    prompts = [tuple(range(3, 3 + n)) for n in (1, 9, 4, 4, 17, 2)]
    policy = policy_of(family)
    found = []
    for budget in (1, 9, 1000):
        monkeypatch.setattr(decoder, "PREFILL_TOKENS", budget)
        one = Decoder(policy.model, torch.float64, len(prompts))
        logits, held = one.prefill(prompts, 3)
        found.append([logits, *held.keys, *held.values])
    for tensors in zip(*found, strict=True):
        for other in tensors[1:]:  # columns to the left of a prompt hold whatever tokens stand there
            for row, prompt in enumerate(prompts):
                ours, theirs = (
                    t[row] if t.dim() == 2 else t[row, :, 17 - len(prompt) : 17] for t in (tensors[0], other)
                )
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
