"""Texts, prompts and chat turns as other people's files spell them, checked one by one."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any, TypeAlias

from trueup.data.conversations import is_conversation, messages
from trueup.data.conversations import with_system as turns_with_system
from trueup.data.fields import Fault, checked_text, checked_yes_no
from trueup.data.formats import PROMPT_COLUMNS, TURN_COLUMNS, prompt_value
from trueup.data.formats import prompt_of as data_prompt
from trueup.errors import DataError, nearest
from trueup.feedback.exchange.incoming import UNNAMED, refusal
from trueup.feedback.exchange.watching import peek, plain
from trueup.feedback.store.texts import check_text
from trueup.types import Message, Prompt, prompt_json

Row: TypeAlias = Mapping[str, Any]

PROMPTS = (*PROMPT_COLUMNS, *TURN_COLUMNS)
"""Columns in which a prompt is looked for, in this order."""

ANNOTATORS = (
    *("annotator", "annotator_id", "worker", "worker_id", "judge", "rater", "rater_id", "labeler", "labeler_id"),
    *("evaluator", "evaluator_id"),
)
"""Columns that name who answered, in this order."""


def mapping(value: Any, where: str = "row") -> Row:
    """An object with text keys.

    Raises:
        DataError: It is something else.
    """
    if not isinstance(value, dict):
        problem = "is missing" if value is None else f"is {type(value).__name__}"
        raise DataError(problem, where=where, expected="an object")
    return value


def need(row: Row, *names: str) -> None:
    """Refuse a row without a field.

    Raises:
        DataError: Names the first that is missing.
    """
    for name in names:
        if row.get(name) is None:
            raise DataError("is missing", where=name, expected=nearest(name, [str(known) for known in row]))


def text(value: Any, where: str) -> str:
    """Text that can be stored.

    Raises:
        DataError: It is no text, or one that cannot be stored.
    """
    if not isinstance(value, str):
        raise DataError(f"is {value!r}"[:200], where=where, expected="text")
    check_text(value, where)
    return value


def texts(value: Any, where: str) -> tuple[str, ...]:
    """A list of texts.

    Raises:
        DataError: It is something else.
    """
    if not isinstance(value, list):
        raise DataError(f"is {value!r}"[:200], where=where, expected="a list of texts")
    return tuple(text(entry, f"{where}.{number}") for number, entry in enumerate(value))


def optional(row: Row, name: str) -> str | None:
    """A text that may be absent or null."""
    return None if row.get(name) is None else text(row[name], name)


def name_of(value: Any, where: str) -> str:
    """A name or a number that stands for one: 17, 17.0 and "17" are the same.

    Raises:
        DataError: It is something else.
    """
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        if not isinstance(value, int) and not value.is_integer():
            raise DataError(f"is {value!r}", where=where, expected="a name or a whole number")
        if abs(value) >= 10**30:
            raise DataError("has more than 30 digits", where=where, expected="a name or a whole number")
        return str(int(value))
    if not isinstance(value, str):
        raise DataError(f"is {value!r}"[:80], where=where, expected="a name or a whole number")
    return text(value, where)


def optional_name(row: Row, name: str) -> str | None:
    """A name that may be absent or null."""
    return None if row.get(name) in (None, "") else name_of(row[name], name)


def annotator(row: Row) -> str:
    """Who answered."""
    column = next((name for name in ANNOTATORS if name in row), ANNOTATORS[0])
    return optional_name(row, column) or UNNAMED


def whole(value: Any, where: str) -> int:
    """A whole number; 4.0 and "4" are.

    Raises:
        DataError: It is something else.
    """
    if isinstance(value, str) and len(value) < 16 and value.isascii():
        spelled = value.strip()
        if spelled.removeprefix("-").isdecimal():
            return int(spelled)
        whole_part, point, rest = spelled.partition(".")
        if point and whole_part.removeprefix("-").isdecimal() and rest and not rest.strip("0"):
            return int(whole_part)  # as tables write a column of whole numbers with gaps
    if isinstance(value, (int, float)) and not isinstance(value, bool) and value == value // 1 and abs(value) < 2**53:
        return int(value)
    half = isinstance(value, (float, str)) and str(value).strip().endswith(".5")
    raise DataError(
        f"is {value!r}"[:80],
        where=where,
        expected="a whole number",
        fix="scale points are whole numbers: double all points of this question, so that 3.5 becomes 7"
        if half
        else None,
    )


def yes_or_no(value: Any, where: str) -> bool:
    """Yes or no in one of its spellings; also as the one entry of a list of labels, as platforms write them.

    Raises:
        DataError: It is something else.
    """
    with refusing():
        return checked_yes_no(value[0] if isinstance(value, list) and len(value) == 1 else value, where)


def number(value: Any, where: str) -> float:
    """A finite number; "1.5" is one.

    Raises:
        DataError: It is something else.
    """
    as_float = math.nan
    if isinstance(value, (int, float, str)) and not isinstance(value, bool):
        try:
            as_float = float(value)
        except (ValueError, OverflowError):
            as_float = math.nan
    if not math.isfinite(as_float):
        raise DataError(f"is {value!r}"[:80], where=where, expected="a number")
    return as_float


class Seen(Mapping[str, Any]):
    """A row as the formats of ``data`` are to see it; what they read counts as read in the row itself.

    Args:
        row: The row.
        hidden: Columns that are not there for them.
        values: Columns that they find another value in, or that the row itself has not.
    """

    def __init__(self, row: Row, hidden: Collection[str] = (), values: Mapping[str, Any] | None = None) -> None:
        self.row = row
        self.values_ = dict(values or {})
        self.names = [*(n for n in row if n not in hidden and n not in self.values_), *self.values_]

    def __getitem__(self, name: str) -> Any:
        if name in self.values_:
            return self.values_[name]
        if name not in self.names:
            raise KeyError(name)
        return self.row[name]

    def __contains__(self, name: object) -> bool:
        return name in self.names

    def __iter__(self) -> Iterator[str]:
        return iter(self.names)

    def __len__(self) -> int:
        return len(self.names)

    def with_values(self, values: Mapping[str, Any]) -> Seen:
        """The same with other values in these columns."""
        return Seen(self.row, set(self.row) - set(self.names), self.values_ | dict(values))

    def items(self) -> Any:
        """Names and values; looking at all of them reads none."""
        return [(name, self.values_[name] if name in self.values_ else peek(self.row, name)) for name in self.names]


@contextlib.contextmanager
def refusing() -> Iterator[None]:
    """Say what the readers of ``data`` refuse as import says it.

    Raises:
        DataError: In the place of a ``Fault``.
    """
    try:
        yield
    except Fault as fault:
        raise refusal(fault) from None


def need_words(value: Any, where: str) -> None:
    """Refuse turns that nobody can be shown.

    Raises:
        DataError: One of them is the call of a tool.
    """
    for place, turn in enumerate(value if isinstance(value, list) else [value]):
        for call in ("tool_calls", "function_call"):
            if isinstance(turn, Mapping) and turn.get(call):
                raise DataError(
                    "is a call of a tool, which nobody can be shown",
                    where=f"{where}[{place}].{call}",
                    expected="turns of text",
                    fix="write the call into the turn's text, or leave the row out",
                )


def turns(value: Any, where: str) -> tuple[Message, ...]:
    """Chat turns, at least one; blank ones may be among them.

    Raises:
        DataError: There are none, or one of them is no turn that people can be shown.
    """
    need_words(value, where)
    with refusing():
        conversation = messages(value, where, blank=True)
    plain(value)  # all of a turn is kept
    return conversation


def prompt(value: Any, where: str = "prompt") -> Prompt:
    """Text that is not blank, or chat turns, as our own files hold them.

    Raises:
        DataError: It is something else.
    """
    if isinstance(value, str):
        with refusing():
            return checked_text(value, where)
    if is_conversation(value) or isinstance(value, list):
        return turns(value, where)
    problem = "is missing" if value is None else f"is {value!r}"[:200]
    raise DataError(problem, where=where, expected='text, or [{"role": "user", "content": "..."}]')


def prompt_column(row: Row, columns: Sequence[str] = PROMPTS) -> str | None:
    """The first of ``columns`` that holds something."""
    column = next((name for name in columns if row.get(name) not in (None, "", [])), None)
    if column is None and isinstance(row.get("context"), list):
        return "context"  # turns, as HelpSteer3 has them; a text of that name is none
    return column


def as_trained(row: Row, *, hidden: Collection[str] = (), columns: Sequence[str] = PROMPT_COLUMNS) -> Seen:
    """A row as the formats of ``data`` know it: its prompt in a column that they look for, and no empty one beside it.

    Args:
        row: The row.
        hidden: Columns that are not there for them.
        columns: Those of prompts that the format at hand looks for; a prompt in any other stands as ``prompt``.

    Raises:
        DataError: The prompt is none.
    """
    column = prompt_column(row)
    empty = [name for name in PROMPTS if name in row and peek(row, name) in (None, "", [])]
    values: dict[str, Any] = {}
    if column is not None and not isinstance(row[column], str):
        need_words(row[column], column)
    if column is not None and column not in columns:
        values["prompt"] = prompt_json(prompt_of(row))
    if not row.get("system") and row.get("system_prompt"):
        values["system"] = row["system_prompt"]
    return Seen(row, (*hidden, *empty), values)


def prompt_of(row: Row) -> Prompt:
    """The prompt of a row, from the first of ``PROMPTS`` that it has, with what belongs to it, as training reads it.

    Raises:
        DataError: There is none, or it is neither text nor chat turns that ask for an answer.
    """
    column = prompt_column(row)
    if column is None:
        raise DataError("is missing", where="prompt", expected=nearest("prompt", [str(known) for known in row]))
    value = row[column]
    if not isinstance(value, str):
        need_words(value, column)
    before = PROMPTS[: PROMPTS.index(column)] if column in PROMPTS else PROMPTS
    system = {} if row.get("system") or not row.get("system_prompt") else {"system": row["system_prompt"]}
    seen = Seen(row, before, system)
    with refusing():
        row_prompt = data_prompt(seen) if column in PROMPT_COLUMNS else prompt_value(value, column, seen)
    plain(value)
    return row_prompt


def with_system(row: Row, row_prompt: Prompt) -> Prompt:
    """A prompt with what its row gives beside it: the text of ``system`` before it, tools and the like with it."""
    name = next((name for name in ("system", "system_prompt") if row.get(name)), None)
    if name is None and isinstance(row_prompt, str):
        return row_prompt
    with refusing():
        return turns_with_system(Seen(row, (), {"system": row[name]} if name else {}), asked(row_prompt))


def asked(value: Prompt) -> tuple[Message, ...]:
    """A prompt as chat turns: plain text is what the user says."""
    return (Message("user", value),) if isinstance(value, str) else value
