"""What fewer judgments for each item would have bought: the label-budget curve."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from trueup.config.seeds import derive
from trueup.feedback.quality.comparisons import PairVote, by_pair, votes
from trueup.feedback.quality.consensus import estimates
from trueup.feedback.store.records import Judged

SIMULATED_PAIRS = 2_000
"""Pairs that the label-budget curve is drawn from; more would not move it by what can be seen."""


@dataclass(frozen=True, slots=True)
class OverlapRow:
    """What so many judgments for each item would have bought."""

    overlap: int
    judgments: int
    """The cost on all pairs."""
    pairs: int
    """How many have enough votes to tell."""
    predicts: float
    low: float
    high: float
    agrees_with_all: float
    open: float
    """Share of pairs left exactly undecided."""


@dataclass(frozen=True, slots=True)
class OverlapReport:
    """The label-budget curve, or the reason why there is none."""

    rows: tuple[OverlapRow, ...]
    method: str
    rounds: int
    reason: str
    simulated: bool

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {
            "rows": [asdict(row) for row in self.rows],
            "method": self.method,
            "rounds": self.rounds,
            "reason": self.reason,
            "simulated": self.simulated,
        }


def overlap_report(judged: Judged, *, method: str = "majority", rounds: int = 20, seed: int = 0) -> OverlapReport:
    """What fewer judgments for each item would have bought: the label-budget curve, from the judgments at hand.

    From every pair with at least two votes, one random vote is set aside and ``k`` of the rest are aggregated. The
    share of pairs where that predicts the vote set aside cannot flatter a small ``k``, unlike agreement with a
    consensus that holds the same votes, which is given too.

    Args:
        judged: The project.
        method: How votes are aggregated; ``majority`` is quick.
        rounds: Random draws; the intervals are over them.
        seed: Same seed, same curve.
    """
    groups = {p: g for p, g in by_pair(votes(judged, kinds=("pairwise", "review"))).items() if len(g) > 1}
    longest, everything = max((len(g) for g in groups.values()), default=0), len(groups)
    if len(groups) > SIMULATED_PAIRS:
        picked = np.random.default_rng(derive(seed, "overlap pairs")).choice(
            len(groups), SIMULATED_PAIRS, replace=False
        )
        names = list(groups)
        groups = {names[i]: groups[names[i]] for i in sorted(picked)}
    full = {label.pair: label.p_first for label in estimates([v for g in groups.values() for v in g], method)}
    rows = []
    for size in range(1, longest):
        # Only pairs that could give ``size`` votes and one to set aside: the same pairs would be better still, but
        # real projects have ragged overlaps and the number of pairs is told beside.
        able = {p: g for p, g in groups.items() if len(g) > size}
        draws = [_draw(able, size, method, full, derive(seed, "overlap", size, n)) for n in range(rounds)]
        drawn = np.array(draws, dtype=np.float64)
        low, high = np.quantile(drawn[:, 0], [0.025, 0.975])
        rows.append(
            OverlapRow(
                overlap=size,
                judgments=size * everything,
                pairs=len(able),
                predicts=float(drawn[:, 0].mean()),
                low=float(low),
                high=float(high),
                agrees_with_all=float(drawn[:, 1].mean()),
                open=float(drawn[:, 2].mean()),
            )
        )
    return OverlapReport(tuple(rows), method, rounds, "" if rows else "no pair has two verdicts", judged.simulated)


def _draw(
    groups: Mapping[tuple[str, str, str], Sequence[PairVote]],
    size: int,
    method: str,
    full: Mapping[tuple[str, str, str], float],
    seed: int,
) -> tuple[float, float, float]:
    """(predicts the vote set aside, agrees with all votes, left open), ties and open pairs counting half."""
    draw = np.random.default_rng(seed)
    kept: list[PairVote] = []
    aside: dict[tuple[str, str, str], int] = {}
    for pair, group in groups.items():
        order = draw.permutation(len(group))
        aside[pair] = group[order[0]].sign
        kept += [group[i] for i in order[1 : size + 1]]
    decided = {label.pair: np.sign(round(label.p_first - 0.5, 9)) for label in estimates(kept, method)}
    predicts = [_half(decided[p] * s) for p, s in aside.items()]
    agrees = [_half(decided[p] * np.sign(round(full[p] - 0.5, 9))) for p in aside]
    opened = [decided[p] == 0 for p in aside]
    return float(np.mean(predicts)), float(np.mean(agrees)), float(np.mean(opened))


def _half(product: float) -> float:
    return 0.5 + 0.5 * float(product)
