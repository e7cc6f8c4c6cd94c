"""What one pair did at each step that trained on it: logit, probability, loss, and its share of the step's pull.

The loss of a Bradley-Terry reward model, and of DPO, is the cross-entropy of sigmoid(m) against the strength s, with m
the margin of the two rewards: -s log sigmoid(m) - (1 - s) log sigmoid(-m). Its slope, sigmoid(m) - s, is the force with
which the pair pulls its two rewards apart (below 0) or together (above 0); it vanishes at m = logit(s). A pair's share
of the pull is its weight times |slope|, over the sum of that over the pairs of its step.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

MarginLoss: TypeAlias = Callable[[float, float, float], tuple[float, float]]
"""(margin, strength, the pair's ``margin`` column) -> loss and slope."""


def sigmoid(x: float) -> float:
    """1 / (1 + exp(-x)), exact in both tails."""
    if x >= 0:
        return 1.0 / (1.0 + math.exp(-x))
    return math.exp(x) / (1.0 + math.exp(x))


def logit(strength: float) -> float | None:
    """log(s / (1 - s)), the margin at which a pair stops pulling; None for strength 1, which has no such margin."""
    return None if strength >= 1.0 else math.log(strength / (1.0 - strength))


def cross_entropy(margin: float, strength: float, apart: float = 0.0) -> tuple[float, float]:
    """Loss of a margin against a strength, and its derivative by the margin.

    Args:
        margin: Reward of chosen minus reward of rejected.
        strength: Probability that chosen is better.
        apart: By how much the rewards should be apart, whichever is the better (Touvron et al. 2023).

    >>> [round(value, 3) for value in cross_entropy(0.8 - -1.4, 1.0)]
    [0.105, -0.1]
    """
    loss = strength * _softplus(apart - margin) + (1.0 - strength) * _softplus(apart + margin)
    return loss, (1.0 - strength) * sigmoid(apart + margin) - strength * sigmoid(apart - margin)


def _softplus(x: float) -> float:
    return max(x, 0.0) + math.log1p(math.exp(-abs(x)))


def margin_loss(kind: str, config: Mapping[str, Any]) -> MarginLoss | None:
    """The loss of a run as a function of the margin that it logs; None where it is of more than that.

    The centring term of a reward model, which pulls both rewards to 0, is left out.
    """
    objective = config.get("objective") or {}
    name = objective.get("kind")
    several = int(config.get("heads") or 1) > 1  # each has a margin and a count of the pair of its own
    if kind == "reward" and name in (None, "bradley-terry") and not several:
        unit = float(config.get("margin") or 0.0)
        return lambda margin, strength, column: cross_entropy(margin, strength, unit * column)
    if kind == "dpo" and name in (None, "dpo", "length-normalised-dpo"):
        smoothing = float(objective.get("label_smoothing") or 0.0)
        return lambda margin, strength, _: cross_entropy(margin, _smoothed(strength, smoothing))
    return None


def _smoothed(strength: float, smoothing: float) -> float:
    return strength * (1.0 - smoothing) + (1.0 - strength) * smoothing


@dataclass(frozen=True, slots=True)
class Standing:
    """What of a pair its step's loss goes by."""

    strength: float
    weight: float
    margin: float


def pull(loss: MarginLoss, margin: float, standing: Standing) -> float:
    """With what force the pair moves its margin."""
    return standing.weight * abs(loss(margin, standing.strength, standing.margin)[1])


def pulls(
    rows: Iterable[Mapping[str, Any]], steps: Collection[int], loss: MarginLoss, standings: Mapping[str, Standing]
) -> dict[int, float | None]:
    """Step -> the summed pull of its pairs; None where one of them is not in the data any more.

    Args:
        rows: Of pairs.jsonl.
        steps: Steps that are asked about.
        loss: The run's.
        standings: What each pair's loss goes by, by key.
    """
    totals: dict[int, float | None] = dict.fromkeys(steps, 0.0)
    for row in rows:
        total = totals.get(row.get("step", -1))
        if total is not None:
            standing, margin = standings.get(row.get("key") or row.get("pair_id", "")), row.get("margin")
            if standing is None or not isinstance(margin, float | int):
                totals[row["step"]] = None
            else:
                totals[row["step"]] = total + pull(loss, float(margin), standing)
    return totals
