"""Results that the backward pass computes again instead of keeping.

A linear layer keeps its input for the gradient of its weight. Where the input is what a norm or an activation gave,
that one has kept its own input already, and to go over it once more costs little beside the products. So the result
carries a tag that says how to recompute it, and a linear layer that reads the tag keeps the inputs of that only.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch


@dataclass(frozen=True, eq=False)
class Recompute:
    """How a tensor was computed: ``fn(*inputs)`` gives it again. ``fn`` itself must not hold an input.

    A linear layer saves the inputs as autograd has it, so that what watches or recomputes saved tensors sees them.
    """

    fn: Callable[..., torch.Tensor]
    inputs: tuple[torch.Tensor, ...]
    version: int
    """Of the result when it was tagged."""


def tag_recompute(result: torch.Tensor, fn: Callable[..., torch.Tensor], *inputs: torch.Tensor) -> torch.Tensor:
    """``result``, tagged with how to compute it again if a gradient is going to flow through it."""
    if result.requires_grad:
        result.recompute = Recompute(fn, inputs, result._version)  # type: ignore[attr-defined]
    return result


def recompute_of(tensor: torch.Tensor, dtype: torch.dtype) -> Recompute | None:
    """The tag, if ``tensor`` still is what was computed then and is of this precision."""
    tag: Recompute | None = getattr(tensor, "recompute", None)
    return tag if tag is not None and tensor.dtype is dtype and tensor._version == tag.version else None
