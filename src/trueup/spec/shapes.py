"""Checks and two stable functions that every formula here stands on."""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from trueup.errors import ShapeError

Array: TypeAlias = NDArray[np.float64]
Mask: TypeAlias = NDArray[np.bool_]


def require_same(**arrays: NDArray[Any] | None) -> None:
    """All given arrays have the same shape.

    Raises:
        ShapeError: Names the first one that differs.
    """
    present = {name: np.asarray(a) for name, a in arrays.items() if a is not None}
    first = next(iter(present))
    for name, array in present.items():
        if array.shape != present[first].shape:
            raise ShapeError(
                f"{name} has shape {array.shape}, {first} has {present[first].shape}",
                where=name,
                expected="the same shape for " + ", ".join(present),
            )


def softplus(x: Array) -> Array:
    """log(1 + e^x) = -log s(-x), exact at any x."""
    out: Array = np.logaddexp(0.0, x)
    return out


def sigmoid(x: Array) -> Array:
    """1 / (1 + e^-x) without overflow."""
    out: Array = np.exp(-np.logaddexp(0.0, -x))
    return out
