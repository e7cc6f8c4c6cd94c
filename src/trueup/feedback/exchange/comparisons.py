"""Rows with two responses and a verdict: arena battles, AlpacaEval, SHP, WebGPT, HelpSteer2, summaries, Prodigy.

What a number means follows from the whole file. Where it says 0 and 1 of responses that are not counted from 0, nobody
can know which one 0 names: the rows are refused, with the question.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from trueup.data.conversations import shared_prompt
from trueup.data.verdict_words import CLEAR
from trueup.data.verdicts import SIGNED
from trueup.data.verdicts import VERDICTS as TRAINED_VERDICTS
from trueup.errors import DataError
from trueup.feedback.exchange import fields
from trueup.feedback.exchange.choices import best_of_several, preferred, tie, verdict
from trueup.feedback.exchange.fields import Row
from trueup.feedback.exchange.incoming import Answered, Gathering, moment, of_seconds
from trueup.feedback.exchange.prodigy import options_row
from trueup.feedback.store.items import NewItem
from trueup.types import Message, Prompt

_HELD = r"response|completion|answer|output|reply|generation|candidate|conversation|summary|human_ref|option|text"
_END = r"\d{1,2}|[a-j]|left|right|first|second|third"
_SIDES = (
    re.compile(rf"(?P<stem>{_HELD})[ _-]?(?P<end>{_END})", re.IGNORECASE),  # response_a
    re.compile(  # model_a_response, left_answer
        rf"(?P<who>(?:model|assistant|bot|system|policy)[ _-]?)?(?P<end>{_END})[ _-](?P<stem>{_HELD})", re.IGNORECASE
    ),
    re.compile(r"(?P<end>left|right|a|b)(?P<stem>)", re.IGNORECASE),  # left
)
"""How columns of responses are called; earlier ways come first."""

_SECOND = {"0": "1", "1": "2", "a": "b", "left": "right", "first": "second"}
"""Ending of the first side -> ending of the second."""

VERDICTS = (
    *(name for name in TRAINED_VERDICTS if name != "chosen"),  # beside rejected, that is a response
    *("vote", "selected", "selection", "judgment", "judgement"),
)
"""Columns that hold a verdict, in this order."""

ONE_HOT = ("winner_model_a", "winner_model_b", "winner_tie")
"""The verdicts of arena tables: one of them is 1."""

FAINT = 0.75
"""A weighted verdict below this probability is "slightly better"."""


@dataclass(frozen=True, slots=True)
class Sides:
    """The two columns that hold the responses, and how they are counted."""

    first: str
    second: str
    counted: str
    """Ending of the first: ``0``, ``1``, ``a``, ``left`` or ``first``."""
    names: tuple[str, str]
    """What a verdict calls them: the columns themselves, or ``model_a`` of ``model_a_response``."""
    ends: tuple[str, str]
    """Endings of both, as they are written."""
    others: tuple[str, ...] = ()
    """Columns that hold further responses."""


def sides_of(row: Row) -> Sides | None:
    """The two columns of responses that a row has, if it has two, and those that are called like them."""
    for way in _SIDES:
        parts = {str(name): match for name in row if (match := way.fullmatch(str(name))) is not None}
        for first, match in parts.items():
            kin = {
                other["end"].lower(): name
                for name, other in parts.items()
                if other["stem"].lower() == match["stem"].lower()
            }
            counted = match["end"].lower()
            second = kin.get(_SECOND.get(counted, ""))
            if second is not None:
                others = tuple(name for name in kin.values() if name not in (first, second))
                ends = (match["end"], parts[second]["end"])
                names = (_called(first, match), _called(second, parts[second]))
                return Sides(first, second, counted, names, ends, others)
    return None


def _called(name: str, match: re.Match[str]) -> str:
    return name if "who" not in match.groupdict() else f"{match['who'] or ''}{match['end']}"


VOTER = re.compile(r"annotator[ _-]?\d+")
"""Columns that hold one annotator's verdict each, and are called after them."""


def is_comparison(row: Row) -> bool:
    """Whether a row has two responses and a column for a verdict, under one of the known names."""
    if isinstance(row.get("summaries"), list) and "choice" in row:
        return True
    if isinstance(row.get("options"), list) and ("accept" in row or "answer" in row):
        return True
    sides = sides_of(row)
    return sides is not None and bool(_verdict_columns(row) or _scores(row, sides))


def _verdict_column(row: Row) -> str | None:
    if all(name in row for name in ONE_HOT):
        return ONE_HOT[0]
    return next((name for name in VERDICTS if name in row), None)


def _verdict_columns(row: Row) -> list[str]:
    """Columns of verdicts: one for each annotator, or the one column of the row."""
    voters = [str(name) for name in row if VOTER.fullmatch(str(name))]
    column = _verdict_column(row)
    return voters or ([] if column is None else [column])


