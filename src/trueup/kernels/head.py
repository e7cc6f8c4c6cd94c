"""The language-model head where it is one linear layer: log-probs of given tokens without holding [N, V] for backward.

Shapes: N completion tokens (flat), D width, V vocabulary.
"""

from __future__ import annotations

import functools
import threading
from typing import Any

import torch
from torch.autograd.function import once_differentiable

from trueup.kernels.gradients import GradBuffer
from trueup.kernels.products import add_weight_grad_, product, rounded

CHUNK_BYTES = 1 << 26
"""Logits held at a time, in the compute precision: fewer rows would starve the matrix products."""
TOLERANCE = 1e-5
"""Difference of float32 results, as a share, at which the self-check fails."""
CACHE_ELEMENTS = 1 << 19
"""Logits upcast to float32 at a time on the CPU: 2 MB, about a core's second-level cache."""


def _rows_in_cache(logits_NV: torch.Tensor) -> int:
    if logits_NV.device.type != "cpu":
        return max(1, logits_NV.shape[0])
    return max(1, CACHE_ELEMENTS // logits_NV.shape[1])


def upcast(logits_NV: torch.Tensor) -> torch.Tensor:
    """Logits in float32, or in float64 if they are."""
    return logits_NV if logits_NV.dtype is torch.float64 else logits_NV.float()


def _read_without_gradient(
    logits_NV: torch.Tensor, target_N: torch.Tensor, entropy: bool, correct: bool
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """Log-probs, log-normalisers, entropies and hits of one chunk, without gradient; logits are left as they are."""
    upcast_NV = upcast(logits_NV)
    picked_N = upcast_NV.gather(-1, target_N[:, None]).squeeze(-1)
    correct_N = (upcast_NV.argmax(-1) == target_N).to(upcast_NV.dtype) if correct else picked_N.new_zeros(0)
    top_N = upcast_NV.amax(-1)
    top_N.masked_fill_(~top_N.isfinite(), 0.0)
    ours = upcast_NV is not logits_NV
    share_NV = (upcast_NV.sub_(top_N[:, None]) if ours else upcast_NV - top_N[:, None]).exp_()
    total_N = share_NV.sum(-1)
    entropy_N = entropy_of(share_NV.div_(total_N[:, None])) if entropy else picked_N.new_zeros(0)
    normaliser_N = total_N.log_().add_(top_N)
    return picked_N - normaliser_N, normaliser_N, entropy_N, correct_N


def entropy_of(share_NV: torch.Tensor) -> torch.Tensor:
    """Entropies [N] of distributions, with 0 log 0 = 0."""
    entropy_N: torch.Tensor = torch.special.xlogy(share_NV, share_NV).sum(-1)
    return entropy_N.neg_()


class _Scratch(threading.local):
    """Memory that every pass through a head needs, kept on the CPU: new pages would cost more than what they hold."""

    def __init__(self) -> None:
        self.blocks: dict[str, torch.Tensor] = {}
        self.logits_of: object = None
        """Whose logits stand there: of the forward pass that wrote last, until its backward pass uses them up."""
        self.weight_of: object = None
        """Whose weight stands there, cast: of the forward pass that cast last."""

    def take(self, name: str, shape: tuple[int, int], like: torch.Tensor) -> torch.Tensor:
        """An uninitialised tensor of this shape and of the kind of ``like``; valid until the name is taken again."""
        if like.device.type != "cpu":
            return like.new_empty(shape)
        wanted = shape[0] * shape[1]
        block = self.blocks.get(name)
        if block is None or block.dtype is not like.dtype or block.numel() < wanted:
            self.blocks.pop(name, None)
            del block
            block = self.blocks[name] = like.new_empty(wanted)
        return block[:wanted].view(shape)

    def cast_weight(self, weight_VD: torch.Tensor, like: torch.Tensor, turn: object) -> torch.Tensor:
        """The head's weight in the precision of ``like``; as it was in the forward pass, if it still stands there."""
        if weight_VD.dtype is like.dtype:
            return weight_VD
        stands = self.weight_of is turn and like.device.type == "cpu"
        cast_VD = self.take("weight", (weight_VD.shape[0], weight_VD.shape[1]), like)
        self.weight_of = turn
        return cast_VD if stands else cast_VD.copy_(weight_VD)

    def logits(self, hidden_ND: torch.Tensor, weight_VD: torch.Tensor, bias_V: torch.Tensor | None) -> torch.Tensor:
        """``hidden @ weight.T + bias``."""
        self.logits_of = None
        out_NV = self.take("logits", (hidden_ND.shape[0], weight_VD.shape[0]), hidden_ND)
        return product(hidden_ND, weight_VD, bias_V, out_NO=out_NV)


_SCRATCH = _Scratch()


class _LinearScores(torch.autograd.Function):
    """Scores of ``hidden @ weight.T + bias`` in the precision of ``hidden``; weight and bias may have a higher one.

    Backward recomputes the logits chunk by chunk, unless they were one chunk and still stand there.
    d logp(y) / d logits = onehot(y) - softmax(logits). The gradient of each log-prob scales a row of that; it is
    multiplied into the states and their gradient instead, which are much narrower.
    """

    @staticmethod
    def forward(
        ctx: Any,
        hidden_ND: torch.Tensor,
        weight_VD: torch.Tensor,
        bias_V: torch.Tensor | None,
        target_N: torch.Tensor,
        entropy: bool,
        correct: bool,
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        hidden_ND, count = _rounded(hidden_ND), hidden_ND.shape[0]
        ctx.turn = object()
        cast_VD = _SCRATCH.cast_weight(weight_VD, hidden_ND, ctx.turn)
        cast_V = None if bias_V is None else bias_V.to(hidden_ND.dtype)
        pieces = []
        ctx.parts = row_chunks(hidden_ND.shape[0], weight_VD.shape[0] * hidden_ND.element_size())
        whole_NV = None
        for part in ctx.parts:
            whole_NV = _SCRATCH.logits(hidden_ND[part], cast_VD, cast_V)
            logits_NV = whole_NV[: max(0, count - part.start)]
            step = _rows_in_cache(logits_NV)
            for begin in range(0, max(1, logits_NV.shape[0]), step):
                rows = slice(begin, begin + step)
                pieces.append(_read_without_gradient(logits_NV[rows], target_N[part][rows], entropy, correct))
        ctx.kept_NV = None
        if len(ctx.parts) == 1 and any(ctx.needs_input_grad):
            ctx.kept_NV, _SCRATCH.logits_of = whole_NV, ctx.turn
        logps_N, normaliser_N, entropy_N, correct_N = (torch.cat([p[i] for p in pieces]) for i in range(4))
        ctx.save_for_backward(hidden_ND, weight_VD, bias_V, target_N, logps_N, normaliser_N)
        ctx.parameter = weight_VD
        ctx.mark_non_differentiable(entropy_N, correct_N)
        return logps_N, entropy_N, correct_N

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_N: torch.Tensor, *_: Any) -> tuple[Any, ...]:
        hidden_ND, weight_VD, bias_V, target_N, logps_N, normaliser_N = ctx.saved_tensors
        needs_hidden, needs_weight, needs_bias = ctx.needs_input_grad[:3]
        count = target_N.shape[0]
        cast_VD = _SCRATCH.cast_weight(weight_VD, hidden_ND, ctx.turn)
        cast_V = None if bias_V is None else bias_V.to(hidden_ND.dtype)
        grad_hidden = hidden_ND.new_empty(count, hidden_ND.shape[1]) if needs_hidden else None
        grad_weight = GradBuffer(ctx.parameter) if needs_weight else None
        grad_bias = torch.zeros_like(bias_V) if needs_bias else None
        for part in ctx.parts:
            still_there = _SCRATCH.logits_of is ctx.turn or hidden_ND.device.type != "cpu"
            grad_NV, ctx.kept_NV = ctx.kept_NV if still_there else None, None
            if grad_NV is None:
                grad_NV = _SCRATCH.logits(hidden_ND[part], cast_VD, cast_V)
            _SCRATCH.logits_of = None  # turned into the gradient in place, so good for one backward pass
            real = max(0, min(count - part.start, grad_NV.shape[0]))
            _softmax_less_onehot_(grad_NV[:real], target_N[part], logps_N[part], normaliser_N[part])
            grad_NV[real:] = 0
            scale_N = -grad_N[part]
            if grad_hidden is not None:
                grad_hidden[part] = product(grad_NV, cast_VD.t())[:real].mul_(scale_N[:, None])
            if grad_weight is not None:
                scaled_ND = hidden_ND[part].clone()
                scaled_ND[:real].mul_(scale_N[:, None])
                add_weight_grad_(grad_weight, grad_NV, scaled_ND)
            if grad_bias is not None:
                grad_bias += _weighted_sum(grad_NV[:real], scale_N)
        return grad_hidden, grad_weight and grad_weight.for_autograd, grad_bias, None, None, None


def linear_scores(
    hidden_ND: torch.Tensor,
    weight_VD: torch.Tensor,
    bias_V: torch.Tensor | None,
    target_N: torch.Tensor,
    *,
    entropy: bool = False,
    correct: bool = False,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Log-probs of ``target_N``, in float32 or higher; entropies and arg-max hits, without gradient, where asked.

    Args:
        hidden_ND: States that predict the tokens, in the precision of the products.
        weight_VD: Of the head, and ``bias_V``; both may have a higher precision.
        bias_V: See ``weight_VD``.
        target_N: The tokens.
        entropy: Also the exact entropy of each distribution; else that result is empty.
        correct: Also whether each token is the arg-max; else that result is empty.
    """
    logps_N, entropy_N, correct_N = _LinearScores.apply(  # type: ignore[no-untyped-call]
        hidden_ND, weight_VD, bias_V, target_N, entropy, correct
    )
    return logps_N, entropy_N, correct_N


def _rounded(hidden_ND: torch.Tensor) -> torch.Tensor:
    """With idle rows of zeros at the end, so that few shapes occur."""
    idle = rounded(hidden_ND.shape[0]) - hidden_ND.shape[0]
    return torch.nn.functional.pad(hidden_ND, (0, 0, 0, idle)) if idle else hidden_ND


def _softmax_less_onehot_(
    logits_NV: torch.Tensor, target_N: torch.Tensor, logps_N: torch.Tensor, normaliser_N: torch.Tensor
) -> None:
    """Turn logits into ``softmax - onehot`` in place, a few rows at a time so that they stay in cache."""
    step = _rows_in_cache(logits_NV)
    for begin in range(0, logits_NV.shape[0], step):
        part = slice(begin, begin + step)
        if logits_NV.dtype is normaliser_N.dtype:
            logits_NV[part].sub_(normaliser_N[part, None]).exp_()
        else:
            logits_NV[part] = torch.softmax(logits_NV[part], -1)
    # Low-precision probabilities near 1 have lost what their difference from 1 is made of.
    row_N = torch.arange(logits_NV.shape[0], device=logits_NV.device)
    logits_NV[row_N, target_N] = torch.expm1(logps_N).to(logits_NV.dtype)


def _weighted_sum(grad_NV: torch.Tensor, scale_N: torch.Tensor) -> torch.Tensor:
    """``scale @ grad`` [V] in the precision of ``scale``."""
    sum_V = scale_N.new_zeros(grad_NV.shape[1])
    step = _rows_in_cache(grad_NV)
    for begin in range(0, grad_NV.shape[0], step):
        part = slice(begin, begin + step)
        sum_V += (grad_NV[part] * scale_N[part, None]).sum(0)
    return sum_V


def row_chunks(count: int, row_bytes: int) -> list[slice]:
    """Equal slices of ``count`` rows, each within ``CHUNK_BYTES``."""
    pieces = max(1, -(-count * row_bytes // CHUNK_BYTES))
    span = max(1, -(-count // pieces))
    return [slice(begin, begin + span) for begin in range(0, max(1, count), span)]


@functools.cache
def problem() -> str | None:
    """How log-probs or their gradients differ from those of ``log_softmax`` through autograd; None where they agree."""
    draw = torch.Generator().manual_seed(0)
    shapes, target_N = ((12, 8), (30, 8), (30,)), torch.arange(12)
    leaves = [torch.randn(shape, generator=draw) for shape in shapes]  # float32: no other library need be loaded
    with torch.enable_grad():
        hidden_ND, weight_VD, bias_V = (tensor.requires_grad_() for tensor in leaves)
        logits_NV = torch.nn.functional.linear(hidden_ND, weight_VD, bias_V)
        expected_N = torch.log_softmax(logits_NV, -1).gather(-1, target_N[:, None]).squeeze(-1)
        actual_N, _, _ = linear_scores(hidden_ND, weight_VD, bias_V, target_N)
        expected, actual = (
            [logps_N, *torch.autograd.grad(logps_N.square().sum(), (hidden_ND, weight_VD, bias_V))]
            for logps_N in (expected_N, actual_N)
        )
    gap = max(float((a - e).abs().max() / e.abs().max()) for a, e in zip(actual, expected, strict=True))
    return None if gap < TOLERANCE else f"differs from log_softmax by {gap:.1e}"
