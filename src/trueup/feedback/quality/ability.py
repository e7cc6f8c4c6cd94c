"""Bradley-Terry with annotators in it: how good responses are, how able each judge is, which side he leans to.

The probability that judge j calls the response shown first the better one is

    P(first) = sigmoid(ability_j * (quality_first - quality_second) + side_j)

with normal priors: quality ~ N(0, 1 / ridge), ability ~ N(1, spread²), side ~ N(0, spread²). Ability near 0 is noise,
below 0 is reversed judgment. Ties count half for each side. Chen et al. 2013 (Crowd-BT) has the idea; the gradient here
is derived by hand and tested against central differences.

Shapes: N comparisons, M things compared, J judges.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
from scipy import optimize, special

from trueup.errors import ShapeError

Floats: TypeAlias = npt.NDArray[np.float64]
Ints: TypeAlias = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Duel:
    """One judgment as it was made: ``win`` is 1 for the thing shown first, 0 for the second, 0.5 for a tie."""

    first: Hashable
    second: Hashable
    judge: Hashable
    win: float
    weight: float = 1.0


@dataclass(frozen=True, eq=False)
class Abilities:
    """The fit, with standard errors from the Hessian at the optimum."""

    things: tuple[Hashable, ...]
    judges: tuple[Hashable, ...]
    quality_M: Floats
    ability_J: Floats
    side_J: Floats
    covariance: Floats
    """Of all parameters, in the order quality, ability, side."""

    def probability(self, first: Hashable, second: Hashable) -> tuple[float, float, float]:
        """P(first is better) for a judge of ability 1 who leans to no side, with a 95 % interval (delta method)."""
        a, b = self.things.index(first), self.things.index(second)
        gap = self.quality_M[a] - self.quality_M[b]
        variance = self.covariance[a, a] + self.covariance[b, b] - 2 * self.covariance[a, b]
        half = 1.959963984540054 * float(np.sqrt(max(0.0, variance)))
        point, low, high = (float(special.expit(gap + shift)) for shift in (0.0, -half, half))
        return point, low, high

    def interval(self, judge: Hashable, what: str) -> tuple[float, float, float]:
        """``ability`` or ``side`` of a judge with a 95 % interval."""
        j, m = self.judges.index(judge), len(self.things)
        values, offset = (self.ability_J, m) if what == "ability" else (self.side_J, m + len(self.judges))
        half = 1.959963984540054 * float(np.sqrt(max(0.0, self.covariance[offset + j, offset + j])))
        return float(values[j]), float(values[j]) - half, float(values[j]) + half


def fit_abilities(duels: Sequence[Duel], *, ridge: float = 0.1, spread: float = 1.0) -> Abilities:
    """Maximum a posteriori by L-BFGS with the analytic gradient.

    Args:
        duels: Judgments, sides as shown.
        ridge: Precision of the prior on quality; it also fixes the scale's zero.
        spread: Standard deviation of the priors on ability (around 1) and side (around 0).

    Raises:
        ShapeError: Nothing was judged.
    """
    table = _Table.of(duels)
    start = np.concatenate([np.zeros(len(table.things)), np.ones(len(table.judges)), np.zeros(len(table.judges))])
    fit = optimize.minimize(
        lambda x: negative_log_posterior(x, table, ridge, spread),
        start,
        jac=True,
        method="L-BFGS-B",
        options={"maxiter": 2000},
    )
    m, j = len(table.things), len(table.judges)
    precision = _hessian(fit.x, table, ridge, spread)
    covariance = np.asarray(np.linalg.inv(precision), dtype=np.float64)
    return Abilities(table.things, table.judges, fit.x[:m], fit.x[m : m + j], fit.x[m + j :], covariance)


@dataclass(frozen=True, eq=False)
class _Table:
    things: tuple[Hashable, ...]
    judges: tuple[Hashable, ...]
    first_N: Ints
    second_N: Ints
    judge_N: Ints
    win_N: Floats
    weight_N: Floats

    @classmethod
    def of(cls, duels: Sequence[Duel]) -> _Table:
        if not duels:
            raise ShapeError("there are no comparisons", where="fit_abilities", expected="at least one")
        things = tuple(dict.fromkeys(name for d in duels for name in (d.first, d.second)))
        judges = tuple(dict.fromkeys(d.judge for d in duels))
        thing_at, judge_at = ({name: i for i, name in enumerate(names)} for names in (things, judges))
        return cls(
            things,
            judges,
            np.array([thing_at[d.first] for d in duels], dtype=np.int64),
            np.array([thing_at[d.second] for d in duels], dtype=np.int64),
            np.array([judge_at[d.judge] for d in duels], dtype=np.int64),
            np.array([d.win for d in duels]),
            np.array([d.weight for d in duels]),
        )


def negative_log_posterior(x: Floats, table: _Table, ridge: float, spread: float) -> tuple[float, Floats]:
    """Negative log-posterior and its gradient at ``x`` = (quality [M], ability [J], side [J]).

    With z = ability * gap + side and r = weight * (sigmoid(z) - win): d/d gap = r * ability, d/d ability = r * gap,
    d/d side = r.
    """
    m, j = len(table.things), len(table.judges)
    quality_M, ability_J, side_J = x[:m], x[m : m + j], x[m + j :]
    gap_N = quality_M[table.first_N] - quality_M[table.second_N]
    skill_N = ability_J[table.judge_N]
    z_N = skill_N * gap_N + side_J[table.judge_N]
    loss_N = np.logaddexp(0.0, z_N) - table.win_N * z_N
    value = float((table.weight_N * loss_N).sum())
    value += 0.5 * ridge * float(quality_M @ quality_M)
    value += 0.5 * float(((ability_J - 1) ** 2).sum() + (side_J**2).sum()) / spread**2
    residual_N = table.weight_N * (special.expit(z_N) - table.win_N)
    slope = np.zeros_like(x)
    np.add.at(slope, table.first_N, residual_N * skill_N)
    np.add.at(slope, table.second_N, -residual_N * skill_N)
    np.add.at(slope, m + table.judge_N, residual_N * gap_N)
    np.add.at(slope, m + j + table.judge_N, residual_N)
    slope[:m] += ridge * quality_M
    slope[m : m + j] += (ability_J - 1) / spread**2
    slope[m + j :] += side_J / spread**2
    return value, slope


def _hessian(x: Floats, table: _Table, ridge: float, spread: float) -> Floats:
    """Expected (Fisher) information plus the priors' precision: always positive definite."""
    m, j = len(table.things), len(table.judges)
    gap_N = x[table.first_N] - x[table.second_N]
    skill_N = x[m + table.judge_N]
    p_N = special.expit(skill_N * gap_N + x[m + j + table.judge_N])
    weight_N = table.weight_N * p_N * (1 - p_N)
    columns = (table.first_N, table.second_N, m + table.judge_N, m + j + table.judge_N)
    slopes = (skill_N, -skill_N, gap_N, np.ones_like(gap_N))
    information = np.diag(np.concatenate([np.full(m, ridge), np.full(2 * j, 1 / spread**2)]))
    for row, by in zip(columns, slopes, strict=True):
        for column, also in zip(columns, slopes, strict=True):
            np.add.at(information, (row, column), weight_N * by * also)
    return information


