"""What a format is, how one is recognised from the columns, and the columns that prompts come in.

A prompt in a column ``prompt`` is plain text, used verbatim. Text in ``instruction``, ``question``, ``input`` or
``turns`` is what a person asks an assistant: it becomes one user turn, and the model's chat template renders it.
"""

from __future__ import annotations

import difflib
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeAlias, TypeVar

from trueup.data.conversations import asking, is_conversation, messages, with_system
from trueup.data.fields import (
    Fault,
    Row,
    checked_text,
    identifier,
    items,
    number,
    present,
    short,
    spelled_list,
    text,
)
from trueup.data.read_report import ReadReport
from trueup.errors import DataError
from trueup.types import Message, Prompt

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class LeftOut:
    """Something sound that makes no item, such as a tie; counted under ``reason``."""

    reason: str
    count: int = 1


@dataclass(frozen=True, slots=True)
class Doubt:
    """What makes a row's item doubtful, though it is made; counted under ``reason``."""

    reason: str


Made: TypeAlias = Iterable[T | LeftOut | Doubt]


@dataclass(frozen=True, slots=True)
class Survey:
    """All rows of a source, for a format that must see them before it can read one.

    Args:
        rows: Line numbers and rows, from the first on.
        verdicts: What the user says that verdicts mean.
        columns: Our column name -> the file's, where they differ.
        place: ``file:line`` of a line.
        report: Takes what the survey shows.
    """

    rows: Iterable[tuple[int, Row]]
    verdicts: Mapping[str, str]
    columns: Mapping[str, str]
    place: Callable[[int], str]
    report: ReadReport


@dataclass(frozen=True, slots=True)
class Format(Generic[T]):
    """One shape that rows come in.

    Args:
        name: Stated in reports.
        needs: Columns that identify it; alternatives as ``a|b``.
        convert: One row to its items; raises ``Fault``.
        uses: Further columns that ``convert`` reads if they are there.
        when: A look at the values, where columns alone do not decide.
        gather: For formats in which one item is spread over rows: what ``convert`` gave, to items.
        note: A convention that a reader of the report should know.
        settle: For formats whose values mean what the whole file shows them to mean: the format, once settled.
    """

    name: str
    needs: tuple[str, ...]
    convert: Callable[[Row], Made[Any]]
    uses: tuple[str, ...] = ()
    when: Callable[[Row], bool] | None = None
    gather: Callable[[Sequence[tuple[int, Any]]], Iterable[tuple[int, T | LeftOut]]] | None = None
    note: str | None = None
    settle: Callable[[Survey], Format[T]] | None = None

    def fits(self, row: Row) -> bool:
        """Whether ``row`` has this shape."""
        named = all(any(name in row for name in need.split("|")) for need in self.needs)
        return named and (self.when is None or self.when(row))

    def columns(self) -> set[str]:
        """Every column it may read."""
        return {name for need in (*self.needs, *self.uses) for name in need.split("|")}


def recognise(formats: Sequence[Format[T]], rows: Sequence[Row], *, source: str, kind: str) -> Format[T]:
    """The format that most of the first rows have; on a draw the earlier one in ``formats``.

    Raises:
        DataError: No row has any of them; it names what was found, what is expected, and the nearest names.
    """
    first = [next((i for i, f in enumerate(formats) if f.fits(row)), -1) for row in rows]
    fit_counts = Counter(i for i in first if i >= 0)
    if fit_counts:
        return formats[min(fit_counts, key=lambda i: (-fit_counts[i], i))]
    columns = list(rows[0]) if rows else []
    inner = _wrapped(rows)
    if inner:
        raise DataError(
            f"the whole file is one object, and the rows are lists in it, under {' and '.join(map(repr, inner))}",
            where=source,
            expected="a list of rows, or one row a line",
            fix=f"jq '.{inner[0]}' FILE > NEW.json",
        )
    raise unknown_columns(columns, formats, source=source, kind=kind)


def _wrapped(rows: Sequence[Row]) -> list[str]:
    """The names under which a lone object holds lists of rows, as ``{"data": [{...}, ...]}``; none if it is a row."""
    if len(rows) != 1 or not rows[0]:
        return []
    lists = [
        n for n, v in rows[0].items() if isinstance(v, list) and v and all(isinstance(entry, Mapping) for entry in v)
    ]
    return lists if len(lists) == len(rows[0]) or lists == ["data"] else []


