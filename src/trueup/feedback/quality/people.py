"""Each annotator on one row: gold, ability, side bias, reliability, speed, consistency, drift, signs of spam.

Everything here suggests and nothing acts: real people disagree, and only a person should decide about another's work.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from statistics import median
from typing import Any

from trueup.feedback.quality.bias import SideShare, first_share
from trueup.feedback.quality.comparisons import (
    PairVote,
    agrees_with_others,
    by_annotator,
    votes,
    votes_of,
)
from trueup.feedback.quality.consensus import reliabilities
from trueup.feedback.quality.drift import Consistency, change_point, consistency
from trueup.feedback.quality.gold import GoldRecord, gold_record
from trueup.feedback.quality.judges import Judges, fit_judges
from trueup.feedback.quality.opinion_groups import opinion_groups
from trueup.feedback.quality.spam import suggestion, suspicion
from trueup.feedback.store.judgments import is_right
from trueup.feedback.store.records import Judged, JudgmentRow

BLOCK = 10
"""Judgments in one point of an annotator's drift series."""

DRIFT_LEVEL = 0.01
"""Level of the drift test over the whole crowd: divided by the number of annotators tested."""


NOTE = "Signs suggest where to look. Nothing is done to anybody's work without a person's decision."


@dataclass(frozen=True, slots=True)
class Interval:
    """An estimate with its 95 % interval, or the reason why there is none."""

    value: float | None
    low: float | None
    high: float | None
    reason: str

    @classmethod
    def of(cls, estimate: tuple[float, float, float] | None, reason: str) -> Interval:
        """From (value, low, high); ``reason`` counts where there is no estimate."""
        return cls(None, None, None, reason) if estimate is None else cls(*estimate, "")


@dataclass(frozen=True, slots=True)
class Speed:
    """How fast an annotator answers, over the judgments that were timed."""

    median_seconds: float | None
    median_words_per_second: float | None
    timed: int


@dataclass(frozen=True, slots=True)
class Shift:
    """Where an annotator's agreement with the others changed most."""

    at_judgment: int
    before: float
    after: float
    p: float


@dataclass(frozen=True, slots=True)
class Drift:
    """Whether an annotator's agreement with the others changed over time; no shift where too little is known."""

    found: bool
    shift: Shift | None = None
    reason: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values: ``found``, the shift if there is one, ``reason``."""
        shift = {} if self.shift is None else asdict(self.shift)
        return {"found": self.found, **shift, "reason": self.reason}


UNKNOWN_DRIFT = Drift(found=False, reason="too few judgments that others share")


@dataclass(frozen=True, slots=True)
class AnnotatorRow:
    """What is known of one annotator. What cannot be said is None, with the reason beside it."""

    annotator: str
    """Pseudonym."""
    simulated: bool
    judgments: int
    skipped: int
    surplus: int
    gold: GoldRecord
    ability: Interval
    side: Interval
    reliability: float | None
    left_wins: SideShare
    speed: Speed
    consistency: Consistency
    drift: Drift
    signs: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values, with a suggestion in words where there is a sign."""
        return {
            "annotator": self.annotator,
            "simulated": self.simulated,
            "judgments": self.judgments,
            "skipped": self.skipped,
            "surplus": self.surplus,
            "gold": self.gold.to_dict(),
            "ability": asdict(self.ability),
            "side": asdict(self.side),
            "reliability": self.reliability,
            "left_wins": asdict(self.left_wins),
            "speed": asdict(self.speed),
            "consistency": asdict(self.consistency),
            "drift": self.drift.to_dict(),
            "signs": list(self.signs),
            "suggestion": suggestion(len(self.signs)),
        }


