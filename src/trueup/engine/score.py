"""Log-probs, entropies, values and rewards of given token sequences.

Shapes: B rows, T positions, C completion positions (padded), N completion tokens (flat), D width, V vocabulary.
The LM head runs at completion positions only and in chunks, so [B, T, V] never exists.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import torch

from trueup.data.batch import Ids, Rows
from trueup.engine.head import token_scores
from trueup.engine.processes import share
from trueup.kernels.packing import pack
from trueup.models.heads import RewardModel, ValueHead
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
    entropy_grad: bool = False,
) -> Scores:
    """One forward pass. Log-probs are of the distribution at ``temperature``, in float32 or wider.

    Args:
        policy: The model; gradients flow unless the caller forbids them.
        rows: Sequences of at most ``policy.context`` tokens.
        temperature: Divides the logits, as in sampling.
        entropy: Also the exact entropy of each token's distribution, without gradient.
        correct: Also whether each token is the arg-max, without gradient.
        value_head: Also values of the state before each token.
        entropy_grad: Entropies with gradient, as a bonus needs them.
    """
    hidden_ND, logits_NV = _completion_states(policy, rows, hidden=value_head is not None)
    source_N = hidden_ND if logits_NV is None else logits_NV
    assert source_N is not None
    scores = token_scores(
        policy,
        source_N,
        rows.target_N,
        logits_NV=logits_NV,
        temperature=temperature,
        entropy=entropy,
        correct=correct,
        entropy_grad=entropy_grad,
    )
    values_N = None if value_head is None or hidden_ND is None else value_head(hidden_ND)
    return Scores(
        rows,
        rows.unflatten(scores.logps_N),
        entropy_BC=rows.unflatten(scores.entropy_N) if scores.entropy_N is not None else None,
        values_BC=rows.unflatten(values_N) if values_N is not None else None,
        correct_BC=rows.unflatten(scores.correct_N) if scores.correct_N is not None else None,
    )


def states(trunk: Trunk, rows: Rows) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Trunk passes by the cheaper exact way: packed where it saves tokens, else padded rows.

    Rows that must not share a pass, because their numbers would then be others than alone, have passes of their own.

    Returns:
        Hidden states [S, D] of all computed positions, and indices into them: [N] of the positions that score
        the completion tokens, [B] of the last token of each row.
    """
    return _in_passes(trunk, rows, lambda some: _one_pass(trunk, some))


def _one_pass(trunk: Trunk, rows: Rows) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    if trunk.packs_up_to(rows.width):
        stream = pack(rows.prompts, rows.completions, rows.device)
        if len(stream) < PACK_BELOW * len(rows) * rows.width:
            return trunk.stream(stream), stream.source_N, stream.last_B
    hidden_BTD = trunk.rows(rows.ids_BT)
    return hidden_BTD.flatten(0, 1), rows.source_N, _last(rows)


def _last(rows: Rows) -> torch.Tensor:
    """Flat indices [B] of the last token of each padded row."""
    return torch.arange(len(rows), device=rows.device) * rows.width + rows.last_B


Pass: TypeAlias = Callable[[Rows], tuple[torch.Tensor, torch.Tensor, torch.Tensor]]
"""Rows -> values [S, ...] of all positions, and which of them stand before completion tokens, and which last."""


def _in_passes(trunk: Trunk, rows: Rows, run: Pass) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """``run`` on each group of rows that may share a pass, and its results as if it had been one."""
    groups = trunk.apart([len(p) + len(c) for p, c in zip(rows.prompts, rows.completions, strict=True)])
    if len(groups) == 1:
        return run(rows)
    values: list[torch.Tensor] = []
    source: dict[int, torch.Tensor] = {}
    last: dict[int, torch.Tensor] = {}
    begin = 0
    for group in groups:
        some = Rows(tuple(rows.prompts[i] for i in group), tuple(rows.completions[i] for i in group), rows.device)
        part, source_N, last_B = run(some)
        pieces = torch.split(source_N, [len(c) for c in some.completions])
        source |= {i: piece + begin for i, piece in zip(group, pieces, strict=True)}
        last |= {i: place + begin for i, place in zip(group, last_B, strict=True)}
        values.append(part)
        begin += part.shape[0]
    order = range(len(rows))
    return torch.cat(values), torch.cat([source[i] for i in order]), torch.stack([last[i] for i in order])


