"""Randomness without hidden state: every draw is named by (seed, purpose, index).

Nothing depends on what was drawn before, so a resumed run needs no saved generator state and
two purposes never share a stream.
"""

from __future__ import annotations

import hashlib


def derive(seed: int, *purpose: str | int) -> int:
    """A 63-bit seed for ``purpose``, the same on every platform and Python version."""
    text = "\x1f".join([str(seed), *(str(p) for p in purpose)])
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1
