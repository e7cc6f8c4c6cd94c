"""The quality pages of a project as plain JSON values: agreement, annotators, bias, disagreement, gold, overlap.

Only the main and hold-out streams speak of agreement; gold and attention items speak of annotators. What is undefined
is None with its reason in words, never NaN.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import Any

import numpy as np

from trueup.feedback.judged import is_right
from trueup.feedback.quality.agreement import (
    Agreement,
    Level,
    alpha_with_interval,
    cohen_kappa,
    fleiss_kappa,
    gwet_ac1,
    kendall_w,
    raw_agreement,
)
from trueup.feedback.quality.comparisons import COMPARED, Vote, answer_of, by_pair, scores_by_axis, votes
from trueup.feedback.quality.consensus import METHODS, aggregate, estimates
from trueup.feedback.quality.gold import wilson
from trueup.feedback.quality.leanings import bias
from trueup.feedback.quality.people import annotators
from trueup.feedback.records import DEFAULT_METHOD, Judged, JudgmentRow
from trueup.seeds import derive
from trueup.types import prompt_json

__all__ = [
    "METHODS",
    "aggregate",
    "agreement",
    "annotators",
    "bias",
    "disagreement",
    "gold",
    "overlap",
]

Labelled = Mapping[str, Sequence[tuple[str, float]]]
"""Unit -> (annotator, value)."""

BURNED_EXPOSURES = 50
"""A gold item shown more often than this is taken to be known by word of mouth."""


def agreement(judged: Judged, *, resamples: int = 1000) -> dict[str, Any]:
    """Agreement by task kind, and by axis for ratings.

    Returns:
        ``{"rows": [...], "simulated"}``; a row has ``kind, axis, level, items, raters, pairable`` and the coefficients
        ``raw, alpha, ac1, kappa`` (and ``kendall_w`` for rankings), each ``{value, low, high, reason}``.
    """
    rows = []
    for kind in COMPARED:
        cast = votes(judged, kinds=(kind,))
        if not cast:
            continue
        winner = {"/".join(p): [(v.annotator, float(v.sign)) for v in g] for p, g in by_pair(cast).items()}
        row = _row(kind, "winner", "nominal", winner, resamples)
        if kind == "ranking":
            row["kendall_w"] = _kendall(judged)
        rows.append(row)
        if kind == "pairwise":
            graded = {"/".join(p): [(v.annotator, float(v.outcome)) for v in g] for p, g in by_pair(cast).items()}
            rows.append(_row(kind, "strength", "ordinal", graded, resamples))
    accepted = votes(judged, kinds=("binary",))
    if accepted:
        units = {"/".join(p): [(v.annotator, float(v.sign)) for v in g] for p, g in by_pair(accepted).items()}
        rows.append(_row("binary", "acceptable", "nominal", units, resamples))
    for axis, items in sorted(scores_by_axis(judged).items()):
        points = {item: [(who, float(point)) for who, point in given] for item, given in items.items()}
        rows.append(_row("rating", axis, "ordinal", points, resamples))
    return {"rows": rows, "simulated": judged.simulated}


def _row(kind: str, axis: str, level: Level, units: Labelled, resamples: int) -> dict[str, Any]:
    values = [[value for _, value in unit] for unit in units.values()]
    alpha = alpha_with_interval(values, level, resamples=resamples)
    return {
        "kind": kind,
        "axis": axis,
        "level": level,
        "items": alpha.units,
        "raters": len({name for unit in units.values() for name, _ in unit}),
        "pairable": alpha.pairable,
        "raw": _coefficient(raw_agreement(values)),
        "alpha": _coefficient(alpha),
        "ac1": _coefficient(gwet_ac1(values)),
        "kappa": _coefficient(_kappa(units)),
    }


def _coefficient(found: Agreement) -> dict[str, Any]:
    reason = found.reason
    if found.value is None and "one category" in reason:
        reason = "undefined: only one category used"
    return {"name": found.name, "value": found.value, "low": found.low, "high": found.high, "reason": reason}


def _kappa(units: Labelled) -> Agreement:
    """Fleiss' kappa where every item has equally many verdicts; else the mean of Cohen's over pairs of annotators."""
    values = [[value for _, value in unit] for unit in units.values()]
    if len({len(unit) for unit in values}) == 1:
        return fleiss_kappa(values)
    shared: dict[tuple[str, str], list[tuple[float, float]]] = {}
    for unit in units.values():
        for (one, a), (other, b) in combinations(sorted(unit), 2):
            shared.setdefault((one, other), []).append((a, b))
    found = [
        (cohen_kappa([a for a, _ in rows], [b for _, b in rows]), len(rows))
        for rows in shared.values()
        if len(rows) >= 5
    ]
    defined = [(k.value, n) for k, n in found if k.value is not None]
    name = "mean Cohen kappa"
    if not defined:
        return Agreement(name, None, reason="no two annotators share five items with more than one category")
    return Agreement(name, sum(k * n for k, n in defined) / sum(n for _, n in defined))


def _kendall(judged: Judged) -> dict[str, Any]:
    """Mean Kendall's W over items whose every ranking is complete."""
    tables: dict[str, list[list[float]]] = {}
    for row in judged.judgments:
        item = judged.items.get(row.item)
        if item is None or item.kind != "ranking" or item.stream not in ("main", "holdout"):
            continue
        answer = answer_of(item, row)
        place = {name: n for n, tier in enumerate(answer.tiers) for name in tier} if answer is not None else {}
        if len(place) == len(item.responses):
            tables.setdefault(item.id, []).append([float(place[r.id]) for r in item.responses])
    values = [w.value for table in tables.values() if (w := kendall_w(table)).value is not None]
    if not values:
        return {"value": None, "items": 0, "reason": "no item has two complete rankings"}
    return {"value": float(np.mean(values)), "items": len(values), "reason": ""}


