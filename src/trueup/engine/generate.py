"""Sampling with a KV cache: exact log-probs of what was drawn, finished rows dropped as they finish.

Each row draws from its own stream of uniforms (inverse CDF), so a completion does not depend on the
batch it was sampled in, only on seed, row and the distribution.

Shapes: B live rows, T prompt positions (left-padded), V vocabulary.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from trueup.config import Sampling
from trueup.config.seeds import derive
from trueup.data.batch import Ids
from trueup.engine.decoding import Padded, Way, way_of
from trueup.engine.placement import whole
from trueup.engine.processes import gathered, rank, world
from trueup.errors import ModelError, NonFiniteError
from trueup.models.policy import Policy
from trueup.types import StopReason

BLOCK = 256
"""Tokens of one block of the inverse CDF."""
COMPACT_BELOW = 0.75
"""Finished rows are dropped from the cache when fewer than this share is alive."""


@dataclass(frozen=True, eq=False)
class Generation:
    """A sampled completion: ids (EOS included when drawn), the log-prob of each draw, and why it ended.

    ``logps`` are of the distribution that was sampled from: temperature and every other sampling filter included.
    """

    ids: Ids
    logps: torch.Tensor
    stop: StopReason
    version: int | None = None
    """Version of the policy that drew it, where another machine did; None: the policy as it is here."""


@torch.no_grad()
def generate(
    policy: Policy,
    prompts: Sequence[Ids],
    sampling: Sampling,
    *,
    stop_ids: Collection[int],
    seed: int,
    batch: int = 256,
) -> list[Generation]:
    """Sample one completion for each prompt, in the order given.

    Several processes share the prompts and all get every completion; how long each takes does not matter to the
    others, because the weights are whole while they sample.

    Args:
        policy: The model to sample from.
        prompts: Token ids; none may be empty, and prompt plus completion must fit the context.
        sampling: Length, temperature and sampling filters. Temperature 0 is greedy.
        stop_ids: Tokens that end a completion; they are part of it.
        seed: Names the draws together with the row number.
        batch: Rows decoded at a time.
    """
    longest = max((len(p) for p in prompts), default=0)
    if any(not p for p in prompts):
        raise ModelError("an empty prompt cannot be continued", where="prompt", fix="give at least one token, or a BOS")
    if policy.context is not None and longest + sampling.max_new_tokens > policy.context:
        raise ModelError(
            f"prompt of {longest} tokens plus {sampling.max_new_tokens} new ones exceeds {policy.context} positions",
            where=policy.source,
            fix="shorten the prompts (batch.max_prompt_length) or sampling.max_new_tokens",
        )
    # Rows of similar prompt length decode together, so little padding is computed.
    order = sorted(range(len(prompts)), key=lambda i: len(prompts[i]))[rank() :: world()]
    own: dict[int, Generation] = {}
    with whole(policy.model):
        for begin in range(0, len(order), batch):
            rows = order[begin : begin + batch]
            if begin == 0:  # one decoder for all
                lengths = [len(prompts[i]) for i in order]
                way = way_of(policy, lengths, sampling.max_new_tokens, min(batch, len(order)))
            own.update(_decode(policy, way, [prompts[i] for i in rows], rows, sampling, stop_ids, seed))
    by_index = dict(gathered(list(own.items())))
    return [by_index[i] for i in range(len(prompts))]


def _decode(
    policy: Policy,
    way: Way,
    prompts: Sequence[Ids],
    names: Sequence[int],
    sampling: Sampling,
    stop_ids: Collection[int],
    seed: int,
) -> dict[int, Generation]:
    device, room = policy.device, sampling.max_new_tokens
    uniforms_BC = _uniforms(seed, names, room).to(device)
    seen_BV = _seen(policy, prompts) if sampling.repetition_penalty != 1.0 else None
    stop_tokens = torch.tensor(sorted(stop_ids), device=device, dtype=torch.long)
    stepper = way(prompts)
    live = torch.arange(len(prompts), device=device)
    done_B = torch.zeros(len(prompts), dtype=torch.bool, device=device)
    drawn_BC = torch.zeros(len(prompts), room, dtype=torch.long, device=device)
    count_B = torch.full((len(prompts),), room, device=device)
    ended_B = torch.zeros(len(prompts), dtype=torch.bool, device=device)
    logits_BV = stepper.first()
    logps_BC = torch.zeros(len(prompts), room, dtype=logits_BV.dtype, device=device)
    for t in range(room):
        token_B, logp_B = _draw(logits_BV, uniforms_BC[live, t], sampling, seen_BV)
        drawn_BC[live, t] = token_B
        logps_BC[live, t] = logp_B
        stops_B = torch.isin(token_B, stop_tokens) & ~done_B
        names_S = live[stops_B]
        count_B[names_S] = t + 1
        ended_B[names_S] = True
        done_B = done_B | stops_B
        left = len(done_B) - int(done_B.sum())
        if left == 0 or t + 1 == room:
            break
        if seen_BV is not None:
            seen_BV[torch.arange(len(token_B), device=device), token_B] = True
        if left <= COMPACT_BELOW * len(done_B):  # copying the cache costs more than a few idle rows
            keep = (~done_B).nonzero().squeeze(-1)
            stepper.keep(keep)
            live, token_B, done_B = live[keep], token_B[keep], done_B[keep]
            seen_BV = seen_BV[keep] if seen_BV is not None else None
        logits_BV = stepper.next(token_B)
    counts, ended = count_B.tolist(), ended_B.tolist()
    tokens, logps = drawn_BC.tolist(), logps_BC.cpu()
    return {
        name: Generation(
            tuple(tokens[row][: counts[row]]),
            logps[row, : counts[row]].clone(),
            StopReason.EOS if ended[row] else StopReason.LENGTH,
        )
        for row, name in enumerate(names)
    }


def _draw(
    logits_BV: torch.Tensor, uniform_B: torch.Tensor, sampling: Sampling, seen_BV: torch.Tensor | None
) -> tuple[torch.Tensor, torch.Tensor]:
    """Tokens and their log-probs under the modified distribution. Greedy draws carry untempered log-probs."""
    if seen_BV is not None:
        penalty = sampling.repetition_penalty
        modified_BV = torch.where(logits_BV > 0, logits_BV / penalty, logits_BV * penalty)
        logits_BV = torch.where(seen_BV, modified_BV, logits_BV)
    if sampling.temperature == 0:
        token_B = logits_BV.argmax(-1)
        logps_BV = torch.log_softmax(logits_BV, -1)
        return token_B, logps_BV.gather(-1, token_B[:, None]).squeeze(-1)
    if sampling.temperature != 1.0:
        logits_BV = logits_BV / sampling.temperature
    if sampling.top_k or sampling.top_p < 1.0:
        logits_BV = _truncate(torch.log_softmax(logits_BV, -1), sampling.top_k, sampling.top_p)
    return _inverse_cdf(logits_BV, uniform_B)


def _inverse_cdf(logits_BV: torch.Tensor, uniform_B: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The token at which the cumulative probability passes ``uniform``, and its log-prob.

    The sum runs over blocks first and inside one block after: two short scans in float64 instead of one over V.
    """
    rows, vocabulary = logits_BV.shape
    share_BV = torch.softmax(logits_BV, -1)  # sums to 1 in its own precision only
    idle = -vocabulary % BLOCK
    block_BKW = (torch.nn.functional.pad(share_BV, (0, idle)) if idle else share_BV).view(rows, -1, BLOCK)
    mass_BK = block_BKW.sum(-1).double().cumsum(-1)
    total_B = mass_BK[:, -1]
    if not bool(torch.isfinite(total_B).all()):
        raise NonFiniteError(
            f"row {int((~torch.isfinite(total_B)).nonzero()[0])} of the batch has logits that are no distribution",
            where="sampling",
            fix="the weights or this precision are broken: look at the last loss, or sample in float32",
        )
    goal_B1 = (uniform_B.double() * total_B)[:, None]
    index_B1 = torch.searchsorted(mass_BK, goal_B1, right=True).clamp(max=mass_BK.shape[-1] - 1)
    before_B1 = torch.where(index_B1 > 0, mass_BK.gather(-1, (index_B1 - 1).clamp(min=0)), 0.0)
    inside_BW = block_BKW[torch.arange(rows, device=logits_BV.device), index_B1[:, 0]].double().cumsum(-1)
    # Rounding may leave the goal past the last token that has any mass; that token is then the one.
    last_B1 = torch.searchsorted(inside_BW, inside_BW[:, -1:].contiguous())
    offset_B1 = torch.minimum(torch.searchsorted(inside_BW, goal_B1 - before_B1, right=True), last_B1)
    token_B1 = index_B1 * BLOCK + offset_B1
    logp_B1 = (share_BV.gather(-1, token_B1).double() / total_B[:, None]).log().to(logits_BV.dtype)
    return token_B1[:, 0], logp_B1[:, 0]


