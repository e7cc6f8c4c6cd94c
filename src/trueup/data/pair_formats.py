"""Formats that hold preference pairs: chosen and rejected, or two responses with a verdict."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from trueup.data.conversations import (
    asking,
    is_conversation,
    is_transcript,
    messages,
    shared_prompt,
    split_answer,
    transcript,
    with_system,
)
from trueup.data.fields import Fault, Row, checked_number, checked_text, number, present, short, text
from trueup.data.formats import (
    PROMPT,
    PROMPT_USES,
    Format,
    LeftOut,
    Made,
    prompt_of,
    prompt_value,
    tuple_of_names,
)
from trueup.data.ranked_formats import RANKED, TIE, pairs_of
from trueup.types import Message, PreferencePair, Prompt, Ranked

SLIGHTLY = 0.75
"""Strength of "slightly better", half way between a tie (0.5) and a certain verdict (1); a convention of ours."""
_OURS = ("strength", "origin", "pair_id", "system")


def _pair(row: Row, prompt: Prompt, chosen: str, rejected: str) -> Made[PreferencePair]:
    if chosen == rejected:
        raise Fault(
            "the sides are identical",
            f"chosen and rejected are both {short(chosen)}",
            field="rejected",
            expected="two different responses",
            fix="remove the row: it says nothing about which is better",
        )
    strength = number(row, "strength") if row.get("strength") is not None else 1.0
    if not 0.5 <= strength <= 1.0:
        raise Fault(
            "strength is out of range",
            f"is {strength:g}",
            field="strength",
            expected="the probability that chosen is better, in [0.5, 1]",
            fix="if it is below 0.5 the other side is preferred: exchange chosen and rejected",
        )
    if strength == 0.5:
        yield LeftOut(TIE)
        return
    identity = row.get("pair_id") or ""
    if not isinstance(identity, str):
        raise Fault("pair_id is not text", f"is {short(identity)}", field="pair_id", expected="text")
    yield PreferencePair(prompt, chosen, rejected, strength, tuple_of_names(row, "origin"), identity)


def _text_pair(row: Row) -> Made[PreferencePair]:
    name = "prompt" if "prompt" in row else "messages"
    prompt = prompt_value(row[name], name, row) if name in row else prompt_of(row)
    yield from _pair(row, prompt, text(row, "chosen"), text(row, "rejected"))


def _chat_pair(row: Row) -> Made[PreferencePair]:
    """Prompt given; each side is the answering turn, or the whole conversation up to it."""
    name = "prompt" if "prompt" in row else "messages"
    sides = [messages(present(row, side), side) for side in ("chosen", "rejected")]
    given = row.get(name) if name in row else prompt_of(row)
    if all(len(side) == 1 for side in sides):
        (_, chosen), (_, rejected) = (split_answer(s, n) for s, n in zip(sides, ("chosen", "rejected"), strict=True))
        yield from _pair(row, with_system(row, _turns(given, name)), chosen, rejected)
        return
    shared, chosen, rejected = shared_prompt(*sides)
    expected = _turns(given, name)
    if shared[-len(expected) :] != expected and not (isinstance(given, str) and Message("user", given) in shared):
        raise Fault(
            "the prompt is not in the conversation",
            f"{short(expected[-1].content)} is not what the assistant answers in chosen",
            field=name,
            expected="the turns that chosen and rejected begin with",
            fix="leave the column out: the turns that both sides share are the prompt",
        )
    yield from _pair(row, with_system(row, shared), chosen, rejected)


def _turns(given: Any, name: str) -> tuple[Message, ...]:
    if isinstance(given, str):
        return (Message("user", checked_text(given, name)),)
    if isinstance(given, tuple) and given and isinstance(given[0], Message):
        return given
    return asking(messages(given, name), name)


def _implicit_chat(row: Row) -> Made[PreferencePair]:
    sides = [with_system(row, messages(present(row, side), side)) for side in ("chosen", "rejected")]
    yield from _pair(row, *shared_prompt(*sides))


def _transcripts(row: Row) -> Made[PreferencePair]:
    sides = [transcript(present(row, side), side) for side in ("chosen", "rejected")]
    yield from _pair(row, *shared_prompt(*sides))


def _sharegpt(row: Row) -> Made[PreferencePair]:
    prompt = with_system(row, asking(messages(present(row, "conversations"), "conversations"), "conversations"))
    sides = []
    for name in ("chosen", "rejected"):
        value = present(row, name)
        if isinstance(value, str):
            sides.append(checked_text(value, name))
            continue
        before, answer = split_answer(messages(value, name), name)
        if before:
            raise Fault(f"{name} has several turns", f"has {len(before) + 1} turns", field=name, expected="one turn")
        sides.append(answer)
    yield from _pair(row, prompt, *sides)


# Two responses and a verdict ------------------------------------------------------------------------------------------

_SIDES = (
    ("output_1", "output_2"),
    ("response1", "response2"),
    ("response_1", "response_2"),
    ("completion_a", "completion_b"),
    ("response_a", "response_b"),
    ("output_a", "output_b"),
    ("response_0", "response_1"),
    ("human_ref_A", "human_ref_B"),
    ("a", "b"),
)
_VERDICTS = ("label", "preference", "winner", "outcome", "better_response_id", "labels")
_ANNOTATOR = re.compile(r"annotator_?\d+$")
_WORDS = {
    **dict.fromkeys(("a", "model_a", "a-is-better", "1"), 1.0),
    **dict.fromkeys(("b", "model_b", "b-is-better", "2"), 0.0),
    **dict.fromkeys(("tie", "tie (bothbad)", "both", "neither", "0"), 0.5),
    "a-is-slightly-better": SLIGHTLY,
    "b-is-slightly-better": 1.0 - SLIGHTLY,
}
"""Verdict -> probability that the first response is better. Numbered verdicts count the sides from 1."""
_FROM_ZERO = {"0": 1.0, "1": 0.0}
_SHP = {"1": 1.0, "0": 0.0}


def _verdict_columns(row: Row) -> list[str]:
    votes = sorted(name for name in row if _ANNOTATOR.match(name))
    return votes or [name for name in _VERDICTS if name in row][:1]


def _sides(row: Row) -> tuple[str, str] | None:
    return next(((a, b) for a, b in _SIDES if a in row and b in row), None)


def _is_compared(row: Row) -> bool:
    return _sides(row) is not None and bool(_verdict_columns(row))


def _p_first(row: Row, column: str, sides: tuple[str, str]) -> float:
    """Probability that the first response is the better one, by the verdict in ``column``."""
    value = present(row, column)
    words: Mapping[str, float] = _WORDS
    if sides[0].endswith("0"):
        words = _FROM_ZERO
    elif sides[0] == "human_ref_A":
        words = _SHP
    elif isinstance(value, float) and 1.0 < value < 2.0:
        return 2.0 - checked_number(value, column)  # AlpacaEval: 1 is the first, 2 the second, weighted by a judge
    spelled = f"{value:g}" if isinstance(value, (int, float)) and not isinstance(value, bool) else value
    if not isinstance(spelled, str) or spelled.strip().lower() not in words:
        raise Fault(
            f"{column} is not a verdict", f"is {short(value)}", field=column, expected="one of " + ", ".join(words)
        )
    return words[spelled.strip().lower()]


def _compared(row: Row) -> Made[PreferencePair]:
    """Several verdicts make a soft one: the share of votes, a tie counting half to each side."""
    sides = _sides(row)
    if sides is None:
        raise Fault("one of the two responses is missing", "has no two responses", expected="two response columns")
    columns = _verdict_columns(row)
    votes = [_p_first(row, column, sides) for column in columns or [_VERDICTS[0]]]
    p = sum(votes) / len(votes)
    first = sum(v > 0.5 for v in votes)
    second = sum(v < 0.5 for v in votes)
    if 2 * max(first, second) <= len(votes):
        yield LeftOut(TIE if len(votes) == 1 or 2 * (len(votes) - first - second) > len(votes) else "no majority")
        return
    better, worse = sides if first > second else (sides[1], sides[0])
    strength = p if first > second else 1.0 - p
    marked = {"strength": strength, "origin": list(columns) if len(columns) > 1 else None}
    yield from _pair(marked, prompt_of(row), text(row, better), text(row, worse))


def _expanded(convert: Callable[[Row], Made[Ranked]]) -> Callable[[Row], Iterator[PreferencePair | LeftOut]]:
    def pairs(row: Row) -> Iterator[PreferencePair | LeftOut]:
        for ranked in convert(row):
            if isinstance(ranked, LeftOut):
                yield ranked
            else:
                yield from pairs_of(ranked)

    return pairs


def _gathered_pairs(one: Format[Ranked]) -> Any:
    gather = one.gather
    if gather is None:
        return None

    def pairs(partial: Any) -> Iterator[tuple[int, PreferencePair | LeftOut]]:
        for line, ranked in gather(partial):
            made = [ranked] if isinstance(ranked, LeftOut) else pairs_of(ranked)
            yield from ((line, item) for item in made)

    return pairs


def _ranked_pairs(one: Format[Ranked]) -> Format[PreferencePair]:
    note = f"{one.note}; all pairs of a ranking, ties give none"
    convert = one.convert if one.gather else _expanded(one.convert)
    return Format(one.name, one.needs, convert, one.uses, one.when, _gathered_pairs(one), note)


def _no_prompt(row: Row) -> bool:
    return "prompt" not in row and "messages" not in row


PAIRS: tuple[Format[PreferencePair], ...] = (
    Format(
        "prompt, chosen, rejected",
        ("prompt|messages|instruction|question", "chosen", "rejected"),
        _text_pair,
        (*_OURS, *PROMPT_USES),
        lambda row: not is_conversation(row["chosen"]) and "conversations" not in row,
    ),
    Format(
        "prompt and two conversations",
        ("prompt|messages|instruction|question", "chosen", "rejected"),
        _chat_pair,
        (*_OURS, *PROMPT_USES),
        lambda row: is_conversation(row["chosen"]) and "conversations" not in row,
        note="the last assistant turn of each side is the response; a text prompt became a user turn",
    ),
    Format("ShareGPT pairs", ("conversations", "chosen", "rejected"), _sharegpt, _OURS),
    Format(
        "two transcripts",
        ("chosen", "rejected"),
        _transcripts,
        _OURS,
        lambda row: _no_prompt(row) and is_transcript(row["chosen"]),
        note="Human/Assistant texts became turns; the last assistant turn is the response, the shared turns the prompt",
    ),
    Format(
        "two conversations",
        ("chosen", "rejected"),
        _implicit_chat,
        _OURS,
        lambda row: _no_prompt(row) and is_conversation(row["chosen"]),
        note="the last assistant turn is the response, the shared turns the prompt",
    ),
    *(_ranked_pairs(one) for one in RANKED),
    Format(
        "two responses and a verdict",
        (PROMPT, "|".join(a for a, _ in _SIDES), "|".join(b for _, b in _SIDES)),
        _compared,
        (*PROMPT_USES, *_VERDICTS, *(f"annotator{n}" for n in range(1, 10))),
        _is_compared,
        note=f"a tie gives no pair; 'slightly better' has strength {SLIGHTLY:g}, several verdicts the share of votes",
    ),
)