def disagreement(judged: Judged, *, method: str = DEFAULT_METHOD, most: int = 100) -> dict[str, Any]:
    """Pairs that people see differently, the most open first, with the rationales of both sides.

    Args:
        judged: The project.
        method: How the probability is made; see ``aggregate``.
        most: Longest list.

    Returns:
        ``{"rows": [...], "pairs", "unanimous", "simulated"}``; entropy is in bits, 1 where all is open.
    """
    cast = votes(judged)
    groups = by_pair(cast)
    rationale = {row.id: row.rationale for row in judged.judgments}
    rows = []
    for one in estimates(cast, method):
        group = groups[one.pair]
        if len({v.sign for v in group}) < 2:
            continue
        item = judged.items[one.item]
        texts = {r.id: r.text for r in item.responses}
        sides: dict[str, list[dict[str, Any]]] = {"first": [], "second": [], "tie": []}
        for vote in group:
            side = {1: "first", -1: "second", 0: "tie"}[vote.sign]
            said = {"annotator": vote.annotator, "strength": abs(vote.outcome), "rationale": rationale[vote.judgment]}
            sides[side].append(said)
        rows.append(
            {
                "item": one.item,
                "kind": item.kind,
                "prompt": prompt_json(item.prompt),
                "first": {"id": one.first, "text": texts[one.first]},
                "second": {"id": one.second, "text": texts[one.second]},
                "p_first": one.p_first,
                "entropy": _entropy(one.p_first),
                "votes": {side: len(found) for side, found in sides.items()},
                "rationales": sides,
            }
        )
    rows.sort(key=lambda row: (-round(row["entropy"], 9), row["item"], row["first"]["id"], row["second"]["id"]))
    shared = [g for g in groups.values() if len(g) > 1]
    unanimous = sum(len({v.sign for v in g}) == 1 for g in shared)
    return {"rows": rows[:most], "pairs": len(shared), "unanimous": unanimous, "simulated": judged.simulated}


def _entropy(p: float) -> float:
    return -sum(q * math.log2(q) for q in (p, 1 - p) if q > 0)


def gold(judged: Judged, *, limit: int = BURNED_EXPOSURES) -> dict[str, Any]:
    """Each gold, calibration and attention item: how often shown, how often answered right, burned, doubtful.

    An item is *burned* once it was shown to more than ``limit`` people. Its key is *doubtful* when even the upper end
    of the interval of right answers lies below one half: then the crowd, not the annotator, contradicts it.
    """
    answered: dict[str, list[JudgmentRow]] = {}
    for judgment in judged.judgments:
        answered.setdefault(judgment.item, []).append(judgment)
    rows = []
    for item in judged.items.values():
        if item.stream not in ("gold", "calibration", "attention") or item.gold is None:
            continue
        shown = answered.get(item.id, [])
        marks = [is_right(row.answer, item.gold) for row in shown if row.answer is not None]
        low, high = wilson(sum(marks), len(marks)) if marks else (None, None)
        rows.append(
            {
                "item": item.id,
                "stream": item.stream,
                "kind": item.kind,
                "prompt": prompt_json(item.prompt),
                "exposure": len(shown),
                "answered": len(marks),
                "right": sum(marks),
                "accuracy": sum(marks) / len(marks) if marks else None,
                "low": low,
                "high": high,
                "burned": len(shown) > limit,
                "doubtful": high is not None and high < 0.5,
            }
        )
    rows.sort(key=lambda row: (-row["exposure"], row["item"]))
    return {"rows": rows, "limit": limit, "simulated": judged.simulated}


