"""Chat templates: what ``tokenizer.apply_chat_template`` writes for a conversation, and where an answer ends in it.

A prompt is what the template writes with ``add_generation_prompt``; a trained sequence is what it writes for the
conversation with its answer, up to the token that ends the answer. The answer is what stands in the second text after
the first one; where the second does not begin with the first, sampling and training would not be the same thing, and
the row is refused. Nothing is known about any template beforehand: roles, tools, reasoning, dates and blanks are its
own affair.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from functools import cached_property
from typing import Any

from trueup.data.encode import Encoder
from trueup.data.fields import Fault
from trueup.data.template_text import PROBE, Source, TemplateText
from trueup.data.template_unused import plainly_written, unused
from trueup.errors import ModelError
from trueup.types import AnswerText, Message, content_id

PLAIN_TEMPLATE = (
    "{% for message in messages %}"
    "{{ {'user': 'User', 'assistant': 'Assistant', 'system': 'System', 'tool': 'Tool'}[message['role']] }}"
    "{{ ': ' + message['content'] }}"
    "{% if loop.last and message['role'] == 'assistant' %}{{ eos_token }}{% else %}{{ '\\n\\n' }}{% endif %}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ 'Assistant:' }}{% endif %}"
)
"""A template for tokenizers that have none; it needs no special token but EOS, which ends an answer."""

_ASK = Message("user", "question")
_CALL = {"type": "function", "function": {"name": "probe", "arguments": {}}}


def plain_source(encoder: Encoder) -> str:
    """The built-in template for one tokenizer: what it puts before every text (BOS, or nothing) comes first."""
    before = "".join(encoder.tokenizer.convert_ids_to_tokens(list(encoder.prefix_ids)))
    return f"{{{{ {json.dumps(before)} }}}}{PLAIN_TEMPLATE}" if before else PLAIN_TEMPLATE


def is_plain(source: Any) -> bool:
    """Whether a template is the built-in one, as ``plain_source`` writes it for any tokenizer."""
    return isinstance(source, str) and source.endswith(PLAIN_TEMPLATE)


@dataclass(frozen=True, slots=True)
class Written:
    """An answer as the template writes it: ``body``, what closes it, and its end token (None: the template has none).

    Data in the texts is masked.
    """

    body: str
    closing: str
    end: str | None

    @property
    def whole(self) -> str:
        """All of it, with the end token where the template has one."""
        return self.body + self.closing + (self.end or "")


class ChatTemplate:
    """A tokenizer's chat template (or ``plain``), as functions from turns to text.

    Args:
        encoder: The tokenizer.
        template: ``plain`` for the built-in one, None for the tokenizer's own.
        today: What a template that writes the date takes for today; by default the day it is.
        variables: Further variables of the template, such as ``{"enable_thinking": False}``; a row's own go first.

    Raises:
        ModelError: ``template`` is neither, or the template cannot be used: not valid, or it does not end.
    """

    def __init__(
        self,
        encoder: Encoder,
        template: str | None,
        *,
        today: date | None = None,
        variables: Mapping[str, Any] | None = None,
    ) -> None:
        if template not in (None, "plain"):
            raise ModelError(f"{template!r}", where="model.template", expected="plain, or nothing")
        self.encoder = encoder
        own = encoder.tokenizer.chat_template
        self.plain = template == "plain" or is_plain(own)
        source: Source = plain_source(encoder) if template == "plain" else own
        self.text = TemplateText(encoder, source, today or date.today(), variables or {})
        specials = sorted(encoder.special_ids, key=len, reverse=True)
        self._special = re.compile("|".join(map(re.escape, specials))) if specials else re.compile(r"(?!)")
        self._ending = re.compile(f"(?:{self._special.pattern}|\\s)*\\Z")

    @property
    def source(self) -> Source:
        """The Jinja of the template, or None."""
        return self.text.source

    @property
    def exists(self) -> bool:
        """Whether chat prompts can be rendered at all."""
        return self.source is not None

    @property
    def dated(self) -> bool:
        """Whether the text depends on the day."""
        return "strftime_now" in json.dumps(self.source)

    @property
    def fingerprint(self) -> str:
        """Hash of what decides the text of a conversation: the source, the date if it is used, the variables."""
        return content_id(self.source, self.text.today.isoformat() if self.dated else None, self.text.variables)

    @property
    def exported(self) -> Source:
        """The template as it belongs into a trained model's tokenizer, so that others write the same text.

        Variables that the run set are the template's defaults there; whoever opens it may still set others.
        """
        if not self.text.variables or self.plain or self.source is None:
            return self.source
        lines = "".join(
            f"{{%- if {name} is not defined %}}{{%- set {name} = {_literal(value)} %}}{{%- endif %}}"
            for name, value in self.text.variables.items()
        )
        if isinstance(self.source, str):
            return lines + self.source
        return {name: lines + source for name, source in self.source.items()}

    # Conversations to text -----------------------------------------------------------------------------------------

    def prompt(self, messages: Sequence[Message]) -> str:
        """The text of a chat prompt up to where the assistant's answer starts; data in it is masked.

        Raises:
            Fault: The template refuses these turns, there are none, or the assistant has the last one.
            ModelError: There is no template, or it cannot be used.
        """
        if not self.exists:
            raise ModelError(
                "the prompt is a chat and the tokenizer has no chat template",
                where="model.template",
                expected="a tokenizer with a chat template, or prompts that are plain text",
                fix="--set model.template=plain uses the built-in one, for training and sampling alike",
            )
        if not messages or messages[-1].role == "assistant":
            what = "the chat prompt ends with an assistant turn" if messages else "the chat prompt has no turns"
            raise Fault(
                what,
                what,
                expected="a last turn by user, tool or system, which the assistant then answers",
            )
        return self.text.render([*map(self.text.turn, messages)], _context(messages), ask=True)

    def answer(self, prompt: str, messages: Sequence[Message], answer: str) -> Written:
        """How the template writes ``answer`` after ``prompt``, which is its own text of ``messages``.

        Raises:
            Fault: The template refuses the conversation, or does not continue the prompt with the answer.
        """
        whole = self.conversation(messages, answer)
        if not whole.startswith(prompt):
            raise self._apart(prompt, whole)
        return self._split(whole[len(prompt) :])

    def conversation(self, messages: Sequence[Message], answer: str) -> str:
        """All that the template writes for a conversation with its answer, whatever it does with earlier turns.

        Raises:
            Fault: The template refuses the conversation.
        """
        return self.text.render(self._answered(messages, answer), _context(messages), ask=False)

    def marked(self, messages: Sequence[Message], answer: str) -> tuple[str, list[tuple[int, int]]]:
        """The same, and begin and end of each part that the template marks as the assistant's (``{% generation %}``).

        Raises:
            Fault: The template refuses the conversation, or marks what it does not write there.
        """
        spans: list[tuple[int, int]] = []
        turns, context = self._answered(messages, answer), _context(messages)
        return self.text.render(turns, context, ask=False, spans=spans), spans

    def holds(self, written: Written, answer: str) -> bool:
        """Whether ``written`` has all of the answer's text, in its order, whatever it does with blanks."""
        answer_text = self.encoder.masked(str(answer))
        if answer_text.strip() in written.body:
            return True
        rest = iter("".join(written.body.split()))
        return all(character in rest for character in "".join(answer_text.split()))

    def unused(self, messages: Sequence[Message], answer: str | None, written: str) -> tuple[str, ...]:
        """What the conversation holds and the template does not write: keys of turns, tools, texts of a role.

        Decided by rendering with and without it, so it holds for any template.

        Args:
            messages: The turns.
            answer: The answer to them, or None for the prompt alone.
            written: What the template wrote for them; where that holds every text, no more is asked.
        """
        if not isinstance(answer, AnswerText) and plainly_written(self.text, messages, written):
            return ()
        turns = [*map(self.text.turn, messages)] if answer is None else self._answered(messages, answer)
        return unused(self.text, turns, _context(messages), ask=answer is None)

    def markers(self) -> tuple[str, ...]:
        """The template's own spellings: special tokens and the lines that announce a turn, longest first.

        Text that holds several of them has gone through this template before.
        """
        texts = [Message("user", PROBE), Message("assistant", PROBE), Message("user", PROBE)]
        try:
            written = self.text.render([*map(self.text.turn, texts)], {}, ask=True)
        except Fault:
            written = self.text.render([self.text.turn(texts[0])], {}, ask=True)
        lines = [line.strip() for piece in written.split(PROBE) for line in piece.splitlines()]
        bos = self.encoder.tokenizer.bos_token or ""
        bare = [line.removeprefix(bos).strip() for line in lines]
        markers = dict.fromkeys((*lines, *bare, *self._special.findall(written)))
        return tuple(sorted((m for m in markers if m), key=len, reverse=True))

    # How an answer ends --------------------------------------------------------------------------------------------

    @property
    def end_id(self) -> int | None:
        """The token that ends an answer, or None where the template writes none."""
        return self._id(self._probed.end)

    @property
    def end_ids(self) -> tuple[int, ...]:
        """The tokens that end answers: of text, and of tool calls where they have another."""
        ends = (self._id(end) for end in (self._probed.end, self._call_end))
        return tuple(dict.fromkeys(i for i in ends if i is not None))

    @property
    def gap(self) -> str:
        """What the template writes before the text of an answer, after the prompt: the model learns to write it."""
        return self._probed.body.removesuffix(PROBE)

    @property
    def closing(self) -> str:
        """What the template writes between the text of an answer and its end token."""
        return self._probed.closing

    @property
    def notes(self) -> tuple[str, ...]:
        """What a user should know about how this template writes answers."""
        notes = []
        if self.gap.strip():
            notes.append(f"the chat template begins an answer with {self.gap!r}, which is learned with it")
        rest = self._special.sub("", self._after.partition(self._probed.end)[2] if self._probed.end else "")
        if rest.strip():
            notes.append(f"the chat template writes {rest!r} after the end of an answer; no sampler gets that far")
        notes += [f"role {raw!r} is given to the chat template as {role!r}" for raw, role in self.text.renamed.items()]
        return tuple(notes)

    def _id(self, spelling: str | None) -> int | None:
        return None if spelling is None else self.encoder.special_ids[spelling]

    @cached_property
    def _after(self) -> str:
        """What the template writes behind the text of a last answer."""
        return self._last_answer[2]

    @cached_property
    def _probed(self) -> Written:
        """An answer of text alone, as the template writes it; empty where it refuses every simple conversation."""
        prompt, before, after = self._last_answer
        if not before:
            return Written("", "", None)
        tail = before[len(prompt) :] if before.startswith(prompt) else ""
        return self._closed(tail + PROBE, after)

    @cached_property
    def _call_end(self) -> str | None:
        """The token that ends a tool call, if the template takes one."""
        call = {"role": "assistant", "tool_calls": [_CALL]}
        try:
            prompt = self.text.render([self.text.turn(_ASK)], {}, ask=True)
            whole = self.text.render([self.text.turn(_ASK), call], {}, ask=False)
        except Fault:
            return None
        return self._split(whole[len(prompt) :]).end if whole.startswith(prompt) else None

    @cached_property
    def _last_answer(self) -> tuple[str, str, str]:
        """Prompt, and the text before and behind the answer, of the simplest conversation that is not refused."""
        for before in ((_ASK,), (Message("system", "rules"), _ASK)):
            turns = [*map(self.text.turn, before)]
            try:
                prompt = self.text.render(turns, {}, ask=True)
                whole = self.text.render([*turns, self.text.turn(Message("assistant", PROBE))], {}, ask=False)
            except Fault:
                continue
            start, probe, after = whole.rpartition(PROBE)
            if not probe:
                raise ModelError("the chat template drops the assistant's text", where="chat_template")
            return prompt, start, after
        return "", "", ""

    def _split(self, tail: str) -> Written:
        """Where the answer ends in ``tail``, which is all that the template writes after the prompt."""
        after = self._after
        if tail.endswith(after) and (after or self._probed.body):
            return self._closed(tail[: len(tail) - len(after)], after)
        # Not as a text ends: a tool call, say. The end is the first known end token of the special ones at the end.
        ending = self._ending.search(tail)
        assert ending is not None  # it matches the empty end of any text
        specials = list(self._special.finditer(ending.group()))
        known = (self._probed.end, self.encoder.tokenizer.eos_token)
        end = next((s for s in specials if s.group() in known), specials[0] if specials else None)
        if end is None:
            return Written(tail, "", None)
        return Written(tail[: ending.start()], ending.group()[: end.start()], end.group())

    def _closed(self, body: str, after: str) -> Written:
        end = self._special.search(after)
        if end is None:
            return Written(body, after.rstrip(), None)  # blanks are dropped: EOS follows
        return Written(body, after[: end.start()], end.group())

    def _apart(self, prompt: str, whole: str) -> Fault:
        same = next((n for n, (a, b) in enumerate(zip(prompt, whole, strict=False)) if a != b), len(whole))
        shown = (self.encoder.unmasked(t) for t in (prompt[:same][-30:], prompt[same:][:40], whole[same:][:40]))
        return Fault(
            "the chat template does not continue the prompt with the answer",
            "what the chat template writes for sampling is not how it begins the conversation with its answer: after "
            "{!r} it writes {!r} for sampling, and {!r} with the answer".format(*shown),
            expected="the prompt, as the template writes it, to be the beginning of the conversation with its answer",
            fix="if the template opens the reasoning itself, give it (reasoning_content in the turn), or switch it "
            "off (model.template_variables, or chat_template_kwargs in the row); or train with a template that agrees",
        )

    def _answered(self, messages: Sequence[Message], answer: str) -> list[dict[str, Any]]:
        last = Message("assistant", str(answer), answer.turn if isinstance(answer, AnswerText) else "")
        return [*map(self.text.turn, messages), self.text.turn(last)]


def _context(messages: Sequence[Message]) -> dict[str, Any]:
    context: dict[str, Any] = json.loads(messages[0].context) if messages and messages[0].context else {}
    return context


def _literal(value: Any) -> str:
    """A JSON value as Jinja spells it."""
    if value is None:
        return "none"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{json.dumps(str(k))}: {_literal(v)}" for k, v in value.items()) + "}"
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(map(_literal, value)) + "]"
    return json.dumps(value, ensure_ascii=False)
