"""Formats of training files: TRL preferences and labels, HH transcripts, rankings. One verdict a row.

Reading makes an item to judge and one answer of each row. Responses get an order that does not tell which was chosen.
Writing goes through ``selection``: only main and hold-out items, nothing that a hidden item would give away.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from trueup.errors import DataError
from trueup.feedback.exchange import fields
from trueup.feedback.exchange.fields import Row
from trueup.feedback.exchange.incoming import CLEAR, Answered, Gathering, Incoming
from trueup.feedback.exchange.sources import json_rows
from trueup.feedback.exchange.writing import Lines, json_line
from trueup.feedback.projects import NewItem
from trueup.feedback.records import SPLITS, Judged
from trueup.feedback.selection import Settings, select_rows
from trueup.types import Message, Prompt, Role, prompt_json

_SPEAKER = re.compile(r"\n\n(Human|Assistant):")


def read_preference(data: bytes) -> Incoming:
    """TRL preferences: ``chosen`` and ``rejected`` with or without ``prompt``, text or chat turns."""
    found = Gathering()
    found.each(json_rows(data), lambda line, row: preference_row(found, line, fields.mapping(row)))
    return found.done()


def preference_row(found: Gathering, line: int, row: Row) -> None:
    """Collect one preference.

    Raises:
        DataError: It cannot be one.
    """
    fields.need(row, "chosen", "rejected")
    asked = row.get("prompt", row.get("conversations"))
    if asked is not None:
        prompt = fields.prompt(asked)
        chosen, rejected = (_reply(prompt, row[name], name) for name in ("chosen", "rejected"))
    else:
        prompt, chosen, rejected = _implicit(row["chosen"], row["rejected"])
    _collect(found, line, row, prompt, chosen, rejected)


def _collect(found: Gathering, line: int, row: Row, prompt: Prompt, chosen: str, rejected: str) -> None:
    first, second = sorted((chosen, rejected))
    item = NewItem(prompt, (first, second), split=fields.optional(row, "split"))
    place = int(first != chosen)
    found.add(line, "pairwise", item, Answered(0, fields.annotator(row), {"preferred": place, "strength": CLEAR}))


def _reply(prompt: Prompt, value: Any, name: str) -> str:
    """The response in ``value``, which may repeat the prompt before it."""
    if isinstance(value, Mapping):
        value = [value]
    if not isinstance(value, list):
        return fields.text(value, name)
    said = fields.turns(value, name)
    before = fields.asked(prompt)
    if len(said) > 1 and said[:-1] != before:
        raise DataError(f"{len(said)} turns", where=name, expected="one turn of the assistant, or the prompt and one")
    if said[-1].role != "assistant":
        raise DataError(f"ends with the {said[-1].role}", where=name, expected="a turn of the assistant")
    return said[-1].content


def _implicit(chosen: Any, rejected: Any) -> tuple[Prompt, str, str]:
    """The common beginning is the prompt: of chat the turns, of text the characters, as TRL has it."""
    if isinstance(chosen, list) and isinstance(rejected, list):
        one, two = fields.turns(chosen, "chosen"), fields.turns(rejected, "rejected")
        if one[:-1] != two[:-1]:
            raise DataError(
                "part before their last turns", where="chosen, rejected", expected="the same turns before it"
            )
        if len(one) < 2:
            raise DataError("there is no turn before the last", where="chosen", expected="a prompt, in it or beside it")
        if (one[-1].role, two[-1].role) != ("assistant", "assistant"):
            raise DataError("the last turn is not the assistant's", where="chosen, rejected", expected="a response")
        return one[:-1], one[-1].content, two[-1].content
    better, worse = fields.text(chosen, "chosen"), fields.text(rejected, "rejected")
    parts = (place for place, (one, two) in enumerate(zip(better, worse, strict=False)) if one != two)
    end = next(parts, min(len(better), len(worse)))
    if better[end - 1 : end] == " ":
        end -= 1  # the space belongs to the responses
    if not better[:end].strip():
        raise DataError(
            "have no common beginning", where="chosen, rejected", expected="a prompt, in both or beside them"
        )
    return better[:end], better[end:], worse[end:]


def read_kto(data: bytes) -> Incoming:
    """TRL unpaired labels: ``prompt``, ``completion``, ``label``; or ``messages`` that end with the completion."""
    found = Gathering()
    found.each(json_rows(data), lambda line, row: label_row(found, line, fields.mapping(row)))
    return found.done()


def label_row(found: Gathering, line: int, row: Row) -> None:
    """Collect one labelled completion.

    Raises:
        DataError: It cannot be one.
    """
    fields.need(row, "label")
    prompt: Prompt
    if row.get("prompt") is None and row.get("messages") is not None:
        said = fields.prompt(row["messages"], "messages")
        if isinstance(said, str) or len(said) < 2 or said[-1].role != "assistant":
            raise DataError("no prompt and response", where="messages", expected="turns that end with the assistant's")
        prompt, completion = said[:-1], said[-1].content
    else:
        fields.need(row, "prompt", "completion")
        prompt = fields.prompt(row["prompt"])
        completion = _reply(prompt, row["completion"], "completion")
    answer = {"response": 0, "acceptable": yes_or_no(row["label"], "label")}
    item = NewItem(prompt, (completion,), split=fields.optional(row, "split"))
    found.add(line, "binary", item, Answered(0, fields.annotator(row), answer))


def yes_or_no(value: Any, where: str) -> bool:
    """true or false, 1 or 0, and the usual words for them.

    Raises:
        DataError: It is something else.
    """
    words = {"true": True, "yes": True, "1": True, "acceptable": True, "good": True}
    words |= {"false": False, "no": False, "0": False, "unacceptable": False, "bad": False}
    said = words.get(str(value).strip().lower()) if isinstance(value, (bool, int, str)) else None
    if said is None:
        raise DataError(f"is {value!r}"[:80], where=where, expected="true or false")
    return said


def read_hh(data: bytes) -> Incoming:
    """HH transcripts, ``Human:`` and ``Assistant:`` in turn, that part in the assistant's last answer."""
    found = Gathering()

    def take(line: int, row: Any) -> None:
        row = fields.mapping(row)
        fields.need(row, "chosen", "rejected")
        chosen, rejected = (transcript(row[name], name) for name in ("chosen", "rejected"))
        if chosen[:-1] != rejected[:-1]:
            raise DataError(
                "part before their last turns", where="chosen, rejected", expected="the same turns before it"
            )
        _collect(found, line, row, chosen[:-1], chosen[-1].content, rejected[-1].content)

    found.each(json_rows(data), take)
    return found.done()


