"""Win-rates with the effect of length taken out, after Dubois et al. 2024 (arXiv 2404.04475).

Two models are one contest, and a logistic line of its wins over the difference in length is all there is: the rate is
read off at equal length, where there may be no answers. From three models on, all contests with the baseline are
fitted together:

    P(model m beats the baseline on prompt i) = sigmoid(m_m + w tanh(d_mi / s_m) + g_i)

with d the difference in length and s_m its standard deviation, one slope w for all models, and a difficulty g_i of
each prompt, g ~ N(0, 2^2). The rate of m is the mean of sigmoid(m_m + g_i) over prompts. The prior of g is fixed:
prompts differ by about two logits; docs/evaluate.md says what other values give.

Shapes: R resamples, K prompts, N pairs of answers, M contests, P = M + 1 (levels, slope).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from trueup.errors import ShapeError
from trueup.evaluation.intervals import (
    SHARE,
    Floats,
    Interval,
    Unseen,
    bootstrap,
    cluster_codes,
    interval_of,
    resampled,
)
from trueup.evaluation.rows import Row
from trueup.evaluation.winrate import Contest, contest

# In units of one observation: enough to keep a separable fit finite, too little to move any other.
RIDGE_MODEL = 0.01
RIDGE_LENGTH = 1.0
RIDGE_DIFFICULTY = 0.25
"""1 / 2^2, the precision of the prior of g."""
OVERLAP = 0.05
"""Share of the pairs on either side of equal length, below which length and model cannot be told apart."""
_ITERATIONS, _STEP, _CLOSE = 60, 2.0, 1e-9


@dataclass(frozen=True, slots=True)
class LengthControlled:
    """Win-rate predicted for answers of equal length.

    ``identified`` is False where one side is (almost) always the longer one: length and model cannot then be told
    apart, and the rate must not be used. ``extrapolates`` is True for a contest on its own: nothing but its own pairs
    says what length is worth.
    """

    a: str
    b: str
    rate: Interval
    length_weight: float
    identified: bool
    extrapolates: bool = True

    def to_dict(self) -> dict[str, Any]:
        """JSON form."""
        return {
            "a": self.a,
            "b": self.b,
            "rate": self.rate.to_dict(),
            "length_weight": self.length_weight,
            "identified": self.identified,
            "extrapolates": self.extrapolates,
        }


def length_controlled(
    rows: Sequence[Row],
    a: str,
    b: str,
    *,
    score: str = "gold",
    length: str = "tokens",
    tie: float = 0.0,
    resamples: int = 1000,
    seed: int = 0,
) -> LengthControlled:
    """The win-rate of two models at equal length, by their own answers alone; see ``contest`` and ``of_contest``."""
    return of_contest(contest(rows, a, b, score=score, tie=tie, length=length), resamples=resamples, seed=seed)


def of_contests(
    contests: Sequence[Contest], *, level: float = 0.95, resamples: int = 1000, seed: int = 0
) -> dict[str, LengthControlled]:
    """By the name of each model: the joint fit of two or more contests with one baseline; of one, its own.

    Raises:
        ShapeError: No contests, or with several baselines.
    """
    if not contests or len({c.b for c in contests}) > 1:
        raise ShapeError(f"{len(contests)} contests", where="length control", expected="contests with one baseline")
    if len(contests) == 1:
        return {contests[0].a: of_contest(contests[0], level=level, resamples=resamples, seed=seed)}
    joint = _Joint(contests)
    levels_M, weight, difficulty_K = joint.fit(np.ones(joint.prompts))
    estimate_M = joint.rates(levels_M, difficulty_K, np.ones(joint.prompts))
    rates_RM = np.full((resamples, len(contests)), np.nan)
    if joint.prompts > 1:
        for row, weights_K in enumerate(resampled(joint.prompts, resamples, seed)):
            levels, _, difficulty = joint.fit(weights_K, (levels_M, weight, difficulty_K))
            rates_RM[row] = joint.rates(levels, difficulty, weights_K)
    lengths = np.concatenate([c.length_N for c in contests])
    identified = overlap(lengths) >= OVERLAP
    tail = (1 - level) / 2
    controlled = {}
    for index, one in enumerate(contests):
        estimate = float(estimate_M[index])
        interval = Interval(estimate, float("nan"), float("nan"), 1, level, "none: one cluster")
        if joint.prompts > 1:
            interval = interval_of(
                estimate,
                rates_RM[:, index],
                joint.prompts,
                np.array([tail, 1 - tail]),
                level=level,
                method="percentile",
                unseen=_unseen(one),
            )
        controlled[one.a] = LengthControlled(one.a, one.b, interval, weight, identified, False)
    return controlled


def of_contest(one: Contest, *, level: float = 0.95, resamples: int = 1000, seed: int = 0) -> LengthControlled:
    """P(a wins) = sigmoid(m + w tanh(d / s)) fitted to one contest; the rate is sigmoid(m).

    Exchanging a and b gives one minus the rate; a model against itself gives 0.5.
    """
    x_N = bounded(one.length_N)
    codes_N, count = cluster_codes(one.prompts)
    share_N = 1.0 / np.bincount(codes_N, minlength=count)[codes_N]

    def rate(weights_RK: Floats) -> Floats:
        model_R, _ = _fit_line(x_N, one.outcome_N, weights_RK[:, codes_N] * share_N)
        return _sigmoid(model_R)

    _, weight_R = _fit_line(x_N, one.outcome_N, share_N[None, :])
    # The jackknife of BCa would refit K times for little; the percentile interval is used.
    options: dict[str, Any] = {"level": level, "resamples": resamples, "seed": seed}
    interval = bootstrap(rate, count, method="percentile", unseen=_unseen(one), **options)
    return LengthControlled(one.a, one.b, interval, float(weight_R[0]), overlap(one.length_N) >= OVERLAP)


def bounded(difference_N: Floats) -> Floats:
    """tanh of differences in length, in units of their standard deviation; a constant difference is its sign."""
    spread = float(difference_N.std())
    return np.tanh(difference_N / spread) if spread > 0 else np.sign(difference_N)


def overlap(difference_N: Floats) -> float:
    """The smaller share of pairs on either side of equal length."""
    return min(float((difference_N <= 0).mean()), float((difference_N >= 0).mean()))


def _sigmoid(logits: Floats) -> Floats:
    odds: Floats = 1.0 / (1.0 + np.exp(-np.clip(logits, -40, 40)))
    return odds


def _unseen(one: Contest) -> Unseen:
    codes_N, count = cluster_codes(one.prompts)
    sums_K, counts_K = np.bincount(codes_N, one.outcome_N, count), np.bincount(codes_N, minlength=count)
    return Unseen.of((sums_K / counts_K).astype(np.float64), SHARE)


class _Joint:
    """All contests with one baseline, ready to be fitted to any weighting of the prompts."""

    def __init__(self, contests: Sequence[Contest]) -> None:
        self.models = len(contests)
        self.model_N = np.repeat(np.arange(self.models), [len(c.outcome_N) for c in contests])
        self.prompt_N, self.prompts = cluster_codes([prompt for c in contests for prompt in c.prompts])
        self.x_N = np.concatenate([bounded(c.length_N) for c in contests])
        self.y_N = np.concatenate([c.outcome_N for c in contests])
        self.cell_N: npt.NDArray[np.int64] = self.prompt_N * (self.models + 1) + self.model_N
        cells = np.bincount(self.cell_N, minlength=self.prompts * (self.models + 1))
        # However many samples a prompt has, each model counts once on it.
        self.share_N = 1.0 / cells[self.cell_N]
        self.asked_KM = cells.reshape(self.prompts, -1)[:, : self.models] > 0

    def fit(self, weights_K: Floats, start: tuple[Floats, float, Floats] | None = None) -> tuple[Floats, float, Floats]:
        """Levels [M], slope and difficulties [K] by Newton steps; the difficulties are eliminated (Schur)."""
        if start is None:
            theta_P, difficulty_K = np.zeros(self.models + 1), np.zeros(self.prompts)
        else:
            theta_P, difficulty_K = np.append(start[0], start[1]), start[2].copy()
        ridge_P = np.append(np.full(self.models, RIDGE_MODEL), RIDGE_LENGTH)
        for _ in range(_ITERATIONS):
            p_N = _sigmoid(theta_P[self.model_N] + theta_P[-1] * self.x_N + difficulty_K[self.prompt_N])
            error_N, curve_N = self.share_N * (p_N - self.y_N), self.share_N * p_N * (1 - p_N)
            # Weights of prompts multiply a prompt's own prior as well: drawn twice, it is two prompts.
            own_K = np.bincount(self.prompt_N, error_N, self.prompts) + RIDGE_DIFFICULTY * difficulty_K
            own_curve_K = np.bincount(self.prompt_N, curve_N, self.prompts) + RIDGE_DIFFICULTY
            cross_KP = np.bincount(self.cell_N, curve_N, self.prompts * (self.models + 1)).reshape(self.prompts, -1)
            cross_KP[:, -1] = np.bincount(self.prompt_N, curve_N * self.x_N, self.prompts)
            drawn_N = weights_K[self.prompt_N]
            grad_P = self._by_model(drawn_N * error_N) + ridge_P * theta_P
            hessian_PP = self._curves(drawn_N * curve_N) + np.diag(ridge_P)
            ratio_K = weights_K / own_curve_K
            reduced_PP = hessian_PP - cross_KP.T @ (ratio_K[:, None] * cross_KP)
            step_P = np.linalg.solve(reduced_PP, grad_P - cross_KP.T @ (ratio_K * own_K))
            step_K = (own_K - cross_KP @ step_P) / own_curve_K
            # Far from the optimum a Newton step of a logistic model can overshoot; a capped one cannot run away.
            theta_P = theta_P - np.clip(step_P, -_STEP, _STEP)
            difficulty_K = difficulty_K - np.clip(step_K, -_STEP, _STEP)
            if max(np.abs(step_P).max(), np.abs(step_K).max()) < _CLOSE:
                break
        return theta_P[:-1], float(theta_P[-1]), difficulty_K

    def rates(self, levels_M: Floats, difficulty_K: Floats, weights_K: Floats) -> Floats:
        """Mean win-rate [M] at equal length over the prompts that each model was asked."""
        p_KM = _sigmoid(levels_M[None, :] + difficulty_K[:, None])
        weights_KM = weights_K[:, None] * self.asked_KM
        rates_M: Floats = (weights_KM * p_KM).sum(0) / np.maximum(weights_KM.sum(0), 1e-300)
        return rates_M

    def _by_model(self, values_N: Floats) -> Floats:
        return np.append(np.bincount(self.model_N, values_N, self.models), values_N @ self.x_N)

    def _curves(self, curve_N: Floats) -> Floats:
        hessian_PP = np.zeros((self.models + 1, self.models + 1))
        hessian_PP[np.arange(self.models), np.arange(self.models)] = np.bincount(self.model_N, curve_N, self.models)
        mixed_M = np.bincount(self.model_N, curve_N * self.x_N, self.models)
        hessian_PP[:-1, -1] = hessian_PP[-1, :-1] = mixed_M
        hessian_PP[-1, -1] = curve_N @ (self.x_N * self.x_N)
        return hessian_PP


def _fit_line(x_N: Floats, y_N: Floats, weights_RN: Floats) -> tuple[Floats, Floats]:
    """Ridge logistic regression for each of R weightings, by Newton steps: intercepts [R] and slopes [R]."""
    model_R = np.zeros(len(weights_RN))
    slope_R = np.zeros(len(weights_RN))
    for _ in range(_ITERATIONS):
        p_RN = _sigmoid(model_R[:, None] + slope_R[:, None] * x_N)
        error_RN = weights_RN * (p_RN - y_N)
        curve_RN = weights_RN * p_RN * (1 - p_RN)
        g0, g1 = error_RN.sum(1) + RIDGE_MODEL * model_R, error_RN @ x_N + RIDGE_LENGTH * slope_R
        h00, h01, h11 = curve_RN.sum(1) + RIDGE_MODEL, curve_RN @ x_N, curve_RN @ (x_N * x_N) + RIDGE_LENGTH
        determinant = h00 * h11 - h01 * h01
        step0, step1 = (h11 * g0 - h01 * g1) / determinant, (h00 * g1 - h01 * g0) / determinant
        model_R = model_R - np.clip(step0, -_STEP, _STEP)
        slope_R = slope_R - np.clip(step1, -_STEP, _STEP)
        if max(np.abs(step0).max(), np.abs(step1).max()) < _CLOSE:
            break
    return model_R, slope_R
