"""Packed streams give the hidden states, rewards and gradients of plain rows, for every family that is supported."""

import logging

import pytest
import torch
import transformers
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from trueup.kernels import packing
from trueup.kernels.packing import SHARED_FROM, pack, packed
from trueup.models.trunk import Trunk

VOCABULARY = 61
COMMON = {
    "vocab_size": VOCABULARY,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "max_position_embeddings": 64,
    "bos_token_id": None,
    "eos_token_id": None,
    "pad_token_id": None,
}
GROUPED = COMMON | {"num_key_value_heads": 2}
FAMILIES = {
    "GPT2": {
        "vocab_size": VOCABULARY,
        "n_embd": 32,
        "n_layer": 2,
        "n_head": 4,
        "n_positions": 64,
        "bos_token_id": None,
        "eos_token_id": None,
    },
    "Llama": GROUPED,
    "Mistral": GROUPED | {"sliding_window": 7},
    "Qwen2": GROUPED,
    "Qwen3": GROUPED | {"head_dim": 8},
    "Gemma": GROUPED | {"head_dim": 8},
    "Gemma2": GROUPED | {"head_dim": 8, "sliding_window": 7},
    "Gemma3": GROUPED | {"head_dim": 8, "sliding_window": 7},
    "GPTNeoX": COMMON,
}


def build(family, dtype=torch.float64):
    torch.manual_seed(3)
    name = "Gemma3Text" if family == "Gemma3" else family
    config = getattr(transformers, f"{name}Config")(**FAMILIES[family])
    kind = "GPT2LMHeadModel" if family == "GPT2" else f"{family}ForCausalLM"
    return getattr(transformers, kind)(config).to(dtype).eval()


MODELS = {}


def model_of(family):
    if family not in MODELS:
        MODELS[family] = build(family)
    return MODELS[family]


def assert_same_loss_and_gradients(plain, fast, **tolerance):
    """Two models with the same weights give the same loss, and gradients within ``tolerance``."""
    ids = torch.randint(0, VOCABULARY, (2, 9), generator=torch.Generator().manual_seed(1))
    losses = []
    for model in (plain, fast):
        loss = torch.log_softmax(model(input_ids=ids).logits, -1)[..., 3].sum()
        loss.backward()
        losses.append(loss.detach())
    torch.testing.assert_close(losses[1], losses[0], rtol=1e-5, atol=1e-5)
    for (name, one), other in zip(plain.named_parameters(), fast.parameters(), strict=True):
        torch.testing.assert_close(other.grad, one.grad, msg=name, **tolerance)


def kept_by(run):
    """What ``run()`` gives, and the tensors that it keeps for the backward pass, each place in memory once."""
    seen = {}

    def see(tensor):
        seen.setdefault(tensor.data_ptr(), tensor)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(see, lambda tensor: tensor):
        found = run()
    return found, list(seen.values())


tokens = st.integers(0, VOCABULARY - 1)


@st.composite
def batches(draw):
    """Ragged prompts, some shared, some short; ragged completions."""
    distinct = draw(st.lists(st.lists(tokens, min_size=1, max_size=14), min_size=1, max_size=3))
    picks = draw(st.lists(st.integers(0, len(distinct) - 1), min_size=1, max_size=5))
    prompts = [tuple(distinct[i]) for i in picks]
    completions = [tuple(draw(st.lists(tokens, min_size=1, max_size=12))) for _ in picks]
    return prompts, completions


def plain_states(model, prompts, completions):
    rows = [
        model.base_model(input_ids=torch.tensor([p + c]), use_cache=False).last_hidden_state[0]
        for p, c in zip(prompts, completions, strict=True)
    ]
    scored = [h[len(p) - 1 : len(p) + len(c) - 1] for h, p, c in zip(rows, prompts, completions, strict=True)]
    return torch.cat(scored), torch.stack([h[-1] for h in rows])