def _scores(row: Row, sides: Sides) -> tuple[str, str] | None:
    names = (f"score_{sides.ends[0]}", f"score_{sides.ends[1]}")
    return names if all(name in row for name in names) else None


def numbers_in(rows: Iterable[tuple[int, Any]]) -> frozenset[float]:
    """Every numeric verdict of a file, from which follows how they count."""
    verdicts = set()
    for _, row in rows:
        if isinstance(row, dict) and is_comparison(row):
            numbers = (_as_number(row.get(column)) for column in _verdict_columns(row))
            verdicts |= {number for number in numbers if number is not None}
    return frozenset(verdicts)


def _as_number(value: Any) -> float | None:
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        return None
    try:
        return float(value)
    except (ValueError, OverflowError):
        return None


def comparison_row(gathering: Gathering, line: int, row: Row, numbers: frozenset[float] = frozenset()) -> None:
    """Collect one comparison.

    Args:
        gathering: Where to.
        line: Of the file.
        row: One for which ``is_comparison`` holds.
        numbers: What ``numbers_in`` says of the file.

    Raises:
        DataError: It cannot be one.
    """
    if isinstance(row.get("summaries"), list):
        _summaries(gathering, line, row)
        return
    if isinstance(row.get("options"), list):
        options_row(gathering, line, row)
        return
    sides = sides_of(row)
    if sides is None:
        raise DataError("has no two responses", where="row", expected="response_a and response_b, or the like")
    more = [name for name in sides.others if row.get(name) not in (None, "")]
    if more:
        raise best_of_several((sides.first, sides.second, *more))
    prompt, texts = _battle(row, sides)
    columns: list[str | None] = [*_verdict_columns(row)]
    answers = [(column, _answer(row, sides, numbers, column)) for column in columns or [None]]
    made_at = moment(of_seconds(row.get("tstamp")), "tstamp") if "tstamp" in row else None
    item = NewItem(prompt, texts, _generators(row, sides), split=fields.optional(row, "split"))
    for column, answer in answers:
        who = column if column is not None and VOTER.fullmatch(column) else fields.annotator(row)
        gathering.add(line, "pairwise", item, Answered(0, who, answer, made_at=made_at))


def _battle(row: Row, sides: Sides) -> tuple[Prompt, tuple[str, str]]:
    first, second = row[sides.first], row[sides.second]
    if all(isinstance(side, list) and side and isinstance(side[0], dict) for side in (first, second)):
        return _conversations(row, sides)
    column = fields.prompt_column(row)
    spelled = [_turns_spelled(value) for value in (None if column is None else row[column], first, second)]
    if column is not None and all(turns is not None for turns in spelled):  # arena tables: ["first turn", "second"]
        asked, first_text, second_text = (
            _only(turns or [], name) for turns, name in zip(spelled, (column, sides.first, sides.second), strict=True)
        )
        return fields.with_system(row, (Message("user", asked),)), (first_text, second_text)
    return _asked(row), (_said(first, sides.first), _said(second, sides.second))


def _conversations(row: Row, sides: Sides) -> tuple[Prompt, tuple[str, str]]:
    """Two conversations, each with the prompt in it."""
    first_turns, second_turns = (fields.turns(row[name], name) for name in (sides.first, sides.second))
    with fields.refusing():
        prompt, first, second = shared_prompt(first_turns, second_turns, (sides.first, sides.second))
    return fields.with_system(row, prompt), (str(first), str(second))


def _asked(row: Row) -> Prompt:
    column = fields.prompt_column(row)
    if column is not None and isinstance(row[column], dict) and "full_text" in row[column]:  # WebGPT
        return fields.with_system(row, fields.prompt(row[column]["full_text"], column))
    return fields.prompt_of(row)


def _turns_spelled(value: Any) -> list[str | None] | None:
    """The turns that a cell spells as a JSON list, or that a list holds, lost ones as None; None for anything else."""
    if isinstance(value, str) and value.startswith("["):
        try:
            value = json.loads(value)
        except (ValueError, RecursionError):
            return None
    turns = isinstance(value, list) and value and all(turn is None or isinstance(turn, str) for turn in value)
    return value if turns else None


def _only(turns: list[str | None], where: str) -> str:
    if None in turns:
        raise DataError(f"turn {turns.index(None) + 1} is null", where=where, expected="the text of every turn")
    if len(turns) != 1:
        raise DataError(f"has {len(turns)} turns", where=where, expected="one: the answers before the last differ")
    return fields.text(turns[0], where)


def _said(value: Any, where: str) -> str:
    if isinstance(value, list):
        turns = fields.turns(value, where)
        if len(turns) != 1 or turns[0].role != "assistant":
            raise DataError(f"has {len(turns)} turns", where=where, expected="one turn of the assistant")
        return turns[0].content
    return fields.text(value, where)


