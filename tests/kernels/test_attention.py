"""The attention backward of our own has the gradient of plain attention, grouped heads and any chunking included."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional

from trueup.kernels import attention
from trueup.kernels.attention import causal


def plain(query, key, value, scale):
    width = query.shape[2]
    logits = query @ key.transpose(-1, -2) * scale
    logits = logits.masked_fill(torch.ones(width, width, dtype=torch.bool).triu(1), float("-inf"))
    return logits.softmax(-1) @ value


@pytest.mark.parametrize("kv_heads", [4, 2])
@pytest.mark.parametrize("elements", [1, 2 * 23 * 23 + 1, 1 << 20])
def test_bfloat16_gradients_are_those_of_plain_attention(kv_heads, elements, monkeypatch):
    monkeypatch.setattr(attention, "BACKWARD_ELEMENTS", elements)
    draw = torch.Generator().manual_seed(0)
    shapes = ((3, 4, 23, 16), (3, kv_heads, 23, 16), (3, kv_heads, 23, 16))
    inputs = [torch.randn(*shape, generator=draw).bfloat16().requires_grad_() for shape in shapes]
    exact = [t.detach().double().requires_grad_() for t in inputs]
    grad = torch.randn(3, 4, 23, 16, generator=draw)
    found = causal(*inputs)
    share = 4 // kv_heads
    wanted = plain(exact[0], *(t.repeat_interleave(share, 1) for t in exact[1:]), 16**-0.5)
    torch.testing.assert_close(found.double(), wanted, rtol=0.02, atol=0.02)
    found.backward(grad.bfloat16())
    wanted.backward(grad.bfloat16().double())
    for one, other in zip(inputs, exact, strict=True):
        assert float((one.grad.double() - other.grad).norm() / other.grad.norm()) < 0.01


def test_the_double_precision_formula_is_exact():
    """The same backward in float64, where PyTorch's own is the oracle."""
    inputs = [torch.randn(2, 3, 9, 4, dtype=torch.float64, requires_grad=True) for _ in range(3)]
    grad = torch.randn(2, 3, 9, 4, dtype=torch.float64)
    ours = torch.autograd.grad(attention._Causal.apply(*inputs, 0.5), inputs, grad)
    theirs = torch.autograd.grad(
        functional.scaled_dot_product_attention(*inputs, is_causal=True, scale=0.5), inputs, grad
    )
    for one, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-10, atol=1e-12)


@given(st.integers(1, 70), st.integers(1, 16), st.integers(1, 600))
def test_backward_takes_every_head_once_in_parts_of_few_sizes(rows, heads, width):
    parts = list(attention._parts(rows, heads, width))
    assert [n for part in parts for n in range(part.start, part.stop)] == list(range(rows * heads))
    sizes = {part.stop - part.start for part in parts}
    assert max(sizes) == 1 or max(sizes) * width * width <= attention.BACKWARD_ELEMENTS
    assert all(heads % size == 0 or size // heads in (1, 4, 16, 64) for size in sizes)
