"""Checks of arguments that every formula here stands on. Legend: B rows, T positions."""

from __future__ import annotations

import math
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from trueup.errors import ConfigError, DataError, ShapeError

Array: TypeAlias = NDArray[np.float64]
Mask: TypeAlias = NDArray[np.bool_]


def require_same(**arrays: NDArray[Any] | None) -> None:
    """All given arrays have the same shape.

    Raises:
        ShapeError: Names the first one that differs.
    """
    given = {name: np.asarray(a) for name, a in arrays.items() if a is not None}
    first = next(iter(given))
    for name, array in given.items():
        if array.shape != given[first].shape:
            raise ShapeError(
                f"{name} has shape {array.shape}, {first} has {given[first].shape}",
                where=name,
                expected="the same shape for " + ", ".join(given),
            )


def require_rows(like_BT: NDArray[Any], **arrays_B: NDArray[Any] | None) -> None:
    """Each given array has one entry per row of ``like_BT``.

    Raises:
        ShapeError: ``like_BT`` is not [B, T], or one of the others is not [B].
    """
    if like_BT.ndim != 2:
        raise ShapeError(f"the shape is {like_BT.shape}", where="mask_BT", expected="[B, T]")
    for name, array in arrays_B.items():
        if array is not None and array.shape != like_BT.shape[:1]:
            raise ShapeError(
                f"{name} has shape {array.shape}", where=name, expected=f"({like_BT.shape[0]},), one per row"
            )


def require_bool(**masks: NDArray[Any] | None) -> None:
    """Each given mask is of dtype bool: indexing with integers picks positions instead of masking.

    Raises:
        ShapeError: Names the first one that is not.
    """
    for name, mask in masks.items():
        if mask is not None and mask.dtype != np.bool_:
            raise ShapeError(f"{name} has dtype {mask.dtype}", where=name, expected="bool", fix=f"{name}.astype(bool)")


def require_right_padded(mask_BT: Mask) -> None:
    """``mask_BT`` is bool and each of its rows is True, then False.

    Raises:
        ShapeError: Some row has a valid slot to the right of a padded one.
    """
    require_bool(mask_BT=mask_BT)
    if (mask_BT[:, 1:] & ~mask_BT[:, :-1]).any():
        raise ShapeError("a valid slot follows a padded one", where="mask_BT", expected="padding on the right only")


def require_tokens(**counts_B: Array) -> None:
    """Every response has at least one token; a mean over none is 0 / 0.

    Raises:
        DataError: Names the count that has a row below 1.
    """
    for name, count_B in counts_B.items():
        if not (count_B >= 1).all():
            raise DataError(f"{name} has a row below 1", where=name, expected="a token in every response")


def require_probability(**values_B: Array | None) -> None:
    """Every value lies between 0 and 1.

    Raises:
        DataError: Names the array that has one outside, or NaN.
    """
    for name, value_B in values_B.items():
        if value_B is not None and not ((value_B >= 0) & (value_B <= 1)).all():
            raise DataError(f"{name} has a value outside [0, 1]", where=name, expected="probabilities")


def require_positive(**knobs: float) -> None:
    """Each number is above 0 and finite.

    Raises:
        ConfigError: Names the first one that is not.
    """
    for name, value in knobs.items():
        if not (value > 0 and math.isfinite(value)):
            raise ConfigError(f"{name} is {value}", where=name, expected="above 0")


def require_not_negative(**knobs: float) -> None:
    """Each number is at least 0 and finite.

    Raises:
        ConfigError: Names the first one that is not.
    """
    for name, value in knobs.items():
        if not (value >= 0 and math.isfinite(value)):
            raise ConfigError(f"{name} is {value}", where=name, expected="0 or above")


def require_fraction(**knobs: float) -> None:
    """Each number lies between 0 and 1.

    Raises:
        ConfigError: Names the first one that does not.
    """
    for name, value in knobs.items():
        if not 0 <= value <= 1:
            raise ConfigError(f"{name} is {value}", where=name, expected="between 0 and 1")
