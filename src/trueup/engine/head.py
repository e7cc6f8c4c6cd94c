"""The language-model head: log-probs of given tokens without holding [N, V] for backward.

Shapes: N completion tokens (flat), D width, V vocabulary.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch.utils.checkpoint import checkpoint

from trueup.models.policy import Policy
from trueup.models.products import product, rounded, weight_slope

CHUNK_BYTES = 1 << 27
"""Logits held at a time, in the compute precision: fewer rows would starve the matrix products."""
KEPT_BYTES = 1 << 25
"""Logits up to this size are kept for the backward pass; larger ones are computed again."""
CACHE_ELEMENTS = 1 << 19
"""Logits widened to float32 at a time on the CPU: 2 MB, about a core's second-level cache."""


@dataclass(frozen=True, eq=False)
class TokenScores:
    """Log-prob of each token and, where asked, exact entropy and arg-max hit, both without gradient."""

    logps_N: torch.Tensor
    entropy_N: torch.Tensor | None
    correct_N: torch.Tensor | None


def token_scores(
    policy: Policy,
    hidden_ND: torch.Tensor,
    target_N: torch.Tensor,
    *,
    logits_NV: torch.Tensor | None = None,
    temperature: float = 1.0,
    entropy: bool = False,
    correct: bool = False,
) -> TokenScores:
    """Log-probs, in float32 or wider, of ``target_N`` under the distributions at ``hidden_ND``.

    Args:
        policy: Whose head to use.
        hidden_ND: Trunk states that predict the tokens.
        target_N: The tokens.
        logits_NV: Given where the head cannot be run apart; ``hidden_ND`` is then not read.
        temperature: Divides the logits.
        entropy: Also the exact entropy of each distribution.
        correct: Also whether each token is the arg-max.
    """
    layer = policy.plain_head if logits_NV is None else None
    if layer is not None:
        compute = hidden_ND.dtype if policy.compute is torch.float32 else policy.compute
        weight_VD = layer.weight.to(compute)
        bias_V = layer.bias.to(compute) if layer.bias is not None else None
        found = _LinearScores.apply(  # type: ignore[no-untyped-call]
            hidden_ND.to(compute), weight_VD, bias_V, target_N, temperature, entropy, correct
        )
    else:
        found = _general_scores(policy, hidden_ND, target_N, logits_NV, temperature, entropy, correct)
    logps_N, entropy_N, correct_N = found
    return TokenScores(logps_N, entropy_N if entropy else None, correct_N if correct else None)


