"""Log-probs, entropies, values and rewards of given token sequences.

Shapes: B rows, T positions, C completion positions (padded), N completion tokens (flat), D width, V vocabulary.
The LM head runs at completion positions only and in chunks, so [B, T, V] never exists.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from trueup.data.batch import Ids, Rows
from trueup.engine.head import token_scores
from trueup.engine.processes import share
from trueup.models.heads import RewardModel, ValueHead
from trueup.models.packing import pack
from trueup.models.policy import Policy, Reference
from trueup.models.trunk import Trunk

PACK_BELOW = 0.9
"""A stream is used when it has less than this share of the padded rows' positions: packing has its own cost."""


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
    hidden_ND, logits_NV = _completion_states(policy, rows)
    found = token_scores(
        policy, hidden_ND, rows.target_N, logits_NV=logits_NV, temperature=temperature, entropy=entropy, correct=correct
    )
    return Scores(
        rows,
        rows.unflatten(found.logps_N),
        entropy_BC=rows.unflatten(found.entropy_N) if found.entropy_N is not None else None,
        values_BC=rows.unflatten(value_head(hidden_ND)) if value_head is not None else None,
        correct_BC=rows.unflatten(found.correct_N) if found.correct_N is not None else None,
    )


def states(trunk: Trunk, rows: Rows) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """One trunk pass by the cheaper exact way: packed where it saves tokens, else padded rows.

    Returns:
        Hidden states [S, D] of all computed positions, and indices into them: [N] of the positions that score
        the completion tokens, [B] of the last token of each row.
    """
    if trunk.packs:
        stream = pack(rows.prompts, rows.completions, rows.device)
        if len(stream) < PACK_BELOW * len(rows) * rows.width:
            return trunk.stream(stream), stream.source_N, stream.last_B
    hidden_BTD = trunk.rows(rows.ids_BT)
    base_B = torch.arange(len(rows), device=rows.device) * hidden_BTD.shape[1]
    return hidden_BTD.flatten(0, 1), rows.source_N, base_B + rows.last_B


def _completion_states(policy: Policy, rows: Rows) -> tuple[torch.Tensor, torch.Tensor | None]:
    """Hidden states [N, D] before each completion token, and logits [N, V] where the head cannot run apart."""
    if policy.gathers:
        hidden_SD, source_N, _ = states(policy.trunk, rows)
        return hidden_SD[source_N], None
    with policy.trunk.precision(), policy.trunk.recomputing():
        output = policy.model(input_ids=rows.ids_BT, use_cache=False, output_hidden_states=True)
    hidden_ND = output.hidden_states[-1].flatten(0, 1)[rows.source_N]
    logits_NV = output.logits.flatten(0, 1)[rows.source_N]
    return hidden_ND, logits_NV if logits_NV.dtype is torch.float64 else logits_NV.float()


@torch.no_grad()
def sequence_logps(
    model: Policy | Reference, sequences: Sequence[tuple[Ids, Ids]], *, temperature: float = 1.0, budget: int = 16384
) -> list[torch.Tensor]:
    """Per-token log-probs of many sequences, one CPU tensor [C_i] each, in the order given."""
    here: list[tuple[int, torch.Tensor]] = []
    mine = share(range(len(sequences)), lambda i: len(sequences[i][0]) + len(sequences[i][1]), budget)
    reference = model if isinstance(model, Reference) else Reference(model, adapters_off=False, fingerprint="")
    with reference.active() as policy:
        for group in mine:
            rows = Rows.of([sequences[i] for i in group], policy.device)
            logps_BC = score(policy, rows, temperature=temperature).logps_BC.cpu()
            here += [(i, logps_BC[row, : len(rows.completions[row])]) for row, i in enumerate(group)]
    found = dict(mine.gather(here))
    return [found[i] for i in range(len(sequences))]


def raw_rewards(model: RewardModel, rows: Rows) -> torch.Tensor:
    """Raw rewards [B], read at the last token of each row; gradients flow unless the caller forbids them."""
    hidden_SD, _, last_B = states(model.trunk, rows)
    return model.read(hidden_SD[last_B])


@torch.no_grad()
def rewards(
    model: RewardModel, sequences: Sequence[tuple[Ids, Ids]], *, budget: int = 16384, scaled: bool = True
) -> torch.Tensor:
    """Rewards [B] on the CPU of ``(prompt_ids, completion_ids)`` sequences, in the order given, centred and scaled."""
    here: list[tuple[int, float]] = []
    mine = share(range(len(sequences)), lambda i: len(sequences[i][0]) + len(sequences[i][1]), budget)
    for group in mine:
        raw_B = raw_rewards(model, Rows.of([sequences[i] for i in group], model.device))
        here += zip(group, (model.scale(raw_B) if scaled else raw_B).float().tolist(), strict=True)
    found = dict(mine.gather(here))
    return torch.tensor([found[i] for i in range(len(sequences))])
