"""Log-probs, entropies, values and rewards of given token sequences.

Shapes: B rows, T positions, C completion positions (padded), N completion tokens (flat), D width, V vocabulary.
The LM head runs at completion positions only and in chunks, so [B, T, V] never exists.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch.utils.checkpoint import checkpoint

from trueup.data.batch import Ids, Rows, micro_batches
from trueup.models.heads import RewardModel, ValueHead
from trueup.models.policy import Policy, Reference

CHUNK_ELEMENTS = 1 << 24


@dataclass(frozen=True, eq=False)
class Scores:
    """What one forward pass says of the completion tokens of ``rows``; padding holds zeros."""

    rows: Rows
    logps_BC: torch.Tensor
    entropy_BC: torch.Tensor | None = None
    values_BC: torch.Tensor | None = None
    correct_BC: torch.Tensor | None = None

    @property
    def sum_B(self) -> torch.Tensor:
        """Sequence log-probs: sums over completion tokens."""
        return self.logps_BC.sum(-1)


def score(
    policy: Policy,
    rows: Rows,
    *,
    temperature: float = 1.0,
    entropy: bool = False,
    correct: bool = False,
    value_head: ValueHead | None = None,
) -> Scores:
    """One forward pass. Log-probs are of the distribution at ``temperature``, in float32 or wider.

    Args:
        policy: The model; gradients flow unless the caller forbids them.
        rows: Sequences of at most ``policy.context`` tokens.
        temperature: Divides the logits, as in sampling.
        entropy: Also the exact entropy of each token's distribution, without gradient.
        correct: Also whether each token is the arg-max, without gradient.
        value_head: Also values of the state before each token.
    """
    hidden_ND, logits_N = _states(policy, rows)
    target_N = rows.target_N
    span = max(1, CHUNK_ELEMENTS // max(1, policy.vocabulary))
    pieces: list[tuple[torch.Tensor, torch.Tensor, torch.Tensor]] = []
    count = target_N.shape[0]
    recompute = torch.is_grad_enabled() and count > span and logits_N is None
    for begin in range(0, count, span):
        part = slice(begin, begin + span)
        source = hidden_ND[part] if logits_N is None else logits_N[part]
        arguments = (policy, source, target_N[part], temperature, logits_N is None, entropy, correct)
        pieces.append(
            checkpoint(_token_scores, *arguments, use_reentrant=False) if recompute else _token_scores(*arguments)
        )
    logps_N, entropy_N, correct_N = (torch.cat([piece[i] for piece in pieces]) for i in range(3))
    values_BC = rows.unflatten(value_head(hidden_ND)) if value_head is not None else None
    return Scores(
        rows,
        rows.unflatten(logps_N),
        entropy_BC=rows.unflatten(entropy_N) if entropy else None,
        values_BC=values_BC,
        correct_BC=rows.unflatten(correct_N) if correct else None,
    )


def _states(policy: Policy, rows: Rows) -> tuple[torch.Tensor, torch.Tensor | None]:
    """Hidden states [N, D] before each completion token, and logits [N, V] where the head cannot run apart."""
    if policy.gathers:
        hidden_BTD = policy.hidden(rows.ids_BT)
        return hidden_BTD.flatten(0, 1)[rows.source_N], None
    with policy.precision():
        output = policy.model(input_ids=rows.ids_BT, use_cache=False, output_hidden_states=True)
    hidden_ND = output.hidden_states[-1].flatten(0, 1)[rows.source_N]
    logits_NV = output.logits.flatten(0, 1)[rows.source_N]
    return hidden_ND, logits_NV if logits_NV.dtype is torch.float64 else logits_NV.float()


def _token_scores(
    policy: Policy,
    source: torch.Tensor,
    target_N: torch.Tensor,
    temperature: float,
    apply_head: bool,
    entropy: bool,
    correct: bool,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    logits_NV = policy.head(source) if apply_head else source
    if temperature != 1.0:
        logits_NV = logits_NV / temperature
    normaliser_N = torch.logsumexp(logits_NV, dim=-1)
    logps_N = logits_NV.gather(-1, target_N[:, None]).squeeze(-1) - normaliser_N
    nothing = logps_N.new_zeros(0)
    with torch.no_grad():
        entropy_N = nothing
        if entropy:
            full_NV = logits_NV - normaliser_N[:, None]
            entropy_N = -torch.special.xlogy(full_NV.exp(), full_NV.exp()).sum(-1)
        correct_N = (logits_NV.argmax(-1) == target_N).to(logps_N.dtype) if correct else nothing
    return logps_N, entropy_N, correct_N


@torch.no_grad()
def sequence_logps(
    model: Policy | Reference, sequences: Sequence[tuple[Ids, Ids]], *, temperature: float = 1.0, budget: int = 16384
) -> list[torch.Tensor]:
    """Per-token log-probs of many sequences, one CPU tensor [C_i] each, in the order given."""
    found: list[torch.Tensor | None] = [None] * len(sequences)
    groups = micro_batches(range(len(sequences)), lambda i: len(sequences[i][0]) + len(sequences[i][1]), budget)
    reference = model if isinstance(model, Reference) else Reference(model, adapters_off=False, fingerprint="")
    with reference.active() as policy:
        for group in groups:
            rows = Rows.of([sequences[i] for i in group], policy.device)
            logps_BC = score(policy, rows, temperature=temperature).logps_BC.cpu()
            for row, i in enumerate(group):
                found[i] = logps_BC[row, : len(rows.completions[row])]
    return [piece for piece in found if piece is not None]


@torch.no_grad()
def rewards(model: RewardModel, sequences: Sequence[tuple[Ids, Ids]], *, budget: int = 16384) -> torch.Tensor:
    """Scaled rewards [B] on the CPU of ``(prompt_ids, completion_ids)`` sequences, in the order given."""
    found = torch.zeros(len(sequences))
    groups = micro_batches(range(len(sequences)), lambda i: len(sequences[i][0]) + len(sequences[i][1]), budget)
    for group in groups:
        rows = Rows.of([sequences[i] for i in group], model.device)
        found[list(group)] = model.scale(model.raw(rows.ids_BT, rows.last_B)).float().cpu()
    return found
