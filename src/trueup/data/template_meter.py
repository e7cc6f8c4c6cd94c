"""What one rendering of a chat template may still use, and what an operation will make before it is made.

Work is counted in steps, values in characters. An operation that could make something large from something small (a
product, a width, a replacement, a join) is measured first and refused where the result would be too large.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

STEPS, STEPS_PER_CHARACTER = 5_000_000, 16
"""Work allowed: a loop's turn, a call or an operator is a step, and so are 32 characters that are copied."""
SIZE, SIZE_PER_CHARACTER = 10_000_000, 8
"""Characters allowed in one value and in the output."""
CHARACTERS_A_STEP = 32
_PART = 8
"""What one part of a list or an object counts, in characters."""
_INTEGER = 100_000
"""Largest number that a filter or a method of text may be given, as a width or a count."""
_BITS = 100_000


class OverBudget(Exception):
    """A template asked for more work or memory than any chat needs."""


class Meter:
    """What one rendering may still use."""

    __slots__ = ("left", "marked", "size", "source", "written")

    def __init__(self, characters: int = 0, source: int = 0) -> None:
        self.left = STEPS + STEPS_PER_CHARACTER * characters
        self.size = SIZE + SIZE_PER_CHARACTER * characters
        self.source = source // CHARACTERS_A_STEP
        self.written = 0
        """Characters of the output so far."""
        self.marked: list[tuple[int, str]] = []
        """Where in the output, and which, are the texts that the template marks as the assistant's."""

    def spend(self, steps: int) -> None:
        """Count ``steps`` of work."""
        self.left -= steps
        if self.left < 0:
            raise OverBudget("it runs on without end: its budget of steps is used up")

    def room(self, characters: int) -> None:
        """Refuse a value of so many characters before it is made."""
        if characters > self.size:
            raise OverBudget(f"it makes a text of {characters:,} characters")

    def passes(self, value: Any) -> Any:
        """``value``, after it was measured and paid for."""
        if isinstance(value, (str, bytes)):
            self.room(len(value))
            self.spend(1 + len(value) // CHARACTERS_A_STEP)
        elif isinstance(value, int):
            if value.bit_length() > _BITS:
                raise OverBudget("it makes a number of thousands of digits")
        elif isinstance(value, (list, tuple, dict, set, frozenset)):
            self.weigh(value)
        return value

    def weigh(self, value: Any) -> tuple[int, int, int]:
        """Characters, parts and depth of ``value`` written out; a part that is there twice counts twice."""
        characters = parts = deepest = 0
        waiting: list[tuple[Any, int]] = [(value, 1)]
        while waiting:
            part, depth = waiting.pop()
            parts += 1
            deepest = max(deepest, depth)
            self.spend(1)
            if isinstance(part, (str, bytes)):
                characters += len(part)
            elif isinstance(part, Mapping):
                waiting += [(inner, depth + 1) for pair in part.items() for inner in pair]
            elif isinstance(part, (list, tuple, set, frozenset)):
                waiting += [(inner, depth + 1) for inner in part]
            self.room(characters + _PART * parts)
        return characters, parts, deepest

    def arguments(self, name: str, values: Iterable[Any]) -> None:
        """Pay for what goes into a call; refuse numbers that are no width or count of a chat."""
        for value in values:
            if isinstance(value, str):
                self.spend(len(value) // CHARACTERS_A_STEP)
            elif isinstance(value, int) and abs(value) > _INTEGER:
                raise OverBudget(f"it calls {name} with {value:,}" if abs(value) < 10**18 else f"it calls {name}")


_METER: ContextVar[Meter] = ContextVar("meter")


def current() -> Meter:
    """The meter of the rendering that runs in this thread."""
    return _METER.get()


@contextmanager
def metered(characters: int, source: int) -> Iterator[Meter]:
    """Give the work inside a meter of its own: for ``characters`` of input and a template of ``source`` characters."""
    token = _METER.set(Meter(characters, source))
    try:
        yield _METER.get()
    finally:
        _METER.reset(token)


def check_product(left: Any, right: Any, meter: Meter) -> None:
    """Refuse a product of numbers, or of a text or list and a number, that would be large."""
    if isinstance(left, int) and isinstance(right, int):
        if left.bit_length() + right.bit_length() > _BITS:
            raise OverBudget("it makes a number of thousands of digits")
        return
    many, count = (right, left) if isinstance(left, int) else (left, right)
    if isinstance(count, int) and isinstance(many, (str, bytes, list, tuple)):
        characters, parts, _ = meter.weigh(many)
        meter.room((characters + parts) * max(0, count))


def check_power(base: Any, exponent: Any) -> None:
    """Refuse a power with thousands of digits."""
    if isinstance(base, int) and isinstance(exponent, int) and base.bit_length() * abs(exponent) > _BITS:
        raise OverBudget("it makes a number of thousands of digits")


def check_method(owner: str | bytes, name: str, args: tuple[Any, ...], meter: Meter) -> tuple[Any, ...]:
    """Pay for a call of a method of text, and refuse one that would make much of little; gives its arguments."""
    meter.spend(len(owner) // CHARACTERS_A_STEP)
    meter.arguments(name, args)
    if name == "replace" and len(args) >= 2:
        _check_replace(owner, args[0], args[1], meter)
    elif name == "join" and args:
        pieces = list(args[0])
        characters, parts, _ = meter.weigh(pieces)
        meter.room(characters + parts * len(owner))
        args = (pieces, *args[1:])
    return args


def _check_replace(text: Any, old: Any, new: Any, meter: Meter) -> None:
    hits = text.count(old) if isinstance(old, type(text)) else 0
    meter.room(len(text) + hits * len(new) if hasattr(new, "__len__") else len(text))


_DIGITS = re.compile(r"\d+")
_NESTED = re.compile(r"%[-+ #0]*(\d*\.)?\*|\{[^{}]*\{")


def check_format(text: str | bytes, values: Any) -> None:
    """Refuse widths that are not written out, and text that would be long: fields times values, and widths."""
    meter = _METER.get()
    spelled = text if isinstance(text, str) else text.decode("latin-1")
    widths = _DIGITS.findall(spelled)
    if _NESTED.search(spelled.replace("{{", "")) or any(len(run) > 6 for run in widths):
        raise OverBudget("it formats text with a width that is not a short number")
    characters, parts, _ = meter.weigh(values)
    fields = spelled.count("%") + spelled.count("{")
    meter.room(len(spelled) + fields * (characters + 20 * parts) + sum(map(int, widths)))


def limited(name: str, call: Callable[..., Any]) -> Callable[..., Any]:
    """A filter that pays for what it reads and makes."""
    passed = int(hasattr(call, "jinja_pass_arg"))
    check = _FILTER_CHECKS.get(name)

    @functools.wraps(call)
    def run(*args: Any, **kwargs: Any) -> Any:
        meter = _METER.get()
        meter.spend(1)
        front, rest = args[:passed], args[passed:]
        meter.arguments(name, (*rest[1:], *kwargs.values()))
        if rest and isinstance(rest[0], (str, bytes)):
            meter.spend(len(rest[0]) // CHARACTERS_A_STEP)
        if check is not None and rest:
            rest = check(meter, *rest, **kwargs)
        return meter.passes(call(*front, *rest, **kwargs))

    return run


def _indent(meter: Meter, text: Any, *rest: Any, **named: Any) -> tuple[Any, ...]:
    width = rest[0] if rest else named.get("width", 4)
    lines = str(text).count("\n") + 1
    meter.room(len(str(text)) + lines * (width if isinstance(width, int) else len(width)))
    return (text, *rest)


def _replace(meter: Meter, text: Any, *rest: Any, **named: Any) -> tuple[Any, ...]:
    old, new = (*rest, *(named[name] for name in ("old", "new") if name in named))[:2]
    _check_replace(str(text), str(old), str(new), meter)
    return (text, *rest)


def _join(meter: Meter, pieces: Any, *rest: Any, **named: Any) -> tuple[Any, ...]:
    listed = list(pieces)
    characters, parts, _ = meter.weigh(listed)
    meter.room(characters + parts * len(str(rest[0] if rest else named.get("d", ""))))
    return (listed, *rest)


def _format(meter: Meter, text: Any, *rest: Any, **named: Any) -> tuple[Any, ...]:
    check_format(str(text), (rest, named))
    return (text, *rest)


def _json(meter: Meter, value: Any, *rest: Any, **named: Any) -> tuple[Any, ...]:
    characters, parts, depth = meter.weigh(value)
    fixed = [option for option in (*rest, *named.values()) if option is not None]
    wide = sum(o if isinstance(o, int) else meter.weigh(o)[0] for o in fixed)
    meter.room(characters + parts * (2 + wide * depth))
    meter.spend(characters // CHARACTERS_A_STEP)
    return (value, *rest)


def _sum(meter: Meter, values: Any, *rest: Any, **named: Any) -> tuple[Any, ...]:
    listed = list(values)
    if not isinstance((*rest[1:], named.get("start", 0))[0], (int, float)):
        meter.spend(meter.weigh(listed)[1] ** 2)  # lists are copied at every addition
    return (listed, *rest)


_FILTER_CHECKS: Mapping[str, Callable[..., tuple[Any, ...]]] = {
    "indent": _indent,
    "replace": _replace,
    "join": _join,
    "format": _format,
    "tojson": _json,
    "sum": _sum,
}
