"""The language-model head: log-probs of given tokens without holding [N, V] for backward.

Shapes: N completion tokens (flat), D width, V vocabulary.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import Any

import torch
from torch.utils.checkpoint import checkpoint

from trueup.models.gradients import Slope
from trueup.models.policy import Policy
from trueup.models.products import add_weight_slope_, product, rounded

CHUNK_BYTES = 1 << 26
"""Logits held at a time, in the compute precision: fewer rows would starve the matrix products."""
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
        bias_V: torch.Tensor | None = layer.bias
        if temperature != 1.0:  # before the states are narrowed: no second rounding, and no pass over logits
            hidden_ND, bias_V = hidden_ND / temperature, None if bias_V is None else bias_V / temperature
        found = _LinearScores.apply(  # type: ignore[no-untyped-call]
            hidden_ND.to(compute), layer.weight, bias_V, target_N, entropy, correct
        )
    else:
        found = _general_scores(policy, hidden_ND, target_N, logits_NV, temperature, entropy, correct)
    logps_N, entropy_N, correct_N = found
    return TokenScores(logps_N, entropy_N if entropy else None, correct_N if correct else None)


def _rows_in_cache(logits_NV: torch.Tensor) -> int:
    if logits_NV.device.type != "cpu":
        return max(1, logits_NV.shape[0])
    return max(1, CACHE_ELEMENTS // logits_NV.shape[1])


def _wide(logits_NV: torch.Tensor) -> torch.Tensor:
    return logits_NV if logits_NV.dtype is torch.float64 else logits_NV.float()


def _read(
    logits_NV: torch.Tensor, target_N: torch.Tensor, entropy: bool, correct: bool
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Log-probs, entropies and hits of one chunk of wide logits, through autograd."""
    normaliser_N = torch.logsumexp(logits_NV, dim=-1)
    logps_N = logits_NV.gather(-1, target_N[:, None]).squeeze(-1) - normaliser_N
    entropy_N = correct_N = logps_N.new_zeros(0)
    with torch.no_grad():
        if correct:
            correct_N = (logits_NV.argmax(-1) == target_N).to(logps_N.dtype)
        if entropy:
            entropy_N = _entropy((logits_NV - normaliser_N[:, None]).exp_())
    return logps_N, entropy_N, correct_N


