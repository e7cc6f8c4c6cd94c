"""Mean and standard deviation that the values of a reward part are brought to, and what of it outlives a step.

Shapes: B answers.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch

FLAT = 1e-6
"""Values whose standard deviation is below this share of 1 + |mean| are alike: they come out as exactly 0."""


class Scale:
    """Brings values to mean 0 and standard deviation 1 (that of these values, divided by their number).

    Only answers that are learned from change it. Others (probes) are measured by what the last step left, so that they
    can be compared along a run; before the first step, by their own.

    Args:
        kind: ``none``; ``batch``, over the answers of a step; ``running``, over all answers so far, those of the step
            included.
    """

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self.count, self.mean, self.squares = 0, 0.0, 0.0

    def __call__(self, raw_B: torch.Tensor, *, learn: bool) -> torch.Tensor:
        """Values [B] in float64."""
        values_B = raw_B.double()
        if self.kind == "none" or not len(values_B):
            return values_B
        fitted = self if self.count and not learn else self._fitted(values_B)
        if learn:
            self.count, self.mean, self.squares = fitted.count, fitted.mean, fitted.squares
        spread = math.sqrt(fitted.squares / fitted.count)
        if spread <= FLAT * (1 + abs(fitted.mean)):
            return torch.zeros_like(values_B)
        return (values_B - fitted.mean) / spread

    def _fitted(self, values_B: torch.Tensor) -> Scale:
        """What the values make of it."""
        scale, count = Scale(self.kind), len(values_B)
        mean = float(values_B.mean())
        squares = float((values_B - mean).square().sum())
        if self.kind == "batch" or not self.count:
            scale.count, scale.mean, scale.squares = count, mean, squares
            return scale
        # Chan et al. (1983): two sets of values from their counts, means and sums of squares.
        gap, total = mean - self.mean, self.count + count
        scale.count, scale.mean = total, self.mean + gap * count / total
        scale.squares = self.squares + squares + gap * gap * self.count * count / total
        return scale

    def state(self) -> dict[str, Any]:
        """For a checkpoint, in JSON form; floats come back to the bit."""
        return {"count": self.count, "mean": self.mean, "squares": self.squares}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Take over what ``state`` gave."""
        self.count, self.mean, self.squares = int(state["count"]), float(state["mean"]), float(state["squares"])
