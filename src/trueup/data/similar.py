"""Finding texts that are nearly the same, without comparing all pairs.

Texts are sets of three-word shingles; their resemblance is the Jaccard index (Broder 1997). MinHash signatures, cut
into bands, propose candidates (Leskovec, Rajaraman and Ullman, Mining of Massive Datasets, section 3.4), and each
candidate is then checked exactly, so that nothing is called similar that is not. Texts and signatures are on disk;
memory holds one band at a time.

Shape suffixes: H hash functions, S shingles.
"""

from __future__ import annotations

import itertools
import re
import unicodedata
import zlib
from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trueup.data.parts import parts_of
from trueup.data.read_report import Count, Loaded
from trueup.data.spool import Column, Texts, hash64, repeated

SIMILAR = 0.8
"""Jaccard index from which two texts count as nearly the same."""

# A pair at 0.8 goes unseen with probability (1 - 0.8**4)**20 = 2.6e-5; one at 0.2 is proposed, in vain, with 0.03.
_BANDS, _ROWS = 20, 4
_TRIED = 8
"""Texts that a text is compared with in one band: where all are somewhat alike, all pairs would be too many."""
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


def shared_prompts(training: Loaded[Any], held_out: Loaded[Any]) -> Count:
    """Held-out items whose prompt (the text, where there is none) is also one of training, case and marks aside."""
    known = {words_of(_asked(item)) for item in training.items}
    count = Count()
    for number, item in enumerate(held_out.items):
        if words_of(_asked(item)) in known:
            count.add(held_out.lines[number] if held_out.lines else number + 1)
    return count


def _asked(item: Any) -> str:
    return next(iter(parts_of(item).values()), "")


class Index:
    """Texts, as ``words_of`` gives them, numbered from 0: which are the same, and which nearly so?"""

    def __init__(self) -> None:
        generator = np.random.default_rng(20260101)
        size = _BANDS * _ROWS
        self._multiply_H = generator.integers(0, 2**63, size, dtype=np.uint64) * 2 + 1
        self._add_H = generator.integers(0, 2**63, size, dtype=np.uint64)
        self._texts = Texts()
        self._hashes = Column("Q")
        self._bands: list[Column] | None = None
        self._shingles = lru_cache(maxsize=512)(lambda number: shingles(self._texts[number]))

    def add(self, words: str) -> None:
        """Add a text."""
        self._texts.append(words)
        self._hashes.append(hash64(words))
        self._bands = None

    @property
    def hashes(self) -> NDArray[Any]:
        """A hash of each text: equal texts have equal ones."""
        return self._hashes.values()

    def near_duplicates(self) -> dict[int, int]:
        """Number -> number of an earlier text that is nearly but not quite the same; of equal texts only the first."""
        near: dict[int, int] = {}
        numbers = self.distinct()
        for keys in self.bands():
            order = np.argsort(keys, kind="stable")
            starts = np.flatnonzero(np.diff(keys[order], prepend=keys[order[:1]] + np.uint64(1)))
            for begin, end in itertools.pairwise([*starts.tolist(), len(order)]):
                group = numbers[order[begin:end]].tolist() if end - begin > 1 else ()
                for at, number in enumerate(group):
                    if number not in near:
                        earlier = self._similar(self._shingles(number), group[max(0, at - _TRIED) : at])
                        if earlier is not None:
                            near[number] = earlier
        return near

    def also_in(self, other: Index) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
        """For each text whether ``other`` has it, and, where not, whether it has one that is nearly the same."""
        hashes = self.hashes
        same = np.isin(hashes, other.hashes)
        numbers, theirs = self.distinct(), other.distinct()
        near: set[int] = set()
        for own_keys, keys in zip(self.bands(), other.bands(), strict=True):
            order = np.argsort(keys, kind="stable")
            sorted_keys = keys[order]
            begins = np.searchsorted(sorted_keys, own_keys, "left")
            ends = np.minimum(np.searchsorted(sorted_keys, own_keys, "right"), begins + _TRIED)
            for at in np.flatnonzero(ends > begins).tolist():
                number = int(numbers[at])
                if same[number] or number in near:
                    continue
                group = theirs[order[begins[at] : ends[at]]].tolist()
                if other._similar(self._shingles(number), group) is not None:
                    near.add(number)
        is_near = np.isin(hashes, hashes[sorted(near)]) & ~same
        return same, is_near

    def distinct(self) -> NDArray[Any]:
        """Numbers of the texts that are not blank and not there before, ascending."""
        hashes = self.hashes
        return np.flatnonzero(~repeated(hashes) & (hashes != np.uint64(hash64(""))))

    def bands(self) -> Iterator[NDArray[Any]]:
        """Band by band the key of each distinct text: near texts share some."""
        if self._bands is None:
            self._bands = [Column("Q") for _ in range(_BANDS)]
            for number in self.distinct().tolist():
                signature_H = self._signature(self._texts[number])
                # Multiply-shift again: the four rows of a band as one number.
                keys = (signature_H.reshape(_BANDS, _ROWS) * self._multiply_H[:_ROWS]).sum(axis=1, dtype=np.uint64)
                for band, key in zip(self._bands, keys.tolist(), strict=True):
                    band.append(key)
        return (band.values() for band in self._bands)

    def _similar(self, shingles: frozenset[str], group: Sequence[int]) -> int | None:
        return next((n for n in reversed(group) if jaccard(shingles, self._shingles(n)) >= SIMILAR), None)

    def _signature(self, words: str) -> NDArray[np.uint64]:
        # Multiply-shift hashing (Dietzfelbinger et al. 1997); the product is meant to wrap around.
        texts = shingles(words)
        hashes_S = np.fromiter((zlib.crc32(s.encode("utf-8", "surrogatepass")) for s in texts), np.uint64, len(texts))
        mixed_HS = (self._multiply_H[:, None] * hashes_S[None, :] + self._add_H[:, None]) >> np.uint64(32)
        return np.asarray(mixed_HS.min(axis=1), dtype=np.uint64)
