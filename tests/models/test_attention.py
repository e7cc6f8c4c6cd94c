"""The attention backward of our own has the gradient of plain attention, grouped heads and any chunking included."""

import pytest
import torch
from torch.nn import functional

from trueup.models import attention
from trueup.models.attention import causal


def plain(query, key, value, scale):
    width = query.shape[2]
    logits = query @ key.transpose(-1, -2) * scale
    logits = logits.masked_fill(torch.ones(width, width, dtype=torch.bool).triu(1), float("-inf"))
    return logits.softmax(-1) @ value


@pytest.mark.parametrize("kv_heads", [4, 2])
@pytest.mark.parametrize("elements", [1, 1 << 20])
def test_bfloat16_gradients_are_those_of_plain_attention(kv_heads, elements, monkeypatch):
    monkeypatch.setattr(attention, "BACKWARD_ELEMENTS", elements)
    draw = torch.Generator().manual_seed(0)
    shapes = ((3, 4, 23, 16), (3, kv_heads, 23, 16), (3, kv_heads, 23, 16))
    given = [torch.randn(*shape, generator=draw).bfloat16().requires_grad_() for shape in shapes]
    exact = [t.detach().double().requires_grad_() for t in given]
    grad = torch.randn(3, 4, 23, 16, generator=draw)
    found = causal(*given)
    share = 4 // kv_heads
    wanted = plain(exact[0], *(t.repeat_interleave(share, 1) for t in exact[1:]), 16**-0.5)
    torch.testing.assert_close(found.double(), wanted, rtol=0.02, atol=0.02)
    found.backward(grad.bfloat16())
    wanted.backward(grad.bfloat16().double())
    for one, other in zip(given, exact, strict=True):
        assert float((one.grad.double() - other.grad).norm() / other.grad.norm()) < 0.01


def test_the_double_precision_formula_is_exact():
    """The same backward in float64, where PyTorch's own is the oracle."""
    given = [torch.randn(2, 3, 9, 4, dtype=torch.float64, requires_grad=True) for _ in range(3)]
    grad = torch.randn(2, 3, 9, 4, dtype=torch.float64)
    ours = torch.autograd.grad(attention._Causal.apply(*given, 0.5), given, grad)
    theirs = torch.autograd.grad(
        functional.scaled_dot_product_attention(*given, is_causal=True, scale=0.5), given, grad
    )
    for one, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-10, atol=1e-12)
