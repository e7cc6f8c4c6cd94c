"""Formats that hold preference pairs: chosen and rejected, or two responses with a verdict."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
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
from trueup.data.fields import Fault, Row, checked_text, identifier, items, number, present, short, text
from trueup.data.formats import (
    NO_WEIGHT,
    PROMPT,
    PROMPT_COLUMNS,
    PROMPT_USES,
    Doubt,
    Format,
    LeftOut,
    Made,
    Survey,
    prompt_of,
    prompt_value,
    strength_of,
    tuple_of_names,
    unread,
    weight_of,
)
from trueup.data.ranked_formats import RANKED, TIE, pairs_of
from trueup.data.read_report import Count
from trueup.data.verdicts import (
    LISTS,
    SIDES,
    SLIGHTLY,
    VERDICTS,
    VOTES,
    Conventions,
    list_sides,
    sides_of,
    verdict,
    verdict_columns,
)
from trueup.types import Message, PreferencePair, Prompt, Ranked

_OURS = ("strength", "weight", "margin", "origin", "pair_id", "system")


def _pair(row: Row, prompt: Prompt, chosen: str, rejected: str) -> Made[PreferencePair]:
    if chosen == rejected:
        raise Fault(
            "the sides are identical",
            f"chosen and rejected are both {short(chosen)}",
            field="rejected",
            expected="two different responses",
            fix="remove the row: it says nothing about which is better",
        )
    strength, weight, margin = strength_of(row), weight_of(row), _margin(row)
    if strength == 0.5 or weight == 0:
        yield LeftOut(TIE if strength == 0.5 else NO_WEIGHT)
        return
    if _scores_contradict(row):
        yield Doubt("a score of the rejected response is above that of the chosen one")
    identity, origin = identifier(row.get("pair_id"), "pair_id"), tuple_of_names(row, "origin")
    yield PreferencePair(prompt, chosen, rejected, strength, origin, identity, weight, margin)


def _margin(row: Row) -> float | None:
    """The optional column ``margin``: by how much chosen is better, at least 0; anything else there is not used."""
    value = unread(row, "margin")
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        return None
    try:
        margin = number(row, "margin") if 0 <= float(value) < math.inf else None
    except (ValueError, OverflowError):  # no number, or one of hundreds of digits
        return None
    return margin


_SCORES = ("score", "rating", "reward", "overall_score")


def _scores_contradict(row: Row) -> bool:
    """Whether the row has scores of its sides, and they say that rejected is the better one."""
    for score in _SCORES:
        for name in (f"{{}}_{score}", f"{score}_{{}}", f"{{}}-{score}"):
            better, worse = (verdict(unread(row, name.format(side))) for side in ("chosen", "rejected"))
            if isinstance(better, float) and isinstance(worse, float):
                return better < worse
    margin = verdict(unread(row, "margin"))
    return isinstance(margin, float) and margin < 0


def _prompted_pair(row: Row) -> Made[PreferencePair]:
    """A file may hold plain text in some rows and chat turns in others, as our own export does."""
    return _chat_pair(row) if is_conversation(unread(row, "chosen")) else _text_pair(row)


def _text_pair(row: Row) -> Made[PreferencePair]:
    name = "prompt" if "prompt" in row else "messages"
    prompt = prompt_value(row[name], name, row) if name in row else prompt_of(row)
    yield from _pair(row, prompt, text(row, "chosen"), text(row, "rejected"))


def _chat_pair(row: Row) -> Made[PreferencePair]:
    """Prompt given; each side is the answering turn, or the whole conversation up to it."""
    name = "prompt" if "prompt" in row else "messages"
    sides = [messages(present(row, side), side) for side in ("chosen", "rejected")]
    prompt = row.get(name) if name in row else prompt_of(row)
    if all(len(side) == 1 for side in sides):
        (_, chosen), (_, rejected) = (split_answer(s, n) for s, n in zip(sides, ("chosen", "rejected"), strict=True))
        yield from _pair(row, with_system(row, _turns(prompt, name)), chosen, rejected)
        return
    shared, chosen, rejected = shared_prompt(sides[0], sides[1])
    expected = _turns(prompt, name)
    if shared[-len(expected) :] != expected and not (isinstance(prompt, str) and Message("user", prompt) in shared):
        raise Fault(
            "the prompt is not in the conversation",
            f"{short(expected[-1].content)} is not what the assistant answers in chosen",
            field=name,
            expected="the turns that chosen and rejected begin with",
            fix="leave the column out: the turns that both sides share are the prompt",
        )
    yield from _pair(row, with_system(row, shared), chosen, rejected)


def _turns(prompt: Any, name: str) -> tuple[Message, ...]:
    if isinstance(prompt, str):
        return (Message("user", checked_text(prompt, name)),)
    if isinstance(prompt, tuple) and prompt and isinstance(prompt[0], Message):
        return prompt
    return asking(messages(prompt, name), name)


def _implicit_chat(row: Row) -> Made[PreferencePair]:
    better, worse = (with_system(row, messages(present(row, side), side)) for side in ("chosen", "rejected"))
    yield from _pair(row, *shared_prompt(better, worse))


def _transcripts(row: Row) -> Made[PreferencePair]:
    better, worse = (transcript(present(row, side), side) for side in ("chosen", "rejected"))
    yield from _pair(row, *shared_prompt(better, worse))


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


def _is_compared(row: Row) -> bool:
    return sides_of(row) is not None and bool(verdict_columns(row))


def _is_compared_list(row: Row) -> bool:
    scored = any(name in row for name in ("ranks", "ratings", "scores"))
    return not scored and list_sides(row) is not None and bool(verdict_columns(row))


def _are_conversations(row: Row) -> bool:
    sides = sides_of(row)
    return sides is not None and all(is_conversation(row[side]) for side in sides) and bool(verdict_columns(row))


def _settled(name: str, needs: tuple[str, ...], uses: tuple[str, ...], when: Callable[[Row], bool]) -> Any:
    """Makes a format that reads verdicts as the whole of a file shows them to be meant."""

    def settle(survey: Survey) -> Format[PreferencePair]:
        conventions = Conventions(survey.rows, survey.verdicts, survey.place, survey.columns)
        survey.report.notes += tuple(conventions.notes())
        for reason, count in conventions.constant():
            survey.report.doubts[reason] = Count(count)
        return Format(name, needs, lambda row: _compared(row, conventions), uses, when, note=_VERDICT_NOTE)

    return settle


def _compared(row: Row, conventions: Conventions) -> Made[PreferencePair]:
    """Several verdicts make a soft one: the share of votes, a tie counting half to each side."""
    sides, prompt, texts = _responses(row)
    columns = verdict_columns(row) or [VERDICTS[0]]
    votes = [conventions.of(sides, column).p_first(row, column, sides, texts) for column in columns]
    p = sum(votes) / len(votes)
    first = sum(v > 0.5 for v in votes)
    second = sum(v < 0.5 for v in votes)
    if 2 * max(first, second) <= len(votes):
        yield LeftOut(TIE if len(votes) == 1 or 2 * (len(votes) - first - second) > len(votes) else "no majority")
        return
    better, worse = texts if first > second else (texts[1], texts[0])
    strength = p if first > second else 1.0 - p
    carried = {
        "strength": strength,
        "weight": row.get("weight"),
        "origin": list(columns) if len(columns) > 1 else None,
        "pair_id": row.get("pair_id"),
    }
    yield from _pair(carried, prompt, better, worse)


def _responses(row: Row) -> tuple[tuple[str, str], Prompt, tuple[str, str]]:
    """What the two responses are called, the prompt, and the responses."""
    sides = sides_of(row)
    if sides is None:
        names = list_sides(row)
        if names is None:
            raise Fault("one of the two responses is missing", "has no two responses", expected="two response columns")
        name = names[0].removesuffix("[0]")
        several = items(row, name, at_least=2)
        if len(several) > 2:
            raise Fault(
                f"{name} are more than two",
                f"has {len(several)} entries, and a verdict names one of two",
                field=name,
                expected="two responses, or ranks or ratings of all of them",
            )
        return names, prompt_of(row), (_response(several[0], names[0]), _response(several[1], names[1]))
    values = [present(row, side) for side in sides]
    if all(is_conversation(value) for value in values) and not any(name in row for name in PROMPT_COLUMNS):
        first_chat, second_chat = (messages(value, side) for value, side in zip(values, sides, strict=True))
        prompt, first, second = shared_prompt(first_chat, second_chat, sides)
        return sides, with_system(row, prompt), (first, second)
    return sides, prompt_of(row), (_response(values[0], sides[0]), _response(values[1], sides[1]))


def _response(value: Any, name: str) -> str:
    """A response, given as text or as the assistant's turn."""
    if not is_conversation(value):
        return checked_text(value, name)
    before, answer = split_answer(messages(value, name), name)
    if before:
        raise Fault(f"{name} has several turns", f"has {len(before) + 1} turns", field=name, expected="one turn")
    return answer