def gradient(model, *states):
    wanted = [p for p in model.base_model.parameters() if p.requires_grad]
    ramp = torch.linspace(-1, 1, states[0].shape[-1], dtype=states[0].dtype)
    total = sum(torch.tanh(s * ramp).sum() for s in states)
    found = torch.autograd.grad(total, wanted, allow_unused=True)
    return torch.cat([g.flatten() for g in found if g is not None])


@pytest.mark.parametrize("family", FAMILIES)
@settings(max_examples=12, deadline=None, suppress_health_check=list(HealthCheck))
@given(batch=batches())
def test_a_stream_is_the_plain_rows_in_float64(family, batch):
    model, (prompts, completions) = model_of(family), batch
    stream = pack(prompts, completions)
    with packed(model, stream) as inputs:
        state_ND = model.base_model(**inputs, use_cache=False).last_hidden_state[0]
    found = state_ND[stream.source_N], state_ND[stream.last_B]
    wanted = plain_states(model, prompts, completions)
    # Norms and soft-capped attention of some families compute in float32 whatever the weights are.
    rtol = 1e-10 if family in ("GPT2", "GPTNeoX") else 1e-5
    for one, other in zip(found, wanted, strict=True):
        torch.testing.assert_close(one, other, rtol=rtol, atol=rtol)
    one, other = gradient(model, *found), gradient(model, *wanted)
    assert float((one - other).norm() / other.norm()) < rtol


def test_idle_tokens_bring_a_long_stream_to_a_round_number_and_change_nothing():
    model = model_of("Llama")
    draw = torch.Generator().manual_seed(0)

    def ids(count):
        return tuple(torch.randint(0, VOCABULARY, (count,), generator=draw).tolist())

    prompts, completions = [ids(11) for _ in range(24)], [ids(13) for _ in range(24)]
    stream = pack(prompts, completions)
    assert len(stream.primary_slot) == 24 * 24
    assert len(stream) == 576 + (-576) % 32
    stream_of_odd = pack([*prompts, ids(5)], [*completions, ids(2)])
    assert len(stream_of_odd) == 608  # 583 tokens and 25 idle ones
    with packed(model, stream_of_odd) as inputs:
        state_ND = model.base_model(**inputs, use_cache=False).last_hidden_state[0]
    scored = stream_of_odd.source_N[: len(stream.source_N)], stream_of_odd.last_B[:-1]
    wanted = plain_states(model, prompts, completions)
    for index, other in zip(scored, wanted, strict=True):
        torch.testing.assert_close(state_ND[index], other, rtol=1e-5, atol=1e-5)
    one, other = gradient(model, *(state_ND[index] for index in scored)), gradient(model, *wanted)
    assert float((one - other).norm() / other.norm()) < 1e-5


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_passes_its_self_check_in_float32(family):
    model = build(family, torch.float32)
    assert Trunk(model, model.base_model, torch.device("cpu"), torch.float32, family).packs


def test_prompts_are_shared_and_short_ones_are_not():
    long, short = tuple(range(SHARED_FROM)), (1,)
    stream = pack([long, long, long, short, short], [(1, 2), (3,), (4,), (5,), (6,)])
    assert len(stream) == SHARED_FROM + 4 + 2 * 2
    assert stream.positions_N[-1] == 1
    assert len(stream.source_N) == 6


def test_a_model_that_mixes_the_stream_falls_back_and_says_so(caplog):
    model = build("GPT2", torch.float32)

    class Leaky(torch.nn.Module):
        """A trunk with a recurrence over positions, as state-space models have: packing would mix sequences."""

        def forward(self, **inputs):
            output = model.base_model(**inputs)
            output.last_hidden_state = output.last_hidden_state.cumsum(1)
            return output

    with caplog.at_level(logging.WARNING, "trueup.models"):
        assert not Trunk(model, Leaky(), torch.device("cpu"), torch.float32, "leaky").packs
    assert "packed streams differ" in caplog.text


