"""What a conversation holds and its chat template does not write, found by rendering with and without it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from trueup.data.conversations import REASONING
from trueup.data.fields import Fault
from trueup.data.template_text import PROBE, TemplateText
from trueup.types import Message


def plainly_written(template: TemplateText, messages: Iterable[Message], written: str) -> bool:
    """Whether every turn is only a text, by a role whose texts the template writes, and ``written`` holds it."""
    return all(
        not message.turn
        and not message.context
        and template.writes(message.role, parts=False)
        and template.encoder.masked(message.content).strip() in written
        for message in messages
    )


def unused(
    template: TemplateText, turns: Sequence[dict[str, Any]], context: Mapping[str, Any], *, ask: bool
) -> tuple[str, ...]:
    """Keys of turns, columns of the row, and the texts of roles that make no difference to what is written.

    Arguments as for ``TemplateText.render``.
    """
    text = template.render(list(turns), context, ask=ask)
    return (*_keys(template, text, turns, context, ask), *_texts(template, text, turns, context, ask))


def _keys(
    template: TemplateText, text: str, turns: Sequence[dict[str, Any]], context: Mapping[str, Any], ask: bool
) -> Sequence[str]:
    keys = [key for turn in turns for key in turn if key not in ("role", "content")]
    names = tuple(dict.fromkeys((*keys, *context)))

    def same(*without: str) -> bool:
        gone = {*without, *(REASONING if set(without) & set(REASONING) else ())}
        less = [{key: value for key, value in turn.items() if key not in gone} for turn in turns]
        return _same(template, text, less, {k: v for k, v in context.items() if k not in gone}, ask)

    if not names or same(*names):
        return names
    return [name for name in names if len(names) > 1 and same(name)]


def _texts(
    template: TemplateText, text: str, turns: Sequence[dict[str, Any]], context: Mapping[str, Any], ask: bool
) -> Iterator[str]:
    for role in dict.fromkeys(turn["role"] for turn in turns):
        for number, turn in enumerate(turns):
            content = turn.get("content")
            if turn["role"] != role or not isinstance(content, str) or not content.strip():
                continue
            if template.writes(role, parts=False) and content.strip() in text:
                continue
            other = [*turns[:number], turn | {"content": PROBE}, *turns[number + 1 :]]
            if _same(template, text, other, context, ask):
                yield f"text of {role} turns"
                break


def _same(
    template: TemplateText, text: str, turns: list[dict[str, Any]], context: Mapping[str, Any], ask: bool
) -> bool:
    try:
        return template.render(turns, context, ask=ask) == text
    except Fault:
        return False
