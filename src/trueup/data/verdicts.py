"""What a verdict on two responses says: words are clear, numbers mean what the whole file shows them to mean.

A 1 is "the first response" among verdicts 1 and 2, and "the second" among verdicts 0 and 1 that count from 0; where 1
is "yes, better" it is the first again. So numbers are read by file, never by row, and where a file leaves it open the
reader asks.
"""

from __future__ import annotations

import contextlib
import math
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from trueup.data.fields import Fault, Row, present, short
from trueup.data.verdict_words import CLEAR, spoken_verdict
from trueup.errors import DataError, UsageError

SLIGHTLY = 0.75
"""Strength of "slightly better", half way between a tie (0.5) and a certain verdict (1); a convention of ours."""

_P: Mapping[str, float] = {"first": 1.0, "second": 0.0, "tie": 0.5}
_STEMS = ("output", "response", "completion", "answer", "candidate", "generation", "conversation")
_ENDS = (("_1", "_2"), ("1", "2"), ("_a", "_b"), ("_A", "_B"), ("_0", "_1"), ("_left", "_right"))
SIDES: tuple[tuple[str, str], ...] = (
    *((stem + first, stem + second) for first, second in _ENDS for stem in _STEMS),
    ("human_ref_A", "human_ref_B"),
    ("a", "b"),
)
"""Columns of two responses, the first before the second."""
LISTS = ("responses", "completions", "outputs", "answers", "candidates", "generations")
"""Columns that hold both responses as a list."""
VERDICTS = (
    "label",
    "preference",
    "preferred",
    "winner",
    "outcome",
    "verdict",
    "choice",
    "best",
    "better",
    "chosen_index",
    "better_response_id",
    "labels",
    "overall_preference",
    "preference_strength",
    "chosen",
)
"""Columns of the verdict; the first that a row has counts, unless it has votes."""
VOTE = re.compile(r"annotator_?\d+$")
"""A column with one annotator's verdict."""
VOTES = tuple(f"annotator{mark}{n}" for mark in ("", "_") for n in range(1, 10))
"""The usual ones."""
SIGNED = ("overall_preference", "preference_strength")
"""HelpSteer2 (arXiv:2410.01257): -3 to 3, negative where the first response is better, 1 away from 0 is slightly."""
_SHORT = (
    *("a", "model_a", "a-is-better", "first", "left", "b", "model_b", "b-is-better", "second", "right"),
    *("tie", "tie (bothbad)", "both", "neither", "a-is-slightly-better", "b-is-slightly-better"),
)
"""Words that say the same whatever the responses are called, and even where one of them is this very text."""


def sides_of(row: Row) -> tuple[str, str] | None:
    """The columns of the two responses, if the row has them."""
    return next(((a, b) for a, b in SIDES if a in row and b in row), None)


def verdict_columns(row: Row) -> list[str]:
    """The columns of the votes, or the one of the verdict; none if the row has neither."""
    votes = sorted(name for name in row if VOTE.match(name))
    return votes or [name for name in VERDICTS if name in row][:1]


def verdict(value: Any) -> float | str | None:
    """``value`` as a number or a word in lower case: ``1``, ``1.0`` and ``" 1 "`` are 1, ``True`` is ``true``."""
    if isinstance(value, bool):
        return str(value).lower()
    if not isinstance(value, (int, float, str)):
        return None
    word = value.strip().lower() if isinstance(value, str) else None
    with contextlib.suppress(ValueError, OverflowError):
        number = float(value)
        if math.isfinite(number):
            return number + 0.0  # -0.0 is 0.0
    return word or None


@dataclass(frozen=True, slots=True)
class Convention:
    """What the verdicts of a file mean: verdict -> probability that the first response is better."""

    meaning: Mapping[float | str, float]
    graded: bool = False
    """AlpacaEval: 1 is the first, 2 the second, and what lies between is how sure a judge was."""
    signed: bool = False

    def p_first(self, row: Row, column: str, sides: tuple[str, str], texts: tuple[str, str]) -> float:
        """Probability that the first response is the better one, by the verdict in ``column``."""
        value = present(row, column)
        choice = verdict(value)
        if self.signed and isinstance(choice, float) and abs(choice) <= 3:
            return 0.5 if choice == 0 else 0.5 - math.copysign(0.5 if abs(choice) > 1 else SLIGHTLY - 0.5, choice)
        if self.graded and isinstance(choice, float) and 1.0 < choice < 2.0:
            return 2.0 - choice
        if choice is not None and choice in self.meaning:
            return self.meaning[choice]
        spoken = _in_words(choice, sides)
        if spoken is not None and choice in _SHORT:
            return spoken
        named = [n for n, side in enumerate(sides) if choice == side.lower()]
        named = named or [n for n, text in enumerate(texts) if value == text]
        if len(named) == 1:
            return 1.0 - named[0]
        if spoken is not None:
            return spoken
        raise Fault(
            f"{column} is not a verdict",
            f"is {short(value)}",
            field=column,
            expected=f"{sides[0]} or {sides[1]}, or one of " + ", ".join(map(_shown, (*self.meaning, *_SHORT))),
            fix=f"say what it means: read.verdicts={{{short(value)}: first}} (or second, or tie)",
        )


