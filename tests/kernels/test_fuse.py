"""Fused norms and rotary positions are those of Hugging Face, gradients too, and only stand where they are."""

import functools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from transformers.models.llama import modeling_llama

from tests.kernels.test_packing import FAMILIES, assert_same_loss_and_gradients, build
from trueup.kernels import elementwise
from trueup.kernels.elementwise import rms_norm, rope
from trueup.kernels.norms import use_fused_norms
from trueup.kernels.rope import use_fast_rope

LAYERS = 2
REPLACED = {  # norms of each block and the last one, and attention that rotates
    "GPT2": 2 * LAYERS + 1,
    "Llama": 3 * LAYERS + 1,
    "Mistral": 3 * LAYERS + 1,
    "Qwen2": 3 * LAYERS + 1,
    "Qwen3": 5 * LAYERS + 1,  # queries and keys have norms of their own
    "Gemma": 3 * LAYERS + 1,
    "Gemma2": 5 * LAYERS + 1,
    "Gemma3": 7 * LAYERS + 1,
    "GPTNeoX": 3 * LAYERS + 1,
}


def fuse(model):
    """Norms and rotary positions; how many layers have them."""
    return use_fused_norms(model) + use_fast_rope(model)


@pytest.fixture
def few_at_a_time(monkeypatch):
    monkeypatch.setattr(elementwise, "ELEMENTS", 64)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_whole_model_computes_the_same_and_keeps_its_names(family, few_at_a_time):
    plain, fast = build(family, torch.float32), build(family, torch.float32)
    with torch.no_grad():
        for one, other in zip(plain.parameters(), fast.parameters(), strict=True):
            one += 0.3 * torch.randn(one.shape, generator=torch.Generator().manual_seed(one.numel()))
            other.copy_(one)
    names = list(fast.state_dict())
    assert fuse(fast) == REPLACED[family]
    assert fuse(fast) == 0
    assert list(fast.state_dict()) == names
    assert_same_loss_and_gradients(plain, fast, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("family", ["Llama", "Qwen3", "Gemma2"])
def test_under_autocast_only_what_products_read_is_narrow(family):
    """Values stay as close to float32 as those of Hugging Face under autocast."""
    exact, plain, fast = (build(family, torch.float32) for _ in range(3))
    fuse(fast)
    kinds = {}
    for name, module in fast.named_modules():
        if "norm" in name:
            module.register_forward_hook(lambda _, __, out, name=name: kinds.__setitem__(name, out.dtype))
    ids = torch.randint(0, 61, (4, 12), generator=torch.Generator().manual_seed(1))
    found = []
    for model in (plain, fast):
        with torch.autocast("cpu", dtype=torch.bfloat16):
            loss = (model.base_model(input_ids=ids).last_hidden_state.float() ** 3).sum()
        loss.backward()
        found.append(torch.cat([p.grad.flatten() for p in model.base_model.parameters()]))
    (exact.base_model(input_ids=ids).last_hidden_state ** 3).sum().backward()
    wanted = torch.cat([p.grad.flatten() for p in exact.base_model.parameters()])
    theirs, ours = (float((f - wanted).norm() / wanted.norm()) for f in found)
    assert ours < 1.3 * theirs < 0.1
    narrow = {name.rpartition(".")[2] for name, kind in kinds.items() if kind is torch.bfloat16}
    before, after = (
        {"input_layernorm", "post_attention_layernorm"},
        {"post_attention_layernorm", "post_feedforward_layernorm"},
    )
    assert narrow == (after if family == "Gemma2" else before)  # Gemma2's follow products and keep their precision


shapes = st.tuples(st.integers(1, 4), st.integers(1, 9), st.integers(1, 12))


@settings(max_examples=30, deadline=None)
@given(shapes, st.sampled_from([0.0, 1.0]), st.integers(1, 60), st.integers(0, 99))
def test_the_norms_gradient_is_its_derivative(shape, shift, at_a_time, seed):
    draw = torch.Generator().manual_seed(seed)
    x = torch.randn(shape, generator=draw, dtype=torch.float64).requires_grad_()
    weight_D = torch.randn(shape[-1:], generator=draw, dtype=torch.float64).requires_grad_()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(elementwise, "ELEMENTS", at_a_time)
        assert torch.autograd.gradcheck(lambda *given_: rms_norm(*given_, 1e-3, shift=shift), (x, weight_D))
        plain = x / (x.square().mean(-1, keepdim=True) + 1e-3).sqrt() * (weight_D + shift)
        torch.testing.assert_close(rms_norm(x, weight_D, 1e-3, shift=shift), plain, rtol=1e-12, atol=1e-12)


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 9), st.integers(1, 3), st.integers(1, 5), st.integers(1, 60), st.integers(0, 99))
def test_the_gradient_of_rotary_positions_is_their_derivative(count, heads, half, at_a_time, seed):
    draw = torch.Generator().manual_seed(seed)
    x_NHE = torch.randn(count, heads, 2 * half, generator=draw, dtype=torch.float64).requires_grad_()
    cos_NE, sin_NE = (torch.randn(count, 2 * half, generator=draw, dtype=torch.float64) for _ in range(2))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(elementwise, "ELEMENTS", at_a_time)
        assert torch.autograd.gradcheck(lambda x: rope(x, cos_NE, sin_NE), (x_NHE,))
        plain, _ = modeling_llama.apply_rotary_pos_emb(*[x_NHE.transpose(0, 1)[None]] * 2, cos_NE[None], sin_NE[None])
        torch.testing.assert_close(rope(x_NHE, cos_NE, sin_NE), plain[0].transpose(0, 1), rtol=1e-12, atol=1e-12)