def _expanded(convert: Callable[[Row], Made[Ranked]]) -> Callable[[Row], Made[PreferencePair]]:
    def pairs(row: Row) -> Made[PreferencePair]:
        for ranked in convert(row):
            if isinstance(ranked, Ranked):
                yield from pairs_of(ranked)
            else:
                yield ranked

    return pairs


def _gathered_pairs(ranked_format: Format[Ranked]) -> Any:
    gather = ranked_format.gather
    if gather is None:
        return None

    def pairs(partial: Any) -> Iterator[tuple[int, PreferencePair | LeftOut]]:
        for line, ranked in gather(partial):
            outcomes = [ranked] if isinstance(ranked, LeftOut) else pairs_of(ranked)
            yield from ((line, item) for item in outcomes)

    return pairs


def _ranked_pairs(ranked_format: Format[Ranked]) -> Format[PreferencePair]:
    note = f"{ranked_format.note}; all pairs of a ranking, ties give none"
    convert = ranked_format.convert if ranked_format.gather else _expanded(ranked_format.convert)
    return Format(
        ranked_format.name,
        ranked_format.needs,
        convert,
        ranked_format.uses,
        ranked_format.when,
        _gathered_pairs(ranked_format),
        note,
    )


def _no_prompt(row: Row) -> bool:
    return "prompt" not in row and "messages" not in row