@dataclass(frozen=True, slots=True)
class AnnotatorReport:
    """Each annotator on one row, in alphabetical order of their pseudonyms."""

    annotators: tuple[AnnotatorRow, ...]
    judgments: int
    simulated: bool

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values: ``annotators, judgments, simulated, note``."""
        return {
            "annotators": [row.to_dict() for row in self.annotators],
            "judgments": self.judgments,
            "simulated": self.simulated,
            "note": NOTE,
        }


def annotator_report(judged: Judged, *, surplus: bool = False) -> AnnotatorReport:
    """What is known of each annotator, under their pseudonym.

    Args:
        judged: The project.
        surplus: Measure people also by what they answered after their seat was taken back; it is counted anyway.
    """
    return judged.once(("annotators", surplus), lambda: _annotator_report(judged, surplus))


def _annotator_report(whole: Judged, surplus: bool) -> AnnotatorReport:
    judged = whole if surplus else whole.without_surplus()
    rows = votes(judged)
    own: dict[str, list[JudgmentRow]] = {}
    for judgment in whole.judgments:
        own.setdefault(judgment.annotator, []).append(judgment)
    crowd = _Crowd.of(judged, rows)
    table = tuple(_row(judged, crowd, name, judgments, surplus) for name, judgments in sorted(own.items()))
    return AnnotatorReport(table, len(whole.judgments), judged.simulated)


@dataclass(frozen=True)
class _Crowd:
    """What has to be measured of all annotators together."""

    votes: Mapping[str, Sequence[PairVote]]
    fit: Judges | None
    reliability: Mapping[str, float]
    copies: Mapping[str, Mapping[str, tuple[int, int, float]]]
    drifts: Mapping[str, Drift]
    apart: frozenset[str]
    """Who holds other values than most: one scale of quality says nothing of them, and low ability is no sign."""

    @classmethod
    def of(cls, judged: Judged, rows: Sequence[PairVote]) -> _Crowd:
        own = by_annotator(rows)
        split = opinion_groups(judged)
        return cls(
            own,
            fit_judges(rows) if rows else None,
            reliabilities(rows),
            _copies(own),
            _drifts(rows),
            frozenset(split.groups[1]) if split.found else frozenset(),
        )


def _row(judged: Judged, crowd: _Crowd, name: str, own: Sequence[JudgmentRow], surplus: bool) -> AnnotatorRow:
    wins = [v.left_win for v in crowd.votes.get(name, ()) if v.left_win is not None]
    fit = crowd.fit if crowd.fit is not None and name in crowd.fit.names else None
    ability = fit.relative_ability(name) if fit is not None else None
    counted = [row for row in own if surplus or not row.surplus]
    words, seconds = _speed(judged, counted)
    record = gold_record(_gold_outcomes(judged, counted))
    drift = crowd.drifts.get(name, UNKNOWN_DRIFT)
    suspicious = suspicion(
        name,
        wins=wins,
        words=words,
        seconds=seconds,
        ability=None if name in crowd.apart else ability,
        copies=crowd.copies.get(name, {}),
    )
    rate = sorted(w / s for w, s in zip(words, seconds, strict=True))
    return AnnotatorRow(
        annotator=name,
        simulated=any(row.simulated for row in own),
        judgments=len(own),
        skipped=sum(row.answer is None for row in own),
        surplus=sum(row.surplus for row in own),
        gold=record,
        ability=Interval.of(ability, "no comparison was judged"),
        side=Interval.of(fit.side(name) if fit is not None else None, "no comparison was judged"),
        reliability=crowd.reliability.get(name),
        left_wins=first_share(name, wins),
        speed=Speed(median(seconds) if seconds else None, median(rate) if rate else None, len(seconds)),
        consistency=consistency(_repeats(judged, counted)),
        drift=drift,
        signs=(*suspicious.reasons, *_more_signs(record, drift)),
    )


def _more_signs(record: GoldRecord, drift: Drift) -> Iterator[str]:
    if record.verdict == "below the bar":
        yield f"right on {record.correct} of {record.answered} gold items: below the bar (e {record.evidence:.0f})"
    if drift.found and drift.shift is not None:
        yield f"agreement with others went from {drift.shift.before:.0%} to {drift.shift.after:.0%}"


def _gold_outcomes(judged: Judged, own: Sequence[JudgmentRow]) -> list[bool]:
    """Right or wrong on hidden gold and attention items, in order of time; calibration teaches and does not count."""
    outcomes = []
    for row in own:
        item = judged.items.get(row.item)
        if item is None or item.stream not in ("gold", "attention") or item.gold is None or row.answer is None:
            continue
        outcomes.append(is_right(row.answer, item.gold))
    return outcomes


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
    answers = []
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
                answers.append((float(earlier[pair]), float(vote.sign)))
            elif pair[::-1] in earlier:
                answers.append((float(-earlier[pair[::-1]]), float(vote.sign)))
    return answers


def _copies(by: Mapping[str, Sequence[PairVote]]) -> dict[str, dict[str, tuple[int, int, float]]]:
    """Annotator -> other -> (same answers, common pairs, chance that two of the crowd give the same answer)."""
    signs = {name: {v.pair: v.sign for v in cast} for name, cast in by.items()}
    names = list(signs)
    counts: Counter[tuple[str, str]] = Counter()
    same: Counter[tuple[str, str]] = Counter()
    for i, first in enumerate(names):
        for second in names[i + 1 :]:
            small, large = sorted((signs[first], signs[second]), key=len)
            shared = [pair for pair in small if pair in large]
            counts[first, second] = len(shared)
            same[first, second] = sum(small[pair] == large[pair] for pair in shared)
    if not counts.total():
        return {}
    chance = same.total() / counts.total()
    copies: dict[str, dict[str, tuple[int, int, float]]] = {name: {} for name in names}
    for (first, second), common in counts.items():
        if common:
            copies[first][second] = copies[second][first] = (same[first, second], common, chance)
    return copies


def _drifts(rows: Sequence[PairVote]) -> dict[str, Drift]:
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
    drifts = {}
    for name, (at, p) in tested.items():
        before, after = blocks[name][:at], blocks[name][at:]
        shift = Shift(at * BLOCK, sum(before) / len(before), sum(after) / len(after), p)
        drifts[name] = Drift(p < DRIFT_LEVEL / len(tested), shift)
    return drifts