def _in_words(word: float | str | None, sides: tuple[str, str]) -> float | None:
    """Probability that the first response is better, by a verdict in words; None where it is none."""
    if not isinstance(word, str):
        return None
    spoken = spoken_verdict(word, sides) or (spoken_verdict(word, ("a", "b")) if word in _SHORT else None)
    if spoken is None or spoken.place is None:
        return None if spoken is None else 0.5
    certain = SLIGHTLY if spoken.strength < CLEAR else 1.0
    return certain if spoken.place == 0 else 1.0 - certain


@dataclass(slots=True)
class _Tally:
    """The verdicts of one file that are to be read in one way."""

    counts: Counter[float | str] = field(default_factory=Counter)
    first_line: dict[float | str, int] = field(default_factory=dict)
    column: str = ""
    sides: tuple[str, str] = ("", "")


def meaning_of(verdicts: Mapping[str, str]) -> dict[float | str, float]:
    """What the user says that verdicts mean, checked.

    Raises:
        UsageError: A meaning is none of first, second and tie.
    """
    meaning: dict[float | str, float] = {}
    for word, means in verdicts.items():
        key = verdict(word)
        if key is None or means not in _P:
            raise UsageError(f"{word!r} means {means!r}", where="read.verdicts", expected="first, second or tie")
        meaning[key] = _P[means]
    return meaning


class Conventions:
    """How to read the verdicts of a file, from all of them.

    Args:
        rows: Line numbers and rows with two responses and a verdict; others are passed over.
        given: What the user says: verdict -> ``first``, ``second`` or ``tie``.
        place: ``file:line`` of a line.
        columns: Our column name -> the file's, for messages.

    Raises:
        DataError: The file does not show which response its numbers name, and the user did not say it.
    """

    def __init__(
        self,
        rows: Iterable[tuple[int, Row]],
        verdicts: Mapping[str, str],
        place: Callable[[int], str],
        columns: Mapping[str, str],
    ) -> None:
        meaning = meaning_of(verdicts)
        files: dict[str, _Tally] = {}
        for line, row in rows:
            named = sides_of(row) or list_sides(row)
            if named is None:
                continue
            for column in verdict_columns(row):
                choice = verdict(row[column])
                if choice is None:
                    continue
                tally = files.setdefault(_family(named, column), _Tally(column=column, sides=named))
                tally.counts[choice] += 1
                tally.first_line.setdefault(choice, line)
        self.by_family = {name: _decide(name, tally, meaning, place, columns) for name, tally in files.items()}
        self.files = files

    def of(self, sides: tuple[str, str], column: str) -> Convention:
        """The one for a verdict in ``column`` on the responses in ``sides``."""
        return self.by_family.get(_family(sides, column), Convention({}))

    def notes(self) -> list[str]:
        """What numbers mean, and whether there is only one verdict."""
        notes = []
        for name, tally in self.files.items():
            numbers = sorted(v for v in tally.counts if isinstance(v, float))
            meaning = self.by_family[name].meaning
            named = {1.0: tally.sides[0], 0.0: tally.sides[1], 0.5: "a tie"}
            means = [f"{_shown(v)} names {named[meaning[v]]}" for v in numbers if meaning.get(v) in named]
            if means and not self.by_family[name].signed:
                notes.append(f"{tally.column}: {', '.join(means)}")
        return notes

    def constant(self) -> list[tuple[str, int]]:
        """Columns in which ten or more verdicts are all the same, and how many."""
        return [
            (f"every {tally.column} is {_shown(next(iter(tally.counts)))}", tally.counts.total())
            for tally in self.files.values()
            if len(tally.counts) == 1 and tally.counts.total() >= 10
        ]


