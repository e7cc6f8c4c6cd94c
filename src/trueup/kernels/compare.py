"""Whether a piece of foreign code computes what a kernel does: both run on the same few random numbers."""

from __future__ import annotations

import logging
from typing import Any

import torch

log = logging.getLogger("trueup.kernels")

TOLERANCE = 1e-5


def result_of(function: Any, *arguments: torch.Tensor) -> Any:
    """What foreign code makes of tensors of the usual shapes; None where it takes others, and so is not the usual."""
    try:
        return function(*arguments)
    except Exception as error:
        log.info("%s takes other arguments (%s)", getattr(function, "__name__", type(function).__name__), error)
        return None


def noise(*shape: int) -> torch.Tensor:
    """Normal random numbers, always the same ones."""
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0))


def same(ours: torch.Tensor, theirs: Any) -> bool:
    """Whether both are tensors of the same shape and numbers."""
    return (
        isinstance(theirs, torch.Tensor)
        and ours.shape == theirs.shape
        and bool((ours - theirs).abs().max() <= TOLERANCE * theirs.abs().max())
    )