def _whole_pass(policy: Policy, rows: Rows) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Logits [S, V] of all positions, where the head cannot run apart."""
    with policy.trunk.recomputing():
        logits_BTV = policy.full_logits(rows.ids_BT)
    return logits_BTV.flatten(0, 1), rows.source_N, _last(rows)


def _completion_states(policy: Policy, rows: Rows, hidden: bool) -> tuple[torch.Tensor | None, torch.Tensor | None]:
    """Hidden states [N, D] before each completion token, and logits [N, V] where the head cannot run apart.

    There a second pass gives the hidden states, if they are wanted.
    """
    logits_NV = None
    if not policy.gathers:
        logits_SV, source_N, _ = _in_passes(policy.trunk, rows, lambda some: _whole_pass(policy, some))
        logits_NV = logits_SV[source_N]
        if not hidden:
            return None, logits_NV
    hidden_SD, source_N, _ = states(policy.trunk, rows)
    return hidden_SD[source_N], logits_NV


@torch.no_grad()
def next_logits(policy: Policy, sequences: Sequence[Ids]) -> torch.Tensor:
    """Logits [B, V], in float32 or wider, of the token after each sequence, by passes over all of it."""
    rows = Rows.of([(ids, ()) for ids in sequences], policy.device)
    if policy.gathers:
        hidden_SD, _, last_B = states(policy.trunk, rows)
        return policy.head(hidden_SD[last_B])
    logits_SV, _, last_B = _in_passes(policy.trunk, rows, lambda some: _whole_pass(policy, some))
    return logits_SV[last_B]


@torch.no_grad()
def sequence_logps(
    model: Policy | Reference, sequences: Sequence[tuple[Ids, Ids]], *, temperature: float = 1.0, budget: int = 16384
) -> list[torch.Tensor]:
    """Per-token log-probs of many sequences, one CPU tensor [C_i] each, in the order given."""
    own: list[tuple[int, torch.Tensor]] = []
    micros = share(range(len(sequences)), lambda i: len(sequences[i][0]) + len(sequences[i][1]), budget)
    reference = model if isinstance(model, Reference) else Reference(model, adapters_off=False, fingerprint="")
    with reference.active() as policy:
        for group in micros:
            rows = Rows.of([sequences[i] for i in group], policy.device)
            logps_BC = score(policy, rows, temperature=temperature).logps_BC.cpu()
            own += [(i, logps_BC[row, : len(rows.completions[row])]) for row, i in enumerate(group)]
    by_index = dict(micros.gather(own))
    return [by_index[i] for i in range(len(sequences))]


def read_states(model: RewardModel, rows: Rows) -> torch.Tensor:
    """What the head of a reward model reads [B, D]: the state at the last token, or the mean state of the answer.

    The mean is over the states that the answer's tokens are predicted from and the one at its last token, so that an
    answer without its end is another one. It is taken in float32 or wider.
    """
    hidden_SD, source_N, last_B = states(model.trunk, rows)
    last_BD = hidden_SD[last_B]
    if model.pooling == "last":
        return last_BD
    length_B = torch.tensor([len(ids) for ids in rows.completions], device=last_BD.device)
    row_N = torch.repeat_interleave(torch.arange(len(rows), device=last_BD.device), length_B)
    wide = last_BD.dtype if last_BD.dtype is torch.float64 else torch.float32
    sum_BD = last_BD.to(wide).index_add(0, row_N, hidden_SD[source_N].to(wide))
    return sum_BD / (length_B + 1)[:, None]


def raw_rewards(model: RewardModel, rows: Rows) -> torch.Tensor:
    """Raw rewards [B] of the answers of each row; gradients flow unless the caller forbids them."""
    return model.read(read_states(model, rows))


def raw_outputs(model: RewardModel, rows: Rows) -> torch.Tensor:
    """Raw outputs [B, H] of all heads for the answers of each row; gradients flow unless the caller forbids them."""
    return model.outputs(read_states(model, rows))


@torch.no_grad()
def rewards(
    model: RewardModel, sequences: Sequence[tuple[Ids, Ids]], *, budget: int = 16384, scaled: bool = True
) -> torch.Tensor:
    """Rewards [B] on the CPU of ``(prompt_ids, completion_ids)`` sequences, in the order given, centred and scaled."""

    def read(rows: Rows) -> torch.Tensor:
        raw_B = raw_rewards(model, rows)
        return model.scale(raw_B) if scaled else raw_B

    return torch.tensor(_read_all(model, sequences, budget, read))


@torch.no_grad()
def outputs(model: RewardModel, sequences: Sequence[tuple[Ids, Ids]], *, budget: int = 16384) -> torch.Tensor:
    """Raw outputs [B, H] of all heads on the CPU, in the order given."""
    return torch.tensor(_read_all(model, sequences, budget, lambda rows: raw_outputs(model, rows)))


@torch.no_grad()
def all_states(model: RewardModel, sequences: Sequence[tuple[Ids, Ids]], *, budget: int = 16384) -> torch.Tensor:
    """What the head reads of each sequence [B, D], float32 on the CPU, in the order given."""
    own: list[tuple[int, torch.Tensor]] = []
    micros = share(range(len(sequences)), lambda i: len(sequences[i][0]) + len(sequences[i][1]), budget)
    for group in micros:
        read_BD = read_states(model, Rows.of([sequences[i] for i in group], model.device))
        own += zip(group, read_BD.float().cpu(), strict=True)
    by_index = dict(micros.gather(own))
    return torch.stack([by_index[i] for i in range(len(sequences))])


def _read_all(
    model: RewardModel, sequences: Sequence[tuple[Ids, Ids]], budget: int, read: Callable[[Rows], torch.Tensor]
) -> list[Any]:
    """What ``read`` gives for each sequence, in the order given, whichever process ran it."""
    own: list[tuple[int, Any]] = []
    micros = share(range(len(sequences)), lambda i: len(sequences[i][0]) + len(sequences[i][1]), budget)
    for group in micros:
        values = read(Rows.of([sequences[i] for i in group], model.device))
        own += zip(group, values.float().tolist(), strict=True)
    by_index = dict(micros.gather(own))
    return [by_index[i] for i in range(len(sequences))]