SIMULATED_PAIRS = 2_000
"""Pairs that the label-budget curve is drawn from; more would not move it by what can be seen."""


def overlap(judged: Judged, *, method: str = "majority", rounds: int = 20, seed: int = 0) -> dict[str, Any]:
    """What fewer judgments for each item would have bought: the label-budget curve, from the judgments at hand.

    From every pair with at least two votes, one random vote is set aside and ``k`` of the rest are aggregated. The
    share of pairs where that predicts the vote set aside cannot flatter a small ``k``, unlike agreement with a
    consensus that holds the same votes, which is given too.

    Args:
        judged: The project.
        method: How votes are aggregated; ``majority`` is quick.
        rounds: Random draws; the intervals are over them.
        seed: Same seed, same curve.

    Returns:
        ``{"rows": [{overlap, judgments, pairs, predicts, low, high, agrees_with_all, open}], ...}``: ``judgments`` is
        the cost on all pairs, ``open`` the share of pairs left exactly undecided.
    """
    groups = {p: g for p, g in by_pair(votes(judged, kinds=("pairwise", "review"))).items() if len(g) > 1}
    longest, everything = max((len(g) for g in groups.values()), default=0), len(groups)
    if len(groups) > SIMULATED_PAIRS:
        picked = np.random.default_rng(derive(seed, "overlap pairs")).choice(
            len(groups), SIMULATED_PAIRS, replace=False
        )
        names = list(groups)
        groups = {names[i]: groups[names[i]] for i in sorted(picked)}
    full = {one.pair: one.p_first for one in estimates([v for g in groups.values() for v in g], method)}
    rows = []
    for size in range(1, longest):
        # Only pairs that could give ``size`` votes and one to set aside: the same pairs would be better still, but
        # real projects have ragged overlaps and the number of pairs is told beside.
        able = {p: g for p, g in groups.items() if len(g) > size}
        draws = [_draw(able, size, method, full, derive(seed, "overlap", size, n)) for n in range(rounds)]
        held = np.array(draws, dtype=np.float64)
        low, high = np.quantile(held[:, 0], [0.025, 0.975])
        rows.append(
            {
                "overlap": size,
                "judgments": size * everything,
                "pairs": len(able),
                "predicts": float(held[:, 0].mean()),
                "low": float(low),
                "high": float(high),
                "agrees_with_all": float(held[:, 1].mean()),
                "open": float(held[:, 2].mean()),
            }
        )
    reason = "" if rows else "no pair has two verdicts"
    return {"rows": rows, "method": method, "rounds": rounds, "reason": reason, "simulated": judged.simulated}


def _draw(
    groups: Mapping[tuple[str, str, str], Sequence[Vote]],
    size: int,
    method: str,
    full: Mapping[tuple[str, str, str], float],
    seed: int,
) -> tuple[float, float, float]:
    """(predicts the vote set aside, agrees with all votes, left open), ties and open pairs counting half."""
    draw = np.random.default_rng(seed)
    kept: list[Vote] = []
    aside: dict[tuple[str, str, str], int] = {}
    for pair, group in groups.items():
        order = draw.permutation(len(group))
        aside[pair] = group[order[0]].sign
        kept += [group[i] for i in order[1 : size + 1]]
    made = {one.pair: np.sign(round(one.p_first - 0.5, 9)) for one in estimates(kept, method)}
    predicts = [_half(made[p] * s) for p, s in aside.items()]
    agrees = [_half(made[p] * np.sign(round(full[p] - 0.5, 9))) for p in aside]
    opened = [made[p] == 0 for p in aside]
    return float(np.mean(predicts)), float(np.mean(agrees)), float(np.mean(opened))


def _half(product: float) -> float:
    return 0.5 + 0.5 * float(product)
