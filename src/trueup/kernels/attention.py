"""Causal attention of right-padded rows, by the kernel that is fastest where it runs.

The CPU's bfloat16 flash backward is ten times slower than plain batched products at the lengths of preference data
(``benchmarks/kernels.py``), so there the forward is flash and the backward is ours. Elsewhere PyTorch's own runs.

Shapes: R rows, H heads, T positions, E head width.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from typing import Any

import torch
from torch.autograd.function import once_differentiable
from torch.nn import functional

BACKWARD_ELEMENTS = 1 << 20
"""Attention weights held at a time in our backward: 2 MB in bfloat16, about a core's second-level cache."""
TOLERANCE = 3e-2
"""Difference of bfloat16 gradients from float32 ones, as a share, at which the self-check fails."""
LONGEST = 2048
"""Rows longer than this go to PyTorch's kernel: quadratic temporaries stop paying."""


def causal(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    *,
    scale: float | None = None,
    window: int | None = None,
    softcap: float | None = None,
    own_backward: bool = True,
) -> torch.Tensor:
    """Attention output [R, H, T, E]; padding must be to the right, where causality hides it.

    Args:
        query: [R, H, T, E]; ``key`` and ``value`` may have fewer heads (grouped queries).
        scale: Factor on the dot products, 1 / sqrt(E) by default.
        window: Tokens that a token may look back on, itself included (sliding windows).
        softcap: Logits become ``softcap * tanh(logits / softcap)`` (Gemma 2).
        own_backward: Whether ``causal_grads`` may be the backward pass, where it is the faster.
    """
    width, grouped = query.shape[2], key.shape[1] != query.shape[1]
    windowed = window is not None and window < width
    if own_backward and has_own_backward(query, key, width, window=window, softcap=softcap):
        output: torch.Tensor = _Causal.apply(query, key, value, scale)  # type: ignore[no-untyped-call]
        return output
    if softcap is None and not windowed:
        return functional.scaled_dot_product_attention(
            query, key, value, is_causal=True, scale=scale, enable_gqa=grouped
        )
    behind = torch.arange(width, device=query.device)[:, None] - torch.arange(width, device=query.device)[None, :]
    allowed = (behind >= 0) & (behind < window) if windowed and window is not None else behind >= 0
    if softcap is None:
        return functional.scaled_dot_product_attention(
            query, key, value, attn_mask=allowed, scale=scale, enable_gqa=grouped
        )
    if grouped:
        key, value = _spread(query, key, value)
    logits = (query @ key.transpose(-1, -2)) * (scale if scale is not None else query.shape[-1] ** -0.5)
    logits = (softcap * torch.tanh(logits / softcap)).masked_fill(~allowed, float("-inf"))
    upcast = torch.promote_types(query.dtype, torch.float32)
    return logits.softmax(-1, dtype=upcast).to(query.dtype) @ value


def has_own_backward(
    query: torch.Tensor, key: torch.Tensor, width: int, *, window: int | None, softcap: float | None
) -> bool:
    """Whether attention of rows of this width is plain and goes through ``causal_grads`` in the backward pass."""
    plain = softcap is None and (window is None or window >= width)
    learns = torch.is_grad_enabled() and (query.requires_grad or key.requires_grad)
    return plain and learns and query.device.type == "cpu" and query.dtype is torch.bfloat16 and width <= LONGEST


