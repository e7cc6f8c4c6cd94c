"""From examples to token ids: the only place that knows chat templates, EOS, truncation and completion masks.

Promises, each with a test:

* ``render_prompt(p)`` is exactly what the sampler is fed, and ``render(p, anything).prompt_ids`` equals it;
* a whole completion ends with exactly one end token, a cut or unfinished one with none (no EOS is forged);
* at most one BOS, at position 0; special-token spellings in data stay text;
* a prompt that is too long loses its beginning (BOS stays), a completion its end; each is counted, and beyond
  ``max_truncated_share`` of the examples it is an error.
"""

from __future__ import annotations

import hashlib
import itertools
import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from trueup.config import Batch
from trueup.data.encode import Encoder, Ids, Text
from trueup.data.render_report import RenderReport, Tally
from trueup.data.template import PLAIN_TEMPLATE, ChatTemplate
from trueup.errors import ConfigError, DataError, ModelError
from trueup.types import Demonstration, Labelled, PreferencePair, Prompt

__all__ = [
    "PLAIN_TEMPLATE",
    "Ids",
    "RenderReport",
    "Rendered",
    "RenderedLabelled",
    "RenderedPair",
    "Renderer",
    "check_tokenizer",
    "pair_length",
]


@dataclass(frozen=True, slots=True)
class Rendered:
    """One sequence. The completion mask is the span of ``completion_ids``; padding never enters."""

    prompt_ids: Ids
    completion_ids: Ids
    truncated: bool
    """The completion is not whole, so it does not end with an end token."""
    prompt_cut: bool = False
    """The prompt lost its beginning."""


@dataclass(frozen=True, slots=True)
class RenderedPair:
    """A preference pair as ids; both sides continue the same prompt ids."""

    pair_id: str
    prompt_ids: Ids
    chosen_ids: Ids
    rejected_ids: Ids
    strength: float
    truncated_chosen: bool = False
    truncated_rejected: bool = False


def pair_length(pair: RenderedPair) -> int:
    """Padded tokens that a pair costs: both sides carry the prompt."""
    return 2 * (len(pair.prompt_ids) + max(len(pair.chosen_ids), len(pair.rejected_ids)))


@dataclass(frozen=True, slots=True)
class RenderedLabelled:
    """A response with a yes/no label as ids."""

    prompt_ids: Ids
    completion_ids: Ids
    desirable: bool
    truncated: bool = False


@dataclass(frozen=True, slots=True)
class _Head:
    """A prompt made ready: its text and the ids of just that text, and what a model is fed (BOS added, cut)."""

    text: Text
    ids: Ids
    fed: Ids
    cut: bool

    @property
    def chat(self) -> bool:
        return self.text.parsed


