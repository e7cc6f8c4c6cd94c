"""Win-rates on the same prompts: ties count half, prompts weigh equally, and length can be held equal.

Shapes: K prompts, N pairs of answers, R resamples, P parameters of the length model.
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

# In units of one observation: enough to keep a separable fit finite, too little to move any other.
RIDGE_MODEL = 0.01
RIDGE_LENGTH = 1.0
OVERLAP = 0.05


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
class LengthControlled:
    """Win-rate predicted for answers of equal length.

    ``identified`` is False where one side is (almost) always the longer one: length and model cannot then be told
    apart, and the rate must not be used.
    """

    a: str
    b: str
    rate: Interval
    length_weight: float
    identified: bool

    def to_dict(self) -> dict[str, Any]:
        """JSON form."""
        return {
            "a": self.a,
            "b": self.b,
            "rate": self.rate.to_dict(),
            "length_weight": self.length_weight,
            "identified": self.identified,
        }


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
    pairs = _answer_pairs(rows, a, b, score, tie)
    rate = _prompt_mean(pairs.outcome_N, pairs.prompts_N, level, resamples, seed)
    wins, losses = int((pairs.outcome_N == 1).sum()), int((pairs.outcome_N == 0).sum())
    return WinRate(a, b, rate, wins, len(pairs.outcome_N) - wins - losses, losses)


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
    worth = {Outcome.A: 1.0, Outcome.TIE: 0.5, Outcome.B: 0.0}
    outcome_N = np.array([worth[outcome] for outcome in outcomes])
    rate = _prompt_mean(outcome_N, list(prompts), level, resamples, seed)
    wins, losses = int((outcome_N == 1).sum()), int((outcome_N == 0).sum())
    return WinRate(a, b, rate, wins, len(outcome_N) - wins - losses, losses)


def length_controlled(
    rows: Sequence[Row],
    a: str,
    b: str,
    *,
    score: str = "gold",
    length: str = "tokens",
    tie: float = 0.0,
    level: float = 0.95,
    resamples: int = 1000,
    seed: int = 0,
) -> LengthControlled:
    """Win-rate with the effect of length taken out (after Dubois et al. 2024, arXiv 2404.04475).

    A logistic model P(a wins) = sigmoid(m + w * tanh(d / s)) is fitted, d the length of a's answer minus b's and s
    its standard deviation; the rate is sigmoid(m). Their term for the difficulty of an instruction needs
    many models and is left out. Exchanging a and b gives one minus the rate; a model against itself gives 0.5.
    """
    pairs = _answer_pairs(rows, a, b, score, tie, length)
    difference_N = pairs.length_N
    spread = float(difference_N.std())
    x_N = np.tanh(difference_N / spread) if spread > 0 else np.sign(difference_N)
    codes_N, count = cluster_codes(pairs.prompts_N)
    share_N = 1.0 / np.bincount(codes_N, minlength=count)[codes_N]

    def rate(weights_RK: Floats) -> Floats:
        model_R, _ = _fit_length_model(x_N, pairs.outcome_N, weights_RK[:, codes_N] * share_N)
        rates_R: Floats = 1.0 / (1.0 + np.exp(-model_R))
        return rates_R

    _, weight_R = _fit_length_model(x_N, pairs.outcome_N, share_N[None, :])
    overlap = min(float((difference_N <= 0).mean()), float((difference_N >= 0).mean()))
    # The jackknife of BCa would refit K times for little; the percentile interval is used.
    unseen = Unseen.of(np.bincount(codes_N, pairs.outcome_N * share_N, count).astype(np.float64), SHARE)
    options: dict[str, Any] = {"level": level, "resamples": resamples, "seed": seed}
    interval = bootstrap(rate, count, method="percentile", unseen=unseen, **options)
    return LengthControlled(a, b, interval, float(weight_R[0]), overlap >= OVERLAP)


def _fit_length_model(x_N: Floats, y_N: Floats, weights_RN: Floats, iterations: int = 50) -> tuple[Floats, Floats]:
    """Ridge logistic regression for each of R weightings, by Newton steps: intercepts [R] and slopes [R]."""
    model_R = np.zeros(len(weights_RN))
    slope_R = np.zeros(len(weights_RN))
    for _ in range(iterations):
        p_RN = 1.0 / (1.0 + np.exp(-np.clip(model_R[:, None] + slope_R[:, None] * x_N, -40, 40)))
        error_RN = weights_RN * (p_RN - y_N)
        curve_RN = weights_RN * p_RN * (1 - p_RN)
        g0, g1 = error_RN.sum(1) + RIDGE_MODEL * model_R, error_RN @ x_N + RIDGE_LENGTH * slope_R
        h00, h01, h11 = curve_RN.sum(1) + RIDGE_MODEL, curve_RN @ x_N, curve_RN @ (x_N * x_N) + RIDGE_LENGTH
        determinant = h00 * h11 - h01 * h01
        step0, step1 = (h11 * g0 - h01 * g1) / determinant, (h00 * g1 - h01 * g0) / determinant
        # Far from the optimum a Newton step of a logistic model can overshoot; a capped one cannot run away.
        model_R = model_R - np.clip(step0, -2, 2)
        slope_R = slope_R - np.clip(step1, -2, 2)
        if max(np.abs(step0).max(), np.abs(step1).max()) < 1e-10:
            break
    return model_R, slope_R


@dataclass(frozen=True, slots=True)
class _Pairs:
    outcome_N: Floats
    length_N: Floats
    prompts_N: list[str]


def _answer_pairs(rows: Sequence[Row], a: str, b: str, score: str, tie: float, length: str | None = None) -> _Pairs:
    left, right = of_model(rows, a), of_model(rows, b)
    outcome: list[float] = []
    difference: list[float] = []
    prompts: list[str] = []
    grouped_a, grouped_b = by_prompt(left), by_prompt(right)
    for prompt in same_prompts(left, right):
        for first in grouped_a[prompt]:
            for second in grouped_b[prompt]:
                gap = _need(first, score) - _need(second, score)
                outcome.append(0.5 if abs(gap) <= tie else float(gap > 0))
                difference.append(_need(first, length) - _need(second, length) if length else 0.0)
                prompts.append(prompt)
    return _Pairs(np.array(outcome), np.array(difference), prompts)


def _need(row: Row, field: str) -> float:
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
