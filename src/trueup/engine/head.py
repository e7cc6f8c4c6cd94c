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
    layer = policy.linear_head if logits_NV is None else None
    if layer is not None:
        compute = hidden_ND.dtype if policy.compute is torch.float32 else policy.compute
        bias_V: torch.Tensor | None = layer.bias
        if temperature != 1.0:  # before the states are cast: no second rounding, and no pass over logits
            hidden_ND, bias_V = hidden_ND / temperature, None if bias_V is None else bias_V / temperature
        scores = linear_scores(hidden_ND.to(compute), layer.weight, bias_V, target_N, entropy=entropy, correct=correct)
    else:
        scores = _general_scores(policy, hidden_ND, target_N, logits_NV, temperature, entropy, correct)
    logps_N, entropy_N, correct_N = scores
    return TokenScores(logps_N, entropy_N if entropy else None, correct_N if correct else None)


def _read(
    logits_NV: torch.Tensor, target_N: torch.Tensor, entropy: bool, correct: bool
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Log-probs, entropies and hits of one chunk of upcast logits, through autograd."""
    normaliser_N = torch.logsumexp(logits_NV, dim=-1)
    logps_N = logits_NV.gather(-1, target_N[:, None]).squeeze(-1) - normaliser_N
    entropy_N = correct_N = logps_N.new_zeros(0)
    with torch.no_grad():
        if correct:
            correct_N = (logits_NV.argmax(-1) == target_N).to(logps_N.dtype)
        if entropy:
            entropy_N = entropy_of((logits_NV - normaliser_N[:, None]).exp_())
    return logps_N, entropy_N, correct_N


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
        exact = upcast(logits)
        return _read(exact / temperature if temperature != 1.0 else exact, target, entropy, correct)

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
