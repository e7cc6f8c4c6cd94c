"""The trunk of a model (everything below its head), run on padded rows or on a packed stream.

Shapes: B rows, T positions, N stream tokens, D width.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import distributed
from transformers.modeling_layers import GradientCheckpointingLayer

from trueup.config import Batch
from trueup.errors import ModelError
from trueup.models.fuse import fuse_on_cpu
from trueup.models.packing import SHARED_FROM, Stream, pack, packed, padded, remembered
from trueup.models.products import has_amx, hold_narrow, quicken

log = logging.getLogger("trueup.models")

MOST_TOKENS, LEAST_TOKENS = 8192, 2048
"""Of a micro-batch, padded, where none are set."""
KEPT_STATES, KEPT_STATES_AMX = 16 << 20, 80 << 20
"""Tokens times layers times width of a micro-batch on a CPU: 0.4 GB or less for the backward pass in bfloat16, and 2 GB
with AMX."""


@dataclass(eq=False)
class Trunk:
    """A model without its head, with its device and compute precision.

    ``packs`` says whether a packed stream gives this model's own hidden states; a self-check on random rows
    decides when the model is opened.
    """

    model: Any
    body: Any
    device: torch.device
    compute: torch.dtype
    source: str
    packs: bool = field(default=False, init=False)
    recomputed: tuple[Any, ...] = field(default=(), init=False)
    """Blocks under gradient checkpointing."""

    def __post_init__(self) -> None:
        if self.device.type == "cpu":
            quicken(self.model)
            fuse_on_cpu(self.model)
        self.packs = self._packed_equals_plain()

    def budget(self, batch: Batch) -> int:
        """Padded tokens of one micro-batch: what was set, or what suits this model where it runs.

        On a CPU products of a thousand tokens are as fast as larger ones, so a pass need not hold more: what it keeps
        for the backward pass grows with tokens, layers and width. On a GPU larger passes are faster. So are they with
        AMX: products are so fast there that narrowing weights and adding up their gradients, once a pass, tells.
        """
        if batch.micro_tokens is not None:
            return batch.micro_tokens
        config = self.model.config.get_text_config()
        size = int(getattr(config, "hidden_size", 0)) * int(getattr(config, "num_hidden_layers", 0))
        if self.device.type != "cpu" or not size:
            return MOST_TOKENS
        kept = KEPT_STATES_AMX if self.compute is torch.bfloat16 and has_amx() else KEPT_STATES
        return min(MOST_TOKENS, max(LEAST_TOKENS, kept // size))

    def precision(self) -> contextlib.AbstractContextManager[Any]:
        """Autocast for the matrix products when ``compute`` is not float32; float64 models stay as they are."""
        if self.compute is torch.float32:
            return contextlib.nullcontext()
        return torch.autocast(self.device.type, dtype=self.compute)

    @torch.no_grad()
    def freeze(self) -> None:
        """The model learns no more: no gradients, and on the CPU its linear weights as narrow as their products.

        Not a number may change, which a few tokens show. Not among several processes, where sharding wants all weights
        in one precision.
        """
        self.model.requires_grad_(False)
        alone = not (distributed.is_available() and distributed.is_initialized())
        if not alone or self.device.type != "cpu" or self.compute is not torch.bfloat16:
            return
        probe_BT = torch.arange(min(8, int(self.model.config.get_text_config().vocab_size)))[None]
        wanted = self.rows(probe_BT)
        narrowed = hold_narrow(self.model, self.compute)
        if not torch.equal(self.rows(probe_BT), wanted):
            log.warning("%s: narrow weights give other numbers; it is held in float32", self.source)
            for parameter, wide in narrowed:
                parameter.data = wide
            return
        for parameter in self.model.parameters():
            if parameter.dtype is not self.compute:  # it may lie in the file that was mapped and would hold all of it
                parameter.data = parameter.clone()

    def checkpoint_blocks(self) -> None:
        """Turn gradient checkpointing on: blocks are recomputed in the backward pass, packed streams included.

        Raises:
            ModelError: The architecture has no blocks that can.
        """
        options = {"use_reentrant": False, "context_fn": remembered}
        if hasattr(self.model, "activation_checkpointing_enable"):  # the name since transformers 5
            self.model.activation_checkpointing_enable(options)
        else:
            self.model.gradient_checkpointing_enable(options)
        self.recomputed = tuple(m for m in self.body.modules() if isinstance(m, GradientCheckpointingLayer))
        if not self.recomputed:
            raise ModelError(
                f"{type(self.model).__name__} has no blocks that can be recomputed",
                where="model.gradient_checkpointing",
                fix="set it to false, and make batch.micro_tokens smaller instead",
            )

    @contextlib.contextmanager
    def recomputing(self) -> Iterator[None]:
        """Where gradient checkpointing is on, blocks keep only their inputs for the backward pass.

        Models here are never in training mode, which would turn dropout on, and Hugging Face blocks recompute only in
        that mode: so each block is switched by itself, for a forward pass with gradients and no other.
        """
        blocks = self.recomputed if torch.is_grad_enabled() else ()
        for block in blocks:
            block.training = True
        try:
            yield
        finally:
            for block in blocks:
                block.training = False

    def rows(self, ids_BT: torch.Tensor) -> torch.Tensor:
        """Last hidden states [B, T, D] of right-padded rows.

        No attention mask is needed: under causal attention nothing to the right of a token reaches it.
        """
        ours = self.packs and self.device.type == "cpu" and self.compute is torch.bfloat16
        with self.precision(), self.recomputing(), padded(self.model) if ours else contextlib.nullcontext():
            return self.body(input_ids=ids_BT, use_cache=False).last_hidden_state  # type: ignore[no-any-return]

    def stream(self, stream: Stream) -> torch.Tensor:
        """Last hidden states [N, D] of a packed stream."""
        with self.precision(), self.recomputing(), packed(self.model, stream) as inputs:
            return self.body(**inputs, use_cache=False).last_hidden_state[0]  # type: ignore[no-any-return]

    @torch.no_grad()
    def _packed_equals_plain(self) -> bool:
        """Compare both ways in the weights' own precision on rows that share a prompt, and on one that does not."""
        config = self.model.config.get_text_config()
        limit = getattr(config, "max_position_embeddings", None) or 64
        if limit < SHARED_FROM + 6:
            return False
        draw = torch.Generator().manual_seed(0)

        def ids(count: int) -> tuple[int, ...]:
            return tuple(torch.randint(0, int(config.vocab_size), (count,), generator=draw).tolist())

        shared = ids(SHARED_FROM)
        prompts, completions = [shared, ids(3), shared], [ids(5), ids(6), ids(2)]
        precise = Trunk.__new__(Trunk)
        precise.model, precise.body, precise.device = self.model, self.body, self.device
        precise.compute, precise.source, precise.recomputed = torch.float32, self.source, ()
        stream = pack(prompts, completions, self.device)
        try:
            found_ND = precise.stream(stream)[stream.source_N]
        except (TypeError, AttributeError, RuntimeError, ValueError, KeyError, AssertionError) as error:
            log.warning("%s: packed streams do not run (%s); padded rows are used", self.source, error)
            return False
        wanted = [
            precise.rows(torch.tensor([p + c], device=self.device))[0, len(p) - 1 : len(p) + len(c) - 1]
            for p, c in zip(prompts, completions, strict=True)
        ]
        wanted_ND = torch.cat(wanted)
        tolerance = 1e-4 if found_ND.dtype in (torch.float32, torch.float64) else 3e-2
        scale = wanted_ND.abs().max().clamp(min=1e-6)
        gap = float((found_ND - wanted_ND).abs().max() / scale)
        if not gap < tolerance:
            log.warning("%s: packed streams differ from rows by %.1e; padded rows are used", self.source, gap)
            return False
        return True
