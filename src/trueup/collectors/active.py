"""Which pairs are worth an annotator's time: those that an ensemble of reward models finds open, and a random share.

The random share goes to the stream ``holdout``. It is the unbiased sample of all candidates: what is measured on chosen
pairs says nothing of the rest. The probability with which each pair was chosen is stored on its item, so that
estimates over chosen pairs can be weighted back (Horvitz and Thompson 1952).
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trueup.config.seeds import derive
from trueup.errors import ShapeError, UsageError
from trueup.feedback.store.items import NewItem
from trueup.types import prompt_json

Array = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Chosen:
    """Items to import, each with its stream and ``context["selection"]``, and how many of each sort."""

    items: tuple[NewItem, ...]
    random: int
    active: int


def openness(margins_MN: Array) -> Array:
    """Score [N] of each pair: p (1 - p) of the mean probability times one plus the models' relative disagreement.

    Args:
        margins_MN: Reward of the first response minus the second by M models, in log-odds.

    Raises:
        ShapeError: Not two-dimensional, or not finite.
    """
    if margins_MN.ndim != 2 or not np.isfinite(margins_MN).all():
        raise ShapeError(f"shape {margins_MN.shape}", where="margins", expected="[models, pairs] of finite numbers")
    p_MN = 1.0 / (1.0 + np.exp(-np.clip(margins_MN, -60, 60)))
    p_N = p_MN.mean(0)
    doubt_N = p_N * (1.0 - p_N)
    # The spread of M probabilities is at most that of a fair coin, p (1 - p): their quotient lies in [0, 1].
    spread_N = np.divide(p_MN.var(0), doubt_N, out=np.zeros_like(doubt_N), where=doubt_N > 0)
    score_N: Array = doubt_N * (1.0 + spread_N)
    return score_N


def choose_pairs(
    candidates: Sequence[NewItem], margins_MN: Array, count: int, *, share_random: float = 0.2, seed: int = 0
) -> Chosen:
    """Choose ``count`` candidates.

    A systematic draw with probabilities in proportion to the scores: exactly ``count`` are chosen, and each candidate
    with the probability that is stored on it.

    Args:
        candidates: Pairs that could be judged.
        margins_MN: See ``openness``; one column a candidate.
        count: How many to choose.
        share_random: Share of them drawn uniformly from all candidates, into the stream ``holdout``.
        seed: Same seed, same choice.

    Raises:
        UsageError: More wanted than there are, or a share outside [0, 1].
        ShapeError: The margins do not fit the candidates.
    """
    if not 0 <= count <= len(candidates) or not 0.0 <= share_random <= 1.0:
        raise UsageError(
            f"{count} of {len(candidates)} candidates, {share_random} of them at random",
            where="choose_pairs",
            expected="0 <= count <= candidates, 0 <= share_random <= 1",
        )
    if margins_MN.shape[-1:] != (len(candidates),):
        raise ShapeError(f"{margins_MN.shape} margins for {len(candidates)} candidates", where="margins")
    score_N = openness(margins_MN)
    draw = random.Random(derive(seed, "active pairs"))
    uniform = sorted(draw.sample(range(len(candidates)), round(share_random * count)))
    left = sorted(set(range(len(candidates))) - set(uniform))
    wanted = count - len(uniform)
    chance_L = _inclusion(score_N[left], wanted)
    items = [_marked(candidates[i], "holdout", "uniform", len(uniform) / len(candidates), score_N[i]) for i in uniform]
    for place in _systematic(candidates, left, chance_L, wanted, draw):
        i = left[place]
        items.append(_marked(candidates[i], "main", "open", float(chance_L[place]), score_N[i]))
    return Chosen(tuple(items), len(uniform), wanted)


def _inclusion(score_L: Array, count: int) -> Array:
    """Probabilities in proportion to the scores that sum to ``count``, none above 1."""
    chance_L = np.zeros_like(score_L)
    open_L = np.ones(len(score_L), dtype=bool)
    floor = 1e-3 * float(score_L.max(initial=0.0)) + 1e-12  # everything can be chosen, or weighting back would fail
    weight_L = np.maximum(score_L, floor)
    rest = float(count)
    while rest > 0 and open_L.any():
        share_L = rest * weight_L / weight_L[open_L].sum()
        over_L = open_L & (share_L >= 1.0)
        if not over_L.any():
            chance_L[open_L] = share_L[open_L]
            break
        chance_L[over_L] = 1.0
        open_L &= ~over_L
        rest = count - float((chance_L == 1.0).sum())
    return chance_L


def _systematic(
    candidates: Sequence[NewItem], left: Sequence[int], chance_L: Array, count: int, draw: random.Random
) -> list[int]:
    """Exactly ``count`` places, each with its probability (Madow 1949).

    Candidates of one prompt stand next to each other, so the even steps of the draw seldom take two of them.
    """
    if count == 0:
        return []
    shuffled: dict[str, float] = {}
    names = [str(prompt_json(candidates[i].prompt)) for i in left]
    for name in names:
        shuffled.setdefault(name, draw.random())
    order = sorted(range(len(left)), key=lambda place: (shuffled[names[place]], place))
    ends = np.cumsum(chance_L[order])
    ends *= count / ends[-1]
    ticks = draw.random() + np.arange(count)
    return [order[at] for at in np.searchsorted(ends, ticks, side="left")]


def _marked(row: NewItem, stream: str, how: str, chance: float, score: float) -> NewItem:
    selection: dict[str, Any] = {"how": how, "probability": round(chance, 9), "score": round(float(score), 9)}
    return replace(row, stream=stream, context={**row.context, "selection": selection})
