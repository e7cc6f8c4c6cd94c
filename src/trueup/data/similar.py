"""Finding texts that are nearly the same, without comparing all pairs.

Texts are sets of three-word shingles; their resemblance is the Jaccard index (Broder 1997). MinHash signatures, cut
into bands, propose candidates (Leskovec, Rajaraman and Ullman, Mining of Massive Datasets, section 3.4), and each
candidate is then checked exactly, so that nothing is called similar that is not.

Shape suffixes: H hash functions, S shingles.
"""

from __future__ import annotations

import re
import unicodedata
import zlib
from collections import defaultdict
from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

SIMILAR = 0.8
"""Jaccard index from which two texts count as nearly the same."""

# A pair at 0.8 goes unseen with probability (1 - 0.8**4)**20 = 2.6e-5; one at 0.2 is proposed, in vain, with 0.03.
_BANDS, _ROWS = 20, 4
_WORD = re.compile(r"\w+")


def words_of(text: str) -> str:
    """``text`` without case, punctuation, spacing and width variants: equal results read the same."""
    return " ".join(_WORD.findall(unicodedata.normalize("NFKC", text).casefold()))


def shingles(words: str) -> frozenset[str]:
    """Three-word shingles of what ``words_of`` gave; a shorter text is one shingle."""
    parts = words.split(" ")
    return frozenset(" ".join(parts[i : i + 3]) for i in range(max(1, len(parts) - 2)))


def jaccard(a: frozenset[str], b: frozenset[str]) -> float:
    """Shared shingles over all shingles, in [0, 1]."""
    return len(a & b) / len(a | b)


class Similar:
    """An index of texts that answers: which earlier text is nearly the same as this one?"""

    def __init__(self) -> None:
        generator = np.random.default_rng(20260101)
        size = _BANDS * _ROWS
        self._multiply_H = generator.integers(0, 2**63, size, dtype=np.uint64) * 2 + 1
        self._add_H = generator.integers(0, 2**63, size, dtype=np.uint64)
        self._sets: list[frozenset[str]] = []
        self._buckets: dict[tuple[int, bytes], list[int]] = defaultdict(list)

    def add(self, words: str) -> None:
        """Add a text, as ``words_of`` gives it; it gets the next number from 0."""
        found = shingles(words)
        for key in self._keys(found):
            self._buckets[key].append(len(self._sets))
        self._sets.append(found)

    def nearest(self, words: str) -> int | None:
        """Number of the most similar text that was added, if it reaches ``SIMILAR``; the first of equals."""
        found = shingles(words)
        best, at = SIMILAR, None
        for number in sorted({n for key in self._keys(found) for n in self._buckets.get(key, ())}):
            likeness = jaccard(found, self._sets[number])
            if likeness > best or (likeness == best and at is None):
                best, at = likeness, number
        return at

    def _keys(self, found: frozenset[str]) -> Iterator[tuple[int, bytes]]:
        hashes_S = np.fromiter((zlib.crc32(s.encode("utf-8", "surrogatepass")) for s in found), np.uint64, len(found))
        signature_H = self._signature(hashes_S)
        for band in range(_BANDS):
            yield band, signature_H[band * _ROWS : (band + 1) * _ROWS].tobytes()

    def _signature(self, hashes_S: NDArray[np.uint64]) -> NDArray[np.uint64]:
        # Multiply-shift hashing (Dietzfelbinger et al. 1997); the product is meant to wrap around.
        mixed_HS = (self._multiply_H[:, None] * hashes_S[None, :] + self._add_H[:, None]) >> np.uint64(32)
        return np.asarray(mixed_HS.min(axis=1), dtype=np.uint64)


def near_duplicates(texts: Sequence[str]) -> Iterator[tuple[int, int]]:
    """Pairs (number, earlier number) of texts, given as ``words_of`` them, that are nearly but not quite the same."""
    index = Similar()
    seen: dict[str, None] = {}
    numbers: list[int] = []
    for number, words in enumerate(texts):
        if not words or words in seen:
            continue
        seen[words] = None
        earlier = index.nearest(words)
        if earlier is not None:
            yield number, numbers[earlier]
        index.add(words)
        numbers.append(number)