_RAW: Mapping[str, set[str]] = {
    "judgments": {"record"},
    "csv": {"kind", "responses", "annotator", "answer"},
    "argilla": {"fields", "responses"},
    "label-studio": {"data", "annotations"},
}
"""Formats of ``trueup feedback export`` that hold single answers, and columns to know them by."""


def unknown_columns(columns: Sequence[str], formats: Sequence[Format[Any]], *, source: str, kind: str) -> DataError:
    """The error for columns that no format of ``kind`` has: the closest formats, and what to rename for the first."""
    raw = next((name for name, needs in _RAW.items() if needs <= set(columns)), None)
    if raw is not None:
        return DataError(
            f"a file of judgments ({raw}), one answer by one person after the other, and not of {kind}",
            where=source,
            expected="what the answers come to: `trueup curate` weighs them against each other",
            fix=f"trueup feedback import FILE --format {raw} --project NAME --db feedback.db, then trueup curate NAME"
            " --db feedback.db --out FOLDER",
        )

    mark = next((m for m in (";", "\t", "|") if len(columns) == 1 and m in columns[0]), None)
    if mark is not None:
        return DataError(
            f"the header is one cell, {short(columns[0])}, with {mark!r} in it",
            where=source,
            expected="cells that are separated by commas, or by tabs in a file named .tsv",
            fix="name the file .tsv" if mark == "\t" else "save the table again with commas between its cells",
        )

    def missing(row_format: Format[Any]) -> list[str]:
        return [n.split("|")[0] for n in row_format.needs if not any(name in columns for name in n.split("|"))]

    def similar(name: str) -> str | None:
        return next(iter(difflib.get_close_matches(name, columns, n=1, cutoff=0.5)), None)

    def distance(row_format: Format[Any]) -> tuple[float, int]:
        lacking = missing(row_format)
        nothing_like = sum(similar(name) is None for name in lacking)
        return (len(lacking) + nothing_like / 2) / len(row_format.needs), len(lacking) - len(row_format.needs)

    # A format that lacks nothing has the right names and the wrong kind of values: renaming is no help there.
    close = sorted((f for f in formats if missing(f)), key=distance)[:3]
    expected = "; or ".join(dict.fromkeys(", ".join(n.split("|")[0] for n in f.needs) for f in close))
    renames = [f'"{name}": "{similar(name) or "<your column>"}"' for name in missing(close[0])]
    return DataError(
        f"no known format of {kind}; the columns are {', '.join(columns) or '(none)'}",
        where=source,
        expected=f"columns such as {expected}; {len(formats)} formats are known, see the page on data",
        fix=f"say which column is which: columns={{{', '.join(renames)}}} (in a command --set 'read.columns={{...}}',"
        " in `trueup data check` --column OURS=THEIRS)",
    )


class Watched(dict[str, Any]):
    """A row that remembers which of its columns were read."""

    def __init__(self, row: Row) -> None:
        super().__init__(row)
        self.read: set[str] = set()

    def __getitem__(self, name: str) -> Any:
        self.read.add(name)
        return super().__getitem__(name)

    def get(self, name: str, default: Any = None) -> Any:
        """As ``dict.get``, and remembered."""
        self.read.add(name)
        return super().get(name, default)


def renamed(row: Mapping[str, Any], columns: Mapping[str, str]) -> Row:
    """``row`` with the file's names replaced by ours; a column that already has one of our names gives way."""
    if not columns:
        return row
    theirs = set(columns.values())
    # What gives way keeps a place, so that it is reported as not used.
    kept = {f"{k} (the file's own)" if k in columns else k: v for k, v in row.items() if k not in theirs}
    return kept | {ours: row[name] for ours, name in columns.items() if name in row}


PROMPT_COLUMNS = ("prompt", "instruction", "question", "input", "history", "query")
"""Where a prompt is looked for, in this order."""
TURN_COLUMNS = ("messages", "conversations")
"""Columns of chat turns: a prompt, or a whole dialogue."""
RESPONSE_COLUMNS = ("completion", "response", "answer", "output")
"""Columns of one response, in the order in which they are looked for where none is asked for by name."""
PROMPT = "|".join(PROMPT_COLUMNS)
PROMPT_USES = ("input", "context", "system", "history")


