"""Texts, prompts and chat turns as other people's files spell them, checked one by one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias, cast

from trueup.errors import DataError, nearest
from trueup.feedback.exchange.incoming import UNNAMED
from trueup.types import Message, Prompt, Role

Row: TypeAlias = Mapping[str, Any]

ROLES = ("system", "user", "assistant", "tool")
SPOKEN = {"human": "user", "gpt": "assistant"} | {role: role for role in ROLES}
"""What ShareGPT calls the speakers of ``from`` and ``value``."""


def mapping(value: Any, where: str = "row") -> Row:
    """An object with text keys.

    Raises:
        DataError: It is something else.
    """
    if not isinstance(value, dict):
        raise DataError(f"is {type(value).__name__}", where=where, expected="an object")
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
        DataError: It is no text, holds NUL, or half of a surrogate pair.
    """
    if not isinstance(value, str):
        raise DataError(f"is {value!r}"[:200], where=where, expected="text")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise DataError("holds half of a character", where=where, expected="whole Unicode characters") from None
    if "\0" in value:
        raise DataError("holds a NUL character", where=where, fix="remove it")
    return value


def texts(value: Any, where: str) -> tuple[str, ...]:
    """A list of texts.

    Raises:
        DataError: It is something else.
    """
    if not isinstance(value, list):
        raise DataError(f"is {value!r}"[:200], where=where, expected="a list of texts")
    return tuple(text(one, f"{where}.{number}") for number, one in enumerate(value))


def optional(row: Row, name: str) -> str | None:
    """A text that may be absent or null."""
    return None if row.get(name) is None else text(row[name], name)


def annotator(row: Row) -> str:
    """Who answered."""
    return optional(row, "annotator") or UNNAMED


def whole(value: Any, where: str) -> int:
    """A whole number; 4.0 and "4" are.

    Raises:
        DataError: It is something else.
    """
    if isinstance(value, (int, float)) and not isinstance(value, bool) and value == value // 1 and abs(value) < 2**53:
        return int(value)
    if isinstance(value, str) and value.strip().lstrip("-").isdecimal() and value.isascii() and len(value) < 16:
        return int(value)
    raise DataError(f"is {value!r}"[:80], where=where, expected="a whole number")


def message(value: Any, where: str) -> Message:
    """One chat turn, ``role`` and ``content`` or ``from`` and ``value``.

    Raises:
        DataError: It is something else.
    """
    turn = mapping(value, where)
    speaker, said = ("role", "content") if "role" in turn else ("from", "value")
    role = SPOKEN.get(text(turn.get(speaker), f"{where}.{speaker}"))
    if role is None:
        raise DataError(
            f"is {turn[speaker]!r}"[:80], where=f"{where}.{speaker}", expected=nearest(turn[speaker], SPOKEN)
        )
    return Message(cast(Role, role), text(turn.get(said), f"{where}.{said}"))


def turns(value: Sequence[Any], where: str) -> tuple[Message, ...]:
    """Chat turns, at least one.

    Raises:
        DataError: There are none, or one of them is no turn.
    """
    if not value:
        raise DataError("is empty", where=where, expected="chat turns")
    return tuple(message(turn, f"{where}.{number}") for number, turn in enumerate(value))


def prompt(value: Any, where: str = "prompt") -> Prompt:
    """Text that is not blank, or chat turns.

    Raises:
        DataError: It is something else.
    """
    if isinstance(value, list):
        return turns(value, where)
    if isinstance(value, str) and value.strip():
        return text(value, where)
    found = "is empty" if isinstance(value, str) else f"is {value!r}"[:200]
    raise DataError(found, where=where, expected='text, or [{"role": "user", "content": "..."}]')


def asked(value: Prompt) -> tuple[Message, ...]:
    """A prompt as chat turns: plain text is what the user says."""
    return (Message("user", value),) if isinstance(value, str) else value