def _spread(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    share = query.shape[1] // key.shape[1]
    return key.repeat_interleave(share, 1), value.repeat_interleave(share, 1)


def _parts(rows: int, heads: int, width: int) -> Iterator[slice]:
    """Slices of the flattened [R * H], each within ``BACKWARD_ELEMENTS`` where one head is.

    Of few sizes: a divisor of the heads, or the heads of 1, 4, 16, ... rows. oneDNN compiles and keeps a kernel for
    every size it meets, about 0.75 MB each.
    """
    fits = max(1, BACKWARD_ELEMENTS // (width * width))
    if fits < heads:
        span = next(n for n in range(fits, 0, -1) if heads % n == 0)
        yield from (slice(begin, begin + span) for begin in range(0, rows * heads, span))
        return
    begin = 0
    while begin < rows:
        several = 1
        while 4 * several <= min(rows - begin, fits // heads):
            several *= 4
        yield slice(begin * heads, (begin + several) * heads)
        begin += several


class _Causal(torch.autograd.Function):
    """Flash forward, and ``causal_grads``."""

    @staticmethod
    def forward(
        ctx: Any, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, scale: float | None
    ) -> torch.Tensor:
        ctx.save_for_backward(query, key, value)
        ctx.scale = scale
        return causal(query, key, value, scale=scale)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, None]:
        query, key, value = ctx.saved_tensors
        return *causal_grads(query, key, value, grad, ctx.scale), None


def causal_grads(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, grad: torch.Tensor, scale: float | None
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Gradients of ``query``, ``key`` and ``value`` of plain causal attention, whose output has ``grad``.

    Recomputes the weights, some heads at a time, in the precision of the inputs. With P = softmax(S): dV = P' dO,
    dS = P * (dO V' - rowsum(dO V' * P)), dQ = dS K, dK = dS' Q (Dao et al. 2022, algorithm 4, arXiv 2205.14135).
    Softmax and its derivative sum in float32 inside.
    """
    rows, heads, width, size = query.shape
    groups = key.shape[1]
    factor = scale if scale is not None else size**-0.5
    if groups != heads:
        key, value = _spread(query, key, value)

    def flat(tensor: torch.Tensor) -> torch.Tensor:
        return tensor.reshape(rows * heads, width, size)

    q, k, v, g = flat(query), flat(key), flat(value), flat(grad)
    mask = torch.full((1, width, width), float("-inf"), dtype=q.dtype, device=q.device).triu_(1)
    grad_q, grad_k, grad_v = torch.empty_like(q), torch.empty_like(k), torch.empty_like(v)
    for part in _parts(rows, heads, width):
        logits = torch.baddbmm(mask, q[part], k[part].transpose(1, 2), alpha=factor)
        weights = torch.softmax(logits, -1)
        grad_logits = torch.bmm(g[part], v[part].transpose(1, 2))
        grad_logits = torch.ops.aten._softmax_backward_data(grad_logits, weights, -1, grad_logits.dtype).mul_(factor)
        torch.bmm(weights.transpose(1, 2), g[part], out=grad_v[part])
        torch.bmm(grad_logits, k[part], out=grad_q[part])
        torch.bmm(grad_logits.transpose(1, 2), q[part], out=grad_k[part])

    def grouped(grad: torch.Tensor) -> torch.Tensor:
        split = grad.view(rows, groups, heads // groups, width, size)
        return split[:, :, 0] if groups == heads else split.sum(2)

    return grad_q.view(rows, heads, width, size), grouped(grad_k), grouped(grad_v)


@functools.cache
def problem() -> str | None:
    """How gradients of this backward pass differ from those of PyTorch in float32; None where they agree."""
    draw = torch.Generator().manual_seed(0)
    exact = [torch.randn(2, heads, 24, 8, generator=draw) for heads in (4, 2, 2)]
    grad = torch.randn(2, 4, 24, 8, generator=draw)
    with torch.enable_grad():
        query, key, value = (tensor.requires_grad_() for tensor in exact)
        output = functional.scaled_dot_product_attention(query, key, value, is_causal=True, enable_gqa=True)
        expected = torch.autograd.grad(output, (query, key, value), grad)
    with torch.no_grad():
        actual = causal_grads(query.bfloat16(), key.bfloat16(), value.bfloat16(), grad.bfloat16(), None)
    gap = max(float((a - e).norm() / e.norm()) for a, e in zip(actual, expected, strict=True))
    return None if gap < TOLERANCE else f"its gradients differ from PyTorch's by {gap:.1e}"
