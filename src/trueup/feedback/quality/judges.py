"""How able each annotator is and to which side they lean, with the quality of what they judged integrated out.

Estimating every pair's gap beside the annotators' abilities inflates the abilities, because each pair has few votes
and its gap bends to them (Neyman and Scott 1948). Here a pair's gap d ~ N(0, 1) is integrated out by Gauss-Hermite
quadrature, and what remains is the marginal likelihood of

    P(judge j calls the first of a pair better | d) = sigmoid(ability_j * d + o * side_j)

with o = +1 where the first was shown first, -1 where second, 0 where unknown: the two-parameter logistic model of item
response theory (Birnbaum 1968; Bock and Aitkin 1981) with annotators in the place of test items. Ties count half for
each side. Swapping a pair changes nothing but the sign of its gap. That pairs differ in how hard they are is what keeps
its probabilities honest: Dawid and Skene's model takes every vote for an independent draw and is soon too sure.

Shapes: N votes, P pairs, J judges, Q quadrature points, G points of a grid.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
from scipy import optimize, special

from trueup.errors import ShapeError
from trueup.feedback.quality.comparisons import PairVote

Floats: TypeAlias = npt.NDArray[np.float64]
Ints: TypeAlias = npt.NDArray[np.int64]

Z95 = 1.959963984540054
PRIOR_ABILITY = (1.5, 3.0)
"""Mean and standard deviation of an ability, in log-odds for each standard deviation of the gap."""
PRIOR_SIDE = (0.0, 2.0)

_NODES, _WEIGHTS = np.polynomial.hermite_e.hermegauss(31)
NODES_Q: Floats = np.asarray(_NODES, dtype=np.float64)
LOG_WEIGHTS_Q: Floats = np.log(np.asarray(_WEIGHTS, dtype=np.float64) / float(np.sum(_WEIGHTS)))
GRID_G: Floats = np.linspace(-6.0, 6.0, 201)
BLOCK = 1024
"""Patterns of votes whose posteriors are held at a time."""


@dataclass(frozen=True, eq=False)
class Judges:
    """The fit: abilities and sides with the covariance of both, and what it says of every pair."""

    names: tuple[str, ...]
    ability_J: Floats
    side_J: Floats
    covariance: Floats
    """Of all parameters, abilities first; from the exact information (Louis 1982)."""
    pairs: tuple[tuple[str, str, str], ...]
    better_P: Floats
    """Probability that the first is better."""
    error_P: Floats
    """Standard error of its log-odds."""

    @property
    def typical(self) -> float:
        """The median ability: the unit in which abilities are told."""
        return float(np.median(self.ability_J))

    def ability(self, name: str) -> tuple[float, float, float]:
        """Ability in log-odds for each standard deviation of the gap, with a 95 % interval.

        High abilities are known by their factor and low ones by their difference: the interval is even on the scale
        asinh(ability), which is linear near 0 and logarithmic far from it.
        """
        at = self.names.index(name)
        value = float(self.ability_J[at])
        half = Z95 * float(np.sqrt(max(0.0, self.covariance[at, at]) / (1 + value**2)))
        centre = float(np.arcsinh(value))
        return value, float(np.sinh(centre - half)), float(np.sinh(centre + half))

    def relative_ability(self, name: str) -> tuple[float, float, float]:
        """Ability as a multiple of the typical one, with a 95 % interval; the typical one is taken as known.

        Where the median annotator has next to no ability there is no such unit, and the plain value is given.
        """
        unit = self.typical if self.typical > 0.2 else 1.0
        value, low, high = self.ability(name)
        return value / unit, low / unit, high / unit

    def side(self, name: str) -> tuple[float, float, float]:
        """Log-odds for the response shown first, with a 95 % interval."""
        at = self.names.index(name)
        value, row = float(self.side_J[at]), at + len(self.names)
        half = Z95 * float(np.sqrt(max(0.0, self.covariance[row, row])))
        return value, value - half, value + half

    def probability(self, pair: int) -> tuple[float, float, float]:
        """Probability that the first of a pair is the better one, P(d > 0 | votes), with a 95 % interval.

        The interval holds what is not known of the annotators' abilities and sides (delta method on the log-odds).
        """
        p, error = float(self.better_P[pair]), float(self.error_P[pair])
        if not 0.0 < p < 1.0:
            return p, p, p
        centre = float(special.logit(p))
        return p, float(special.expit(centre - Z95 * error)), float(special.expit(centre + Z95 * error))


@dataclass(frozen=True, eq=False)
class _Table:
    """Votes of *patterns*: pairs that the same judges answered in the same way from the same sides are one, counted."""

    names: tuple[str, ...]
    pairs: tuple[tuple[str, str, str], ...]
    """All pairs, as they came."""
    pattern: Ints
    """The pattern of each of ``pairs``."""
    times_P: Floats
    """How many pairs have a pattern; P counts patterns here, and N their votes."""
    pair_N: Ints
    judge_N: Ints
    order_N: Floats
    win_N: Floats
    weight_N: Floats

    @classmethod
    def of(cls, rows: Sequence[PairVote]) -> _Table:
        names = tuple(dict.fromkeys(v.annotator for v in rows))
        judge_at = {name: i for i, name in enumerate(names)}
        cast: dict[tuple[str, str, str], list[tuple[int, float, float, float]]] = {}
        for v in rows:
            order = 0.0 if v.shown_first is None else 1.0 if v.shown_first else -1.0
            cast.setdefault(v.pair, []).append((judge_at[v.annotator], order, 0.5 + 0.5 * v.sign, v.weight))
        patterns: dict[tuple[tuple[int, float, float, float], ...], int] = {}
        pattern = np.array(
            [patterns.setdefault(tuple(sorted(pattern_votes)), len(patterns)) for pattern_votes in cast.values()]
        )
        votes_N = [(place, *vote) for pattern_votes, place in patterns.items() for vote in pattern_votes]
        place_N, judge_N, order_N, win_N, weight_N = (np.array(column) for column in zip(*votes_N, strict=True))
        times_P = np.bincount(pattern, minlength=len(patterns)).astype(np.float64)
        return cls(names, tuple(cast), pattern, times_P, place_N, judge_N, order_N, win_N, weight_N)

    def part(self, begin: int, end: int) -> _Table:
        """The patterns from ``begin`` to ``end`` alone, with their votes; judges keep their numbers."""
        votes = slice(*np.searchsorted(self.pair_N, [begin, end]))
        return replace(
            self,
            times_P=self.times_P[begin:end],
            pair_N=self.pair_N[votes] - begin,
            judge_N=self.judge_N[votes],
            order_N=self.order_N[votes],
            win_N=self.win_N[votes],
            weight_N=self.weight_N[votes],
        )


def fit_judges(rows: Sequence[PairVote]) -> Judges:
    """Maximum marginal posterior by L-BFGS with the analytic gradient.

    Raises:
        ShapeError: There are no votes.
    """
    if not rows:
        raise ShapeError("there are no votes", where="fit_judges", expected="at least one")
    table = _Table.of(rows)
    count = len(table.names)
    start = np.concatenate([np.full(count, PRIOR_ABILITY[0]), np.zeros(count)])
    fit = optimize.minimize(
        lambda x: negative_log_marginal(x, table),
        start,
        jac=True,
        method="L-BFGS-B",
        options={"maxiter": 1000, "ftol": 1e-12},
    )
    covariance = np.asarray(np.linalg.pinv(_information(fit.x, table), hermitian=True), dtype=np.float64)
    better_P, error_P = _better(fit.x, table, covariance)
    return Judges(
        table.names,
        fit.x[:count],
        fit.x[count:],
        covariance,
        table.pairs,
        better_P[table.pattern],
        error_P[table.pattern],
    )


def _posterior(
    x: Floats, table: _Table, points_Q: Floats = NODES_Q, log_weights_Q: Floats = LOG_WEIGHTS_Q
) -> tuple[Floats, Floats, Floats]:
    """Of each pattern: posterior of the gap [P, Q], log marginal likelihood [P], and sigmoid(z) [N, Q]."""
    count = len(table.names)
    z_NQ = x[table.judge_N][:, None] * points_Q + (table.order_N * x[count + table.judge_N])[:, None]
    loss_NQ = np.logaddexp(0.0, z_NQ) - table.win_N[:, None] * z_NQ
    log_PQ = np.tile(log_weights_Q, (len(table.times_P), 1))
    np.add.at(log_PQ, table.pair_N, -table.weight_N[:, None] * loss_NQ)
    marginal_P = special.logsumexp(log_PQ, axis=1)
    return np.exp(log_PQ - marginal_P[:, None]), np.asarray(marginal_P), np.asarray(special.expit(z_NQ))


def _better(x: Floats, table: _Table, covariance: Floats) -> tuple[Floats, Floats]:
    """Of each pattern: the posterior probability of a gap above 0 [P], and the standard error of its log-odds [P].

    On an even grid, because quadrature is for smooth functions. The slope of that probability in a parameter is the
    posterior covariance of [d > 0] with the parameter's score.
    """
    count, patterns = len(table.names), len(table.times_P)
    better_P, error_P = np.empty(patterns), np.empty(patterns)
    above_G = 0.5 + 0.5 * np.sign(GRID_G)
    for begin in range(0, patterns, BLOCK):
        block = slice(begin, min(begin + BLOCK, patterns))
        part = table.part(block.start, block.stop)
        posterior_PG, _, p_NG = _posterior(x, part, GRID_G, -0.5 * GRID_G**2)
        better = posterior_PG @ above_G
        residual_NG = part.weight_N[:, None] * (part.win_N[:, None] - p_NG)
        pull_NG = posterior_PG[part.pair_N] * (above_G - better[part.pair_N, None]) * residual_NG
        slope = np.zeros((len(better), 2 * count))
        np.add.at(slope, (part.pair_N, part.judge_N), pull_NG @ GRID_G)
        np.add.at(slope, (part.pair_N, count + part.judge_N), pull_NG.sum(1) * part.order_N)
        variance = np.maximum(0.0, ((slope @ covariance) * slope).sum(1))
        better_P[block] = better
        error_P[block] = np.sqrt(variance) / np.maximum(better * (1 - better), 1e-12)
    return better_P, error_P


def negative_log_marginal(x: Floats, table: _Table) -> tuple[float, Floats]:
    """Negative log marginal posterior and its gradient at ``x`` = (ability [J], side [J]).

    By Fisher's identity the gradient is the posterior mean of the complete-data gradient: with r = weight * (sigmoid(z)
    - win), d/d ability = sum r d and d/d side = sum r o, averaged over the posterior of d.
    """
    count = len(table.names)
    posterior_PQ, marginal_P, p_NQ = _posterior(x, table)
    weight_N = table.weight_N * table.times_P[table.pair_N]
    residual_NQ = weight_N[:, None] * (p_NQ - table.win_N[:, None]) * posterior_PQ[table.pair_N]
    slope = np.zeros_like(x)
    np.add.at(slope, table.judge_N, residual_NQ @ NODES_Q)
    np.add.at(slope, count + table.judge_N, residual_NQ.sum(1) * table.order_N)
    centre, precision = _prior(count)
    value = -float(table.times_P @ marginal_P) + 0.5 * float(precision @ (x - centre) ** 2)
    return value, slope + precision * (x - centre)


def _prior(count: int) -> tuple[Floats, Floats]:
    both = (PRIOR_ABILITY, PRIOR_SIDE)
    return np.repeat([mean for mean, _ in both], count), np.repeat([1 / sd**2 for _, sd in both], count)


def _information(x: Floats, table: _Table) -> Floats:
    """Observed information: complete-data information less the variance of its score, pair by pair (Louis 1982)."""
    count = len(table.names)
    information = np.diag(_prior(count)[1])
    posterior_PQ, _, p_NQ = _posterior(x, table)
    ends = np.argsort(table.pair_N, kind="stable")
    for votes_N in np.split(ends, np.cumsum(np.bincount(table.pair_N))[:-1]):
        weight_Q = posterior_PQ[table.pair_N[votes_N[0]]]
        judge_K, order_K, share_K = table.judge_N[votes_N], table.order_N[votes_N], table.weight_N[votes_N]
        at = np.concatenate([judge_K, count + judge_K])
        residual_KQ = share_K[:, None] * (p_NQ[votes_N] - table.win_N[votes_N][:, None])
        score_LQ = np.concatenate([residual_KQ * NODES_Q, residual_KQ * order_K[:, None]])
        mean_L = score_LQ @ weight_Q
        spread_LL = (score_LQ * weight_Q) @ score_LQ.T - np.outer(mean_L, mean_L)
        times = float(table.times_P[table.pair_N[votes_N[0]]])
        curve_KQ = times * share_K[:, None] * p_NQ[votes_N] * (1 - p_NQ[votes_N]) * weight_Q
        np.subtract.at(information, (at[:, None], at[None, :]), times * spread_LL)
        size = len(votes_N)
        for k in range(size):
            a, s, o = at[k], at[size + k], order_K[k]
            cross = float(curve_KQ[k] @ NODES_Q) * o
            information[a, a] += float(curve_KQ[k] @ NODES_Q**2)
            information[s, s] += float(curve_KQ[k].sum()) * o * o
            information[a, s] += cross
            information[s, a] += cross
    return information
