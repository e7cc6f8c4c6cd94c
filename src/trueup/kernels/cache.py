"""Keys and values of the rows that are being decoded: a block a layer, the next token of all rows in one column.

Shapes: B rows, K key-value heads, T columns, E head width.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch.nn import functional

from trueup.kernels.products import rounded

LEAST_GROWTH = 32
"""Columns by which a cache on the CPU grows, or an eighth of it where that is more."""


class Cache:
    """Prompts end at one column; what stands to the left of a short one, or is not written yet, is hidden.

    On the CPU a bfloat16 product reads a whole block in half the time that a part of a wider one takes, or less,
    because oneDNN copies the part first (``benchmarks/kernels.py``). For products blocks are read whole, are a little
    wider than what is written, and grow, in memory that is theirs from the start. PyTorch's attention reads parts as
    fast, and blocks have their last width at once.

    Args:
        lengths: Tokens of each prompt.
        max_new_tokens: Columns after the prompts.
        layers, heads, size: Of the model; heads are those of keys and values.
        dtype: Of keys and values.
        device: Where they are.
        grows: Whether blocks are read whole.

    Attributes:
        keys, values: [B, K, T, E] of each layer.
        grows: As given.
        column: Where the next token goes; those before it are written.
        bias_B11T: What is added to attention logits: -inf where hidden, else 0. None where nothing needs hiding.
    """

    def __init__(
        self,
        lengths: Sequence[int],
        max_new_tokens: int,
        *,
        layers: int,
        heads: int,
        size: int,
        dtype: torch.dtype,
        device: torch.device,
        grows: bool,
    ) -> None:
        self.column = width = max(lengths)
        self.grows = grows
        self._limit = rounded(width + max_new_tokens, share=8) if grows else width + max_new_tokens
        total = self._width() if grows else self._limit
        block = (len(lengths), heads, total, size)
        most = len(lengths) * heads * self._limit * size
        self._memory = torch.empty(2, layers, most, dtype=dtype, device=device)  # one: parts would not fit into holes
        self.keys, self.values = (
            [memory[: math.prod(block)].view(block) for memory in memories] for memories in self._memory
        )
        for tensor in (*self.keys, *self.values):
            tensor[:, :, width:] = 0  # read before it is written, though hidden
        self.bias_B11T: torch.Tensor | None = None
        if grows or min(lengths) < width:
            start_B1 = torch.tensor([[width - length] for length in lengths], device=device)
            column_T = torch.arange(total, device=device)
            hidden_BT = (column_T < start_B1) | (column_T >= width) if grows else column_T < start_B1
            bias_BT = torch.zeros(hidden_BT.shape, dtype=dtype, device=device).masked_fill_(hidden_BT, float("-inf"))
            self.bias_B11T = bias_BT[:, None, None]

    def _width(self) -> int:
        """Columns of a block that has some to spare, a round number: kernels are compiled for each width."""
        return min(rounded(self.column + max(LEAST_GROWTH, self.column // 8), share=8), self._limit)

    def open(self) -> torch.Tensor | None:
        """Make the next column one that can be written and is seen; returns the bias to attend by."""
        if self.grows:
            assert self.bias_B11T is not None
            more = self._width() - self.bias_B11T.shape[-1] if self.column == self.bias_B11T.shape[-1] else 0
            if more:
                self._remake(lambda block: functional.pad(block, (0, 0, 0, more)))
                self.bias_B11T = functional.pad(self.bias_B11T, (0, more), value=float("-inf"))
            self.bias_B11T[..., self.column] = 0
        self.column += 1
        if self.grows or self.bias_B11T is None:
            return self.bias_B11T
        return self.bias_B11T[..., : self.column]

    def add(self, layer: int, key_BKE: torch.Tensor, value_BKE: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Write the opened column of a layer; the keys and values to attend to."""
        keys, values = self.keys[layer], self.values[layer]
        keys[:, :, self.column - 1] = key_BKE
        values[:, :, self.column - 1] = value_BKE
        if self.grows:
            return keys, values
        return keys[:, :, : self.column], values[:, :, : self.column]

    @torch.inference_mode()
    def keep(self, rows_B: torch.Tensor) -> None:
        """Drop all rows but ``rows_B``."""
        self._remake(lambda block: block.index_select(0, rows_B))
        if self.bias_B11T is not None:
            self.bias_B11T = self.bias_B11T[rows_B]

    def _remake(self, change: Callable[[torch.Tensor], torch.Tensor]) -> None:
        """Change every block where it stands: anew, blocks of ever other sizes would leave holes in the heap."""
        for blocks, memories in zip((self.keys, self.values), self._memory, strict=True):
            for layer, memory in enumerate(memories):
                changed = change(blocks[layer])
                blocks[layer] = memory[: changed.numel()].view(changed.shape).copy_(changed)
