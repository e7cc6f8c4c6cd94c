"""One rendering of a chat template: turns in, the text that ``tokenizer.apply_chat_template`` writes out.

Data is masked on the way in, so that no spelling of a special token in it becomes one.
"""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Mapping, Sequence
from datetime import date
from functools import cached_property
from typing import Any, TypeAlias

import jinja2

from trueup.data.bounded_jinja import BoundedTemplate, OverBudget
from trueup.data.conversations import REASONING
from trueup.data.encode import Encoder, escaped_marks
from trueup.data.fields import Fault, short
from trueup.errors import ModelError
from trueup.types import Message

PROBE = "probe of a turn"
"""A text that no template holds; where it comes out tells what a template does."""
Source: TypeAlias = str | dict[str, str] | None
"""The Jinja of a tokenizer: one template, several by name, or none."""


class TemplateText:
    """A chat template as a function from turns to text.

    Args:
        encoder: The tokenizer.
        source: Its template, or another.
        today: What ``strftime_now`` takes for today.
        variables: Further variables; a row's own go first.
    """

    def __init__(self, encoder: Encoder, source: Source, today: date, variables: Mapping[str, Any]) -> None:
        self.encoder = encoder
        self.source = source
        self.today = today
        self.variables = dict(variables)
        self.renamed: dict[str, str] = {}
        """Roles that the template does not know, and the names under which it is given their turns."""
        self._forms: dict[tuple[str, bool], bool] = {}

    def turn(self, message: Message) -> dict[str, Any]:
        """A turn as the template is given it: as the data has it, masked.

        Text that comes in parts is joined for a template that takes none, and text becomes a part for one that takes
        nothing else; a role that the template does not know goes by its usual name.
        """
        turn = message.to_dict()
        if turn["role"] != message.role and not self.writes(turn["role"], parts=False):
            self.renamed[turn["role"]] = message.role
            turn["role"] = message.role
        content = turn.get("content")
        if isinstance(content, list) and not self.writes(turn["role"], parts=True):
            turn["content"] = message.content
        elif content and not self.writes(turn["role"], parts=False) and self.writes(turn["role"], parts=True):
            turn["content"] = [{"type": "text", "text": message.content}]
        reasoning = next((turn[key] for key in REASONING if turn.get(key) is not None), None)
        if reasoning is not None:  # as transformers does
            turn = {"thinking": reasoning, **turn, "reasoning_content": reasoning}
        masked: dict[str, Any] = self._masked(turn)
        return masked

    def _masked(self, value: Any) -> Any:
        if isinstance(value, str):
            return self.encoder.masked(value)
        if isinstance(value, list):
            return [self._masked(item) for item in value]
        if isinstance(value, dict):
            return {self._masked(key): self._masked(item) for key, item in value.items()}
        return value

    def writes(self, role: str, *, parts: bool) -> bool:
        """Whether the template writes the text of a turn by ``role``, given as a text or as a list of parts."""
        known = self._forms.get((role, parts))
        if known is None:
            known = self._forms[role, parts] = self._try(role, [{"type": "text", "text": PROBE}] if parts else PROBE)
        return known

    def _try(self, role: str, content: Any) -> bool:
        ask, turn = {"role": "user", "content": "question"}, {"role": role, "content": content}
        call = {"role": "assistant", "content": "answer"}
        places = {"user": ([turn],), "assistant": ([ask, turn],), "system": ([turn, ask], [turn])}
        for turns in places.get("system" if role == "developer" else role, ([ask, call, turn], [turn])):
            try:
                text = self.render(turns, {}, ask=False)
            except Fault:
                continue
            if PROBE in text and f"'{PROBE}'" not in text and f'"{PROBE}"' not in text:
                return True
        return False

    def marks(self, tag: re.Pattern[str], messages: Sequence[Message]) -> bool:
        """Whether the template of this conversation has a ``tag``."""
        context = json.loads(messages[0].context) if messages and messages[0].context else {}
        return tag.search(self._chosen(context.get("tools") is not None)) is not None

    def render(
        self,
        turns: list[dict[str, Any]],
        context: Mapping[str, Any],
        *,
        ask: bool,
        spans: list[tuple[int, int]] | None = None,
    ) -> str:
        """What the template writes.

        Args:
            turns: As ``turn`` gives them.
            context: What the row has beside them: tools, documents, ``chat_template_kwargs``.
            ask: With the generation prompt, which an answer continues.
            spans: Takes begin and end of each part that the template marks as the assistant's.

        Raises:
            Fault: The template refuses the conversation.
            ModelError: The template cannot be used: not valid, or it does not end.
        """
        row = {key: self._masked(value) for key, value in context.items()}
        own = row.pop("chat_template_kwargs", {})
        conversation = {"messages": turns, "add_generation_prompt": ask, "tools": None, "documents": None} | row
        variables = self._special_names | self.variables | own | conversation
        try:
            compiled = _compiled(self._chosen(row.get("tools") is not None), self.today)
            text = compiled.render(_size((turns, row)), variables, spans)
            return escaped_marks(text) if spans is None else _escaped(text, spans)
        except OverBudget as error:
            raise ModelError(
                f"the chat template cannot be used: {error}",
                where="chat_template",
                expected="a template that writes one conversation and ends",
                fix="use a model from a source you trust, or --set model.template=replace-with-plain",
            ) from error
        except jinja2.TemplateSyntaxError as error:
            raise ModelError(
                f"the chat template is not valid: {error.message}", where=f"chat_template, line {error.lineno}"
            ) from error
        except Exception as error:  # templates raise what they like: jinja2 errors, KeyError, TypeError
            roles = ", ".join(str(turn["role"]) for turn in turns)
            raise Fault(
                f"the chat template refuses the conversation: {short(str(error))}",
                f"the chat template refuses this conversation (turns: {roles}): {error}",
                expected="turns in an order and of a kind that the model's template allows",
                fix="for example drop the system turn, or let user and assistant alternate; or leave such rows out "
                "and count them: --set read.skip_bad_rows=true",
            ) from error

    @cached_property
    def _special_names(self) -> dict[str, Any]:
        return dict(self.encoder.tokenizer.special_tokens_map)

    def _chosen(self, tools: bool) -> str:
        """The source, of several the one that transformers takes."""
        source = self.source
        if isinstance(source, dict):
            source = source.get("tool_use" if tools and "tool_use" in source else "default")
        if source is None:
            raise ModelError(
                "the tokenizer has several chat templates and none called default",
                where="chat_template",
                expected=f"one of {', '.join(self.source or ())} as the default",
            )
        return source


def _escaped(text: str, spans: list[tuple[int, int]]) -> str:
    """``escaped_marks``, which makes text shorter, with the spans where they are then."""
    pieces, at, length = [], 0, 0
    for number, (begin, end) in enumerate(sorted(spans)):
        before, part = escaped_marks(text[at:begin]), escaped_marks(text[begin:end])
        spans[number] = length + len(before), length + len(before) + len(part)
        pieces += [before, part]
        at, length = end, spans[number][1]
    return "".join([*pieces, escaped_marks(text[at:])])


def _size(value: Any) -> int:
    """Characters of what a template is given, counting its parts too."""
    total, waiting = 0, [value]
    while waiting:
        part = waiting.pop()
        total += len(part) if isinstance(part, str) else 8
        if isinstance(part, dict):
            waiting += part.keys()
            waiting += part.values()
        elif isinstance(part, (list, tuple)):
            waiting += part
    return total


@functools.lru_cache(maxsize=64)
def _compiled(source: str, today: date) -> BoundedTemplate:
    return BoundedTemplate(source, today)
