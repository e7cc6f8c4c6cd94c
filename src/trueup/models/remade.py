"""Results that the backward pass makes again instead of keeping.

A linear layer keeps its input for the gradient of its weight. Where the input is what a norm or an activation gave,
that one has kept its own input already, and to go over it once more costs little beside the products. So the result
carries a note of how it was made, and a linear layer that reads the note keeps the ingredients only.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch


@dataclass(frozen=True, eq=False)
class Origin:
    """How a tensor was made: ``make(*ingredients)`` gives it again. ``make`` itself must not hold an ingredient.

    A linear layer saves the ingredients as autograd has it, so that what watches or recomputes saved tensors sees them.
    """

    make: Callable[..., torch.Tensor]
    ingredients: tuple[torch.Tensor, ...]
    version: int
    """Of the result when it was noted."""


def note(result: torch.Tensor, make: Callable[..., torch.Tensor], *ingredients: torch.Tensor) -> torch.Tensor:
    """``result``, which now knows its origin if a gradient is going to flow through it."""
    if result.requires_grad:
        result.origin = Origin(make, ingredients, result._version)  # type: ignore[attr-defined]
    return result


def origin_of(tensor: torch.Tensor, dtype: torch.dtype) -> Origin | None:
    """What was noted, if ``tensor`` still is what was made then and is of this precision."""
    found: Origin | None = getattr(tensor, "origin", None)
    return found if found is not None and tensor.dtype is dtype and tensor._version == found.version else None