def transcript(value: Any, where: str) -> tuple[Message, ...]:
    """The turns of a transcript. Speakers take turns: the name of whoever is speaking already is part of the text.

    Raises:
        DataError: It does not begin with a speaker, or end with the assistant after somebody.
    """
    content = fields.text(value, where)
    parts = _SPEAKER.split(content)
    if parts[0]:
        raise DataError(f"begins with {content[:20]!r}", where=where, expected=r"'\n\nHuman: ' or '\n\nAssistant: '")
    said: list[Message] = []
    for speaker, words in zip(parts[1::2], parts[2::2], strict=True):
        role: Role = "user" if speaker == "Human" else "assistant"
        if said and said[-1].role == role:
            said[-1] = Message(role, f"{said[-1].content}\n\n{speaker}:{words}")
        else:
            said.append(Message(role, words.removeprefix(" ")))
    if len(said) < 2 or said[-1].role != "assistant":
        raise DataError(f"{len(said)} turns, or the last is not the assistant's", where=where, expected="a response")
    return tuple(said)


def read_ranking(data: bytes) -> Incoming:
    """``prompt``, ``responses`` and ``ranks``: smaller is better, equal is tied, null is not ranked."""
    found = Gathering()
    found.each(json_rows(data), lambda line, row: _ranking(found, line, fields.mapping(row)))
    return found.done()


