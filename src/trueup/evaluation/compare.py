"""Rows to one comparison: quality with intervals, win-rates over a baseline, and what it cost in KL and length."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

from trueup.evaluation.hacking import hacking_rate
from trueup.evaluation.intervals import SHARE, mean_interval
from trueup.evaluation.rows import Row, column, models, of_model
from trueup.evaluation.winrate import length_controlled, win_rate


def compare(
    rows: Sequence[Row], baseline: str = "sft", *, score: str = "gold", resamples: int = 2000, seed: int = 0
) -> dict[str, Any]:
    """Everything a comparison table shows, as JSON-ready data.

    Args:
        rows: Evaluation rows of several models on the same prompts.
        baseline: The model that the others are compared with.
        score: The measurement that decides a win.
        resamples: Bootstrap samples; prompts are resampled, not rows.
        seed: Names the draws.
    """
    names = models(rows)
    of_model(rows, baseline)  # a clear error if it is not there
    comparison: dict[str, Any] = {"baseline": baseline, "score": score, "prompts": 0, "models": {}}
    for name in names:
        own = of_model(rows, name)
        comparison["prompts"] = len({r["prompt_id"] for r in own})
        entry: dict[str, Any] = {}
        for field in (score, "reward", "kl", "tokens", "eos"):
            values, prompts = column(own, field)
            if len(values):
                bounds = SHARE if field == "eos" else None
                entry[field] = mean_interval(values, prompts, resamples=resamples, seed=seed, bounds=bounds).to_dict()
        entry["distinct_2"] = _distinct(own)
        entry["by_kind"] = _by_kind(own, score)
        entry["parts"] = _parts(own)
        if name != baseline:
            wins = win_rate(rows, name, baseline, score=score, tie=1e-9, resamples=resamples, seed=seed)
            entry["win_rate"] = wins.to_dict()
            fair = length_controlled(rows, name, baseline, score=score, tie=1e-9, resamples=resamples // 4, seed=seed)
            entry["length_controlled"] = fair.to_dict()
            entry["hacking_rate"] = hacking_rate(own, of_model(rows, baseline))
        comparison["models"][name] = entry
    return comparison


def _by_kind(rows: Sequence[Row], score: str) -> dict[str, float]:
    kinds = list(dict.fromkeys(str(r["kind"]) for r in rows if r.get("kind") is not None))
    means = {}
    for kind in sorted(kinds):
        values, _ = column([r for r in rows if r.get("kind") == kind], score)
        if len(values):
            means[kind] = float(values.mean())
    return means


def _parts(rows: Sequence[Row]) -> dict[str, float]:
    names = list(rows[0].get("gold_parts") or {})
    return {name: float(column(rows, f"gold.{name}")[0].mean()) for name in names}


def _distinct(rows: Sequence[Row]) -> float | None:
    """Distinct word bigrams over bigrams of all answers together; falls when answers become alike."""
    seen: set[tuple[str, str]] = set()
    total = 0
    for row in rows:
        words = str(row["completion"]).split()
        seen.update(itertools.pairwise(words))
        total += max(0, len(words) - 1)
    return len(seen) / total if total else None