def fit_strengths(duels: Sequence[Duel], *, ridge: float = 0.0) -> dict[Hashable, float]:
    """Plain weighted Bradley-Terry strengths with mean 0, ties as half a win each; judges are not told apart.

    Without ``ridge`` it is maximum likelihood, which exists only where no group of things always beats the rest.

    Raises:
        ShapeError: Maximum likelihood does not exist for these comparisons.
    """
    table = _Table.of(duels)
    m = len(table.things)

    def loss(x: Floats) -> tuple[float, Floats]:
        gap_N = x[table.first_N] - x[table.second_N]
        value = float((table.weight_N * (np.logaddexp(0.0, gap_N) - table.win_N * gap_N)).sum())
        residual_N = table.weight_N * (special.expit(gap_N) - table.win_N)
        slope = ridge * x
        np.add.at(slope, table.first_N, residual_N)
        np.add.at(slope, table.second_N, -residual_N)
        return value + 0.5 * ridge * float(x @ x), slope

    if ridge == 0.0 and not _strongly_connected(table):
        raise ShapeError(
            "some things always beat the others, so their strength has no bound",
            where="fit_strengths",
            fix="give ridge > 0, or compare them with more of the others",
        )
    fit = optimize.minimize(loss, np.zeros(m), jac=True, method="L-BFGS-B", options={"ftol": 1e-14, "gtol": 1e-10})
    centred = fit.x - fit.x.mean()
    return {name: float(value) for name, value in zip(table.things, centred, strict=True)}


def _strongly_connected(table: _Table) -> bool:
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    wins = np.concatenate([table.win_N > 0, table.win_N < 1])
    better = np.concatenate([table.first_N, table.second_N])[wins]
    worse = np.concatenate([table.second_N, table.first_N])[wins]
    graph = coo_array((np.ones(len(better)), (better, worse)), shape=(len(table.things), len(table.things)))
    groups, _ = connected_components(graph, directed=True, connection="strong")
    return int(groups) == 1
