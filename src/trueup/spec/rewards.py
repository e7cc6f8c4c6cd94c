"""What the parts of a reward measure, in float64 and by counting. Legend: B answers, M members, P parts.

``rewards/`` computes the same from texts and models. Nothing here has a gradient: a reward is given, not learned.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence

import numpy as np

from trueup.spec.shapes import Array


def normalised(steps: Sequence[Array], running: bool) -> Array:
    """Values [B] of the last step with mean 0 and population standard deviation 1, over it or over all steps.

    Values that are alike have no scale and give 0.
    """
    last = np.asarray(steps[-1], dtype=np.float64)
    over = np.concatenate([np.asarray(step, dtype=np.float64) for step in steps]) if running else last
    mean, spread = over.mean(), over.std()
    if spread <= 1e-6 * (1 + abs(mean)):
        return np.zeros_like(last)
    out: Array = (last - mean) / spread
    return out


def weighted_sum(values_PB: Array, weights_P: Array, clips_P: Sequence[float | None]) -> Array:
    """Score [B]: sum over the parts of weight * clipped value."""
    total_B = np.zeros(np.shape(values_PB)[1])
    for value_B, weight, clip in zip(values_PB, weights_P, clips_P, strict=True):
        total_B = total_B + weight * (value_B if clip is None else np.minimum(np.maximum(value_B, -clip), clip))
    return total_B


def ensemble(score_MB: Array, combine: str, k: float) -> Array:
    """Mean, minimum, or mean - k * population standard deviation of the members [B] (Coste et al. 2024)."""
    if combine == "min":
        lowest: Array = np.min(score_MB, axis=0)
        return lowest
    mean_B: Array = np.sum(score_MB, axis=0) / len(score_MB)
    if combine == "mean":
        return mean_B
    out: Array = mean_B - k * np.sqrt(np.sum((score_MB - mean_B) ** 2, axis=0) / len(score_MB))
    return out


def repeated_share(sequence: Sequence[Hashable], n: int) -> float:
    """Share of the n-grams of a sequence that stood in it before."""
    count = len(sequence) - n + 1
    again = sum(any(sequence[i : i + n] == sequence[j : j + n] for j in range(i)) for i in range(count))
    return again / count if count > 0 else 0.0


def diversity(sequences: Sequence[Sequence[Hashable]], remembered: Sequence[Sequence[Hashable]], n: int) -> Array:
    """For each sequence the mean over its distinct n-grams of 1 / (sequences that have it, remembered ones included).

    A sequence shorter than n is one n-gram; an empty one has the value 0.
    """

    def grams(sequence: Sequence[Hashable]) -> set[tuple[Hashable, ...]]:
        if not len(sequence):
            return set()
        return {tuple(sequence[i : i + n]) for i in range(max(1, len(sequence) - n + 1))}

    every = [grams(sequence) for sequence in [*sequences, *remembered]]
    values = [np.mean([1 / sum(gram in other for other in every) for gram in sorted(own, key=repr)]) if own else 0.0
              for own in every[: len(sequences)]]  # fmt: skip
    return np.asarray(values, dtype=np.float64)


def outside(length: int, at_least: int | None, at_most: int | None) -> int:
    """How far a length lies outside a band; without a band, the length."""
    if at_least is None and at_most is None:
        return length
    low = 0 if at_least is None else at_least
    high = max(length, low) if at_most is None else at_most
    return abs(length - min(max(length, low), high))
