"""Logits of the next token, token by token, by the fastest way that gives what whole rows give.

The fast decoder (``kernels.decoder``), the model's own cache, or no cache at all: each is compared with passes over
whole rows before it is used.

Shapes: B rows, T prompt positions (left-padded), V vocabulary.
"""

from __future__ import annotations

import functools
import inspect
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias

import torch

from trueup.data.batch import Ids
from trueup.engine.score import next_logits
from trueup.kernels.cache import Cache
from trueup.kernels.decoder import Decoder, supports
from trueup.models.policy import Policy
from trueup.models.trunk import accepted

log = logging.getLogger("trueup.engine")


class TokenLogits(Protocol):
    """Logits of the next token of every row, token by token."""

    def first(self) -> torch.Tensor:
        """Logits [B, V] after the prompts."""

    def next(self, token_B: torch.Tensor) -> torch.Tensor:
        """Logits [B, V] after one more token a row."""

    def keep(self, rows_B: torch.Tensor) -> None:
        """Go on with these rows only."""


@dataclass(eq=False)
class Padded:
    """Left-padded prompts, so that all rows grow at the same column."""

    ids_BT: torch.Tensor
    mask_BT: torch.Tensor
    places_BT: torch.Tensor

    @classmethod
    def of(cls, prompts: Sequence[Ids], device: torch.device) -> Padded:
        """Prompts as one batch of the longest one's width."""
        width = max(len(p) for p in prompts)
        ids_BT = torch.tensor([[0] * (width - len(p)) + list(p) for p in prompts], device=device)
        lengths_B = torch.tensor([len(p) for p in prompts], device=device)
        mask_BT = (torch.arange(width, device=device)[None, :] >= (width - lengths_B)[:, None]).long()
        return cls(ids_BT, mask_BT, (mask_BT.cumsum(-1) - 1).clamp(min=0))


class _ByModel:
    """Logits token by token through the model's own forward pass and cache."""

    def __init__(self, policy: Policy, prompts: Sequence[Ids]) -> None:
        from transformers import DynamicCache

        self.policy = policy
        self.padded = Padded.of(prompts, policy.device)
        self.mask_BT = self.padded.mask_BT
        self.place_B = self.padded.places_BT[:, -1]
        self.cache: Any = DynamicCache(config=policy.plain.config)
        named = inspect.signature(policy.plain.forward).parameters
        self.cache_name = "cache" if "cache" in named else "past_key_values"  # the older name, which 5.40 will drop

    def first(self) -> torch.Tensor:
        """Logits [B, V] after the prompts."""
        return self._forward(self.padded.ids_BT, self.padded.places_BT)

    def next(self, token_B: torch.Tensor) -> torch.Tensor:
        """Logits [B, V] after one more token a row."""
        self.mask_BT = torch.cat([self.mask_BT, self.mask_BT.new_ones(len(token_B), 1)], dim=-1)
        self.place_B = self.place_B + 1
        return self._forward(token_B[:, None], self.place_B[:, None])

    def keep(self, rows_B: torch.Tensor) -> None:
        """Go on with these rows only."""
        self.cache.batch_select_indices(rows_B)
        self.mask_BT, self.place_B = self.mask_BT[rows_B], self.place_B[rows_B]

    def _forward(self, ids_BT: torch.Tensor, places_BT: torch.Tensor) -> torch.Tensor:
        options = accepted(self.policy.plain, attention_mask=self.mask_BT, position_ids=places_BT, logits_to_keep=1)
        with self.policy.trunk.precision():
            output = self.policy.model(input_ids=ids_BT, use_cache=True, **options, **{self.cache_name: self.cache})
        logits_BV: torch.Tensor = output.logits[:, -1]
        return logits_BV if logits_BV.dtype is torch.float64 else logits_BV.float()


class _ByRows:
    """Logits token by token by passes over all of each row: what every model can do, at the price of doing it again."""

    def __init__(self, policy: Policy, prompts: Sequence[Ids]) -> None:
        self.policy, self.rows = policy, [tuple(p) for p in prompts]

    def first(self) -> torch.Tensor:
        """Logits [B, V] after the prompts."""
        return next_logits(self.policy, self.rows)

    def next(self, token_B: torch.Tensor) -> torch.Tensor:
        """Logits [B, V] after one more token a row."""
        self.rows = [(*row, token) for row, token in zip(self.rows, token_B.tolist(), strict=True)]
        return next_logits(self.policy, self.rows)

    def keep(self, rows_B: torch.Tensor) -> None:
        """Go on with these rows only."""
        self.rows = [self.rows[i] for i in rows_B.tolist()]


