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

from trueup.data.conversations import asking, messages, with_system
from trueup.data.fields import Fault, Row, checked_text, items, present, text
from trueup.errors import DataError
from trueup.types import Message, Prompt

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class LeftOut:
    """Something sound that makes no item, such as a tie; counted under ``reason``."""

    reason: str
    count: int = 1


Made: TypeAlias = Iterable[T | LeftOut]


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
    """

    name: str
    needs: tuple[str, ...]
    convert: Callable[[Row], Made[Any]]
    uses: tuple[str, ...] = ()
    when: Callable[[Row], bool] | None = None
    gather: Callable[[Sequence[tuple[int, Any]]], Iterable[tuple[int, T | LeftOut]]] | None = None
    note: str | None = None

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
    found = Counter(i for i in first if i >= 0)
    if found:
        return formats[min(found, key=lambda i: (-found[i], i))]
    columns = list(rows[0]) if rows else []
    raise unknown_columns(columns, formats, source=source, kind=kind)


def unknown_columns(columns: Sequence[str], formats: Sequence[Format[Any]], *, source: str, kind: str) -> DataError:
    """The error for columns that no format of ``kind`` has: the closest formats, and what to rename for the first."""

    def missing(one: Format[Any]) -> list[str]:
        return [n.split("|")[0] for n in one.needs if not any(name in columns for name in n.split("|"))]

    def similar(name: str) -> str | None:
        return next(iter(difflib.get_close_matches(name, columns, n=1, cutoff=0.5)), None)

    def distance(one: Format[Any]) -> tuple[int, float]:
        lacking = missing(one)
        return sum(similar(name) is None for name in lacking), len(lacking) / len(one.needs)

    # A format that lacks nothing has the right names and the wrong kind of values: renaming is no help there.
    close = sorted((f for f in formats if missing(f)), key=distance)[:3]
    expected = "; or ".join(dict.fromkeys(", ".join(n.split("|")[0] for n in f.needs) for f in close))
    renames = [f'"{name}": "{similar(name) or "<your column>"}"' for name in missing(close[0])]
    return DataError(
        f"no known format of {kind}; the columns are {', '.join(columns) or '(none)'}",
        where=source,
        expected=f"columns such as {expected}; {len(formats)} formats are known, see the page on data",
        fix=f"say which column is which: columns={{{', '.join(renames)}}}",
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
    kept = {k: v for k, v in row.items() if k not in theirs and k not in columns}
    return kept | {ours: row[name] for ours, name in columns.items() if name in row}


PROMPT_COLUMNS = ("prompt", "instruction", "question", "input", "history")
"""Where a prompt is looked for, in this order."""
PROMPT = "|".join(PROMPT_COLUMNS)
PROMPT_USES = ("input", "context", "system")


def prompt_of(row: Row, *, empty: bool = False) -> Prompt:
    """The prompt of a row, from the first of ``PROMPT_COLUMNS`` that it has; empty text only if ``empty``."""
    name = next((n for n in PROMPT_COLUMNS if n in row), "prompt")
    if name == "prompt":
        return prompt_value(present(row, name), name, row, empty=empty)
    asked = text(row, name)
    if name == "instruction":
        more = next((n for n in ("input", "context") if row.get(n)), None)
        if more is not None:
            asked = f"{asked}\n\n{text(row, more)}"
    return with_system(row, (Message("user", asked),))


def prompt_value(value: Any, name: str, row: Row, *, empty: bool = False) -> Prompt:
    """A prompt from text, used verbatim, or from turns."""
    if isinstance(value, str):
        return checked_text(value, name, empty=empty)
    return with_system(row, asking(messages(value, name), name))


def texts(row: Row, name: str, *, at_least: int = 1) -> tuple[str, ...]:
    """A list of texts, none empty."""
    return tuple(checked_text(v, f"{name}[{n}]") for n, v in enumerate(items(row, name, at_least=at_least)))


def tuple_of_names(row: Row, name: str) -> tuple[str, ...]:
    """An optional list of names such as ``origin``."""
    value = row.get(name)
    if value is None or value == "":
        return ()
    if isinstance(value, str):
        return (value,)
    if not isinstance(value, (list, tuple)) or not all(isinstance(v, str) for v in value):
        raise Fault(f"{name} is not a list of names", f"is {value!r}", field=name, expected="a list of texts")
    return tuple(value)