def _read_apart(
    logits_NV: torch.Tensor, target_N: torch.Tensor, entropy: bool, correct: bool
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """Log-probs, log-normalisers, entropies and hits of one chunk, without gradient; logits are left as they are."""
    wide_NV = _wide(logits_NV)
    picked_N = wide_NV.gather(-1, target_N[:, None]).squeeze(-1)
    correct_N = (wide_NV.argmax(-1) == target_N).to(wide_NV.dtype) if correct else picked_N.new_zeros(0)
    top_N = wide_NV.amax(-1)
    top_N.masked_fill_(~top_N.isfinite(), 0.0)
    ours = wide_NV is not logits_NV
    share_NV = (wide_NV.sub_(top_N[:, None]) if ours else wide_NV - top_N[:, None]).exp_()
    total_N = share_NV.sum(-1)
    entropy_N = _entropy(share_NV.div_(total_N[:, None])) if entropy else picked_N.new_zeros(0)
    normaliser_N = total_N.log_().add_(top_N)
    return picked_N - normaliser_N, normaliser_N, entropy_N, correct_N


def _entropy(share_NV: torch.Tensor) -> torch.Tensor:
    """Entropies [N] of distributions, with 0 log 0 = 0."""
    found_N: torch.Tensor = torch.special.xlogy(share_NV, share_NV).sum(-1)
    return found_N.neg_()


class _Scratch(threading.local):
    """Memory that every pass through a head needs, kept on the CPU: new pages would cost more than what they hold."""

    def __init__(self) -> None:
        self.blocks: dict[str, torch.Tensor] = {}
        self.logits_of: object = None
        """Whose logits stand there: of the forward pass that wrote last, until its backward pass uses them up."""
        self.weight_of: object = None
        """Whose weight stands there, narrowed: of the forward pass that narrowed last."""

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

    def narrowed(self, weight_VD: torch.Tensor, like: torch.Tensor, turn: object) -> torch.Tensor:
        """The head's weight in the precision of ``like``; as it was in the forward pass, if it still stands there."""
        if weight_VD.dtype is like.dtype:
            return weight_VD
        stands = self.weight_of is turn and like.device.type == "cpu"
        narrow_VD = self.take("weight", (weight_VD.shape[0], weight_VD.shape[1]), like)
        self.weight_of = turn
        return narrow_VD if stands else narrow_VD.copy_(weight_VD)

    def logits(self, hidden_ND: torch.Tensor, weight_VD: torch.Tensor, bias_V: torch.Tensor | None) -> torch.Tensor:
        """``hidden @ weight.T + bias``."""
        self.logits_of = None
        out_NV = self.take("logits", (hidden_ND.shape[0], weight_VD.shape[0]), hidden_ND)
        return product(hidden_ND, weight_VD, bias_V, out_NO=out_NV)


_SCRATCH = _Scratch()


class _LinearScores(torch.autograd.Function):
    """Scores of ``hidden @ weight.T + bias`` in the precision of ``hidden``; weight and bias may be wider.

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
        narrow_VD = _SCRATCH.narrowed(weight_VD, hidden_ND, ctx.turn)
        narrow_V = None if bias_V is None else bias_V.to(hidden_ND.dtype)
        pieces = []
        ctx.parts = _parts(hidden_ND.shape[0], weight_VD.shape[0] * hidden_ND.element_size())
        whole_NV = None
        for part in ctx.parts:
            whole_NV = _SCRATCH.logits(hidden_ND[part], narrow_VD, narrow_V)
            logits_NV = whole_NV[: max(0, count - part.start)]
            step = _rows_in_cache(logits_NV)
            for begin in range(0, max(1, logits_NV.shape[0]), step):
                rows = slice(begin, begin + step)
                pieces.append(_read_apart(logits_NV[rows], target_N[part][rows], entropy, correct))
        ctx.kept_NV = None
        if len(ctx.parts) == 1 and any(ctx.needs_input_grad):
            ctx.kept_NV, _SCRATCH.logits_of = whole_NV, ctx.turn
        logps_N, normaliser_N, entropy_N, correct_N = (torch.cat([p[i] for p in pieces]) for i in range(4))
        ctx.save_for_backward(hidden_ND, weight_VD, bias_V, target_N, logps_N, normaliser_N)
        ctx.parameter = weight_VD
        ctx.mark_non_differentiable(entropy_N, correct_N)
        return logps_N, entropy_N, correct_N

    @staticmethod
    def backward(ctx: Any, grad_N: torch.Tensor, *_: Any) -> tuple[Any, ...]:
        hidden_ND, weight_VD, bias_V, target_N, logps_N, normaliser_N = ctx.saved_tensors
        needs_hidden, needs_weight, needs_bias = ctx.needs_input_grad[:3]
        count = target_N.shape[0]
        narrow_VD = _SCRATCH.narrowed(weight_VD, hidden_ND, ctx.turn)
        narrow_V = None if bias_V is None else bias_V.to(hidden_ND.dtype)
        to_hidden = hidden_ND.new_empty(count, hidden_ND.shape[1]) if needs_hidden else None
        to_weight = Slope(ctx.parameter) if needs_weight else None
        to_bias = torch.zeros_like(bias_V) if needs_bias else None
        for part in ctx.parts:
            still_there = _SCRATCH.logits_of is ctx.turn or hidden_ND.device.type != "cpu"
            slope_NV, ctx.kept_NV = ctx.kept_NV if still_there else None, None
            if slope_NV is None:
                slope_NV = _SCRATCH.logits(hidden_ND[part], narrow_VD, narrow_V)
            _SCRATCH.logits_of = None  # turned into the slope in place, so good for one backward pass
            real = max(0, min(count - part.start, slope_NV.shape[0]))
            _slope_(slope_NV[:real], target_N[part], logps_N[part], normaliser_N[part])
            slope_NV[real:] = 0
            scale_N = -grad_N[part]
            if to_hidden is not None:
                to_hidden[part] = product(slope_NV, narrow_VD.t())[:real].mul_(scale_N[:, None])
            if to_weight is not None:
                scaled_ND = hidden_ND[part].clone()
                scaled_ND[:real].mul_(scale_N[:, None])
                add_weight_slope_(to_weight, slope_NV, scaled_ND)
            if to_bias is not None:
                to_bias += _weighted_sum(slope_NV[:real], scale_N)
        return to_hidden, to_weight and to_weight.for_autograd, to_bias, None, None, None


def _rounded(hidden_ND: torch.Tensor) -> torch.Tensor:
    """With idle rows of zeros at the end, so that few shapes occur."""
    idle = rounded(hidden_ND.shape[0]) - hidden_ND.shape[0]
    return torch.nn.functional.pad(hidden_ND, (0, 0, 0, idle)) if idle else hidden_ND


def _slope_(logits_NV: torch.Tensor, target_N: torch.Tensor, logps_N: torch.Tensor, normaliser_N: torch.Tensor) -> None:
    """Turn logits into ``softmax - onehot`` in place, a few rows at a time so that they stay in cache."""
    step = _rows_in_cache(logits_NV)
    for begin in range(0, logits_NV.shape[0], step):
        part = slice(begin, begin + step)
        if logits_NV.dtype is normaliser_N.dtype:
            logits_NV[part].sub_(normaliser_N[part, None]).exp_()
        else:
            logits_NV[part] = torch.softmax(logits_NV[part], -1)
    # Narrow probabilities near 1 have lost what their difference from 1 is made of.
    row_N = torch.arange(logits_NV.shape[0], device=logits_NV.device)
    logits_NV[row_N, target_N] = torch.expm1(logps_N).to(logits_NV.dtype)


def _weighted_sum(slope_NV: torch.Tensor, scale_N: torch.Tensor) -> torch.Tensor:
    """``scale @ slope`` [V] in the precision of ``scale``."""
    found_V = scale_N.new_zeros(slope_NV.shape[1])
    step = _rows_in_cache(slope_NV)
    for begin in range(0, slope_NV.shape[0], step):
        part = slice(begin, begin + step)
        found_V += (slope_NV[part] * scale_N[part, None]).sum(0)
    return found_V


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
        wide = _wide(logits)
        return _read(wide / temperature if temperature != 1.0 else wide, target, entropy, correct)

    source = hidden_ND if logits_NV is None else logits_NV
    parts = _parts(target_N.shape[0], policy.vocabulary * 4)
    recompute = torch.is_grad_enabled() and len(parts) > 1 and logits_NV is None
    pieces = [
        checkpoint(piece, source[part], target_N[part], use_reentrant=False)
        if recompute
        else piece(source[part], target_N[part])
        for part in parts
    ]
    logps_N, entropy_N, correct_N = (torch.cat([p[i] for p in pieces]) for i in range(3))
    return logps_N, entropy_N, correct_N
