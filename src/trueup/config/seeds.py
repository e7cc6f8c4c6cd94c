"""Randomness without hidden state: every draw is named by (seed, purpose, index).

Nothing depends on what was drawn before, so a resumed run needs no saved generator state and
two purposes never share a stream.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import TypeVar

K = TypeVar("K", bound=str)


def derive(seed: int, *purpose: str | int) -> int:
    """A 63-bit seed for ``purpose``, the same on every platform and Python version."""
    text = "\x1f".join([str(seed), *(str(p) for p in purpose)])
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def split_by_hash(digest: str, shares: Mapping[K, float]) -> K:
    """The split of something by the first 32 bits of its hash, so that it is the same wherever it is asked.

    Args:
        digest: SHA-256, in hexadecimal digits.
        shares: Split -> its share of everything; they sum to 1.
    """
    place, upto = int(digest[:8], 16) / 2**32, 0.0
    for name, share in shares.items():
        upto += share
        if place < upto:
            return name
    return list(shares)[-1]
