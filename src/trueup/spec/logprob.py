"""Log-probs of tokens under logits. Legend: B rows, T positions, V vocabulary."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from trueup.errors import ShapeError
from trueup.spec.shapes import Array, Mask


def log_softmax(logits_BTV: Array) -> Array:
    """logits - logsumexp(logits) over the vocabulary [B, T, V]."""
    top = np.max(logits_BTV, axis=-1, keepdims=True)
    shifted = logits_BTV - top
    out: Array = shifted - np.log(np.sum(np.exp(shifted), axis=-1, keepdims=True))
    return out


def token_logps(logits_BTV: Array, tokens_BT: NDArray[np.int64], mask_BT: Mask | None = None) -> Array:
    """log p of each token [B, T]. Aligned: ``logits[:, t]`` scores ``tokens[:, t]``. Masked positions give 0."""
    if logits_BTV.shape[:-1] != tokens_BT.shape:
        raise ShapeError(
            f"logits have shape {logits_BTV.shape}, tokens {tokens_BT.shape}",
            where="logits_BTV",
            expected="[B, T, V] and [B, T]",
        )
    if mask_BT is not None:
        logits_BTV = np.where(mask_BT[..., None], logits_BTV, 0.0)
    picked_BT: Array = np.take_along_axis(log_softmax(logits_BTV), tokens_BT[..., None], axis=-1)[..., 0]
    return picked_BT if mask_BT is None else np.where(mask_BT, picked_BT, 0.0)


def token_logps_grad(logits_BTV: Array, tokens_BT: NDArray[np.int64], mask_BT: Mask | None = None) -> tuple[Array]:
    """d token_logps / d logits [B, T, V]: one-hot minus softmax, 0 where masked."""
    safe_BTV = logits_BTV if mask_BT is None else np.where(mask_BT[..., None], logits_BTV, 0.0)
    grad_BTV = -np.exp(log_softmax(safe_BTV))
    np.put_along_axis(
        grad_BTV,
        tokens_BT[..., None],
        np.take_along_axis(grad_BTV, tokens_BT[..., None], axis=-1) + 1.0,
        axis=-1,
    )
    return (grad_BTV if mask_BT is None else np.where(mask_BT[..., None], grad_BTV, 0.0),)


def sequence_logps(
    logits_BTV: Array, tokens_BT: NDArray[np.int64], mask_BT: Mask | None = None, average: bool = False
) -> Array:
    """Sum (or mean over valid tokens) of token log-probs [B]; an empty row gives 0."""
    sum_B: Array = token_logps(logits_BTV, tokens_BT, mask_BT).sum(-1)
    return sum_B / _counts(tokens_BT, mask_BT) if average else sum_B


def sequence_logps_grad(
    logits_BTV: Array, tokens_BT: NDArray[np.int64], mask_BT: Mask | None = None, average: bool = False
) -> tuple[Array]:
    """d sequence_logps / d logits [B, T, V]."""
    (grad_BTV,) = token_logps_grad(logits_BTV, tokens_BT, mask_BT)
    return (grad_BTV / _counts(tokens_BT, mask_BT)[:, None, None] if average else grad_BTV,)


def _counts(tokens_BT: NDArray[np.int64], mask_BT: Mask | None) -> Array:
    if mask_BT is None:
        return np.full(tokens_BT.shape[0], float(max(1, tokens_BT.shape[1])))
    counts_B: Array = np.maximum(1.0, mask_BT.sum(-1).astype(np.float64))
    return counts_B