def _truncate(logps_BV: torch.Tensor, top_k: int, top_p: float) -> torch.Tensor:
    """Keep the top-k and the nucleus, renormalised; the most likely token always stays."""
    sorted_BV, index_BV = logps_BV.sort(dim=-1, descending=True)
    before_BV = sorted_BV.exp().cumsum(-1) - sorted_BV.exp()
    drop_BV = before_BV >= top_p
    if top_k:
        drop_BV[:, top_k:] = True
    drop_BV[:, 0] = False
    kept_BV = torch.full_like(logps_BV, float("-inf"))
    kept_BV.scatter_(-1, index_BV, sorted_BV.masked_fill(drop_BV, float("-inf")))
    return torch.log_softmax(kept_BV, -1)


def _seen(policy: Policy, prompts: Sequence[Ids]) -> torch.Tensor:
    padded = Padded.of(prompts, policy.device)
    seen_BV = torch.zeros(len(prompts), policy.vocabulary, dtype=torch.long, device=policy.device)
    return seen_BV.scatter_add_(-1, padded.ids_BT, padded.mask_BT).bool()


def _uniforms(seed: int, names: Sequence[int], count: int) -> torch.Tensor:
    draws = [np.random.default_rng(derive(seed, "row", name)).random(count) for name in names]
    return torch.from_numpy(np.stack(draws))
