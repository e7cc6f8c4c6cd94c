"""What the course's losses accept: NumPy floats of one shape, at least one element, all finite."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from trueup.errors import DataError, NonFiniteError, ShapeError, UsageError
from trueup.spec.shapes import Array, require_same


def array(name: str, value: Any) -> Array:
    """``value`` as a float64 array.

    Raises:
        UsageError: It is a torch tensor. NumPy would cut it off from its graph, or fail in words about ``detach``.
        DataError: It holds something else than numbers.
    """
    if type(value).__module__.partition(".")[0] == "torch" or (
        isinstance(value, list | tuple) and any(type(part).__module__.partition(".")[0] == "torch" for part in value)
    ):
        raise UsageError(
            f"{name} is a torch tensor",
            where=name,
            expected="NumPy arrays or numbers; gradients are returned, autograd is not used",
            fix=f"{name}.detach().cpu().numpy(), or take the same loss from trueup.losses, which is torch",
        )
    try:
        return np.asarray(value, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise DataError(f"{name} is no array of numbers: {error}", where=name, expected="numbers") from error


def number(name: str, value: Any, where: str) -> float:
    """``value`` as a finite float.

    Raises:
        NonFiniteError: It is NaN or an infinity.
        ShapeError: It is more than one number. Torch tensors and words are refused as in ``array``.
    """
    whole = array(name, value)
    if whole.size != 1:
        raise ShapeError(f"{name} has shape {whole.shape}", where=where, expected="one number")
    if not np.isfinite(whole).all():
        raise NonFiniteError(f"{name} is {whole.item()}", where=where, expected="a finite number")
    return float(whole.item())


def floats(**arguments: ArrayLike) -> list[Array]:
    """The arguments as float64 arrays, in their order.

    Raises:
        ShapeError: They are empty or differ in shape; ``[B, 1]`` against ``[B]`` would broadcast to ``[B, B]``.
        NonFiniteError: One holds NaN or an infinity; a mean over it would be a number that means nothing.
    """
    arrays = {name: array(name, value) for name, value in arguments.items()}
    require_same(**arrays)
    for name, values in arrays.items():
        if not values.size:
            raise ShapeError(f"{name} is empty", where=name, expected="at least one element")
        if not np.isfinite(values).all():
            at = tuple(int(i) for i in np.argwhere(~np.isfinite(values))[0])
            raise NonFiniteError(f"{name} holds {values[at]} at {at}", where=name, expected="finite numbers")
    return list(arrays.values())


def token_ids(tokens: ArrayLike, vocabulary: int, mask: NDArray[np.bool_] | None) -> NDArray[np.int64]:
    """Token ids [B, T] that are safe to look up: 0 where ``mask`` is False, checked everywhere else.

    Raises:
        DataError: A counted id lies outside the vocabulary. NumPy would read a negative id, such as the -100 that
            many loaders put at ignored positions, from the end of the vocabulary.
    """
    array("tokens", tokens)  # refuses torch tensors and words
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
