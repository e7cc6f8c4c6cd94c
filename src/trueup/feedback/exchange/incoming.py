"""What was read from a file: items, the answers they were given, and every row that could be neither, with its line."""

from __future__ import annotations

import contextlib
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

from trueup.data.containers import content_rows
from trueup.data.content import as_utf8
from trueup.data.csv_rows import CheckColumns
from trueup.data.fields import SKIPPING, Fault
from trueup.data.splits import split_named
from trueup.errors import DataError, nearest
from trueup.feedback.exchange.watching import unread, watch
from trueup.feedback.store.answers import SKIP_REASONS
from trueup.feedback.store.items import NewItem, check_item, check_placed
from trueup.feedback.store.schema import stamp
from trueup.feedback.store.texts import check_value
from trueup.types import content_id, prompt_json

UNNAMED = "unnamed"
"""Whoever answered in a file that names nobody."""

LONGEST_HANDLE = 200
LONGEST_AXIS = 200
FARTHEST_POINT = 1000


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
    unused: Mapping[str, int] = field(default_factory=dict)
    """Columns and keys that hold something and that nothing was made of -> how many rows have them."""
    notes: tuple[str, ...] = ()
    """What else somebody who imports this file has to know, a sentence each."""

    @property
    def kind(self) -> str:
        """The task kind of all rows, ``mixed`` if there are several, empty if there are no rows."""
        kinds = set(self.kinds)
        return kinds.pop() if len(kinds) == 1 else "mixed" if kinds else ""


def json_rows(data: bytes, encoding: str | None = None) -> Iterator[tuple[int, Any]]:
    """Rows of a JSON file with their lines; a line that is none stands there as the ``DataError`` that says so.

    Raises:
        DataError: An array breaks off or is malformed, so that the rows after it cannot be told apart.
    """
    return _rows(as_utf8(data, encoding), "json", lambda names: None)


def csv_rows(data: bytes, check: CheckColumns, encoding: str | None = None) -> Iterator[tuple[int, Any]]:
    """The same of a CSV file, whose cells are text; empty ones are left out. ``check`` refuses a header."""
    return _rows(as_utf8(data, encoding), "csv", check)


def parquet_rows(data: bytes, check: CheckColumns) -> Iterator[tuple[int, Any]]:
    """The same of a Parquet file, whose rows are numbered from 1; nulls are left out."""
    return _rows(data, "parquet", check)


def _rows(data: bytes, layout: str, check: CheckColumns) -> Iterator[tuple[int, Any]]:
    for line in content_rows(data, layout, check):
        yield line.number, line.row if line.fault is None else refusal(line.fault)


def refusal(fault: Fault) -> DataError:
    """What is wrong with a row, as import says it: the row is left out and counted, whatever the reader's settings."""
    fix = None if fault.fix is None else re.sub(r"[,;] or $", "", fault.fix.removesuffix(SKIPPING))
    return DataError(fault.what, where=fault.field or None, expected=fault.expected, fix=fix or None)


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
        self.unused: Counter[str] = Counter()
        self.notes: Counter[str] = Counter()
        self._same: dict[str, list[int]] = {}
        self._said: dict[tuple[str, str], Mapping[str, Any] | None] = {}
        self._again: list[tuple[int, int, bool]] = []
        self._voted: set[tuple[int, str]] = set()
        self._splits: dict[str, tuple[str, int]] = {}

    def each(self, rows: Iterable[tuple[int, Any]], take: Callable[[int, Any], None]) -> None:
        """Hand every row to ``take``; one that it refuses is counted with its line, and what it does not read too."""
        for line, value in rows:
            try:
                row = watch(value)
                if isinstance(row, DataError):
                    raise row
                take(line, row)
            except DataError as error:
                self.rejected.append((line, str(error)))
            else:
                self.unused.update(set(unread(row)))

    def note(self, sentence: str) -> None:
        """Keep something that has to be said of the file; the same sentence is counted."""
        self.notes[sentence] += 1

    def add(self, line: int, kind: str, row: NewItem, vote: Answered | None = None, *, key: str | None = None) -> int:
        """One item with at most one answer; returns the item's row.

        Raises:
            DataError: Nothing was kept of it.
        """
        row = self.with_split(row)
        check(kind, row, vote)
        self._one_split(line, row)
        digest = content_id(kind, _content(row))
        number = self._held(kind, row, digest, key, vote)
        if number is None:
            self._note_same(line, row, digest, vote)
            number = len(self.rows)
            self.rows.append(row)
            self.kinds.append(kind)
            self.lines.append(line)
            self._same.setdefault(digest, []).append(number)
            if key is not None:
                self.keys[key] = number
        if vote is not None:
            self._voted.add((number, vote.annotator))
            self._said[digest, vote.annotator] = vote.answer
            self.votes.append(replace(vote, item=number))
        return number

    def answer(self, number: int, vote: Answered) -> None:
        """One more answer to an item.

        Raises:
            DataError: It does not fit, or is that annotator's second.
        """
        check(self.kinds[number], self.rows[number], vote)
        if (number, vote.annotator) in self._voted:
            raise DataError(f"{vote.annotator!r} answered this item before", where="annotator")
        self._voted.add((number, vote.annotator))
        self.votes.append(replace(vote, item=number))

    def done(self) -> Incoming:
        """All of it, rejected rows in order of their lines."""
        notes = [sentence if count == 1 else f"{sentence} ({count} times)" for sentence, count in self.notes.items()]
        if self._again:
            line, first, _ = self._again[0]
            contrary = sum(differs for _, _, differs in self._again)
            notes.append(
                f"rows about an item that the same annotator answered before: {len(self._again)}, the first in line "
                f"{line} about that of line {first}; with another answer: {contrary}; each is an item of its own"
            )
        return Incoming(
            self.rows,
            self.votes,
            self.kinds,
            self.lines,
            sorted(self.rejected),
            self.repeats,
            dict(sorted(self.unused.items())),
            tuple(notes),
        )

    def with_split(self, row: NewItem) -> NewItem:
        """The same item, its split under our name for it, which is noted."""
        name = row.split
        split = None if name is None else split_named(name)
        if split == name:
            return row
        self.note(f"the split {name!r} is taken to be {split!r}")
        return replace(row, split=split)

    def _note_same(self, line: int, row: NewItem, digest: str, vote: Answered | None) -> None:
        if len({text.strip() for text in row.responses}) < len(row.responses):
            self.note(f"the responses of line {line} differ only in white space at their ends, which nobody can see")
        earlier = self._same.get(digest)
        if earlier and vote is not None:
            before = self._said.get((digest, vote.annotator))
            self._again.append((line, self.lines[earlier[0]], before != vote.answer))

    def _held(self, kind: str, row: NewItem, digest: str, key: str | None, vote: Answered | None) -> int | None:
        if key is None:
            free = (
                n for n in self._same.get(digest, ()) if vote is not None and (n, vote.annotator) not in self._voted
            )
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
        if vote is not None and (number, vote.annotator) in self._voted:
            raise DataError(f"{vote.annotator!r} answered item {key!r} before", where="annotator")
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