class Renderer:
    """Renders prompts, completions and pairs for one tokenizer and one set of limits.

    Args:
        tokenizer: A Hugging Face tokenizer with an EOS token.
        max_length: Longest prompt plus completion, in tokens.
        max_prompt_length: Longest prompt in tokens; a longer one loses its beginning. None: prompts are not cut,
            and one that leaves no room for a completion is dropped and counted.
        max_truncated_share: Share of examples that may be truncated or dropped before it is an error.
        template: ``plain`` uses the built-in chat template instead of the tokenizer's own.

    Raises:
        ModelError: The tokenizer has no EOS, or a chat prompt meets a tokenizer without a template.
        DataError: Something does not fit, beyond ``max_truncated_share``.
    """

    def __init__(
        self,
        tokenizer: Any,
        *,
        max_length: int,
        max_prompt_length: int | None = None,
        max_truncated_share: float = 0.05,
        template: str | None = None,
    ) -> None:
        if max_length < 2:
            raise ConfigError(f"max_length is {max_length}", where="batch.max_length", expected="at least 2")
        if max_prompt_length is not None and not 1 <= max_prompt_length < max_length:
            raise ConfigError(
                f"max_prompt_length is {max_prompt_length}",
                where="batch.max_prompt_length",
                expected=f"between 1 and {max_length - 1}, below max_length, so that a completion has room",
            )
        self.encoder = Encoder(tokenizer)
        self.chat = ChatTemplate(self.encoder, template)
        self.eos_id = _eos(tokenizer)
        self.max_length = max_length
        self.max_prompt_length = max_prompt_length
        self.max_truncated_share = max_truncated_share
        self.notes: tuple[str, ...] = ()

    @classmethod
    def of(cls, tokenizer: Any, batch: Batch, *, template: str | None = None, context: int | None = None) -> Renderer:
        """From a recipe's ``batch`` block. A ``max_length`` beyond the model's ``context`` is lowered, and noted."""
        length = batch.max_length if context is None else min(batch.max_length, context)
        renderer = cls(
            tokenizer,
            max_length=length,
            max_prompt_length=batch.max_prompt_length,
            max_truncated_share=batch.max_truncated,
            template=template,
        )
        if length < batch.max_length:
            renderer.notes = (f"max_length {batch.max_length} lowered to the model's context of {length} tokens",)
        return renderer

    @property
    def stop_ids(self) -> Ids:
        """Tokens that end a sampled completion: EOS and, if it is another one, the template's end of turn."""
        return tuple(dict.fromkeys(i for i in (self.eos_id, self.chat.end_id) if i is not None))

    @cached_property
    def fingerprint(self) -> str:
        """Hash of everything that decides the ids: vocabulary, special tokens, template, limits."""
        tokenizer = self.encoder.tokenizer
        state = [
            sorted(tokenizer.get_vocab().items()),
            sorted(self.encoder.special_ids.items()),
            tokenizer.backend_tokenizer.to_str()
            if hasattr(tokenizer, "backend_tokenizer")
            else type(tokenizer).__name__,
            self.chat.source,
            [self.eos_id, self.max_length, self.max_prompt_length],
        ]
        return hashlib.sha256(json.dumps(state, ensure_ascii=True).encode()).hexdigest()[:16]

    # One at a time -------------------------------------------------------------------------------------------------

    def render_prompt(self, prompt: Prompt) -> Ids:
        """The ids that the sampler is fed."""
        return self._roomy(self._heads([prompt])[0]).fed

    def render(self, prompt: Prompt, completion: str, *, ended: bool = True) -> Rendered:
        """One prompt and completion.

        ``ended=False`` says that the completion stopped for lack of length: it gets no end token and counts as
        truncated.
        """
        head = self._roomy(self._heads([prompt])[0])
        ids, _ = self._tails([head], [completion])[0]
        if not ended:
            return Rendered(head.fed, ids[:-1][: self._room(head)], truncated=True, prompt_cut=head.cut)
        return self._fitted(head, ids)

    def render_pair(self, pair: PreferencePair) -> RenderedPair:
        """One pair; the sides may be truncated (flagged), never differently prompted."""
        head = self._roomy(self._heads([pair.prompt])[0], pair.pair_id)
        (chosen, _), (rejected, _) = self._tails([head, head], [pair.chosen, pair.rejected])
        return _pair(pair, self._fitted(head, chosen), self._fitted(head, rejected))

    # Many at a time ------------------------------------------------------------------------------------------------

    def render_prompts(self, prompts: Sequence[Prompt]) -> tuple[list[Ids], RenderReport]:
        """Prompts as the sampler is fed them; one that leaves no room for a completion is dropped and counted."""
        tally = self._tally(prompts)
        kept: list[Ids] = []
        for number, head in enumerate(self._heads(prompts)):
            if self._room(head) < 1:
                tally.drop("the prompt leaves no room for a completion", f"prompt {number + 1}")
                continue
            tally.keep(head.cut, False, len(head.fed))
            kept.append(head.fed)
        return kept, tally.report(self.max_truncated_share)

    def render_pairs(self, items: Sequence[PreferencePair]) -> tuple[list[RenderedPair], RenderReport]:
        """All pairs, in order. Dropped and counted: no room for a completion, sides that become the same ids."""
        tally = self._tally([t for p in items for t in (p.prompt, p.chosen, p.rejected)], examples=len(items))
        heads = self._heads([p.prompt for p in items])
        double = [h for h in heads for _ in range(2)]
        tails = self._tails(double, [t for p in items for t in (p.chosen, p.rejected)])
        kept: list[RenderedPair] = []
        for number, (pair, head) in enumerate(zip(items, heads, strict=True)):
            (chosen, seam_c), (rejected, seam_r) = tails[2 * number : 2 * number + 2]
            tally.seams += seam_c or seam_r
            tally.longest = max(tally.longest, len(head.fed) + max(len(chosen), len(rejected)))
            if self._room(head) < 1:
                tally.drop("the prompt leaves no room for a completion", pair.pair_id)
                continue
            rendered = _pair(pair, self._fitted(head, chosen), self._fitted(head, rejected))
            if rendered.chosen_ids == rendered.rejected_ids:
                cut = rendered.truncated_chosen or rendered.truncated_rejected
                tally.drop("the sides are the same tokens" + (" after truncation" if cut else ""), pair.pair_id)
                continue
            tokens = len(head.fed) + len(rendered.chosen_ids) + len(rendered.rejected_ids)
            tally.keep(head.cut, rendered.truncated_chosen or rendered.truncated_rejected, tokens)
            kept.append(rendered)
        return kept, tally.report(self.max_truncated_share)

    def render_demonstrations(self, items: Sequence[Demonstration]) -> tuple[list[Rendered], RenderReport]:
        """All demonstrations, in order.

        With an empty prompt the completion is plain text to model: if too long it is cut into consecutive windows
        of ``max_length``, of which only the last ends with EOS; no token is lost.
        """
        tally = self._tally([t for d in items for t in (d.prompt, d.completion)], examples=len(items))
        heads = self._heads([d.prompt for d in items])
        kept: list[Rendered] = []
        tails = self._tails(heads, [d.completion for d in items])
        for number, (item, head, (ids, seam)) in enumerate(zip(items, heads, tails, strict=True)):
            tally.seams += seam
            tally.longest = max(tally.longest, len(head.fed) + len(ids))
            if item.prompt == "":
                windows = self._windows(head, ids)
                tally.windows += len(windows) - 1
                tally.keep(False, False, sum(len(w.prompt_ids) + len(w.completion_ids) for w in windows))
                kept += windows
            elif self._room(head) < 1:
                tally.drop("the prompt leaves no room for a completion", f"example {number + 1}")
            else:
                rendered = self._fitted(head, ids)
                tally.keep(head.cut, rendered.truncated, len(head.fed) + len(rendered.completion_ids))
                kept.append(rendered)
        return kept, tally.report(self.max_truncated_share)

    def render_labelled(self, items: Sequence[Labelled]) -> tuple[list[RenderedLabelled], RenderReport]:
        """All labelled responses, in order; one whose prompt leaves no room is dropped and counted."""
        tally = self._tally([t for d in items for t in (d.prompt, d.completion)], examples=len(items))
        heads = self._heads([d.prompt for d in items])
        kept: list[RenderedLabelled] = []
        tails = self._tails(heads, [d.completion for d in items])
        for number, (item, head, (ids, seam)) in enumerate(zip(items, heads, tails, strict=True)):
            tally.seams += seam
            tally.longest = max(tally.longest, len(head.fed) + len(ids))
            if self._room(head) < 1:
                tally.drop("the prompt leaves no room for a completion", f"example {number + 1}")
                continue
            one = self._fitted(head, ids)
            tally.keep(head.cut, one.truncated, len(head.fed) + len(one.completion_ids))
            kept.append(RenderedLabelled(one.prompt_ids, one.completion_ids, item.desirable, one.truncated))
        return kept, tally.report(self.max_truncated_share)

    # How -----------------------------------------------------------------------------------------------------------

    def _tally(self, texts: Sequence[Prompt], examples: int | None = None) -> Tally:
        tally = Tally(len(texts) if examples is None else examples, self.max_length, self.notes)
        tally.special_text = sum(
            any(self.encoder.holds_special(part) for part in ([t] if isinstance(t, str) else [m.content for m in t]))
            for t in set(texts)
        )
        return tally

    def _heads(self, prompts: Sequence[Prompt]) -> list[_Head]:
        distinct = list(dict.fromkeys(prompts))
        texts = [Text(p) if isinstance(p, str) else Text(self.chat.prompt(p), parsed=True) for p in distinct]
        made: dict[Prompt, _Head] = {}
        for prompt, text, ids in zip(distinct, texts, self.encoder.encode(texts), strict=True):
            chat = not isinstance(prompt, str)
            # A model's own template writes BOS where it wants one; everything else gets the tokenizer's.
            before = () if chat and not self.chat.plain else self.encoder.prefix_ids
            fed = self._shortened(before, ids)
            made[prompt] = _Head(text, ids, fed, cut=len(fed) < len(before) + len(ids))
        return [made[p] for p in prompts]

    def _shortened(self, before: Ids, ids: Ids) -> Ids:
        limit = self.max_prompt_length
        if limit is None or len(before) + len(ids) <= limit:
            return before + ids
        if not before and ids[:1] == (self.encoder.tokenizer.bos_token_id,):
            before, ids = ids[:1], ids[1:]
        keep = max(1, limit - len(before))
        return before[: limit - keep] + ids[-keep:]

    def _tails(self, heads: Sequence[_Head], completions: Sequence[str]) -> list[tuple[Ids, bool]]:
        """Ids of the completions, end token included, and whether a token straddled the boundary."""
        texts = [
            self.chat.answer(c) + self.chat.closing if h.chat else c for h, c in zip(heads, completions, strict=True)
        ]
        found = self.encoder.complete([(h.text, h.ids) for h in heads], texts)
        return [((*ids, self._end(h)), seam) for h, (ids, seam) in zip(heads, found, strict=True)]

    def _end(self, head: _Head) -> int:
        return self.chat.end_id if head.chat and self.chat.end_id is not None else self.eos_id

    def _room(self, head: _Head) -> int:
        return self.max_length - len(head.fed)

    def _roomy(self, head: _Head, name: str = "prompt") -> _Head:
        if self._room(head) < 1:
            raise DataError(
                f"the prompt has {len(head.fed)} tokens and max_length is {self.max_length}: no completion fits",
                where=name,
                fix="raise batch.max_length, or set batch.max_prompt_length to keep the end of long prompts",
            )
        return head

    def _fitted(self, head: _Head, ids: Ids) -> Rendered:
        room = self._room(head)
        return Rendered(head.fed, ids[:room], truncated=len(ids) > room, prompt_cut=head.cut)

    def _windows(self, head: _Head, ids: Ids) -> list[Rendered]:
        # A later window starts from the token before it, so that each token is predicted exactly once.
        first, step = self._room(head), self.max_length - 1
        cuts = [0, *range(first, len(ids), step), len(ids)]
        return [
            Rendered(ids[a - 1 : a] if a else head.fed, ids[a:b], truncated=b < len(ids))
            for a, b in itertools.pairwise(cuts)
        ]


