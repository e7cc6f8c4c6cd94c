"""What the course's losses accept: floats of one shape, at least one element, all finite."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from trueup.errors import DataError, NonFiniteError, ShapeError
from trueup.spec.shapes import Array, require_same


def floats(**given: ArrayLike) -> list[Array]:
    """The arguments as float64 arrays, in their order.

    Raises:
        ShapeError: They are empty or differ in shape; ``[B, 1]`` against ``[B]`` would broadcast to ``[B, B]``.
        NonFiniteError: One holds NaN or an infinity; a mean over it would be a number that means nothing.
    """
    arrays = {name: np.asarray(value, dtype=np.float64) for name, value in given.items()}
    require_same(**arrays)
    for name, array in arrays.items():
        if not array.size:
            raise ShapeError(f"{name} is empty", where=name, expected="at least one element")
        if not np.isfinite(array).all():
            at = tuple(int(i) for i in np.argwhere(~np.isfinite(array))[0])
            raise NonFiniteError(f"{name} holds {array[at]} at {at}", where=name, expected="finite numbers")
    return list(arrays.values())


def token_ids(tokens: ArrayLike, vocabulary: int, mask: NDArray[np.bool_] | None) -> NDArray[np.int64]:
    """Token ids [B, T] that are safe to look up: 0 where ``mask`` is False, checked everywhere else.

    Raises:
        DataError: A counted id lies outside the vocabulary. NumPy would read a negative id, such as the -100 that
            many loaders put at ignored positions, from the end of the vocabulary.
    """
    ids: NDArray[Any] = np.asarray(tokens)
    if not np.issubdtype(ids.dtype, np.integer):
        raise DataError(f"tokens have dtype {ids.dtype}", where="tokens", expected="integer ids")
    if mask is not None:
        if mask.shape != ids.shape:
            raise ShapeError(f"mask has shape {mask.shape}, tokens {ids.shape}", where="mask", expected="one shape")
        ids = np.where(mask, ids, 0)
    outside = (ids < 0) | (ids >= vocabulary)
    if outside.any():
        at = tuple(int(i) for i in np.argwhere(outside)[0])
        raise DataError(
            f"token {ids[at]} at {at}",
            where="tokens",
            expected=f"ids from 0 to {vocabulary - 1}",
            fix="mask= the positions that do not count",
        )
    return ids.astype(np.int64)
