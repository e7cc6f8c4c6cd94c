"""Shape checks. Broadcasting a [B, 1] against a [B] gives [B, B] without a word; here it is an error."""

from __future__ import annotations

import torch

from trueup.errors import ShapeError


def require_same(**tensors: torch.Tensor | None) -> None:
    """All given tensors have the same shape.

    Raises:
        ShapeError: Names the first one that differs.
    """
    present = {name: t for name, t in tensors.items() if t is not None}
    first = next(iter(present))
    for name, tensor in present.items():
        if tensor.shape != present[first].shape:
            raise ShapeError(
                f"{name} has shape {tuple(tensor.shape)}, {first} has {tuple(present[first].shape)}",
                where=name,
                expected="the same shape for " + ", ".join(present),
            )