def check_tokenizer(tokenizer: Any, vocabulary: int) -> None:
    """Refuse a tokenizer without EOS, or one with ids that the model has no embedding for.

    A missing padding token is no fault: masks come from lengths, and padding is never read.

    Raises:
        ModelError: Naming the tokenizer's largest id, or the missing EOS, and the fix.
    """
    _eos(tokenizer)
    largest = max(tokenizer.get_vocab().values())
    if largest >= vocabulary:
        raise ModelError(
            f"the tokenizer has ids up to {largest}, the model embeds only {vocabulary}",
            where="tokenizer",
            expected="the tokenizer that the model was trained with",
            fix="use the model's own tokenizer, or resize the embeddings (model.resize_token_embeddings)",
        )


def _eos(tokenizer: Any) -> int:
    if tokenizer.eos_token_id is None:
        raise ModelError(
            "the tokenizer has no EOS token, so no completion could ever end",
            where="tokenizer",
            expected="eos_token in tokenizer_config.json",
            fix='tokenizer.eos_token = "</s>" (the one it was trained with), then tokenizer.save_pretrained(...)',
        )
    return int(tokenizer.eos_token_id)


def _pair(pair: PreferencePair, chosen: Rendered, rejected: Rendered) -> RenderedPair:
    return RenderedPair(
        pair.pair_id,
        chosen.prompt_ids,
        chosen.completion_ids,
        rejected.completion_ids,
        pair.strength,
        chosen.truncated,
        rejected.truncated,
    )