def check(kind: str, row: NewItem, vote: Answered | None) -> None:
    """Refuse what the store would refuse.

    Raises:
        DataError: Names the field.
    """
    check_item(kind, row)
    if vote is None:
        return
    for name in ("annotator", "answer", "rationale", "skip_reason"):
        check_value(getattr(vote, name), name)
    if not vote.annotator.strip() or len(vote.annotator) > LONGEST_HANDLE:
        raise DataError(f"is {vote.annotator!r}"[:80], where="annotator", expected=f"1 to {LONGEST_HANDLE} characters")
    if vote.answer is None and vote.skip_reason not in SKIP_REASONS:
        raise DataError(
            f"no answer, and the reason is {vote.skip_reason!r}",
            where="skip_reason",
            expected=nearest(str(vote.skip_reason), SKIP_REASONS),
        )
    if vote.answer is not None and vote.skip_reason is not None:
        raise DataError(
            "there is an answer as well as a reason to skip", where="skip_reason", fix="leave one of them out"
        )
    if vote.answer is not None:
        check_placed(kind, row, vote.answer, "answer")
        _check_scale(vote.answer.get("scores", {}))
    if vote.shown is not None and sorted(vote.shown) != list(range(len(row.responses))):
        raise DataError(f"is {list(vote.shown)}", where="shown", expected="each response's place, once, counted from 0")
    if vote.active_ms is not None and not 0 <= vote.active_ms < 2**31:
        raise DataError(f"is {vote.active_ms}", where="active_ms", expected="milliseconds, 0 to 2147483647")


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


def of_seconds(value: Any) -> Any:
    """A time in seconds since 1970 as arena files have it; anything else as it is."""
    if isinstance(value, (int, float)) and not isinstance(value, bool) and 0 < value < 2**35:
        return datetime.fromtimestamp(value, UTC)
    return value


def _check_scale(scores: Mapping[str, int]) -> None:
    """Refuse scores for which no template could be made: a file does not say what its scale is."""
    for axis, point in scores.items():
        if not axis.strip() or len(axis) > LONGEST_AXIS:
            expected = f"a name of 1 to {LONGEST_AXIS} characters"
            raise DataError(f"an axis is called {axis!r}"[:80], where="answer.scores", expected=expected)
        if not -FARTHEST_POINT <= point <= FARTHEST_POINT:
            raise DataError(
                f"is {point}",
                where=f"answer.scores.{axis}",
                expected=f"a point of a scale, {-FARTHEST_POINT} to {FARTHEST_POINT}",
                fix="divide the column before importing it, or leave it out if it is no scale",
            )


def _content(row: NewItem) -> list[Any]:
    rest = [row.stream, row.split, dict(row.gold) if row.gold is not None else None, row.explanation, dict(row.context)]
    return [prompt_json(row.prompt), list(row.responses), list(row.generators), *rest]
