"""Rows to one comparison: what each judge says with intervals, the answers themselves, and what they cost in KL."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from trueup.evaluation.answers import describe_answers, distinct
from trueup.evaluation.hacking import hacking_rate
from trueup.evaluation.intervals import SHARE, clustered_error, mean_interval, paired_difference
from trueup.evaluation.judge import JudgedPair, contest_of, paired_answers, report_on, verdict_agreement
from trueup.evaluation.length_control import of_contests
from trueup.evaluation.rows import Row, column, models, of_model
from trueup.evaluation.winrate import WORTH, Contest, contest, measured, win_rate
from trueup.types import Outcome

TIE = 1e-9
"""Differences in score up to this are ties."""


@dataclass(frozen=True, slots=True)
class Judging:
    """What one judge said of all answers.

    A judge that scores answers has its numbers in the rows, in the column ``label``; one that compares has ``pairs``,
    by the model whose answers met those of the baseline.
    """

    label: str
    kind: str = "score"
    """``gold``, ``reward``, ``implicit``, ``python``, ``reference`` or ``people``; ``score`` for a column as it is."""
    about: str = ""
    """What the judge is, in words."""
    pairs: Mapping[str, Sequence[JudgedPair]] | None = None
    bounds: tuple[float, float] | None = None
    """Those of its scores, where they have some."""
    notes: Sequence[str] = field(default=())


def compare(
    rows: Sequence[Row],
    baseline: str = "sft",
    *,
    score: str | None = "gold",
    judges: Sequence[Judging] = (),
    resamples: int = 2000,
    seed: int = 0,
) -> dict[str, Any]:
    """Everything a comparison shows, as JSON-ready data.

    Args:
        rows: Evaluation rows of several models on the same prompts.
        baseline: The model that the others are compared with.
        score: The measurement that decides in the summary of each model; None where quality was not judged.
        judges: All judges; without them the one that ``score`` names.
        resamples: Bootstrap samples; prompts are resampled, not rows.
        seed: Names the draws.
    """
    names = models(rows)
    of_model(rows, baseline)  # a clear error if it is not there
    judges = list(judges) or ([Judging(score, score if score in ("gold", "reward") else "score")] if score else [])
    judged = [_judged(rows, baseline, judge, resamples, seed) for judge in judges]
    summary = next((one for one in judged if one["label"] == score), None)
    comparison: dict[str, Any] = {"baseline": baseline, "score": score, "prompts": 0, "models": {}, "judges": judged}
    for name in names:
        own = of_model(rows, name)
        comparison["prompts"] = len({r["prompt_id"] for r in own})
        entry: dict[str, Any] = {}
        for column_name in dict.fromkeys((*([score] if score else []), "reward", "kl", "tokens", "eos")):
            values, prompts = column(own, column_name)
            if len(values):
                bounds = SHARE if column_name == "eos" else None
                interval = mean_interval(values, prompts, resamples=resamples, seed=seed, bounds=bounds)
                entry[column_name] = interval.to_dict()
        entry["distinct_2"] = distinct([str(row["completion"]) for row in own], 2)
        entry["by_kind"] = _means_by_kind(own, score) if score else {}
        entry["parts"] = _parts(own)
        entry["answers"] = describe_answers(own, resamples=resamples, seed=seed)
        if name != baseline:
            if summary is not None:
                shown = summary["models"][name]
                entry["win_rate"], entry["length_controlled"] = shown["win_rate"], shown["length_controlled"]
            entry["hacking_rate"] = hacking_rate(own, of_model(rows, baseline))
        comparison["models"][name] = entry
    comparison["agreement"] = _agreements(rows, baseline, judges)
    return comparison


def _judged(rows: Sequence[Row], baseline: str, judge: Judging, resamples: int, seed: int) -> dict[str, Any]:
    """One judge on all models."""
    others = [name for name in models(rows) if name != baseline]
    scored = judge.pairs is None
    contests = (
        {name: contest(rows, name, baseline, score=judge.label, tie=TIE, length=_length(rows)) for name in others}
        if judge.pairs is None
        else {name: contest_of(pairs) for name, pairs in judge.pairs.items() if pairs}
    )
    fair = of_contests(list(contests.values()), resamples=resamples // 4, seed=seed) if contests else {}
    told: dict[str, Any] = {}
    for name in models(rows):
        entry: dict[str, Any] = {}
        own = of_model(rows, name)
        if scored:
            entry |= _scored(own, of_model(rows, baseline), judge, name != baseline, resamples, seed)
        if name in contests:
            entry["win_rate"] = _win_rate(contests[name], resamples, seed)
            entry["length_controlled"] = fair[name].to_dict()
        if judge.pairs is not None and judge.pairs.get(name):
            report = report_on(judge.pairs[name], resamples=resamples, seed=seed).to_dict()
            entry |= {key: report[key] for key in ("consistency", "first_position")}
        entry["by_kind"] = _by_kind(rows, name, baseline, judge, resamples, seed)
        told[name] = entry
    return {
        "label": judge.label,
        "kind": judge.kind,
        "about": judge.about,
        "scored": scored,
        "notes": list(judge.notes),
        "models": told,
    }


def _scored(
    own: Sequence[Row], base: Sequence[Row], judge: Judging, against: bool, resamples: int, seed: int
) -> dict[str, Any]:
    """Mean score with its clustered standard error, and the paired difference from the baseline's."""
    options: dict[str, Any] = {"resamples": resamples, "seed": seed, "bounds": judge.bounds}
    values, prompts = column(own, judge.label)
    entry: dict[str, Any] = {
        "score": mean_interval(values, prompts, **options).to_dict(),
        "standard_error": clustered_error(values, prompts),
    }
    if against:
        entry["difference"] = paired_difference(values, prompts, *column(base, judge.label), **options).to_dict()
    return entry