def test_the_model_is_left_as_it_was():
    model = build("Llama", torch.float32)
    before = model.config._attn_implementation
    ids = torch.tensor([[1, 2, 3]])
    plain = model(ids).logits
    with packed(model, pack([(1, 2)], [(3,)])):
        pass
    assert model.config._attn_implementation == before
    torch.testing.assert_close(model(ids).logits, plain, rtol=0, atol=0)


@pytest.mark.parametrize("family", FAMILIES)
def test_under_autocast_attention_gets_the_narrow_precision(family, monkeypatch):
    """Rotary positions widen queries and keys; PyTorch would narrow them only inside its own attention."""
    model, seen = build(family, torch.float32), []
    honest = packing.causal

    def spy(query, key, value, **more):
        seen.append({query.dtype, key.dtype, value.dtype})
        return honest(query, key, value, **more)

    monkeypatch.setattr(packing, "causal", spy)
    with torch.autocast("cpu", torch.bfloat16), packed(model, pack([(3, 4, 5)], [(6, 7)])) as inputs:
        model.base_model(**inputs, use_cache=False)
    assert seen == [{torch.bfloat16}] * len(seen)
    assert len(seen) == 2


@pytest.mark.parametrize("family", ["GPT2", "Llama", "Qwen3", "Mistral"])
@settings(max_examples=12, deadline=None, suppress_health_check=list(HealthCheck))
@given(batch=batches())
def test_rows_that_are_gathered_again_have_the_gradient_of_plain_rows(family, batch):
    """The way of bfloat16 on a CPU, in the precision in which a mistake shows."""
    model, (prompts, completions) = model_of(family), batch
    stream = pack(prompts, completions)

    def plain(query, key, width, *, window, softcap):
        return softcap is None and (window is None or window >= width)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(packing, "has_own_backward", plain)
        with packed(model, stream) as inputs:
            state_ND = model.base_model(**inputs, use_cache=False).last_hidden_state[0]
        found = state_ND[stream.source_N], state_ND[stream.last_B]
        one = gradient(model, *found)
    wanted = plain_states(model, prompts, completions)
    rtol = 1e-10 if family == "GPT2" else 1e-5
    torch.testing.assert_close(found[0], wanted[0], rtol=rtol, atol=rtol)
    other = gradient(model, *wanted)
    assert float((one - other).norm() / other.norm()) < rtol


def test_attention_keeps_the_tokens_of_a_stream_and_not_its_rows():
    shared = tuple(range(20))
    stream = pack([shared] * 4, [(1, 2), (3,), (4, 5, 6), (7,)])
    tensors = [torch.randn(len(stream), 2, 8, dtype=torch.bfloat16, requires_grad=True) for _ in range(3)]
    found, kept = kept_by(lambda: packing.attend_in_rows(*tensors, stream))
    assert [tensor.numel() for tensor in kept] == [len(stream) * 16] * 3
    found.float().pow(2).sum().backward()
    assert all(t.grad is not None and t.grad.abs().sum() > 0 for t in tensors)


@pytest.mark.parametrize("more", [{"window": 3}, {"softcap": 0.5}, {"scale": 1.7}], ids=str)
def test_in_bfloat16_windows_caps_and_scales_hold(more):
    stream = pack([tuple(range(20))] * 2, [(1, 2, 3), (4, 5)])
    draw = torch.Generator().manual_seed(0)
    narrow = [torch.randn(len(stream), 2, 8, generator=draw).bfloat16().requires_grad_() for _ in range(3)]
    wide = [tensor.detach().double().requires_grad_() for tensor in narrow]
    results = []
    for tensors in (narrow, wide):
        found = packing.attend_in_rows(*tensors, stream, **more)
        found.double().pow(3).sum().backward()
        results.append([found.detach().double(), *(tensor.grad.double() for tensor in tensors)])
    for ours, exact in zip(*results, strict=True):
        assert float((ours - exact).norm() / exact.norm()) < 0.05
