"""What was read from a file: items, the answers they were given, and every row that could be neither, with its line."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

from trueup.errors import DataError, nearest
from trueup.feedback.answers import KINDS, SKIP_REASONS, parse_answer
from trueup.feedback.projects import NewItem, by_id, check_item
from trueup.feedback.records import SPLITS
from trueup.feedback.schema import stamp
from trueup.types import content_id, prompt_json

UNNAMED = "unnamed"
"""Whoever answered in a file that names nobody."""

CLEAR = 2
"""Strength of a preference in a format that only says which is better: the plain word, "better"."""

LONGEST_HANDLE = 200


@dataclass(frozen=True, slots=True)
class Answered:
    """One answer from a file. Responses are named by place (see ``projects.by_id``), people by handle."""

    item: int
    """Row of ``Incoming.rows``."""
    annotator: str
    answer: Mapping[str, Any] | None
    """None where the item was skipped."""
    shown: tuple[int, ...] | None = None
    """Places in the order shown, first is left or top; None where the file does not say."""
    made_at: str | None = None
    """UTC, ISO 8601; None where the file does not say."""
    active_ms: int | None = None
    rationale: str = ""
    skip_reason: str | None = None
    surplus: bool = False
    simulated: bool = False


@dataclass(frozen=True, slots=True)
class Incoming:
    """A file, read. ``kinds`` and ``lines`` go with ``rows``; ``repeats`` maps a row to the row it repeats."""

    rows: list[NewItem]
    votes: list[Answered]
    kinds: list[str]
    lines: list[int]
    rejected: list[tuple[int, str]]
    """Line (a row's number in Parquet), from 1, and why."""
    repeats: dict[int, int] = field(default_factory=dict)

    @property
    def kind(self) -> str:
        """The task kind of all rows, ``mixed`` if there are several, empty if there are no rows."""
        found = set(self.kinds)
        return found.pop() if len(found) == 1 else "mixed" if found else ""


class Gathering:
    """Collects a file's rows; whatever is collected can be stored.

    A row about an item that stands there already, answered by somebody else, is one more answer to that item. Items
    are the same if they have the same ``key`` or, without keys, the same prompt and responses.
    """

    def __init__(self) -> None:
        self.rows: list[NewItem] = []
        self.votes: list[Answered] = []
        self.kinds: list[str] = []
        self.lines: list[int] = []
        self.rejected: list[tuple[int, str]] = []
        self.repeats: dict[int, int] = {}
        self.keys: dict[str, int] = {}
        self._same: dict[str, list[int]] = {}
        self._voted: set[tuple[int, str]] = set()
        self._splits: dict[str, tuple[str, int]] = {}

    def each(self, rows: Iterable[tuple[int, Any]], take: Callable[[int, Any], None]) -> None:
        """Hand every row to ``take``; one that it refuses is counted with its line."""
        for line, row in rows:
            try:
                if isinstance(row, DataError):
                    raise row
                take(line, row)
            except DataError as error:
                self.rejected.append((line, str(error)))

    def add(self, line: int, kind: str, row: NewItem, said: Answered | None = None, *, key: str | None = None) -> int:
        """One item with at most one answer; returns the item's row.

        Raises:
            DataError: Nothing was kept of it.
        """
        check(kind, row, said)
        self._one_split(line, row)
        told = content_id(kind, _content(row))
        number = self._held(kind, row, told, key, said)
        if number is None:
            number = len(self.rows)
            self.rows.append(row)
            self.kinds.append(kind)
            self.lines.append(line)
            self._same.setdefault(told, []).append(number)
            if key is not None:
                self.keys[key] = number
        if said is not None:
            self._voted.add((number, said.annotator))
            self.votes.append(replace(said, item=number))
        return number

    def answer(self, number: int, said: Answered) -> None:
        """One more answer to an item.

        Raises:
            DataError: It does not fit, or is that annotator's second.
        """
        check(self.kinds[number], self.rows[number], said)
        if (number, said.annotator) in self._voted:
            raise DataError(f"{said.annotator!r} answered this item before", where="annotator")
        self._voted.add((number, said.annotator))
        self.votes.append(replace(said, item=number))

    def done(self) -> Incoming:
        """All of it, rejected rows in order of their lines."""
        return Incoming(self.rows, self.votes, self.kinds, self.lines, sorted(self.rejected), self.repeats)

    def _held(self, kind: str, row: NewItem, told: str, key: str | None, said: Answered | None) -> int | None:
        if key is None:
            free = (n for n in self._same.get(told, ()) if said is not None and (n, said.annotator) not in self._voted)
            return next(free, None)
        number = self.keys.get(key)
        if number is None:
            return None
        if (self.kinds[number], self.rows[number]) != (kind, row):
            raise DataError(
                f"item {key!r} is another one in line {self.lines[number]}",
                where="item",
                fix="give it a name of its own",
            )
        if said is not None and (number, said.annotator) in self._voted:
            raise DataError(f"{said.annotator!r} answered item {key!r} before", where="annotator")
        return number

    def _one_split(self, line: int, row: NewItem) -> None:
        if row.split is None:
            return
        name = content_id(prompt_json(row.prompt))
        split, first = self._splits.setdefault(name, (row.split, line))
        if split != row.split:
            raise DataError(
                f"the prompt is in {row.split!r} and, in line {first}, in {split!r}",
                where="split",
                expected="one split for each prompt",
            )


def check(kind: str, row: NewItem, said: Answered | None) -> None:
    """Refuse what the store would refuse.

    Raises:
        DataError: Names the field.
    """
    if kind not in KINDS:
        raise DataError(f"kind is {kind!r}", where="kind", expected=nearest(kind, KINDS))
    check_item(kind, row)
    if row.split is not None and row.split not in SPLITS:
        raise DataError(f"split is {row.split!r}", where="split", expected=nearest(row.split, SPLITS))
    if any(len(name) > 200 for name in row.generators):
        raise DataError("a name has more than 200 characters", where="generators")
    if row.gold is not None:
        _by_place(kind, row, row.gold, "gold")
    if said is None:
        return
    if not said.annotator.strip() or len(said.annotator) > LONGEST_HANDLE:
        raise DataError(f"is {said.annotator!r}"[:80], where="annotator", expected=f"1 to {LONGEST_HANDLE} characters")
    if said.answer is None and said.skip_reason not in SKIP_REASONS:
        raise DataError(
            f"no answer, and the reason is {said.skip_reason!r}",
            where="skip_reason",
            expected=nearest(str(said.skip_reason), SKIP_REASONS),
        )
    if said.answer is not None and said.skip_reason is not None:
        raise DataError(
            "there is an answer as well as a reason to skip", where="skip_reason", fix="leave one of them out"
        )
    if said.answer is not None:
        _by_place(kind, row, said.answer, "answer")
    if said.shown is not None and sorted(said.shown) != list(range(len(row.responses))):
        raise DataError(f"is {list(said.shown)}", where="shown", expected="each response's place, once, counted from 0")
    if said.active_ms is not None and not 0 <= said.active_ms < 2**31:
        raise DataError(f"is {said.active_ms}", where="active_ms", expected="milliseconds, 0 to 2147483647")


def moment(value: Any, where: str) -> str | None:
    """A time in the store's spelling; None stays None. A time without a zone is UTC.

    Raises:
        DataError: It is no ISO 8601 time.
    """
    if value is None or value == "":
        return None
    if isinstance(value, str):
        with contextlib.suppress(ValueError):
            value = datetime.fromisoformat(value)
    if not isinstance(value, datetime):
        raise DataError(f"is {value!r}"[:80], where=where, expected="a time such as 2026-01-31T12:00:00Z")
    try:
        return stamp(value if value.tzinfo else value.replace(tzinfo=UTC))
    except OverflowError:
        raise DataError(f"is {value!r}"[:80], where=where, expected="a time within the calendar") from None


def _by_place(kind: str, row: NewItem, answer: Mapping[str, Any], where: str) -> None:
    names = [str(place) for place in range(len(row.responses))]
    for value in _named(answer, where):
        if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < len(names):
            raise DataError(
                f"names the response {value!r}"[:80], where=where, expected=f"a place, 0 to {len(names) - 1}"
            )
    given = by_id(answer, names)
    parsed = parse_answer(given, kind=kind, responses=names, texts=dict(zip(names, row.responses, strict=True)))
    scores = getattr(parsed, "scores", {})
    if any(not -(2**31) <= point < 2**31 for point in scores.values()):
        raise DataError("a scale point has more than 9 digits", where=f"{where}.scores")


def _named(answer: Mapping[str, Any], where: str) -> list[Any]:
    found = [answer[name] for name in ("preferred", "response") if answer.get(name) is not None]
    tiers = answer.get("tiers", [])
    if not isinstance(tiers, list) or not all(isinstance(tier, list) for tier in tiers):
        raise DataError(f"tiers are {tiers!r}"[:80], where=where, expected="lists of places, best first")
    return [*found, *(place for tier in tiers for place in tier)]


def _content(row: NewItem) -> list[Any]:
    rest = [row.stream, row.split, dict(row.gold) if row.gold is not None else None, row.explanation, dict(row.context)]
    return [prompt_json(row.prompt), list(row.responses), list(row.generators), *rest]