def _ranking(found: Gathering, line: int, row: Row) -> None:
    fields.need(row, "prompt", "responses", "ranks")
    said, ranks = fields.texts(row["responses"], "responses"), row["ranks"]
    if not isinstance(ranks, list) or len(ranks) != len(said):
        raise DataError(f"is {ranks!r}"[:80], where="ranks", expected=f"{len(said)} ranks, one for each response")
    given = [None if rank is None else fields.whole(rank, "ranks") for rank in ranks]
    order = sorted(range(len(said)), key=lambda place: said[place])
    tiers = tiers_of({new: given[old] for new, old in enumerate(order)})
    item = NewItem(fields.prompt(row["prompt"]), tuple(said[old] for old in order), split=fields.optional(row, "split"))
    found.add(line, "ranking", item, Answered(0, fields.annotator(row), {"tiers": tiers}))


def tiers_of(ranks: Mapping[int, int | None]) -> list[list[int]]:
    """Places by rank, best first.

    Raises:
        DataError: Nothing was ranked.
    """
    tiers = [
        [place for place, rank in ranks.items() if rank == held]
        for held in sorted({r for r in ranks.values() if r is not None})
    ]
    if not tiers:
        raise DataError("nothing was ranked", where="ranks", expected="at least one rank")
    return tiers


def write_preference(judged: Judged, adjudicated: Mapping[str, Mapping[str, Any]]) -> Lines:
    """``prompt``, ``chosen``, ``rejected``, and beside them ``split`` and ``strength``."""

    def line(row: Row) -> dict[str, Any]:
        return {name: _spoken(row["prompt"], row[name]) for name in ("chosen", "rejected")} | {
            "strength": row["strength"]
        }

    return _selected(judged, "preference", adjudicated, line)


def write_kto(judged: Judged, adjudicated: Mapping[str, Mapping[str, Any]]) -> Lines:
    """``prompt``, ``completion``, ``label``, and beside them ``split`` and ``strength``."""

    def line(row: Row) -> dict[str, Any]:
        said = _spoken(row["prompt"], row["completion"])
        return {"completion": said, "label": row["label"], "strength": row["strength"]}

    return _selected(judged, "kto", adjudicated, line)


def write_ranking(judged: Judged, adjudicated: Mapping[str, Mapping[str, Any]]) -> Lines:
    """``prompt``, ``responses``, ``ranks``, and beside them ``split``."""
    return _selected(judged, "ranking", adjudicated, lambda row: {"responses": row["responses"], "ranks": row["ranks"]})


def write_hh(judged: Judged, adjudicated: Mapping[str, Mapping[str, Any]]) -> Lines:
    """``chosen`` and ``rejected`` as transcripts, and ``split``; what a transcript cannot say is left out."""

    def line(row: Row) -> dict[str, Any]:
        before = fields.asked(fields.prompt(row["prompt"]))
        told = {}
        for name in ("chosen", "rejected"):
            said = (*before, Message("assistant", row[name]))
            told[name] = "".join(
                f"\n\n{'Human' if turn.role == 'user' else 'Assistant'}: {turn.content}" for turn in said
            )
            if transcript(told[name], name) != said:
                raise DataError("a transcript of it would read back as something else")
        return told

    return _selected(judged, "preference", adjudicated, line, with_prompt=False)


def _spoken(prompt: Any, words: str) -> Any:
    """TRL wants the response of a chat prompt as a turn too."""
    return words if isinstance(prompt, str) else [{"role": "assistant", "content": words}]


def _selected(
    judged: Judged,
    format: str,
    adjudicated: Mapping[str, Mapping[str, Any]],
    line: Any,
    *,
    with_prompt: bool = True,
) -> Lines:
    chosen = select_rows(judged, Settings(format), adjudicated)
    lines, left_out = [], list(chosen.dropped)
    for split in SPLITS:
        for row in chosen.rows[split]:
            try:
                asked = {"prompt": prompt_json(fields.prompt(row["prompt"]))} if with_prompt else {}
                lines.append(json_line(asked | line(row) | {"split": split}))
            except DataError as error:
                left_out.append((row["item"], str(error)))
    return Lines(lines, sorted(left_out))