_VERDICT_NOTE = f"a tie gives no pair; 'slightly better' has strength {SLIGHTLY:g}, several verdicts the share of votes"
_VERDICT_USES = (*PROMPT_USES, "pair_id", "weight")


def _verdict_format(name: str, needs: tuple[str, ...], when: Callable[[Row], bool]) -> Format[PreferencePair]:
    settle = _settled(name, needs, _VERDICT_USES, when)
    return Format(name, needs, lambda row: (), _VERDICT_USES, when, note=_VERDICT_NOTE, settle=settle)


_FIRST, _SECOND = ("|".join(side[n] for side in SIDES) for n in (0, 1))
_SAYS = "|".join((*VERDICTS, *VOTES))
_COMPARED = (
    _verdict_format("two responses and a verdict", (PROMPT, _FIRST, _SECOND, _SAYS), _is_compared),
    _verdict_format("two responses in a list and a verdict", (PROMPT, "|".join(LISTS), _SAYS), _is_compared_list),
    _verdict_format("two conversations and a verdict", (_FIRST, _SECOND, _SAYS), _are_conversations),
)

PAIRS: tuple[Format[PreferencePair], ...] = (
    Format(
        "prompt, chosen, rejected",
        ("prompt|messages|instruction|question", "chosen", "rejected"),
        _prompted_pair,
        (*_OURS, *PROMPT_USES),
        lambda row: not is_conversation(row["chosen"]) and "conversations" not in row,
    ),
    Format(
        "prompt and two conversations",
        ("prompt|messages|instruction|question", "chosen", "rejected"),
        _prompted_pair,
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
    *_COMPARED,
)