def list_sides(row: Row) -> tuple[str, str] | None:
    """What to call the two responses that a row holds in one list, if it does."""
    name = next((n for n in LISTS if isinstance(row.get(n), (list, tuple, str))), None)
    return None if name is None else (f"{name}[0]", f"{name}[1]")


def _family(sides: tuple[str, str], column: str) -> str:
    """Verdicts of one family count in the same way: by the names of the responses, or of the verdict."""
    if column in SIGNED:
        return "signed"
    if sides[0] == "human_ref_A":
        return "shp"
    if sides[0].endswith("0"):
        return "zero"
    return "one" if sides[0].endswith("1") else "letters"


def _decide(
    family: str,
    tally: _Tally,
    meaning: Mapping[float | str, float],
    place: Callable[[int], str],
    columns: Mapping[str, str],
) -> Convention:
    if meaning:
        return Convention(meaning)
    if family == "signed":
        return Convention({}, signed=True)
    if family == "shp":
        return Convention({1.0: 1.0, 0.0: 0.0})
    if family == "zero":
        return Convention({0.0: 1.0, 1.0: 0.0})
    numbers = {v for v in tally.counts if isinstance(v, float)}
    near = {v for v in numbers if -1 <= v <= 2}
    far = sum(tally.counts[v] for v in numbers - near)
    if {"true", "false"} & set(tally.counts) or far * 10 > sum(tally.counts[v] for v in numbers):
        raise _question(tally, place, columns)
    if not near:
        return Convention({})
    if min(near) >= 1 and (max(near) > 1 or family == "one"):
        return Convention({1.0: 1.0, 2.0: 0.0}, graded=True)
    # Without a 1, 0 and 2 may be the ends of a scale; of several votes, one need not be for the first.
    if near <= {0.0, 1.0, 2.0} and 2.0 in near and (1.0 in near or VOTE.match(tally.column)):
        return Convention({0.0: 0.5, 1.0: 1.0, 2.0: 0.0})
    raise _question(tally, place, columns)


def _question(tally: _Tally, place: Callable[[int], str], columns: Mapping[str, str]) -> DataError:
    """Numbers (or true and false) that may name either response: which one?"""
    values = sorted((v for v in tally.counts if isinstance(v, float)), key=float)
    open_ = [_shown(v) for v in values] or sorted({"true", "false"} & set(map(str, tally.counts)))
    line = min(line for v, line in tally.first_line.items() if _shown(v) in open_)
    listed = (
        " and ".join(filter(None, (", ".join(open_[:-1]), open_[-1])))
        if len(open_) < 6
        else (f"numbers from {open_[0]} to {open_[-1]}")
    )
    low, high = ("false", "true") if not values else ("-1", "1") if min(values) < 0 else ("0", "1")
    middle = {v for v in values if v == 0.5 or (v == 0 and low == "-1")}
    ways = [_mapping(low, "first", high, "second", middle), _mapping(low, "second", high, "first", middle)]
    if low == "0" and not middle and set(values) <= {0.0, 1.0}:
        ways.append({"0": "tie", "1": "first", "2": "second"})
    if set(values) - {float(low) if values else 0.0, float(high) if values else 1.0, *middle}:
        ways = []
    first, second = tally.sides
    fault = Fault(
        "which response a verdict names is open",
        f"the verdicts are only {listed}, and nothing says which response {open_[0]} names",
        field=tally.column,
        expected=f"1 for {first} and 2 for {second} (0 for a tie), a and b, or the names {first} and {second}",
        fix="say what they mean: " + ", or ".join(map(_flags, ways)) + f"; {first} is the first response"
        if ways
        else "say what each means, --set 'read.verdicts={VERDICT: first, ...}' (first, second or tie; in"
        " `trueup data check` --verdict VERDICT=first), or write a column strength, the probability that chosen is"
        " better, beside chosen and rejected",
    )
    return fault.error(place(line), columns)


def _mapping(low: str, low_means: str, high: str, high_means: str, middle: Iterable[float]) -> dict[str, str]:
    return {low: low_means, **{_shown(v): "tie" for v in middle}, high: high_means}


def _flags(way: Mapping[str, str]) -> str:
    setting = ", ".join(f"{word}: {means}" for word, means in way.items())
    checked = " ".join(f"--verdict {word}={means}" for word, means in way.items())
    return f"--set 'read.verdicts={{{setting}}}' (in `trueup data check` {checked})"


def _shown(value: float | str) -> str:
    return f"{value:g}" if isinstance(value, float) else value
