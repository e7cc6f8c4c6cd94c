"""Sampling with a KV cache: exact log-probs of what was drawn, finished rows dropped as they finish.

Each row draws from its own stream of uniforms (inverse CDF), so a completion does not depend on the
batch it was sampled in, only on seed, row and the distribution.

Shapes: B live rows, T prompt positions (left-padded), V vocabulary.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from trueup.config import Sampling
from trueup.data.batch import Ids
from trueup.errors import ModelError
from trueup.models.policy import Policy
from trueup.seeds import derive
from trueup.types import StopReason


@dataclass(frozen=True, eq=False)
class Completion:
    """A sampled completion: ids (EOS included when drawn), the log-prob of each draw, and why it ended.

    ``logps`` are of the distribution that was sampled from: temperature and every other lever included.
    """

    ids: Ids
    logps: torch.Tensor
    stop: StopReason


@torch.no_grad()
def generate(
    policy: Policy,
    prompts: Sequence[Ids],
    sampling: Sampling,
    *,
    stop_ids: Collection[int],
    seed: int,
    batch: int = 256,
) -> list[Completion]:
    """Sample one completion for each prompt, in the order given.

    Args:
        policy: The model to sample from.
        prompts: Token ids; none may be empty, and prompt plus completion must fit the context.
        sampling: Length, temperature and levers. Temperature 0 is greedy.
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
    order = sorted(range(len(prompts)), key=lambda i: len(prompts[i]))
    found: dict[int, Completion] = {}
    for begin in range(0, len(order), batch):
        rows = order[begin : begin + batch]
        found.update(_decode(policy, [prompts[i] for i in rows], rows, sampling, stop_ids, seed))
    return [found[i] for i in range(len(prompts))]


def _decode(
    policy: Policy,
    prompts: Sequence[Ids],
    names: Sequence[int],
    sampling: Sampling,
    stop_ids: Collection[int],
    seed: int,
) -> dict[int, Completion]:
    from transformers import DynamicCache

    device = policy.device
    uniforms_BC = _uniforms(seed, names, sampling.max_new_tokens).to(device)
    width = max(len(p) for p in prompts)
    ids_BT = torch.tensor([[0] * (width - len(p)) + list(p) for p in prompts], device=device)
    lengths_B = torch.tensor([len(p) for p in prompts], device=device)
    mask_BT = (torch.arange(width, device=device)[None, :] >= (width - lengths_B)[:, None]).long()
    positions_BT = (mask_BT.cumsum(-1) - 1).clamp(min=0)
    seen_BV = _seen(policy, ids_BT, mask_BT) if sampling.repetition_penalty != 1.0 else None
    stop_tokens = torch.tensor(sorted(stop_ids), device=device, dtype=torch.long)
    cache: Any = DynamicCache(config=policy.model.config)
    live = torch.arange(len(prompts), device=device)
    drawn_BC = torch.zeros(len(prompts), sampling.max_new_tokens, dtype=torch.long, device=device)
    logps_BC = torch.zeros(len(prompts), sampling.max_new_tokens, device=device)
    count_B = torch.full((len(prompts),), sampling.max_new_tokens, device=device)
    ended_B = torch.zeros(len(prompts), dtype=torch.bool, device=device)
    for t in range(sampling.max_new_tokens):
        logits_BV = _next_logits(policy, ids_BT, mask_BT, positions_BT, cache)
        token_B, logp_B = _draw(logits_BV, uniforms_BC[live, t], sampling, seen_BV)
        drawn_BC[live, t] = token_B
        logps_BC[live, t] = logp_B
        stops_B = torch.isin(token_B, stop_tokens)
        count_B[live[stops_B]] = t + 1
        ended_B[live[stops_B]] = True
        keep = (~stops_B).nonzero().squeeze(-1)
        if len(keep) == 0:
            break
        if seen_BV is not None:
            seen_BV[torch.arange(len(token_B), device=device), token_B] = True
        if len(keep) < len(live):
            cache.batch_select_indices(keep)
            live, token_B, mask_BT, positions_BT = live[keep], token_B[keep], mask_BT[keep], positions_BT[keep]
            seen_BV = seen_BV[keep] if seen_BV is not None else None
        ids_BT = token_B[:, None]
        mask_BT = torch.cat([mask_BT, mask_BT.new_ones(len(live), 1)], dim=-1)
        positions_BT = positions_BT[:, -1:] + 1
    counts, ended = count_B.tolist(), ended_B.tolist()
    tokens, logps = drawn_BC.tolist(), logps_BC.cpu()
    return {
        name: Completion(
            tuple(tokens[row][: counts[row]]),
            logps[row, : counts[row]].clone(),
            StopReason.EOS if ended[row] else StopReason.LENGTH,
        )
        for row, name in enumerate(names)
    }


def _next_logits(
    policy: Policy, ids_BT: torch.Tensor, mask_BT: torch.Tensor, positions_BT: torch.Tensor, cache: Any
) -> torch.Tensor:
    with policy.precision():
        output = policy.model(
            input_ids=ids_BT,
            attention_mask=mask_BT,
            position_ids=positions_BT,
            past_key_values=cache,
            use_cache=True,
            logits_to_keep=1,
        )
    logits_BV: torch.Tensor = output.logits[:, -1]
    return logits_BV if logits_BV.dtype is torch.float64 else logits_BV.float()


def _draw(
    logits_BV: torch.Tensor, uniform_B: torch.Tensor, sampling: Sampling, seen_BV: torch.Tensor | None
) -> tuple[torch.Tensor, torch.Tensor]:
    """Tokens and their log-probs under the levered distribution. Greedy draws carry untempered log-probs."""
    if seen_BV is not None:
        penalty = sampling.repetition_penalty
        bent_BV = torch.where(logits_BV > 0, logits_BV / penalty, logits_BV * penalty)
        logits_BV = torch.where(seen_BV, bent_BV, logits_BV)
    if sampling.temperature == 0:
        token_B = logits_BV.argmax(-1)
        logps_BV = torch.log_softmax(logits_BV, -1)
        return token_B, logps_BV.gather(-1, token_B[:, None]).squeeze(-1)
    logps_BV = torch.log_softmax(logits_BV / sampling.temperature, -1)
    if sampling.top_k or sampling.top_p < 1.0:
        logps_BV = _truncate(logps_BV, sampling.top_k, sampling.top_p)
    cumulative_BV = logps_BV.double().exp().cumsum(-1)
    scaled_B = uniform_B.double() * cumulative_BV[:, -1]
    token_B = torch.searchsorted(cumulative_BV, scaled_B[:, None], right=True).squeeze(-1)
    token_B = token_B.clamp(max=logps_BV.shape[-1] - 1)
    return token_B, logps_BV.gather(-1, token_B[:, None]).squeeze(-1)


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


def _seen(policy: Policy, ids_BT: torch.Tensor, mask_BT: torch.Tensor) -> torch.Tensor:
    seen_BV = torch.zeros(ids_BT.shape[0], policy.vocabulary, dtype=torch.long, device=ids_BT.device)
    return seen_BV.scatter_add_(-1, ids_BT, mask_BT).bool()


def _uniforms(seed: int, names: Sequence[int], count: int) -> torch.Tensor:
    draws = [np.random.default_rng(derive(seed, "row", name)).random(count) for name in names]
    return torch.from_numpy(np.stack(draws))
