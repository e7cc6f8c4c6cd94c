"""Chat templates: where a turn starts and ends in text, found by rendering a probe, never by guessing from names."""

from __future__ import annotations

from collections.abc import Sequence

from trueup.data.encode import Encoder
from trueup.errors import DataError, ModelError
from trueup.types import Message

PLAIN_TEMPLATE = (
    "{% for message in messages %}"
    "{{ {'user': 'User', 'assistant': 'Assistant', 'system': 'System', 'tool': 'Tool'}[message['role']] }}"
    "{{ ': ' + message['content'] + '\\n\\n' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ 'Assistant:' }}{% endif %}"
)
"""A template for tokenizers that have none; it needs no special tokens. An answer ends with EOS."""

_PROBE = "probe of a turn"
_ASK = Message("user", "question")


class ChatTemplate:
    """A tokenizer's chat template (or ``plain``), with the four facts that rendering needs.

    ``opening``: what must follow the generation prompt before an answer can start (empty for a good template).
    ``gap``: the blank that the template puts before the answer; the model writes it, so it belongs to the answer.
    ``closing``: text between the answer and its end token. ``end_id``: the end-of-turn token, or None.
    """

    def __init__(self, encoder: Encoder, template: str | None) -> None:
        self.encoder = encoder
        self.plain = template == "plain"
        self.source = PLAIN_TEMPLATE if self.plain else encoder.tokenizer.chat_template
        if template not in (None, "plain"):
            raise ModelError(f"{template!r}", where="model.template", expected="plain, or nothing")
        self.opening = self.gap = self.closing = ""
        self.end_id: int | None = None
        self.trims = (False, False)
        if self.source is not None:
            self._probe()

    @property
    def exists(self) -> bool:
        """Whether chat prompts can be rendered at all."""
        return self.source is not None

    def prompt(self, messages: Sequence[Message]) -> str:
        """The text of a chat prompt up to where the assistant's answer starts; data in it is masked."""
        if not self.exists:
            raise ModelError(
                "the prompt is a chat and the tokenizer has no chat template",
                where="model.template",
                expected="a tokenizer with a chat template, or prompts that are plain text",
                fix="--set model.template=plain uses the built-in one, for training and sampling alike",
            )
        if not messages or messages[-1].role == "assistant":
            raise DataError(
                "the chat prompt ends with an assistant turn" if messages else "the chat prompt has no turns",
                where="prompt",
                expected="a last turn by user, tool or system, which the assistant then answers",
            )
        return self._render(messages, ask=True) + self.opening

    def answer(self, completion: str) -> str:
        """The text of an answer as this template writes it, without its end token; data in it is masked."""
        left, right = self.trims
        text = completion.lstrip() if left else completion
        text = text.rstrip() if right else text
        return self.gap + self.encoder.masked(text)

    def _probe(self) -> None:
        ask = self._render([_ASK], ask=True)
        text = self._render([_ASK, Message("assistant", _PROBE)], ask=False)
        before, found, after = text.rpartition(_PROBE)
        if not found:
            raise ModelError("the chat template drops the assistant's text", where="chat_template")
        padded = self._render([_ASK, Message("assistant", f"  {_PROBE}  ")], ask=False)
        wide_before, _, wide_after = padded.rpartition(_PROBE)
        self.trims = (wide_before == before, wide_after == after)
        if before.startswith(ask):
            between = before[len(ask) :]
            self.opening = between.rstrip()
            self.gap = between[len(self.opening) :]
        ends = [(after.find(s), -len(s), i) for s, i in self.encoder.special_ids.items() if s in after]
        if ends:
            where, _, self.end_id = min(ends)
            self.closing = after[:where]

    def _render(self, messages: Sequence[Message], *, ask: bool) -> str:
        turns = [{"role": m.role, "content": self.encoder.masked(m.content)} for m in messages]
        try:
            text = self.encoder.tokenizer.apply_chat_template(
                turns, chat_template=self.source, add_generation_prompt=ask, tokenize=False
            )
        except Exception as error:  # templates raise what they like: jinja2 errors, KeyError, TypeError
            roles = ", ".join(m.role for m in messages)
            raise DataError(
                f"the chat template refuses this conversation: {error}",
                where=f"turns: {roles}",
                expected="turns in an order that the model's template allows",
                fix="for example drop the system turn, or let user and assistant alternate",
            ) from error
        return str(text)
