"""A content hash of weights: two models with the same fingerprint compute the same function."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

import torch


def fingerprint(named: Iterable[tuple[str, torch.Tensor]]) -> str:
    """First 16 hex digits of SHA-256 over names, shapes, dtypes and bytes, in name order."""
    digest = hashlib.sha256()
    for name, tensor in sorted(named, key=lambda item: item[0]):
        flat = tensor.detach().to("cpu").contiguous().view(-1)
        digest.update(f"{name}:{tuple(tensor.shape)}:{tensor.dtype};".encode())
        digest.update(flat.view(torch.uint8).numpy().data)
    return digest.hexdigest()[:16]
