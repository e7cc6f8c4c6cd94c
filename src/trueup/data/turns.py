"""Which part of a conversation the assistant writes: all of its turns, for training on each of them.

A template that marks them (``{% generation %}``) is believed, as ``return_assistant_tokens_mask`` does. For any other
each answer is rendered at its own turn, with what stood before it; that the whole conversation begins with just that
text is what makes training on it the same as sampling it, and where it does not the row is refused.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass

from trueup.data.fields import Fault, short
from trueup.data.template import ChatTemplate
from trueup.types import Message, answer_of

MARKS = re.compile(r"\{%[-+]?\s*generation\s*[-+]?%\}")
OPEN_END = "the end of an earlier answer: the chat template closes it otherwise than the last one"
"""What is not learned where a template ends a turn in the middle in another way; the end of the last one is."""
UNMARKED_END = "the end token of an answer: the chat template's {% generation %} leaves it out"
WEIGHT = "weight"
"""The key of a turn that says how much it counts; 0 is context that nothing is learned from."""


@dataclass(frozen=True, slots=True)
class Segment:
    """A part of a conversation's text; what has weight 0 is read and not learned."""

    text: str
    weight: float


@dataclass(frozen=True, slots=True)
class Turns:
    """A conversation up to the end of its last answer.

    Attributes:
        segments: Its text, in order; the first is not learned.
        last: Weight of the last answer's end, for a template without an end token.
        unlearned: What of the answers carries no loss, and why.
    """

    segments: tuple[Segment, ...]
    last: float
    unlearned: tuple[str, ...] = ()


def turns_of(chat: ChatTemplate, messages: Sequence[Message], answer: str) -> Turns:
    """The conversation in parts, with what is learned of each.

    Raises:
        Fault: The template refuses the conversation, rewrites earlier turns, or marks none of them; or a turn's
            weight is no weight.
    """
    asked = chat.prompt(messages)
    written = chat.answer(asked, messages, answer)
    last = Message("assistant", str(answer), getattr(answer, "turn", ""))
    weights = [_weight(turn, n) for n, turn in enumerate((*messages, last)) if turn.role == "assistant"]
    end = len(asked) + len(written.whole)
    if chat.text.marks(MARKS, messages):
        text, spans = chat.marked(messages, answer)
        learned = _weighed(spans, weights)
        marked_end = any(begin < end <= until for begin, until, _ in learned)
        unlearned: tuple[str, ...] = () if marked_end or written.end is None else (UNMARKED_END,)
    else:
        text, (learned, unlearned) = chat.conversation(messages, answer), _by_prefixes(chat, messages, answer, weights)
    text = text[:end]
    return Turns(tuple(_segments(text, learned)), weights[-1], unlearned)


def _by_prefixes(
    chat: ChatTemplate, messages: Sequence[Message], answer: str, weights: Sequence[float]
) -> tuple[list[tuple[int, int, float]], tuple[str, ...]]:
    """Begin, end and weight of each answer in the text, from the text of each turn as the last one.

    A turn with which the assistant begins answers nothing: it is context.
    """
    whole = chat.conversation(messages, answer)
    spans, unlearned = [], False
    turns = [(n, answer_of(message)) for n, message in enumerate(messages) if message.role == "assistant"]
    for (number, text), weight in zip([*turns, (len(messages), answer)], weights, strict=True):
        if not number:
            continue
        before = messages[:number]
        asked = chat.prompt(before)
        written = chat.answer(asked, before, text)
        if not whole.startswith(asked + written.body):
            raise _rewritten(chat, asked + written.body, whole, number)
        closed = whole.startswith(asked + written.whole)
        unlearned |= not closed
        spans.append((len(asked), len(asked) + len(written.whole if closed else written.body), weight))
    return spans, (OPEN_END,) if unlearned else ()


def _weighed(spans: Sequence[tuple[int, int]], weights: Sequence[float]) -> list[tuple[int, int, float]]:
    if not spans:
        raise Fault(
            "the chat template marks nothing that the assistant writes",
            "the chat template has {% generation %} and marks nothing of this conversation with it",
            expected="a template that marks the assistant's turns",
            fix="train on the last answer only (--set train_on=last), or mend the template",
        )
    if len(spans) != len(weights) and len(set(weights)) > 1:
        raise Fault(
            "the turns have weights and the template's marks are not one a turn",
            f"{len(weights)} turns of the assistant have different weights, and the chat template marks {len(spans)}"
            " parts",
            field=WEIGHT,
            expected="one marked part for each turn of the assistant",
            fix="leave the weights out, or train on the last answer only (--set train_on=last)",
        )
    each = weights if len(spans) == len(weights) else [weights[0]] * len(spans)
    return [(begin, end, weight) for (begin, end), weight in zip(spans, each, strict=True)]


def _segments(text: str, learned: Sequence[tuple[int, int, float]]) -> list[Segment]:
    segments, at = [], 0
    for begin, end, weight in sorted(learned):
        if weight and begin < len(text):
            segments += [Segment(text[at:begin], 0.0), Segment(text[begin:end], weight)]
            at = min(end, len(text))
    segments.append(Segment(text[at:], 0.0))
    return [segment for n, segment in enumerate(segments) if segment.text or n == 0]


def _weight(message: Message, number: int) -> float:
    value = json.loads(message.turn).get(WEIGHT, 1.0) if message.turn else 1.0
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value < math.inf:
        raise Fault(
            "a turn's weight is no weight",
            f"is {short(value)}",
            field=f"messages[{number}].{WEIGHT}",
            expected="a finite number from 0; 0 is context that is not learned",
        )
    return float(value)


def _rewritten(chat: ChatTemplate, alone: str, whole: str, number: int) -> Fault:
    same = next((n for n, (a, b) in enumerate(zip(alone, whole, strict=False)) if a != b), min(len(alone), len(whole)))
    shown = (chat.encoder.unmasked(t) for t in (alone[:same][-30:], alone[same:][:40], whole[same:][:40]))
    return Fault(
        "the chat template rewrites earlier turns",
        "turn {} is written otherwise in the whole conversation than when it is the last one: after {!r} it is {!r} as"
        " the last turn, and {!r} in the conversation".format(number, *shown),
        expected="a template that goes on with an answer as it was written, or one that marks answers with"
        " {% generation %}",
        fix="train on the last answer only (--set train_on=last), with a row for each turn that is to be learned; or"
        " leave such rows out and count them: --set read.skip_bad_rows=true",
    )