def _rows_in_cache(logits_NV: torch.Tensor) -> int:
    if logits_NV.device.type != "cpu":
        return max(1, logits_NV.shape[0])
    return max(1, CACHE_ELEMENTS // logits_NV.shape[1])


def _wide(logits_NV: torch.Tensor, temperature: float) -> torch.Tensor:
    wide_NV = logits_NV if logits_NV.dtype is torch.float64 else logits_NV.float()
    return wide_NV / temperature if temperature != 1.0 else wide_NV


def _read(
    logits_NV: torch.Tensor, target_N: torch.Tensor, entropy: bool, correct: bool
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """Log-probs, log-normalisers, entropies and hits of one chunk of tempered logits."""
    normaliser_N = torch.logsumexp(logits_NV, dim=-1)
    logps_N = logits_NV.gather(-1, target_N[:, None]).squeeze(-1) - normaliser_N
    entropy_N = correct_N = logps_N.new_zeros(0)
    with torch.no_grad():
        if correct:
            correct_N = (logits_NV.argmax(-1) == target_N).to(logps_N.dtype)
        if entropy:  # H = log Z - E[logit], with 0 * -inf = 0
            share_NV = (logits_NV - normaliser_N[:, None]).exp_()
            entropy_N = -torch.special.xlogy(share_NV, share_NV).sum(-1)
    return logps_N, normaliser_N, entropy_N, correct_N


class _LinearScores(torch.autograd.Function):
    """Scores of ``hidden @ weight.T + bias``; backward recomputes the logits chunk by chunk, unless they are few.

    d logp(y) / d logits = onehot(y) - softmax(logits), scaled by 1 / temperature.
    """

    @staticmethod
    def forward(
        ctx: Any,
        hidden_ND: torch.Tensor,
        weight_VD: torch.Tensor,
        bias_V: torch.Tensor | None,
        target_N: torch.Tensor,
        temperature: float,
        entropy: bool,
        correct: bool,
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        hidden_ND, count = _rounded(hidden_ND), hidden_ND.shape[0]
        pieces = []
        row_bytes = weight_VD.shape[0] * hidden_ND.element_size()
        ctx.parts = _parts(hidden_ND.shape[0], row_bytes)
        few = len(ctx.parts) == 1 and hidden_ND.shape[0] * row_bytes <= KEPT_BYTES
        for part in ctx.parts:
            whole_NV = product(hidden_ND[part], weight_VD, bias_V)
            ctx.kept_NV = whole_NV if few and any(ctx.needs_input_grad) else None
            logits_NV = whole_NV[: max(0, count - part.start)]
            step = _rows_in_cache(logits_NV)
            for begin in range(0, max(1, logits_NV.shape[0]), step):
                rows = slice(begin, begin + step)
                wide_NV = _wide(logits_NV[rows], temperature)
                pieces.append(_read(wide_NV, target_N[part][rows], entropy, correct))
        logps_N, normaliser_N, entropy_N, correct_N = (torch.cat([p[i] for p in pieces]) for i in range(4))
        ctx.save_for_backward(hidden_ND, weight_VD, bias_V, target_N, normaliser_N)
        ctx.temperature = temperature
        ctx.mark_non_differentiable(entropy_N, correct_N)
        return logps_N, entropy_N, correct_N

    @staticmethod
    def backward(ctx: Any, grad_N: torch.Tensor, *_: Any) -> tuple[Any, ...]:
        hidden_ND, weight_VD, bias_V, target_N, normaliser_N = ctx.saved_tensors
        needs_hidden, needs_weight, needs_bias = ctx.needs_input_grad[:3]
        count = target_N.shape[0]
        to_hidden = hidden_ND.new_empty(count, hidden_ND.shape[1]) if needs_hidden else None
        to_weight = to_bias = None
        for part in ctx.parts:
            slope_NV = ctx.kept_NV
            if slope_NV is None:
                slope_NV = product(hidden_ND[part], weight_VD, bias_V)
            ctx.kept_NV = None  # turned into the slope in place, so good for one backward pass
            real = max(0, min(count - part.start, slope_NV.shape[0]))
            _slope_(
                slope_NV[:real], target_N[part], normaliser_N[part], grad_N[part] / ctx.temperature, ctx.temperature
            )
            slope_NV[real:] = 0
            if to_hidden is not None:
                to_hidden[part] = product(slope_NV, weight_VD.t())[:real]
            if needs_weight:
                piece_VD = weight_slope(slope_NV, hidden_ND[part])
                if to_weight is None:  # several bfloat16 pieces are summed in float32
                    to_weight = piece_VD if len(ctx.parts) == 1 or piece_VD.dtype is torch.float64 else piece_VD.float()
                else:
                    to_weight.add_(piece_VD)
            if needs_bias:
                piece_V = slope_NV.sum(0, dtype=normaliser_N.dtype)
                to_bias = piece_V if to_bias is None else to_bias.add_(piece_V)
        return to_hidden, to_weight, to_bias, None, None, None, None


def _rounded(hidden_ND: torch.Tensor) -> torch.Tensor:
    """With idle rows of zeros at the end, so that few shapes occur."""
    idle = rounded(hidden_ND.shape[0]) - hidden_ND.shape[0]
    return torch.nn.functional.pad(hidden_ND, (0, 0, 0, idle)) if idle else hidden_ND


def _slope_(
    logits_NV: torch.Tensor,
    target_N: torch.Tensor,
    normaliser_N: torch.Tensor,
    scale_N: torch.Tensor,
    temperature: float,
) -> None:
    """Turn logits into ``scale * (onehot - softmax)`` in place, a few rows at a time so that they stay in cache."""
    step = _rows_in_cache(logits_NV)
    for begin in range(0, logits_NV.shape[0], step):
        part = slice(begin, begin + step)
        wide_NV = _wide(logits_NV[part], temperature)
        wide_NV.sub_(normaliser_N[part, None]).exp_().mul_(-scale_N[part, None])
        row_N = torch.arange(wide_NV.shape[0], device=wide_NV.device)
        wide_NV[row_N, target_N[part]] += scale_N[part]
        if wide_NV.data_ptr() != logits_NV[part].data_ptr():
            logits_NV[part] = wide_NV


def _parts(count: int, row_bytes: int) -> list[slice]:
    """Equal slices of ``count`` rows, each within ``CHUNK_BYTES``."""
    pieces = max(1, -(-count * row_bytes // CHUNK_BYTES))
    span = max(1, -(-count // pieces))
    return [slice(begin, begin + span) for begin in range(0, max(1, count), span)]


def _general_scores(
    policy: Policy,
    hidden_ND: torch.Tensor,
    target_N: torch.Tensor,
    logits_NV: torch.Tensor | None,
    temperature: float,
    entropy: bool,
    correct: bool,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """The same through autograd, for heads that are more than one linear layer, in chunks that backward recomputes."""

    def piece(source: torch.Tensor, target: torch.Tensor) -> tuple[torch.Tensor, ...]:
        logits = policy.head(source) if logits_NV is None else source
        return _read(_wide(logits, temperature), target, entropy, correct)

    source = hidden_ND if logits_NV is None else logits_NV
    parts = _parts(target_N.shape[0], policy.vocabulary * 4)
    recompute = torch.is_grad_enabled() and len(parts) > 1 and logits_NV is None
    pieces = [
        checkpoint(piece, source[part], target_N[part], use_reentrant=False)
        if recompute
        else piece(source[part], target_N[part])
        for part in parts
    ]
    logps_N, _, entropy_N, correct_N = (torch.cat([p[i] for p in pieces]) for i in range(4))
    return logps_N, entropy_N, correct_N