def _win_rate(one: Contest, resamples: int, seed: int) -> dict[str, Any]:
    rate = one.win_rate(resamples=resamples, seed=seed).to_dict()
    return {**rate, "standard_error": clustered_error(one.outcome_N, one.prompts)}


def _by_kind(
    rows: Sequence[Row], name: str, baseline: str, judge: Judging, resamples: int, seed: int
) -> dict[str, dict[str, Any]]:
    """Score and win-rate on the prompts of each kind, with their number."""
    told: dict[str, dict[str, Any]] = {}
    for kind in sorted({str(row["kind"]) for row in rows if row.get("kind") is not None}):
        of_kind = [row for row in rows if row.get("kind") is not None and str(row["kind"]) == kind]
        own = [row for row in of_kind if row["model"] == name]
        entry: dict[str, Any] = {"prompts": len({row["prompt_id"] for row in own})}
        if judge.pairs is None:
            values, prompts = column(own, judge.label)
            mean = mean_interval(values, prompts, resamples=resamples, seed=seed, bounds=judge.bounds)
            entry["score"] = mean.to_dict()
            if name != baseline:
                wins = win_rate(of_kind, name, baseline, score=judge.label, tie=TIE, resamples=resamples, seed=seed)
                entry["win_rate"] = wins.rate.to_dict()
        elif pairs := [pair for pair in judge.pairs.get(name, ()) if pair.kind == kind]:
            entry["win_rate"] = contest_of(pairs).win_rate(resamples=resamples, seed=seed).rate.to_dict()
        told[kind] = entry
    return told


def _agreements(rows: Sequence[Row], baseline: str, judges: Sequence[Judging]) -> list[dict[str, Any]]:
    """How often each two judges give the same verdict on the same pair of answers."""
    told = [(judge.label, _outcomes(rows, baseline, judge)) for judge in judges]
    agreements = []
    for (first, ours), (second, theirs) in itertools.combinations(told, 2):
        both = [place for place in ours if place in theirs]
        if both:
            same = verdict_agreement([ours[place] for place in both], [theirs[place] for place in both])
            agreements.append({"first": first, "second": second, "raw": same.raw.to_dict(), "kappa": same.kappa})
    return agreements


def _outcomes(rows: Sequence[Row], baseline: str, judge: Judging) -> dict[tuple[str, str, int], Outcome]:
    """(model, prompt, sample) -> the verdict; of several votes the sum of their signs."""
    votes: dict[tuple[str, str, int], float] = {}
    if judge.pairs is None:
        for name in (name for name in models(rows) if name != baseline):
            for answer, opponent in paired_answers(rows, name, baseline):
                gap = measured(answer, judge.label) - measured(opponent, judge.label)
                votes[name, str(answer["prompt_id"]), int(answer.get("sample", 0))] = 0.0 if abs(gap) <= TIE else gap
    else:
        for pair in (pair for pairs in judge.pairs.values() for pair in pairs):
            place = pair.a, pair.prompt, pair.sample
            votes[place] = votes.get(place, 0.0) + WORTH[pair.outcome] - 0.5
    return {place: Outcome.A if vote > 0 else Outcome.B if vote < 0 else Outcome.TIE for place, vote in votes.items()}


def _length(rows: Sequence[Row]) -> str:
    """The measurement of an answer's length: tokens, or words where somebody else's rows have none."""
    return "tokens" if all(row.get("tokens") is not None for row in rows) else "words"


def _means_by_kind(rows: Sequence[Row], score: str) -> dict[str, float]:
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
