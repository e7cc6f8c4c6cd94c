"""Variants of a sweep, each measured with several seeds: means, paired differences from one of them, a conclusion.

Differences are paired by seed and prompt. Where several variants are compared, the differences that decide carry the
level 1 - 0.05 / (number of comparisons), so that all of them hold together with 95 % (Bonferroni).

Shapes: S seeds, P prompts.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from trueup.errors import ShapeError
from trueup.evaluation.crossed import cells, crossed_mean
from trueup.evaluation.intervals import Interval

Better = Literal["up", "down"]


@dataclass(frozen=True, slots=True)
class Measured:
    """What was measured of one variant: a value for each seed and prompt, several where a prompt was asked again."""

    name: str
    values: tuple[float, ...]
    seeds: tuple[Hashable, ...]
    prompts: tuple[Hashable, ...]

    def interval(self) -> Interval:
        """The mean over seeds and prompts."""
        return crossed_mean(cells(self.values, self.seeds, self.prompts))


@dataclass(frozen=True, slots=True)
class Contrast:
    """One variant against the baseline, on the seeds and prompts that both have."""

    name: str
    difference: Interval
    """At 95 % for itself."""
    decisive: Interval
    """At the level at which all comparisons hold together."""
    seeds: int
    left_out: int
    """Seeds that only one of the two has."""

    def to_dict(self) -> dict[str, Any]:
        """JSON form."""
        return {
            "name": self.name,
            "difference": self.difference.to_dict(),
            "decisive": self.decisive.to_dict(),
            "seeds": self.seeds,
            "left_out": self.left_out,
        }


@dataclass(frozen=True, slots=True)
class Comparison:
    """All variants of a sweep by one measurement."""

    quality: str
    better: Better
    baseline: str
    means: Mapping[str, Interval]
    contrasts: tuple[Contrast, ...]
    conclusion: tuple[str, ...] = field(default=())

    def to_dict(self) -> dict[str, Any]:
        """JSON form."""
        return {
            "quality": self.quality,
            "better": self.better,
            "baseline": self.baseline,
            "means": {name: interval.to_dict() for name, interval in self.means.items()},
            "contrasts": [contrast.to_dict() for contrast in self.contrasts],
            "conclusion": list(self.conclusion),
        }


def compare_variants(measured: Sequence[Measured], baseline: str, *, quality: str, better: Better = "up") -> Comparison:
    """Every variant against ``baseline``, and what follows in words.

    Args:
        measured: The variants, in the order to show them.
        baseline: Name of the one that the others are compared with.
        quality: What was measured.
        better: Which way is better.

    Raises:
        ShapeError: No variant is called ``baseline``, or two variants share no seed or not the same prompts.
    """
    by_name = {one.name: one for one in measured}
    if baseline not in by_name:
        raise ShapeError(f"no variant {baseline!r} was measured", expected=f"one of {', '.join(by_name) or 'none'}")
    others = [one for one in measured if one.name != baseline]
    contrasts = tuple(_contrast(one, by_name[baseline], len(others)) for one in others)
    means = {one.name: one.interval() for one in measured}
    comparison = Comparison(quality, better, baseline, means, contrasts)
    return Comparison(quality, better, baseline, means, contrasts, tuple(conclusion(comparison)))


def _contrast(one: Measured, base: Measured, comparisons: int) -> Contrast:
    shared = [seed for seed in dict.fromkeys(base.seeds) if seed in set(one.seeds)]
    if not shared:
        raise ShapeError(f"{one.name} and {base.name} share no seed", expected="at least one seed of both")
    prompts = list(dict.fromkeys(base.prompts))
    if set(prompts) != set(one.prompts):
        raise ShapeError(f"{one.name} and {base.name} answered different prompts", expected="the same prompts")
    difference_SP = _aligned(one, shared, prompts) - _aligned(base, shared, prompts)
    left_out = len(set(one.seeds) ^ set(base.seeds))
    return Contrast(
        one.name,
        crossed_mean(difference_SP),
        crossed_mean(difference_SP, level=1 - 0.05 / comparisons),
        len(shared),
        left_out,
    )


def _aligned(one: Measured, seeds: Sequence[Hashable], prompts: Sequence[Hashable]) -> np.ndarray[Any, Any]:
    """Values [S, P] in the order of ``seeds`` and ``prompts``."""
    means_SP = cells(one.values, one.seeds, one.prompts)
    rows, columns = list(dict.fromkeys(one.seeds)), list(dict.fromkeys(one.prompts))
    return means_SP[np.ix_([rows.index(s) for s in seeds], [columns.index(p) for p in prompts])]


def conclusion(comparison: Comparison) -> list[str]:
    """What the differences say, in sentences; that nothing was found is one of them."""
    contrasts, better = comparison.contrasts, comparison.better
    if not contrasts:
        return ["There is one variant only: nothing to compare."]
    sentences = []
    several = f", at the level at which all {len(contrasts)} comparisons hold together" if len(contrasts) > 1 else ""
    up, down = [c for c in contrasts if c.decisive.above(0)], [c for c in contrasts if c.decisive.below(0)]
    for group, word in ((up if better == "up" else down, "better"), (down if better == "up" else up, "worse")):
        for contrast in group:
            sentences.append(
                f"{contrast.name} is {word} than {comparison.baseline}: {comparison.quality} "
                f"{signed(contrast.difference)}{several}."
            )
    if not sentences:
        closest = max(contrasts, key=lambda c: abs(c.difference.estimate))
        sentences.append(
            f"No difference found: by {comparison.quality} no variant can be told from {comparison.baseline}{several}. "
            f"The largest difference is {closest.name}: {signed(closest.difference)}."
        )
        if closest.difference.known:
            reach = max(max(abs(c.decisive.low), abs(c.decisive.high)) for c in contrasts if c.decisive.known)
            sentences.append(f"Differences up to {reach:.3g} either way are compatible with what was measured.")
    elif undecided := [c.name for c in contrasts if c not in up and c not in down]:
        sentences.append(f"Not to be told from {comparison.baseline}: {', '.join(undecided)}.")
    if len(contrasts) > 1 and sentences and (up or down):
        sentences.append("Variants other than the baseline were not compared with one another.")
    fewest = min(contrast.seeds for contrast in contrasts)
    if fewest == 1:
        sentences.append(
            "There is one seed: the intervals are over prompts only, and another seed may say something else."
        )
    elif fewest == 2:
        sentences.append("Two seeds are few: their spread is hardly known, and the intervals may be too narrow.")
    if left := [contrast for contrast in contrasts if contrast.left_out]:
        names = ", ".join(f"{contrast.name} ({contrast.left_out})" for contrast in left)
        sentences.append(f"Seeds that only one of the two has were left out: {names}.")
    return sentences


def signed(interval: Interval) -> str:
    """``+0.031 (95 % interval +0.004 to +0.058)``."""
    if not interval.known:
        return f"{interval.estimate:+.3g} (no interval: {interval.method.removeprefix('none: ')})"
    return (
        f"{interval.estimate:+.3g} ({100 * interval.level:.3g} % interval {interval.low:+.3g} to {interval.high:+.3g})"
    )