def prompt_of(row: Row, *, empty: bool = False) -> Prompt:
    """The prompt of a row, from the first of ``PROMPT_COLUMNS`` that it has; empty text only if ``empty``."""
    name = next((n for n in PROMPT_COLUMNS if n in row), "prompt")
    value = present(row, name)
    if name == "prompt" or is_conversation(value):
        return prompt_value(value, name, row, empty=empty)
    asked = text(row, name)
    if name in ("instruction", "question"):
        more = {n: row[n] for n in ("input", "context") if n in row and isinstance(unread(row, n), str | None)}
        asked = "\n\n".join([asked, *(checked_text(cell, n) for n, cell in more.items() if cell and cell.strip())])
    before = () if name == "history" else earlier_turns(row)
    return with_system(row, (*before, Message("user", asked)))


def earlier_turns(row: Row) -> tuple[Message, ...]:
    """Turns before the question, from a column ``history`` of ``[question, answer]`` entries or of chat turns."""
    value = unread(row, "history")
    value = spelled_list(value) if isinstance(value, str) else value
    if not isinstance(value, (list, tuple)):
        return ()
    row.get("history")  # from here on it is used
    if not value:
        return ()
    if all(isinstance(entry, Mapping) for entry in value):
        turns = messages(value, "history")
    elif all(isinstance(entry, (list, tuple)) and len(entry) == 2 for entry in value):
        turn_texts = [
            (checked_text(entry[at], f"history[{n}][{at}]"), at) for n, entry in enumerate(value) for at in (0, 1)
        ]
        turns = tuple(Message("assistant" if at else "user", words) for words, at in turn_texts)
    else:
        raise Fault(
            "history is no list of earlier turns",
            f"is {short(value)}",
            field="history",
            expected='[["question", "answer"], ...] or chat turns, or nothing',
        )
    if turns[-1].role != "assistant":
        raise Fault(
            "history does not end with an answer",
            f"ends with a turn by {turns[-1].role}",
            field="history",
            expected="turns that end with the assistant's, before the question",
        )
    return turns


def unread(row: Row, name: str) -> Any:
    """The value in column ``name``, if any, without counting the column as read: it may turn out to be no use."""
    return next(value for column, value in row.items() if column == name) if name in row else None


def prompt_value(value: Any, name: str, row: Row, *, empty: bool = False) -> Prompt:
    """A prompt from text, used verbatim, or from turns."""
    if isinstance(value, str):
        return checked_text(value, name, empty=empty)
    return with_system(row, asking(messages(value, name), name))


def texts(row: Row, name: str, *, at_least: int = 1) -> tuple[str, ...]:
    """A list of texts, none empty."""
    return tuple(checked_text(v, f"{name}[{n}]") for n, v in enumerate(items(row, name, at_least=at_least)))


NO_WEIGHT = "its weight is 0"


def strength_of(row: Row) -> float:
    """The optional column ``strength``: the probability in [0.5, 1] that a label is right; 1 if absent."""
    strength = number(row, "strength") if row.get("strength") is not None else 1.0
    if not 0.5 <= strength <= 1.0:
        raise Fault(
            "strength is out of range",
            f"is {strength:g}",
            field="strength",
            expected="the probability that the label is right (that chosen is better), in [0.5, 1]",
            fix="if it is below 0.5 the other side is preferred: exchange chosen and rejected, or turn the label round",
        )
    return strength


LIGHTEST, HEAVIEST = 1e-9, 1e9
"""Weights of rows, where they are not 0."""


def weight_of(row: Row) -> float:
    """The optional column ``weight``: how much a row counts, at least 0; 1 if absent. A row of weight 0 is no item."""
    weight = number(row, "weight") if row.get("weight") is not None else 1.0
    if weight < 0:
        raise Fault(
            "weight is negative",
            f"is {weight:g}",
            field="weight",
            expected="a number of at least 0: how much the row counts beside others",
            fix="a negative weight would train away from the row: exchange its sides or turn its label round instead",
        )
    if weight and not LIGHTEST <= weight <= HEAVIEST:
        raise Fault(
            "weight is out of range",
            f"is {weight:g}",
            field="weight",
            expected=f"0, or between {LIGHTEST:g} and {HEAVIEST:g}: beyond, sums of weights are no numbers any more",
            fix="weights count beside each other: divide all of them by the usual one",
        )
    return weight


def tuple_of_names(row: Row, name: str) -> tuple[str, ...]:
    """An optional list of names such as ``origin``."""
    value = row.get(name)
    several = value if isinstance(value, (list, tuple)) else (value,)
    names = (identifier(entry, f"{name}[{n}]" if several is value else name) for n, entry in enumerate(several))
    return tuple(entry for entry in names if entry)
