"""Win-rates on the same prompts: ties count half, prompts weigh equally, every answer meets every answer of the other.

Shapes: K prompts, N pairs of answers, R resamples.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from trueup.errors import DataError
from trueup.evaluation.intervals import SHARE, Floats, Interval, Unseen, bootstrap, cluster_codes
from trueup.evaluation.rows import Row, by_prompt, of_model, same_prompts, value
from trueup.types import Outcome

WORTH = {Outcome.A: 1.0, Outcome.TIE: 0.5, Outcome.B: 0.0}
"""What a verdict is worth to the first side."""


@dataclass(frozen=True, slots=True)
class WinRate:
    """How often model ``a`` beats model ``b``; wins, ties and losses count pairs of answers."""

    a: str
    b: str
    rate: Interval
    wins: int
    ties: int
    losses: int

    def to_dict(self) -> dict[str, Any]:
        """JSON form."""
        return {
            "a": self.a,
            "b": self.b,
            "rate": self.rate.to_dict(),
            "wins": self.wins,
            "ties": self.ties,
            "losses": self.losses,
        }


@dataclass(frozen=True, slots=True)
class Contest:
    """One model's answers against another's, pair by pair."""

    a: str
    b: str
    outcome_N: Floats
    """1 where ``a`` wins, 0 where ``b`` does, 1/2 for a tie; a judge's probability stands as it is."""
    length_N: Floats
    """Length of a's answer minus that of b's."""
    prompts: tuple[str, ...]
    """The prompt of each pair."""

    def win_rate(self, *, level: float = 0.95, resamples: int = 2000, seed: int = 0) -> WinRate:
        """Mean over prompts of the mean within each prompt, with an interval from resampling prompts."""
        wins, losses = int((self.outcome_N > 0.5).sum()), int((self.outcome_N < 0.5).sum())
        rate = _prompt_mean(self.outcome_N, self.prompts, level, resamples, seed)
        return WinRate(self.a, self.b, rate, wins, len(self.outcome_N) - wins - losses, losses)


def win_rate(
    rows: Sequence[Row],
    a: str,
    b: str,
    *,
    score: str = "gold",
    tie: float = 0.0,
    level: float = 0.95,
    resamples: int = 2000,
    seed: int = 0,
) -> WinRate:
    """Share of prompts on which ``a`` scores higher than ``b``, ties half; prompts are resampled.

    With several samples per prompt each answer of ``a`` meets each answer of ``b``.

    Args:
        rows: Evaluation rows of both models on the same prompts.
        a: Name of the model whose wins are counted.
        b: Name of the other model.
        score: Which measurement decides: ``gold``, ``reward``, ``gold.helpful``.
        tie: Differences up to this are ties.
        level: Confidence level.
        resamples: Bootstrap samples.
        seed: Names the draws.
    """
    return contest(rows, a, b, score=score, tie=tie).win_rate(level=level, resamples=resamples, seed=seed)


def win_rate_of_outcomes(
    outcomes: Sequence[Outcome],
    prompts: Sequence[str],
    *,
    a: str = "a",
    b: str = "b",
    level: float = 0.95,
    resamples: int = 2000,
    seed: int = 0,
) -> WinRate:
    """The same from verdicts of a judge or of people; ``prompts`` names the prompt of each verdict."""
    outcome_N = np.array([WORTH[outcome] for outcome in outcomes])
    judged = Contest(a, b, outcome_N, np.zeros_like(outcome_N), tuple(prompts))
    return judged.win_rate(level=level, resamples=resamples, seed=seed)


def contest(
    rows: Sequence[Row], a: str, b: str, *, score: str = "gold", tie: float = 0.0, length: str | None = None
) -> Contest:
    """Pairs of answers of two models to the same prompts, decided by a score.

    Args:
        rows: Evaluation rows of both models on the same prompts.
        a, b: The models.
        score: Which measurement decides.
        tie: Differences up to this are ties.
        length: Which measurement is an answer's length; without it lengths are not looked at.

    Raises:
        DataError: A measurement is missing, or the models were asked different prompts.
    """
    left, right = of_model(rows, a), of_model(rows, b)
    outcome: list[float] = []
    difference: list[float] = []
    prompts: list[str] = []
    grouped_a, grouped_b = by_prompt(left), by_prompt(right)
    for prompt in same_prompts(left, right):
        for first in grouped_a[prompt]:
            for second in grouped_b[prompt]:
                gap = measured(first, score) - measured(second, score)
                outcome.append(0.5 if abs(gap) <= tie else float(gap > 0))
                difference.append(measured(first, length) - measured(second, length) if length else 0.0)
                prompts.append(prompt)
    return Contest(a, b, np.array(outcome), np.array(difference), tuple(prompts))


def measured(row: Row, field: str) -> float:
    """A measurement that must be there.

    Raises:
        DataError: It was not made.
    """
    number = value(row, field)
    if number is None:
        raise DataError(
            f"{field} was not measured",
            where=f"model {row['model']}, prompt {row['prompt_id']}",
            fix=f"collect with something that measures {field}",
        )
    return number


def _prompt_mean(values_N: Floats, prompts: Sequence[str], level: float, resamples: int, seed: int) -> Interval:
    """Mean over prompts of the mean within each prompt."""
    codes_N, count = cluster_codes(prompts)
    means_K = np.bincount(codes_N, values_N, count) / np.bincount(codes_N, minlength=count)

    def mean(weights_RK: Floats) -> Floats:
        means_R: Floats = weights_RK @ means_K / weights_RK.sum(1)
        return means_R

    unseen = Unseen.of(means_K, SHARE)
    return bootstrap(mean, count, level=level, resamples=resamples, seed=seed, unseen=unseen)