class OwnRMSNorm(nn.Module):
    """Called RMSNorm, but takes the mean of what it normalises away."""

    def __init__(self, width):
        super().__init__()
        self.weight, self.eps = nn.Parameter(torch.ones(width)), 1e-6

    def forward(self, x):
        return torch.nn.functional.layer_norm(x, x.shape[-1:], self.weight, eps=self.eps)


def apply_rotary_pos_emb(q, k, cos, sin, unsqueeze_dim=1):
    """Pairs of neighbours are turned, not halves."""
    return tuple(x * cos[:, None] + torch.roll(x, 1, -1) * sin[:, None] for x in (q, k))


class OwnAttention(nn.Module):
    def forward(self, q, k, cos, sin):
        return apply_rotary_pos_emb(q, k, cos, sin)


class WatchedAttention(modeling_llama.LlamaAttention):
    @functools.wraps(modeling_llama.LlamaAttention.forward)
    def forward(self, *args, **more):
        self.calls = getattr(self, "calls", 0) + 1
        return super().forward(*args, **more)


@pytest.mark.parametrize("layer", [OwnRMSNorm(8), OwnAttention()], ids=["norm", "attention"])
def test_what_only_has_the_name_runs_as_it_is(layer):
    kind = type(layer)
    assert fuse(nn.Sequential(layer)) == 0
    assert type(layer) is kind


def test_a_forward_that_somebody_wrapped_is_still_called():
    model = build("Llama", torch.float32)
    watched = model.model.layers[0].self_attn
    watched.__class__ = WatchedAttention
    fuse(model)
    model(input_ids=torch.arange(6)[None])
    assert watched.calls == 1


def test_rotary_positions_of_other_shapes_go_to_the_models_own(few_at_a_time):
    """GPT-NeoX turns a quarter of each head."""
    plain, fast = build("GPTNeoX", torch.float32), build("GPTNeoX", torch.float32)
    assert fuse(fast) == REPLACED["GPTNeoX"]
    ids = torch.arange(6)[None]
    assert torch.equal(fast(input_ids=ids).logits, plain(input_ids=ids).logits)
