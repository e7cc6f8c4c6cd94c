"""Soft labels of pairs by a constitution (RL-CAI; Bai et al. 2022, section 4), and what they are worth.

Each pair is shown in both orders under every principle. With p1 = P(first is better) when it is shown first and p2 the
same when it is shown second, a principle says (p1 + p2) / 2, and the label is the weighted mean over principles. How
far p1 and p2 are apart is the bias of the judge's places, and is reported before anything is trained.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from trueup.collectors.constitution import Constitution
from trueup.collectors.constitution_revise import Judging
from trueup.errors import ConfigError
from trueup.types import Prompt, prompt_json

Pair = tuple[Prompt, str, str]
"""A prompt and two answers."""
BINS = 5


@dataclass(frozen=True, slots=True)
class Label:
    """What a constitution says of a pair."""

    pair: Pair
    p_first: float | None
    """P(the first answer is better); None where no principle had a verdict in both orders."""
    orders: Mapping[str, tuple[float, float] | None]
    """Principle id -> P(first is better) shown first, and shown second; None without a verdict."""


def label_pairs(
    pairs: Sequence[Pair],
    constitution: Constitution,
    judge: Judging,
    *,
    clamp: tuple[float, float] | None = None,
) -> list[Label]:
    """The label of each pair.

    Args:
        pairs: Prompts with two answers.
        constitution: Every principle of it is asked about every pair, and counts by its weight.
        judge: Who is asked.
        clamp: Bounds of a label, as 0.4 and 0.6 for a judge that reasons first and is then too sure.

    Raises:
        ConfigError: Bounds that hold no half.
    """
    if clamp is not None and not 0 <= clamp[0] < 0.5 < clamp[1] <= 1:
        raise ConfigError(f"clamp is {clamp}", where="clamp", expected="0 <= low < 0.5 < high <= 1")
    principles = constitution.principles
    asked = [(p.text, prompt, a, b) for prompt, first, second in pairs for p in principles for a, b in (
        (first, second), (second, first)
    )]  # fmt: skip
    verdicts = judge.first_wins(asked)
    labels = []
    for number, pair in enumerate(pairs):
        orders: dict[str, tuple[float, float] | None] = {}
        for place, principle in enumerate(principles):
            start = 2 * (number * len(principles) + place)
            ahead, behind = verdicts[start : start + 2]
            orders[principle.id] = None if ahead is None or behind is None else (ahead, 1 - behind)
        labels.append(Label(pair, _mean(orders, constitution.weights, clamp), orders))
    return labels


def _mean(
    orders: Mapping[str, tuple[float, float] | None],
    weights: Mapping[str, float],
    clamp: tuple[float, float] | None,
) -> float | None:
    known = [(weights[name], sum(both) / 2) for name, both in orders.items() if both is not None]
    if not known:
        return None
    p = sum(weight * value for weight, value in known) / sum(weight for weight, _ in known)
    return p if clamp is None else min(max(p, clamp[0]), clamp[1])


def label_json(label: Label, constitution: Constitution, judge: str) -> dict[str, Any]:
    """A label as it is written to ``labels.jsonl``."""
    prompt, first, second = label.pair
    return {
        "prompt": prompt_json(prompt),
        "first": first,
        "second": second,
        "p_first": label.p_first,
        "orders": {name: None if both is None else list(both) for name, both in label.orders.items()},
        "annotator": constitution.annotator,
        "judge": judge,
    }


def training_pair(row: Mapping[str, Any]) -> dict[str, Any] | None:
    """A row for ``trueup dpo`` from a row of ``labels.jsonl``; None for a tie or no verdict, which teach nothing."""
    p = row["p_first"]
    if p is None or p == 0.5:
        return None
    chosen, rejected = (row["first"], row["second"]) if p > 0.5 else (row["second"], row["first"])
    return {
        "prompt": row["prompt"],
        "chosen": chosen,
        "rejected": rejected,
        "strength": max(p, 1 - p),
        "origin": [row["annotator"], row["judge"]],
    }


def judge_report(rows: Sequence[Mapping[str, Any]], truth_P: Sequence[float | None] | None = None) -> dict[str, Any]:
    """What the labels of ``labels.jsonl`` are worth.

    Args:
        rows: The labels.
        truth_P: For each pair 1 where the first is better by people or by gold, 0 where the second is, 0.5 for a tie,
            None where nobody knows.

    Returns:
        ``pairs``, ``without_verdict``, ``ties``; ``position``: ``bias``, the mean of |p1 - p2|, ``first_shown``, the
        mean probability of whatever is shown first (0.5 without bias), ``flips``, the share of verdicts that the
        order turns round; ``margin``, the mean of 2 max(p, 1 - p) - 1; ``principles``: uses, without_verdict, flips,
        and against, how often it says the opposite of the label. With a truth also ``agreement`` and ``calibration``.
    """
    both = [tuple(v) for row in rows for v in row["orders"].values() if v is not None]
    known = [row["p_first"] for row in rows if row["p_first"] is not None]
    count = max(len(both), 1)
    report: dict[str, Any] = {
        "pairs": len(rows),
        "without_verdict": len(rows) - len(known),
        "ties": sum(p == 0.5 for p in known),
        "margin": sum(2 * max(p, 1 - p) - 1 for p in known) / len(known) if known else None,
        "position": {
            "bias": sum(abs(a - b) for a, b in both) / count if both else None,
            "first_shown": sum((a + 1 - b) / 2 for a, b in both) / count if both else None,
            "flips": sum(_flips(a, b) for a, b in both) / count if both else None,
        },
        "principles": _by_principle(rows),
    }
    if truth_P is not None:
        pairs = zip(rows, truth_P, strict=True)
        judged = [(row["p_first"], t) for row, t in pairs if row["p_first"] is not None and t is not None]
        report["agreement"] = agreement(judged)
        report["calibration"] = calibration(judged)
    return report


def _flips(shown_first: float, shown_second: float) -> bool:
    return (shown_first - 0.5) * (shown_second - 0.5) < 0


def _by_principle(rows: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, int]]:
    table: dict[str, dict[str, int]] = {}
    for row in rows:
        for name, both in row["orders"].items():
            line = table.setdefault(name, {"uses": 0, "without_verdict": 0, "flips": 0, "against": 0})
            line["uses"] += 1
            if both is None:
                line["without_verdict"] += 1
                continue
            line["flips"] += _flips(*both)
            line["against"] += (sum(both) / 2 - 0.5) * (row["p_first"] - 0.5) < 0
    return table


def agreement(judged: Sequence[tuple[float, float]]) -> dict[str, Any]:
    """How often label and truth say the same, of pairs with a true winner; a label of one half is half right."""
    clear = [(p, t) for p, t in judged if t != 0.5]
    right = sum(0.5 if p == 0.5 else float((p > 0.5) == (t > 0.5)) for p, t in clear)
    return {"pairs": len(clear), "ties_in_truth": len(judged) - len(clear), "right": right}


def calibration(judged: Sequence[tuple[float, float]]) -> dict[str, Any]:
    """Brier score, expected calibration error, and the bins that it is made of; each pair counts from both sides.

    A pair says p of its first answer and 1 - p of its second, so that which is called first changes nothing.
    """
    sides = [(q, y) for p, t in judged for q, y in ((p, t), (1 - p, 1 - t))]
    bins: list[dict[str, float]] = []
    for number in range(BINS):
        inside = [(q, y) for q, y in sides if min(int(q * BINS), BINS - 1) == number]
        if inside:
            n = len(inside)
            bins.append({"n": n, "said": sum(q for q, _ in inside) / n, "was": sum(y for _, y in inside) / n})
    if not sides:
        return {"brier": None, "ece": None, "bins": []}
    return {
        "brier": sum((q - y) ** 2 for q, y in sides) / len(sides),
        "ece": sum(one["n"] * abs(one["said"] - one["was"]) for one in bins) / len(sides),
        "bins": bins,
    }
