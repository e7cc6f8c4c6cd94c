"""Prompts and completions as ids: of a chat what its template writes, of plain text the text itself.

A part that the chat template refuses carries the reason; whoever asked knows the file and the line.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

from trueup.data.conversations import REASONING
from trueup.data.encode import Encoder, Ids, Text
from trueup.data.fields import Fault
from trueup.data.template import ChatTemplate, Written
from trueup.data.turns import WEIGHT, turns_of
from trueup.types import AnswerText, Prompt

SPOKEN_KEYS = frozenset({"tool_calls", "function_call", "tools", "documents"})
"""What belongs to a conversation as its texts do; the other keys of a turn are about it."""
REASONING_KEYS = frozenset(REASONING)
"""The same in the turn that is the answer. Templates drop the reasoning of earlier turns on purpose."""


@dataclass(frozen=True, slots=True)
class Head:
    """A prompt made ready: its text and the ids of just that text, and what a model is fed (BOS added, cut).

    ``fault`` says why the chat template refuses it; ``unused`` what of it the template does not write.
    """

    prompt: Prompt
    text: Text
    ids: Ids = ()
    fed: Ids = ()
    cut: bool = False
    fault: Fault | None = None
    unused: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Tail:
    """A completion made ready: its ids, end token included, and whether a token straddled the boundary."""

    ids: Ids = ()
    seam: bool = False
    fault: Fault | None = None
    unused: tuple[str, ...] = ()
    weights: tuple[float, ...] | None = None
    """How much each id counts, where they do not all count the same."""


PART = "a part of the answer's text"
"""Some templates write an answer without the reasoning in its text, so nobody learns it. That is said, not refused:
the sequence is what the template writes, and sampled answers are rendered in the same way."""


class SequenceIds:
    """How one tokenizer and one chat template turn prompts and their completions into ids.

    Args:
        encoder: The tokenizer.
        chat: The template.
        eos_id: What ends a completion whose template has no token for it.
        max_prompt_length: Longest prompt; a longer one loses its beginning. None: prompts are not cut.
        allow_unwritten: Take chats of which the template leaves out what was said: calls of tools, their results.
    """

    def __init__(
        self,
        encoder: Encoder,
        chat: ChatTemplate,
        eos_id: int,
        max_prompt_length: int | None,
        allow_unwritten: bool = False,
    ) -> None:
        self.encoder = encoder
        self.chat = chat
        self.eos_id = eos_id
        self.max_prompt_length = max_prompt_length
        self.allow_unwritten = allow_unwritten

    def heads(self, prompts: Sequence[Prompt]) -> list[Head]:
        """Prompts made ready; equal ones are made once."""
        heads = {prompt: self._head(prompt) for prompt in dict.fromkeys(prompts)}
        sound = [head for head in heads.values() if head.fault is None]
        for head, ids in zip(sound, self.encoder.encode([head.text for head in sound]), strict=True):
            # A chat template writes BOS where it wants one; plain text gets the tokenizer's.
            before = () if head.text.parsed else self.encoder.prefix_ids
            fed = self._shortened(before, ids)
            cut = len(fed) < len(before) + len(ids)
            heads[head.prompt] = replace(head, ids=ids, fed=fed, cut=cut)
        return [heads[p] for p in prompts]

    def _head(self, prompt: Prompt) -> Head:
        if isinstance(prompt, str):
            return Head(prompt, Text(prompt))
        try:
            text = self.chat.prompt(prompt)
            unused = self._minor(self.chat.unused(prompt, None, text))
        except Fault as fault:
            return Head(prompt, Text("", parsed=True), fault=fault)
        return Head(prompt, Text(text, parsed=True), unused=unused)

    def _shortened(self, before: Ids, ids: Ids) -> Ids:
        limit = self.max_prompt_length
        if limit is None or len(before) + len(ids) <= limit:
            return before + ids
        if not before and ids[:1] == (self.encoder.tokenizer.bos_token_id,):
            before, ids = ids[:1], ids[1:]
        keep = max(1, limit - len(before))
        return before[: limit - keep] + ids[-keep:]

    def tails(self, heads: Sequence[Head], completions: Sequence[str], *, ended: bool = True) -> list[Tail]:
        """The completions as continuations of their prompts; with ``ended`` their end token is the last of the ids."""
        tails = [self._tail(head, c) for head, c in zip(heads, completions, strict=True)]
        sound = [n for n, (_, tail) in enumerate(tails) if heads[n].fault is None and tail.fault is None]
        texts = [tails[n][0].whole if ended else tails[n][0].body for n in sound]
        encoded = self.encoder.complete([(heads[n].text, heads[n].ids) for n in sound], texts)
        continuations = [tail for _, tail in tails]
        for n, (ids, seam) in zip(sound, encoded, strict=True):
            end = self._end(tails[n][0])
            continuations[n] = replace(
                continuations[n], ids=ids if not ended or ids[-1:] == (end,) else (*ids, end), seam=seam
            )
        return continuations

    def conversations(self, prompts: Sequence[Prompt], completions: Sequence[str]) -> list[tuple[Head, Tail]]:
        """Prompts and completions with every turn of the assistant to learn: a chat's head ends at the first of them.

        Plain text has no turns and is as ``heads`` and ``tails`` make it.
        """
        heads = self.heads(prompts)
        tails = self.tails(heads, completions)
        made = zip(heads, tails, completions, strict=True)
        return [(h, t) if isinstance(h.prompt, str) else self._conversation(h, t, c) for h, t, c in made]

    def _conversation(self, head: Head, tail: Tail, completion: str) -> tuple[Head, Tail]:
        head = replace(head, unused=tuple(key for key in head.unused if key != WEIGHT))
        tail = replace(tail, unused=tuple(key for key in tail.unused if key != WEIGHT))
        if head.fault is not None or tail.fault is not None or isinstance(head.prompt, str):
            return head, tail
        try:
            turns = turns_of(self.chat, head.prompt, completion)
        except Fault as fault:
            return head, Tail(fault=fault)
        first, *rest = turns.segments
        text = Text(first.text, parsed=True)
        (start,) = self.encoder.encode([text])
        ids, weights, seam = start, [], False
        for segment in rest:
            ((more, straddles),) = self.encoder.complete([(text, ids)], [segment.text])
            text, ids, seam = Text(text.value + segment.text, parsed=True), ids + more, seam or straddles
            weights += [segment.weight] * len(more)
        end = tail.ids[-1:]
        if ids[-1:] != end:  # the template has no end token
            ids, weights = ids + end, [*weights, turns.last]
        fed = self._shortened((), start)
        head = replace(head, text=Text(first.text, parsed=True), ids=start, fed=fed, cut=len(fed) < len(start))
        unused = (*tail.unused, *turns.unlearned)
        return head, Tail(ids[len(start) :], seam, unused=unused, weights=tuple(weights))

    def _tail(self, head: Head, completion: str) -> tuple[Written, Tail]:
        if head.fault is not None:
            return Written("", "", None), Tail()
        keys: set[str] = set(json.loads(completion.turn)) if isinstance(completion, AnswerText) else set()
        unused: tuple[str, ...] = ()
        try:
            if isinstance(head.prompt, str):
                written = Written(str(completion), "", None)
                unused = tuple(sorted(keys - {"role", "content"}))
            else:
                written = self.chat.answer(head.text.value, head.prompt, completion)
                if keys:
                    unused = self.chat.unused(head.prompt, completion, head.text.value + written.whole)
            minor = self._minor(unused, REASONING_KEYS & keys)
            if not isinstance(head.prompt, str) and not self.chat.holds(written, completion):
                minor = (*minor, PART)
            return written, Tail(unused=minor)
        except Fault as fault:
            return Written("", "", None), Tail(fault=fault)

    def _minor(self, unused: tuple[str, ...], also: Iterable[str] = ()) -> tuple[str, ...]:
        """``unused``, if none of it is part of what was said; else the reason to refuse the row."""
        content_keys = [key for key in unused if key in SPOKEN_KEYS or key.startswith("text of") or key in also]
        if content_keys and not self.allow_unwritten:
            names = ", ".join(content_keys)
            raise Fault(
                f"the chat template does not write {names}",
                f"the chat template writes this conversation without its {names}",
                expected="a template that writes all that was said",
                fix="use a model whose template writes it, or take it out of the row; or leave such rows out and count "
                "them: --set read.skip_bad_rows=true; or train on what is left: --set read.allow_unwritten=true",
            )
        return unused

    def _end(self, written: Written) -> int:
        return self.eos_id if written.end is None else self.encoder.special_ids[written.end]


S = TypeVar("S", Head, Tail)


def sound(part: S, name: str) -> S:
    """``part``, or the reason why the chat template refuses it as an error at ``name``."""
    if part.fault is not None:
        raise part.fault.error(name) from part.fault.__cause__
    return part
