"""Which pairs each head of a reward model of several learns from.

Shapes: B pairs, H heads.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from trueup.config.seeds import derive


@dataclass(frozen=True)
class Bootstrap:
    """How often each pair counts for each head: Poisson with mean 1, which is drawing with replacement from much data.

    The draw is named by seed, head and the pair's content: order, batches, resuming and processes do not change it
    (Oza and Russell 2001).
    """

    seed: int
    heads: int

    def weights(self, keys: Sequence[str]) -> torch.Tensor:
        """Weights [B, H] of pairs with these keys."""
        return torch.tensor([[self._count(head, key) for head in range(self.heads)] for key in keys])

    def idle(self, keys: Sequence[str]) -> list[int]:
        """Heads for which none of these pairs was drawn."""
        return [head for head in range(self.heads) if not any(self._count(head, key) for key in keys)]

    def _count(self, head: int, key: str) -> int:
        return int(np.random.default_rng(derive(self.seed, "bootstrap", head, key)).poisson(1.0))
