"""Each annotator on one row: gold, ability, side bias, reliability, speed, consistency, drift, signs of spam.

Everything here suggests and nothing acts: real people disagree, and only a person should decide about another's work.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from statistics import median
from typing import Any

from trueup.feedback.judged import is_right
from trueup.feedback.quality.bias import first_share
from trueup.feedback.quality.camps import camps
from trueup.feedback.quality.comparisons import (
    Vote,
    agrees_with_others,
    by_annotator,
    votes,
    votes_of,
)
from trueup.feedback.quality.consensus import reliabilities
from trueup.feedback.quality.drift import change_point, consistency
from trueup.feedback.quality.gold import gold_record
from trueup.feedback.quality.judges import Judges, fit_judges
from trueup.feedback.quality.spam import suspicion
from trueup.feedback.records import Judged, JudgmentRow

BLOCK = 10
"""Judgments in one point of an annotator's drift series."""

DRIFT_LEVEL = 0.01
"""Level of the drift test over the whole crowd: divided by the number of annotators tested."""


def annotators(judged: Judged) -> dict[str, Any]:
    """What is known of each annotator, under their pseudonym, with a suggestion in words where there is a sign.

    Returns:
        ``{"annotators": [...], "judgments", "simulated", "note"}``; a row has ``annotator, simulated, judgments,
        skipped, surplus, gold, ability, side, reliability, left_wins, speed, consistency, drift, signs, suggestion``.
        What cannot be said is None, with the reason beside it.
    """
    return judged.once("annotators", lambda: _annotators(judged))


def _annotators(judged: Judged) -> dict[str, Any]:
    rows = votes(judged)
    by = by_annotator(rows)
    fit = fit_judges(rows) if rows else None
    skills = reliabilities(rows)
    mine: dict[str, list[JudgmentRow]] = {}
    for judgment in judged.judgments:
        mine.setdefault(judgment.annotator, []).append(judgment)
    copied = _copies(by)
    drifts = _drifts(rows)
    split = camps(judged)
    # One scale of quality says nothing of those who hold other values together: low ability is then no sign.
    apart = frozenset(split.groups[1]) if split.found else frozenset()
    table = [
        _row(judged, name, own, by.get(name, []), fit, skills, copied.get(name, {}), drifts.get(name), name in apart)
        for name, own in sorted(mine.items())
    ]
    return {
        "annotators": table,
        "judgments": len(judged.judgments),
        "simulated": judged.simulated,
        "note": "Signs suggest where to look. Nothing is done to anybody's work without a person's decision.",
    }


def _row(
    judged: Judged,
    name: str,
    own: Sequence[JudgmentRow],
    cast: Sequence[Vote],
    fit: Judges | None,
    skills: Mapping[str, float],
    copies: Mapping[str, tuple[int, int, float]],
    drift: dict[str, Any] | None,
    apart: bool,
) -> dict[str, Any]:
    wins = [v.left_win for v in cast if v.left_win is not None]
    known = fit is not None and name in fit.names
    ability = fit.relative_ability(name) if fit is not None and known else None
    words, seconds = _speed(judged, own)
    record = gold_record(_gold_outcomes(judged, own))
    seen = suspicion(name, wins=wins, words=words, seconds=seconds, ability=None if apart else ability, copies=copies)
    signs = list(seen.reasons)
    if record.verdict == "below the bar":
        signs.append(
            f"right on {record.correct} of {record.answered} gold items: below the bar (e {record.evidence:.0f})"
        )
    if drift is not None and drift["found"]:
        signs.append(f"agreement with others went from {drift['before']:.0%} to {drift['after']:.0%}")
    rate = sorted(w / s for w, s in zip(words, seconds, strict=True))
    return {
        "annotator": name,
        "simulated": any(row.simulated for row in own),
        "judgments": len(own),
        "skipped": sum(row.answer is None for row in own),
        "surplus": sum(row.surplus for row in own),
        "gold": {
            **asdict(record),
            "accuracy": record.correct / record.answered if record.answered else None,
        },
        "ability": _interval(ability, "no comparison was judged"),
        "side": _interval(fit.side(name) if fit is not None and known else None, "no comparison was judged"),
        "reliability": skills.get(name),
        "left_wins": asdict(first_share(name, wins)),
        "speed": {
            "median_seconds": median(seconds) if seconds else None,
            "median_words_per_second": median(rate) if rate else None,
            "timed": len(seconds),
        },
        "consistency": asdict(consistency(_repeats(judged, own))),
        "drift": drift or {"found": False, "reason": "too few judgments that others share"},
        "signs": signs,
        "suggestion": suggestion(len(signs)),
    }