def _generators(row: Row, sides: Sides) -> tuple[str, ...]:
    """Who wrote the responses, from the columns that are called like them."""
    for stem in ("model", "generator"):
        names = [f"{stem}_{end}" for end in sides.ends]
        if all(isinstance(row.get(name), str) for name in names):
            return tuple(fields.text(row[name], name) for name in names)
    return ()


def _answer(row: Row, sides: Sides, numbers: frozenset[float], column: str | None) -> dict[str, Any]:
    if column is None:
        names = _scores(row, sides)
        if names is None:
            raise DataError("there is no verdict", where="row", expected="a column such as winner: A, B or tie")
        first_score, second_score = (fields.number(row.get(name), name) for name in names)
        return tie() if first_score == second_score else preferred(int(second_score > first_score))
    if column == ONE_HOT[0]:
        winners = [name for name in ONE_HOT if fields.number(row[name], name) == 1]
        if len(winners) != 1:
            raise DataError(f"{len(winners)} of them are 1", where=", ".join(ONE_HOT), expected="one of them")
        return tie() if winners[0] == ONE_HOT[2] else preferred(ONE_HOT.index(winners[0]))
    value = row[column]
    if value is None or value == "":
        raise DataError("is missing", where=column, expected="a verdict, or the row left out")
    named = _generators(row, sides)
    if value in named and named[0] != named[1]:
        return preferred(named.index(value))
    number = _as_number(value)
    if column in SIGNED:
        number = fields.whole(value, column)
        if not -3 <= number <= 3:
            raise DataError(
                f"is {value!r}", where=column, expected="-3 (the first is much better) to 3 (the second is)"
            )
        return tie() if number == 0 else preferred(int(number > 0), int(abs(number)))
    if number is None:
        sides_named = (sides.first, sides.second) if value in (sides.first, sides.second) else sides.names
        return verdict(value, sides_named, column)
    return _numbered(number, sides, numbers | {number}, column, value)


def _numbered(number: float, sides: Sides, numbers: frozenset[float], column: str, value: Any) -> dict[str, Any]:
    if sides.first == "human_ref_A":  # SHP: 1 is A
        if number not in (0, 1):
            raise DataError(f"is {value!r}"[:80], where=column, expected="1 for human_ref_A, 0 for human_ref_B")
        return preferred(0 if number == 1 else 1)
    if sides.counted == "0" and number in (0, 1):
        return preferred(int(number))
    from_one = all(other == 0 or 1 <= other <= 2 for other in numbers) and not numbers <= {0, 1}
    if sides.counted != "0" and from_one:
        if number == 0:
            return tie()
        if 1 <= number <= 2:  # AlpacaEval: between 1 and 2 where a judge was weighted
            if number == 1.5:
                return tie()
            faint = number not in (1, 2) and max(2 - number, number - 1) < FAINT
            return preferred(int(number > 1.5), 1 if faint else CLEAR)
    if numbers <= {1} and sides.counted == "1":
        return preferred(0)
    raise DataError(
        f"is {value!r}: which of {sides.first} and {sides.second} does that name?"[:200],
        where=column,
        expected=f"{sides.first!r}, {sides.second!r} or 'tie'",
        fix="write names instead of numbers",
    )


def _summaries(gathering: Gathering, line: int, row: Row) -> None:
    """A comparison of two summaries, as "Learning to summarize from human feedback" was published with."""
    about = fields.mapping(row.get("info"), "info")
    body = next((name for name in ("post", "article") if about.get(name)), None)
    if body is None:
        raise DataError("has neither post nor article", where="info", expected="the text that was summarized")
    heads = (("SUBREDDIT", "subreddit", "r/"), ("TITLE", "title", ""))
    parts = [
        f"{head}: {mark}{fields.text(about[name], f'info.{name}')}" for head, name, mark in heads if about.get(name)
    ]
    parts.append(f"{body.upper()}: {fields.text(about[body], f'info.{body}')}")
    summaries = row["summaries"]
    if len(summaries) != 2:
        raise DataError(f"has {len(summaries)} entries", where="summaries", expected="two summaries")
    both = [fields.mapping(summary, f"summaries.{n}") for n, summary in enumerate(summaries)]
    texts = tuple(fields.text(summary.get("text"), f"summaries.{n}.text") for n, summary in enumerate(both))
    policies = tuple(
        fields.text(summary.get("policy") or "", f"summaries.{n}.policy") for n, summary in enumerate(both)
    )
    choice = fields.whole(row.get("choice"), "choice")
    if choice not in (0, 1):
        raise DataError(f"is {choice}", where="choice", expected="0 or 1, the place of the better summary")
    item = NewItem("\n".join([*parts, "TL;DR:"]), texts, policies, split=fields.optional(row, "split"))
    gathering.add(line, "pairwise", item, Answered(0, fields.annotator(row), preferred(choice)))