class _ByDecoder:
    """Prompts and tokens through the flat products of ``kernels.decoder``."""

    def __init__(self, decoder: Decoder, prompts: Sequence[Ids], room: int) -> None:
        self.decoder, self.prompts, self.room = decoder, prompts, room
        self.cache: Cache
        self.place_B = torch.tensor([len(p) - 1 for p in prompts], device=decoder.embedding.device)

    def first(self) -> torch.Tensor:
        """Logits [B, V] after the prompts."""
        logits_BV, self.cache = self.decoder.prefill(self.prompts, self.room)
        return logits_BV

    def next(self, token_B: torch.Tensor) -> torch.Tensor:
        """Logits [B, V] after one more token a row."""
        self.place_B = self.place_B + 1
        return self.decoder.step(self.cache, token_B, self.place_B)

    def keep(self, rows_B: torch.Tensor) -> None:
        """Go on with these rows only."""
        self.cache.keep(rows_B)
        self.place_B = self.place_B[rows_B]


def decode_dtype(policy: Policy) -> torch.dtype:
    """Precision of the decoding step: the compute precision, or float64 for a float64 model."""
    stored: torch.dtype = policy.model.get_input_embeddings().weight.dtype
    return stored if policy.compute is torch.float32 else policy.compute


Way: TypeAlias = Callable[[Sequence[Ids]], TokenLogits]
"""Prompts of one call -> what gives their logits."""


def way_of(policy: Policy, lengths: Sequence[int], room: int, rows: int) -> Way:
    """The fastest way to decode prompts of these lengths, about ``rows`` at a time, that gives this model's logits.

    The fast decoder, where the architecture has one; the model's own cache; or no cache, where the model keeps none
    that can be used, or where positions of a row change as it grows, so that what was cached is of other positions.
    """
    length = max(lengths) + room
    if policy.trunk.regimes.kind(length) != policy.trunk.regimes.kind(min(lengths)):
        return functools.partial(_ByRows, policy)
    wanted = "decoder" in policy.trunk.kernels and policy.decodes is not False
    if wanted and not policy.adapters and supports(policy.plain, length):
        known = policy.decodes is True
        decoder = Decoder(policy.plain, decode_dtype(policy), rows) if known else _compared(policy, rows)
        policy.decodes = decoder is not None
        if decoder is not None:
            return functools.partial(_ByDecoder, decoder, room=room)
    if policy.caches is None:
        policy.caches = _cache_agrees(policy)
    return functools.partial(_ByModel if policy.caches else _ByRows, policy)


@torch.no_grad()
def _compared(policy: Policy, rows: int) -> Decoder | None:
    """The decoder, if it gives the model's logits."""
    try:
        decoder = Decoder(policy.plain, decode_dtype(policy), rows)
        gap = _gap(policy, functools.partial(_ByDecoder, decoder, room=2))
    except Exception as error:  # whatever a model of any origin raises
        policy.trunk.kernels.drop("decoder", f"does not run ({error})", "the model's own step is used")
        return None
    if not gap < _tolerance(policy):
        policy.trunk.kernels.drop("decoder", f"differs by {gap:.1e}", "the model's own step is used")
        return None
    return decoder


@torch.no_grad()
def _cache_agrees(policy: Policy) -> bool:
    """Whether the model's own cache, with left-padded prompts, gives the logits of whole rows."""
    try:
        gap = _gap(policy, functools.partial(_ByModel, policy))
    except Exception as error:
        log.warning("%s: its cache does not run here (%s); sampling runs whole rows", policy.source, error)
        return False
    if not gap < _tolerance(policy):
        log.warning("%s: its cache differs from whole rows by %.1e; sampling runs whole rows", policy.source, gap)
        return False
    return True


def _tolerance(policy: Policy) -> float:
    return 1e-4 if policy.compute is torch.float32 else 5e-2


def _gap(policy: Policy, way: Way) -> float:
    """Largest difference, as a share, from the logits of whole rows: prompts of different lengths, two more tokens.

    One prompt crosses what the config names; the shorter one is dropped before the last token.
    """
    draw = torch.Generator().manual_seed(0)
    rows = int(policy.plain.get_input_embeddings().weight.shape[0])
    longest = max(6, policy.trunk.regimes.reached + 1)
    for limit in (policy.context, policy.trunk.regimes.switch):
        if limit is not None:
            longest = max(1, min(longest, limit - 2))
    first, second = torch.randint(0, rows, (2, longest + 2), generator=draw).tolist()
    whole, begun = [tuple(first), tuple(second)], [longest, max(1, min(3, longest - 1))]
    stepper = way([row[:length] for row, length in zip(whole, begun, strict=True)])
    seen, gaps = [0, 1], []
    for more in range(3):
        found_BV = stepper.first() if more == 0 else stepper.next(_tokens(policy, whole, begun, seen, more - 1))
        wanted_BV = next_logits(policy, [whole[i][: begun[i] + more] for i in seen])
        gaps.append(float((found_BV - wanted_BV).abs().max() / wanted_BV.abs().max().clamp(min=1e-6)))
        if more == 1:
            stepper.keep(torch.tensor([0], device=policy.device))
            seen = [0]
    return max(gaps)


def _tokens(policy: Policy, rows: Sequence[Ids], begun: Sequence[int], seen: Sequence[int], more: int) -> torch.Tensor:
    return torch.tensor([rows[i][begun[i] + more] for i in seen], device=policy.device)
