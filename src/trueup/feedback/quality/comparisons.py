"""Judgments spelled out as single votes on canonical pairs: the one source of agreement, aggregation, bias and export.

A *vote* is one annotator's verdict on one pair of one item. Pairwise and review items give one pair, a ranking gives
all pairs of what was ranked. A yes/no item gives a pair too: the response against the empty name, "not acceptable".
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from trueup.feedback.quality.ability import Duel
from trueup.feedback.store.answers import Binary, Pairwise, Rating, parse_answer, preferences
from trueup.feedback.store.records import TRAINABLE, ItemRow, Judged, JudgmentRow

COMPARED = ("pairwise", "review", "ranking")
"""Kinds whose answers compare responses with one another."""

REFUSED = ""
"""The second side of a yes/no vote."""

SESSION_GAP = 30 * 60.0
"""Seconds without a judgment after which an annotator's next one begins a new session."""


@dataclass(frozen=True, slots=True)
class PairVote:
    """One verdict. ``first`` precedes ``second`` in the item's canonical order, whatever the order shown."""

    judgment: str
    item: str
    annotator: str
    first: str
    second: str
    outcome: int
    """+1..3 where ``first`` is better, -1..-3 where ``second`` is, 0 for a tie."""
    weight: float
    shown_first: bool | None
    """Whether ``first`` stood left of or above ``second``; None where the order was not recorded."""
    at: str
    """UTC, ISO 8601."""
    both_bad: bool = False
    """A tie that calls neither response acceptable."""

    @property
    def pair(self) -> tuple[str, str, str]:
        """Item, first and second: what votes are counted on."""
        return self.item, self.first, self.second

    @property
    def sign(self) -> int:
        """+1, 0 or -1."""
        return (self.outcome > 0) - (self.outcome < 0)

    @property
    def left_win(self) -> float | None:
        """1 if the response shown first won, 0 if the other did, 0.5 for a tie; None where the order is unknown."""
        if self.shown_first is None:
            return None
        return 0.5 + 0.5 * self.sign * (1 if self.shown_first else -1)


def answer_of(item: ItemRow, judgment: JudgmentRow) -> Any:
    """The parsed answer of a judgment, or None where it was skipped.

    Raises:
        DataError: The stored answer does not fit its item.
    """
    if judgment.answer is None:
        return None
    return parse_answer(judgment.answer, kind=item.kind, responses=[r.id for r in item.responses])


def votes(
    judged: Judged, *, streams: Sequence[str] = TRAINABLE, kinds: Sequence[str] = COMPARED, without: Iterable[str] = ()
) -> list[PairVote]:
    """All votes of a project, in order of time; skipped judgments give none.

    Args:
        judged: The project.
        streams: Streams of items to read; gold and the like are apart for good reason.
        kinds: Task kinds to read, of ``COMPARED`` and ``binary``.
        without: Annotators to leave out.
    """
    left_out = frozenset(without)
    key = ("votes", tuple(streams), tuple(kinds), left_out)
    return list(judged.once(key, lambda: _votes(judged, streams, kinds, left_out)))


def _votes(judged: Judged, streams: Sequence[str], kinds: Sequence[str], left_out: Collection[str]) -> list[PairVote]:
    cast = []
    for row in judged.judgments:
        item = judged.items.get(row.item)
        if item is None or row.annotator in left_out or item.stream not in streams or item.kind not in kinds:
            continue
        cast += votes_of(item, row)
    return cast


def votes_of(item: ItemRow, row: JudgmentRow) -> list[PairVote]:
    """The votes of one judgment."""
    answer = answer_of(item, row)
    if answer is None:
        return []
    if isinstance(answer, Binary):
        pairs = [(answer.response, REFUSED, 1 if answer.acceptable else -1, 1.0)]
    else:
        pairs = preferences(answer, [r.id for r in item.responses])
    place = {name: number for number, name in enumerate(row.shown)}
    return [
        PairVote(
            row.id,
            row.item,
            row.annotator,
            first,
            second,
            outcome,
            weight,
            place[first] < place[second] if first in place and second in place else None,
            row.created_at,
            isinstance(answer, Pairwise) and answer.both_bad,
        )
        for first, second, outcome, weight in pairs
    ]


def by_pair(rows: Iterable[PairVote]) -> dict[tuple[str, str, str], list[PairVote]]:
    """Votes of each pair, pairs in order of their first vote."""
    groups: dict[tuple[str, str, str], list[PairVote]] = {}
    for vote in rows:
        groups.setdefault(vote.pair, []).append(vote)
    return groups


def by_annotator(rows: Iterable[PairVote]) -> dict[str, list[PairVote]]:
    """Votes of each annotator, annotators in alphabetical order."""
    groups: dict[str, list[PairVote]] = {}
    for vote in rows:
        groups.setdefault(vote.annotator, []).append(vote)
    return dict(sorted(groups.items()))


def duels(rows: Iterable[PairVote]) -> list[Duel]:
    """Votes as Bradley-Terry wants them, sides as shown; where the order is unknown the canonical one stands in."""
    table = []
    for vote in rows:
        swapped = vote.shown_first is False
        first, second = (vote.second, vote.first) if swapped else (vote.first, vote.second)
        win = 0.5 + 0.5 * vote.sign * (-1 if swapped else 1)
        # A yes/no vote has no other response: each item has a bar of its own.
        names = tuple(name or f"{vote.item}/bar" for name in (first, second))
        table.append(Duel(names[0], names[1], vote.annotator, win, vote.weight))
    return table


def agrees_with_others(rows: Sequence[PairVote]) -> dict[int, bool]:
    """Place of a vote in ``rows`` -> whether it is on the side of the others' majority on that pair.

    Votes that are ties, that nobody else shares the pair with, or whose others are split are left out.
    """
    balance: dict[tuple[str, str, str], int] = {}
    for vote in rows:
        balance[vote.pair] = balance.get(vote.pair, 0) + vote.sign
    agrees = {}
    for place, vote in enumerate(rows):
        others = balance[vote.pair] - vote.sign
        if vote.sign and others:
            agrees[place] = (others > 0) == (vote.sign > 0)
    return agrees


def session_positions(rows: Sequence[JudgmentRow]) -> dict[str, int]:
    """Judgment -> its place, from 0, in the annotator's session; a pause of ``SESSION_GAP`` begins a new one."""
    last: dict[str, tuple[datetime, int]] = {}
    positions = {}
    for row in sorted(rows, key=lambda r: (r.created_at, r.id)):
        now = datetime.fromisoformat(row.created_at)
        before = last.get(row.annotator)
        fresh = before is None or (now - before[0]).total_seconds() > SESSION_GAP
        position = 0 if before is None or fresh else before[1] + 1
        last[row.annotator] = (now, position)
        positions[row.id] = position
    return positions


def scores_by_axis(judged: Judged, streams: Sequence[str] = TRAINABLE) -> dict[str, dict[str, list[tuple[str, int]]]]:
    """Axis -> item -> (annotator, scale point) of all ratings."""
    by_axis: dict[str, dict[str, list[tuple[str, int]]]] = {}
    for row in judged.judgments:
        item = judged.items.get(row.item)
        if item is None or item.kind != "rating" or item.stream not in streams:
            continue
        answer = answer_of(item, row)
        scores: Mapping[str, int] = answer.scores if isinstance(answer, Rating) else {}
        for axis, point in scores.items():
            by_axis.setdefault(axis, {}).setdefault(item.id, []).append((row.annotator, point))
    return by_axis
