"""The language-model head: log-probs of given tokens without holding [N, V] for backward.

Shapes: N completion tokens (flat), D width, V vocabulary.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch.utils.checkpoint import checkpoint

from trueup.kernels.head import entropy_of, linear_scores, row_chunks, upcast
from trueup.models.policy import Policy


@dataclass(frozen=True, eq=False)
class TokenScores:
    """Log-prob of each token and, where asked, exact entropy and arg-max hit; only the entropy may have a gradient."""

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
    entropy_grad: bool = False,
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
        entropy_grad: Entropies with gradient, as a bonus needs them; autograd then goes through the logits.
    """
    layer = policy.linear_head if logits_NV is None and not entropy_grad else None
    if layer is not None:
        compute = hidden_ND.dtype if policy.compute is torch.float32 else policy.compute
        bias_V: torch.Tensor | None = layer.bias
        if temperature != 1.0:  # before the states are cast: no second rounding, and no pass over logits
            hidden_ND, bias_V = hidden_ND / temperature, None if bias_V is None else bias_V / temperature
        scores = linear_scores(hidden_ND.to(compute), layer.weight, bias_V, target_N, entropy=entropy, correct=correct)
    else:
        wanted = _Wanted(entropy or entropy_grad, correct, entropy_grad)
        scores = _general_scores(policy, hidden_ND, target_N, logits_NV, temperature, wanted)
    logps_N, entropy_N, correct_N = scores
    return TokenScores(logps_N, entropy_N if entropy or entropy_grad else None, correct_N if correct else None)


@dataclass(frozen=True, slots=True)
class _Wanted:
    """What is read of logits beside log-probs."""

    entropy: bool
    correct: bool
    entropy_grad: bool


def _read(
    logits_NV: torch.Tensor, target_N: torch.Tensor, wanted: _Wanted
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Log-probs, entropies and hits of one chunk of upcast logits, through autograd."""
    normaliser_N = torch.logsumexp(logits_NV, dim=-1)
    logps_N = logits_NV.gather(-1, target_N[:, None]).squeeze(-1) - normaliser_N
    entropy_N = correct_N = logps_N.new_zeros(0)
    with torch.no_grad():
        if wanted.correct:
            correct_N = (logits_NV.argmax(-1) == target_N).to(logps_N.dtype)
        if wanted.entropy and not wanted.entropy_grad:
            entropy_N = entropy_of((logits_NV - normaliser_N[:, None]).exp_())
    if wanted.entropy_grad:
        entropy_N = _entropy_with_gradient(logits_NV - normaliser_N[:, None])
    return logps_N, entropy_N, correct_N


def _entropy_with_gradient(logp_NV: torch.Tensor) -> torch.Tensor:
    """Entropies [N]; a token with probability 0 adds nothing, to the gradient neither."""
    p_NV = logp_NV.exp()
    safe_NV = torch.where(p_NV > 0, logp_NV, torch.zeros_like(logp_NV))
    return -(p_NV * safe_NV).sum(-1)


def _general_scores(
    policy: Policy,
    hidden_ND: torch.Tensor,
    target_N: torch.Tensor,
    logits_NV: torch.Tensor | None,
    temperature: float,
    wanted: _Wanted,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """The same through autograd, for heads that are more than one linear layer, in chunks that backward recomputes."""

    def piece(source: torch.Tensor, target: torch.Tensor) -> tuple[torch.Tensor, ...]:
        logits = policy.head(source) if logits_NV is None else source
        exact = upcast(logits)
        return _read(exact / temperature if temperature != 1.0 else exact, target, wanted)

    source = hidden_ND if logits_NV is None else logits_NV
    parts = row_chunks(target_N.shape[0], policy.vocabulary * 4)
    recompute = torch.is_grad_enabled() and len(parts) > 1 and logits_NV is None
    pieces = [
        checkpoint(piece, source[part], target_N[part], use_reentrant=False)
        if recompute
        else piece(source[part], target_N[part])
        for part in parts
    ]
    logps_N, entropy_N, correct_N = (torch.cat([p[i] for p in pieces]) for i in range(3))
    return logps_N, entropy_N, correct_N
