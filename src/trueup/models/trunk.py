"""The trunk of a model (everything below its head), run on padded rows or on a packed stream.

Shapes: B rows, T positions, N stream tokens, D width.
"""

from __future__ import annotations

import contextlib
import logging
from dataclasses import dataclass, field
from typing import Any

import torch

from trueup.models.packing import SHARED_FROM, Stream, pack, packed

log = logging.getLogger("trueup.models")


@dataclass(eq=False)
class Trunk:
    """A model without its head, with its device and compute precision.

    ``packs`` says whether a packed stream gives this model's own hidden states; a self-check on random rows
    decides when the model is opened. Gradient checkpointing recomputes layers outside the packed context, so it
    turns packing off.
    """

    model: Any
    body: Any
    device: torch.device
    compute: torch.dtype
    source: str
    packs: bool = field(default=False, init=False)

    def __post_init__(self) -> None:
        if getattr(self.model, "is_gradient_checkpointing", False):
            log.info("%s: gradient checkpointing is on, so batches are padded rows, not packed streams", self.source)
            return
        self.packs = self._packed_equals_plain()

    def precision(self) -> contextlib.AbstractContextManager[Any]:
        """Autocast for the matrix products when ``compute`` is not float32; float64 models stay as they are."""
        if self.compute is torch.float32:
            return contextlib.nullcontext()
        return torch.autocast(self.device.type, dtype=self.compute)

    def rows(self, ids_BT: torch.Tensor) -> torch.Tensor:
        """Last hidden states [B, T, D] of right-padded rows.

        No attention mask is needed: under causal attention nothing to the right of a token reaches it.
        """
        with self.precision():
            return self.body(input_ids=ids_BT, use_cache=False).last_hidden_state  # type: ignore[no-any-return]

    def stream(self, stream: Stream) -> torch.Tensor:
        """Last hidden states [N, D] of a packed stream."""
        with self.precision(), packed(self.model, stream) as inputs:
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
        precise.compute, precise.source = torch.float32, self.source
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
