"""Log-probs of tokens under logits. Twin of ``spec.logprob``. Legend: B rows, T positions, V vocabulary."""

from __future__ import annotations

import torch

from trueup.errors import ShapeError


def log_softmax(logits_BTV: torch.Tensor) -> torch.Tensor:
    """log softmax over the vocabulary [B, T, V]; never in less than float32."""
    wide = logits_BTV if logits_BTV.dtype == torch.float64 else logits_BTV.float()
    return torch.log_softmax(wide, dim=-1)


def token_logps(logits_BTV: torch.Tensor, tokens_BT: torch.Tensor, mask_BT: torch.Tensor | None = None) -> torch.Tensor:
    """log p of each token [B, T]. Aligned: ``logits[:, t]`` scores ``tokens[:, t]``. Masked positions give 0."""
    if logits_BTV.shape[:-1] != tokens_BT.shape:
        raise ShapeError(
            f"logits have shape {tuple(logits_BTV.shape)}, tokens {tuple(tokens_BT.shape)}",
            where="logits_BTV",
            expected="[B, T, V] and [B, T]",
        )
    if mask_BT is not None:
        # Replace before the softmax: what stands in masked rows (even NaN) must not reach value or gradient.
        logits_BTV = torch.where(mask_BT[..., None], logits_BTV, torch.zeros_like(logits_BTV))
    picked_BT = log_softmax(logits_BTV).gather(-1, tokens_BT[..., None]).squeeze(-1)
    return picked_BT if mask_BT is None else torch.where(mask_BT, picked_BT, torch.zeros_like(picked_BT))


def sequence_logps(
    logits_BTV: torch.Tensor, tokens_BT: torch.Tensor, mask_BT: torch.Tensor | None = None, average: bool = False
) -> torch.Tensor:
    """Sum (or mean over valid tokens) of token log-probs [B]; an empty row gives 0."""
    sum_B = token_logps(logits_BTV, tokens_BT, mask_BT).sum(-1)
    if not average:
        return sum_B
    if mask_BT is None:
        return sum_B / max(1, tokens_BT.shape[-1])
    return sum_B / mask_BT.sum(-1).clamp(min=1)
