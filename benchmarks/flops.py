"""Operations that a job needs, counted: each distinct token once, the head where tokens are scored, causal attention.

What an implementation does beyond that (padding, prompts twice, logits again in backward) does not count, so the
share of the machine's measured matrix rate that a job reaches is a share of useful work.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Shape:
    """What of a model decides its operations."""

    block_weights: int
    """Elements of all matrices inside the transformer blocks."""
    layers: int
    width: int
    vocabulary: int

    @classmethod
    def of(cls, model: Any) -> Shape:
        """Of an opened Hugging Face causal LM."""
        config = model.config.get_text_config()
        blocks = getattr(model.base_model, "h", None) or model.base_model.layers
        inside = sum(p.numel() for block in blocks for p in block.parameters() if p.ndim == 2)
        return cls(inside, config.num_hidden_layers, config.hidden_size, config.vocab_size)

    def forward(self, tokens: float, rows: Sequence[tuple[int, int]], scored: float) -> float:
        """FLOP of one forward pass.

        Args:
            tokens: Distinct tokens.
            rows: (first, end) positions of the queries of each sequence; each looks at itself and all before it.
            scored: Tokens whose log-prob the head computes.
        """
        seen = sum((end * (end + 1) - first * (first + 1)) / 2 for first, end in rows)
        return (
            2 * self.block_weights * tokens
            + 4 * self.width * self.layers * seen
            + 2 * self.width * self.vocabulary * scored
        )


def pair_step(shape: Shape, pairs: Sequence[tuple[int, int, int]], *, head: bool, reference: bool) -> float:
    """FLOP of a training step on (prompt, chosen, rejected) lengths: forward, backward (twice that), reference."""
    tokens = sum(p + c + r for p, c, r in pairs)
    rows = [row for p, c, r in pairs for row in ((0, p + c), (p, p + r))]
    scored = sum(c + r for _, c, r in pairs) if head else 0
    return (4 if reference else 3) * shape.forward(tokens, rows, scored)


def sft_step(shape: Shape, rows: Sequence[tuple[int, int]]) -> float:
    """FLOP of a training step on (prompt, completion) lengths."""
    return 3 * shape.forward(sum(p + c for p, c in rows), [(0, p + c) for p, c in rows], sum(c for _, c in rows))


def rlhf_step(shape: Shape, judge: Shape, prompts: Sequence[int], new: int, epochs: int) -> float:
    """FLOP of one RLHF step: sample, score by policy, reference and reward model, learn ``epochs`` times."""
    tokens, rows = sum(prompts) + new * len(prompts), [(0, p + new) for p in prompts]
    once = shape.forward(tokens, rows, new * len(prompts))
    return once * (1 + 1 + 1 + 3 * epochs) + judge.forward(tokens, rows, 0)