def suggestion(signs: int) -> str:
    """What a lead may want to do about so many signs."""
    if signs == 0:
        return ""
    return "look at ten of these judgments" if signs == 1 else "pause new assignments and look at the judgments"


def _interval(found: tuple[float, float, float] | None, reason: str) -> dict[str, Any]:
    if found is None:
        return {"value": None, "low": None, "high": None, "reason": reason}
    return {"value": found[0], "low": found[1], "high": found[2], "reason": ""}


def _gold_outcomes(judged: Judged, own: Sequence[JudgmentRow]) -> list[bool]:
    """Right or wrong on hidden gold and attention items, in order of time; calibration teaches and does not count."""
    found = []
    for row in own:
        item = judged.items.get(row.item)
        if item is None or item.stream not in ("gold", "attention") or item.gold is None or row.answer is None:
            continue
        found.append(is_right(row.answer, item.gold))
    return found


def _speed(judged: Judged, own: Sequence[JudgmentRow]) -> tuple[list[int], list[float]]:
    """Words shown and active seconds, for judgments that were timed."""
    words, seconds = [], []
    for row in own:
        item = judged.items.get(row.item)
        if item is None or not row.active_ms or row.answer is None:
            continue
        words.append(sum(len(r.text.split()) for r in item.responses))
        seconds.append(row.active_ms / 1000)
    return words, seconds


def _repeats(judged: Judged, own: Sequence[JudgmentRow]) -> list[tuple[float, float]]:
    """(first verdict, repeated verdict) by the text preferred, so that neither sides nor ids matter."""
    first = {row.item: row for row in own}
    found = []
    for row in own:
        item = judged.items.get(row.item)
        if item is None or item.stream != "repeat" or item.repeat_of not in first:
            continue
        original = judged.items[item.repeat_of]
        before, after = votes_of(original, first[item.repeat_of]), votes_of(item, row)
        if not before or not after:
            continue
        texts = {r.id: r.text for r in (*original.responses, *item.responses)}
        earlier = {(texts.get(v.first, ""), texts.get(v.second, "")): v.sign for v in before}
        for vote in after:
            pair = texts.get(vote.first, ""), texts.get(vote.second, "")
            if pair in earlier:
                found.append((float(earlier[pair]), float(vote.sign)))
            elif pair[::-1] in earlier:
                found.append((float(-earlier[pair[::-1]]), float(vote.sign)))
    return found


def _copies(by: Mapping[str, Sequence[Vote]]) -> dict[str, dict[str, tuple[int, int, float]]]:
    """Annotator -> other -> (same answers, common pairs, chance that two of the crowd give the same answer)."""
    held = {name: {v.pair: v.sign for v in cast} for name, cast in by.items()}
    names = list(held)
    counts: Counter[tuple[str, str]] = Counter()
    same: Counter[tuple[str, str]] = Counter()
    for i, one in enumerate(names):
        for other in names[i + 1 :]:
            small, large = sorted((held[one], held[other]), key=len)
            shared = [pair for pair in small if pair in large]
            counts[one, other] = len(shared)
            same[one, other] = sum(small[pair] == large[pair] for pair in shared)
    if not counts.total():
        return {}
    chance = same.total() / counts.total()
    found: dict[str, dict[str, tuple[int, int, float]]] = {name: {} for name in names}
    for (one, other), common in counts.items():
        if common:
            found[one][other] = found[other][one] = (same[one, other], common, chance)
    return found


def _drifts(rows: Sequence[Vote]) -> dict[str, dict[str, Any]]:
    """Annotator -> where agreement with the others shifted, tested by permutation over blocks of judgments."""
    right = agrees_with_others(rows)
    series: dict[str, list[bool]] = {}
    for place, vote in enumerate(rows):
        if place in right:
            series.setdefault(vote.annotator, []).append(right[place])
    blocks = {
        name: [sum(values[at : at + BLOCK]) / BLOCK for at in range(0, len(values) - BLOCK + 1, BLOCK)]
        for name, values in series.items()
    }
    tested = {name: change for name, values in blocks.items() if (change := change_point(values)) is not None}
    found = {}
    for name, (at, p) in tested.items():
        before, after = blocks[name][:at], blocks[name][at:]
        found[name] = {
            "found": p < DRIFT_LEVEL / len(tested),
            "at_judgment": at * BLOCK,
            "before": sum(before) / len(before),
            "after": sum(after) / len(after),
            "p": p,
            "reason": "",
        }
    return found
