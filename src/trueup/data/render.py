"""From examples to token ids: the only place that knows chat templates, EOS, truncation and completion masks.

Promises, each with a test:

* ``render_prompt(p)`` is exactly what the sampler is fed, and ``render(p, anything).prompt_ids`` equals it;
* of a chat, the prompt is what ``apply_chat_template`` writes for it, and prompt and completion are what it writes for
  the conversation with its answer, up to the end token; a row where the two do not agree is refused, by file and line;
* a whole completion ends with exactly one end token, a cut or unfinished one with none (no EOS is forged);
* at most one BOS, at position 0; special-token spellings in data stay text;
* a prompt that is too long loses its beginning (BOS stays), a completion its end; each is counted, and beyond
  ``max_truncated_share`` of the examples it is an error.
"""

from __future__ import annotations

import copy
import hashlib
import itertools
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date
from functools import cached_property
from typing import Any, TypeAlias, TypeVar

from trueup.config import Batch, Model, Reading
from trueup.data.encode import Encoder, Ids
from trueup.data.read_report import Loaded
from trueup.data.render_report import RenderReport, Tally
from trueup.data.sequence_ids import Head, SequenceIds, Tail, sound
from trueup.data.template import PLAIN_TEMPLATE, ChatTemplate
from trueup.errors import ConfigError, DataError, ModelError
from trueup.ledger import Run, read_lines
from trueup.types import Demonstration, Labelled, PreferencePair, Prompt, Ranked, Rated, content_id

__all__ = [
    "PLAIN_TEMPLATE",
    "Ids",
    "RankedPair",
    "RenderReport",
    "Rendered",
    "RenderedLabelled",
    "RenderedPair",
    "RenderedRanking",
    "RenderedRated",
    "Renderer",
    "check_tokenizer",
    "pair_length",
    "ranking_length",
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
    weight: float = 1.0
    """How much its tokens count beside those of others."""
    token_weights: tuple[float, ...] | None = None
    """How much each token of the completion counts, where they do not all count the same; 0 is read and not learned."""


@dataclass(frozen=True, slots=True)
class RenderedPair:
    """A preference pair as ids; both sides continue the same prompt ids.

    ``pair_id`` and ``key`` are those of the ``PreferencePair``: its name, for people, and the hash of its content.
    """

    pair_id: str
    prompt_ids: Ids
    chosen_ids: Ids
    rejected_ids: Ids
    strength: float
    truncated_chosen: bool = False
    truncated_rejected: bool = False
    key: str = ""
    weight: float = 1.0
    margin: float | None = None

    def __post_init__(self) -> None:
        if not self.key:
            object.__setattr__(self, "key", content_id(*self.ids))

    @property
    def ids(self) -> tuple[Ids, Ids, Ids]:
        """What a model sees of the pair: prompt, chosen, rejected. Equal ids have equal log-probs."""
        return self.prompt_ids, self.chosen_ids, self.rejected_ids


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
    strength: float = 1.0
    weight: float = 1.0
    key: str = ""
    """Hash of prompt and response, as ``Labelled`` has it."""


@dataclass(frozen=True, slots=True)
class RenderedRated:
    """A response with ratings as ids; a rating that the data does not have is None."""

    prompt_ids: Ids
    completion_ids: Ids
    ratings: tuple[float | None, ...]
    weight: float = 1.0
    key: str = ""
    """Hash of prompt and response, as ``Rated`` has it."""


@dataclass(frozen=True, slots=True)
class RankedPair:
    """Two responses of a ranking of which one is better, by their numbers, and the key that they have as a pair."""

    better: int
    worse: int
    key: str

    @property
    def pair_id(self) -> str:
        """Pairs of a ranking have no name of their own."""
        return self.key


@dataclass(frozen=True, slots=True)
class RenderedRanking:
    """Two or more different responses to one prompt as ids, with their ranks: 0 is best, equal is tied."""

    prompt_ids: Ids
    completions: tuple[Ids, ...]
    ranks: tuple[int, ...]
    pairs: tuple[RankedPair, ...]
    """Every two of which one is better."""
    weight: float = 1.0


def ranking_length(ranking: RenderedRanking) -> int:
    """Padded tokens that a ranking costs: every response carries the prompt."""
    return len(ranking.completions) * (len(ranking.prompt_ids) + max(map(len, ranking.completions)))


T = TypeVar("T")
Response = TypeVar("Response", Labelled, Rated)
Items: TypeAlias = Sequence[T] | Loaded[T]
"""Examples, or what a reader gave: then errors and counts name file and line."""

_NO_ROOM = "the prompt leaves no room for a completion"
_NOTHING_LEARNED = "no token of an answer is learned: its turns have weight 0, or stand behind the cut"


class Renderer:
    """Renders prompts, completions and pairs for one tokenizer and one set of limits.

    Args:
        tokenizer: A Hugging Face tokenizer with an EOS token.
        max_length: Longest prompt plus completion, in tokens.
        max_prompt_length: Longest prompt in tokens; a longer one loses its beginning. None: prompts are not cut,
            and one that leaves no room for a completion is dropped and counted.
        max_truncated_share: Share of examples that may be truncated or dropped before it is an error.
        template: ``plain`` uses the built-in chat template instead of the tokenizer's own.
        today: What a chat template that writes the date takes for today; None is the day it is.
        variables: Further variables of the chat template.
        skip_bad_rows: Leave out and count the rows that the chat template refuses, instead of stopping at the first.
        allow_unwritten: Take chats of which the template leaves out a part, such as tool calls; it is counted.
        say: Is told, in one line each, what of the examples is not used.

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
        today: date | None = None,
        variables: Mapping[str, Any] | None = None,
        skip_bad_rows: bool = False,
        allow_unwritten: bool = False,
        say: Callable[[str], None] | None = None,
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
        self.template = template
        self.eos_id = _eos(tokenizer)
        chat = ChatTemplate(self.encoder, template, today=today, variables=variables)
        self._sequences = SequenceIds(self.encoder, chat, self.eos_id, max_prompt_length, allow_unwritten)
        self.max_length = max_length
        self.max_prompt_length = max_prompt_length
        self.max_truncated_share = max_truncated_share
        self.skip_bad_rows = skip_bad_rows
        self.say = say
        self.notes: tuple[str, ...] = ()

    @classmethod
    def of(
        cls,
        tokenizer: Any,
        batch: Batch,
        *,
        template: str | None = None,
        context: int | None = None,
        today: date | None = None,
        variables: Mapping[str, Any] | None = None,
        skip_bad_rows: bool = False,
        allow_unwritten: bool = False,
        say: Callable[[str], None] | None = None,
    ) -> Renderer:
        """From a recipe's ``batch`` block. A ``max_length`` beyond the model's ``context`` is lowered, and noted."""
        length = batch.max_length if context is None else min(batch.max_length, context)
        renderer = cls(
            tokenizer,
            max_length=length,
            max_prompt_length=batch.max_prompt_length,
            max_truncated_share=batch.max_truncated,
            template=template,
            today=today,
            variables=variables,
            skip_bad_rows=skip_bad_rows,
            allow_unwritten=allow_unwritten,
            say=say,
        )
        if length < batch.max_length:
            renderer.notes = (f"max_length {batch.max_length} lowered to the model's context of {length} tokens",)
        return renderer

    def for_run(self, run: Run, model: Model, read: Reading) -> Renderer:
        """The same for the life of a training run: the day it started stays its today, and its template is pinned.

        Raises:
            RunError: The run was started with another chat template, or other variables of it.
        """
        renderer = copy.copy(self)
        day = _today(run, model.template_date)
        chat = ChatTemplate(self.encoder, self.template, today=day, variables=model.template_variables)
        limit = self.max_prompt_length
        renderer._sequences = SequenceIds(self.encoder, chat, self.eos_id, limit, read.allow_unwritten)
        renderer.skip_bad_rows = read.skip_bad_rows
        renderer.say = None if run.quiet or not run.writes else _warn
        if renderer.chat.exists:
            run.pin("chat_template", renderer.chat.fingerprint)
        return renderer

    @property
    def chat(self) -> ChatTemplate:
        """The chat template."""
        return self._sequences.chat

    @property
    def stop_ids(self) -> Ids:
        """Tokens that end a sampled completion: EOS and the template's ends of a turn, if they are others."""
        return tuple(dict.fromkeys((self.eos_id, *(self.chat.end_ids if self.chat.exists else ()))))

    @cached_property
    def fingerprint(self) -> str:
        """Hash of everything that decides the ids: vocabulary, special tokens, template, its date, limits."""
        tokenizer = self.encoder.tokenizer
        state = [
            sorted(tokenizer.get_vocab().items()),
            sorted(self.encoder.special_ids.items()),
            tokenizer.backend_tokenizer.to_str()
            if hasattr(tokenizer, "backend_tokenizer")
            else type(tokenizer).__name__,
            self.chat.fingerprint,
            [self.eos_id, self.max_length, self.max_prompt_length],
        ]
        return hashlib.sha256(json.dumps(state, ensure_ascii=True).encode()).hexdigest()[:16]

    def prompt_lengths(self, prompts: Sequence[Prompt]) -> list[int]:
        """Tokens of each prompt as the sampler is fed it, whether or not a completion has room after it."""
        return [len(sound(head, "prompt").fed) for head in self._sequences.heads(prompts)]

    # One at a time -------------------------------------------------------------------------------------------------

    def render_prompt(self, prompt: Prompt) -> Ids:
        """The ids that the sampler is fed."""
        return self._roomy(self._sequences.heads([prompt])[0]).fed

    def render(self, prompt: Prompt, completion: str, *, ended: bool = True) -> Rendered:
        """One prompt and completion.

        ``ended=False`` says that the completion stopped for lack of length: it gets no end token and counts as
        truncated.
        """
        head = self._roomy(self._sequences.heads([prompt])[0])
        tail = sound(self._sequences.tails([head], [completion], ended=ended)[0], "prompt")
        if not ended:
            return Rendered(head.fed, tail.ids[: self._room(head)], truncated=True, prompt_cut=head.cut)
        return self._fitted(head, tail.ids)

    def render_pair(self, pair: PreferencePair) -> RenderedPair:
        """One pair; the sides may be truncated (flagged), never differently prompted."""
        head = self._roomy(self._sequences.heads([pair.prompt])[0], pair.pair_id)
        sides = self._sequences.tails([head, head], [pair.chosen, pair.rejected])
        chosen, rejected = (self._fitted(head, sound(side, pair.pair_id).ids) for side in sides)
        return _pair(pair, chosen, rejected)

    # Many at a time ------------------------------------------------------------------------------------------------

    def render_prompts(self, prompts: Items[Prompt]) -> tuple[list[Ids], RenderReport]:
        """Prompts as the sampler is fed them; one that leaves no room for a completion is dropped and counted."""
        items, places = _placed(prompts, "prompt")
        tally = self._tally(items)
        kept: list[Ids] = []
        for head, place in zip(self._sequences.heads(items), places, strict=True):
            if self._takes(tally, place, head) and self._has_room(tally, place, head):
                tally.keep(head.cut, False, len(head.fed))
                kept.append(head.fed)
        return kept, self._report(tally)

    def render_pairs(self, pairs: Items[PreferencePair]) -> tuple[list[RenderedPair], RenderReport]:
        """All pairs, in order. Dropped and counted: no room for a completion, sides that become the same ids."""
        items, places = _placed(pairs, "pair", lambda pair: pair.pair_id)
        tally = self._tally([t for p in items for t in (p.prompt, p.chosen, p.rejected)], examples=len(items))
        heads = self._sequences.heads([p.prompt for p in items])
        double = [h for h in heads for _ in range(2)]
        tails = self._sequences.tails(double, [t for p in items for t in (p.chosen, p.rejected)])
        kept: list[RenderedPair] = []
        for number, (pair, head, place) in enumerate(zip(items, heads, places, strict=True)):
            chosen, rejected = tails[2 * number : 2 * number + 2]
            if not self._takes(tally, place, head, chosen, rejected):
                continue
            tally.seams += chosen.seam or rejected.seam
            tally.longest = max(tally.longest, len(head.fed) + max(len(chosen.ids), len(rejected.ids)))
            if not self._has_room(tally, place, head):
                continue
            rendered = _pair(pair, self._fitted(head, chosen.ids), self._fitted(head, rejected.ids))
            if rendered.chosen_ids == rendered.rejected_ids:
                cut = rendered.truncated_chosen or rendered.truncated_rejected
                tally.drop("the sides are the same tokens" + (" after truncation" if cut else ""), place)
                continue
            tokens = len(head.fed) + len(rendered.chosen_ids) + len(rendered.rejected_ids)
            tally.keep(head.cut, rendered.truncated_chosen or rendered.truncated_rejected, tokens)
            kept.append(rendered)
        return kept, self._report(tally)

    def render_rankings(self, rankings: Items[Ranked]) -> tuple[list[RenderedRanking], RenderReport]:
        """All rankings, in order.

        Of tied responses that are the same tokens one is kept. Dropped and counted: a ranking whose prompt leaves no
        room, and one that gives the same tokens two ranks or has fewer than two different responses.
        """
        items, places = _placed(rankings, "ranking")
        tally = self._tally([t for item in items for t in (item.prompt, *item.responses)], examples=len(items))
        heads = self._sequences.heads([item.prompt for item in items])
        each = [h for h, item in zip(heads, items, strict=True) for _ in item.responses]
        tails = iter(self._sequences.tails(each, [response for item in items for response in item.responses]))
        kept: list[RenderedRanking] = []
        for item, head, place in zip(items, heads, places, strict=True):
            own = list(itertools.islice(tails, len(item.responses)))
            if not self._takes(tally, place, head, *own):
                continue
            tally.seams += any(tail.seam for tail in own)
            tally.longest = max(tally.longest, len(head.fed) + max(len(tail.ids) for tail in own))
            if not self._has_room(tally, place, head):
                continue
            sides = [self._fitted(head, tail.ids) for tail in own]
            cut = any(side.truncated for side in sides)
            different = {side.completion_ids: number for number, side in reversed(list(enumerate(sides)))}
            ranks = {(side.completion_ids, rank) for side, rank in zip(sides, item.ranks, strict=True)}
            if len(different) < max(2, len(ranks)):
                tally.drop("responses are the same tokens" + (" after truncation" if cut else ""), place)
                continue
            ranking = _ranking(item, sides, sorted(different.values()))
            tally.keep(head.cut, cut, len(head.fed) + sum(map(len, ranking.completions)))
            kept.append(ranking)
        return kept, self._report(tally)

    def render_demonstrations(
        self, demonstrations: Items[Demonstration], *, all_turns: bool = False
    ) -> tuple[list[Rendered], RenderReport]:
        """All demonstrations, in order; with ``all_turns`` every turn of the assistant is to be learned, not the last.

        With an empty prompt the completion is plain text to model: if too long it is cut into consecutive windows
        of ``max_length``, of which only the last ends with EOS; no token is lost.
        """
        items, places = _placed(demonstrations, "example")
        tally = self._tally([t for d in items for t in (d.prompt, d.completion)], examples=len(items))
        prompts, answers = [d.prompt for d in items], [d.completion for d in items]
        kept: list[Rendered] = []
        if all_turns:
            both = self._sequences.conversations(prompts, answers)
            heads, tails = [head for head, _ in both], [tail for _, tail in both]
        else:
            heads = self._sequences.heads(prompts)
            tails = self._sequences.tails(heads, answers)
        for item, head, tail, place in zip(items, heads, tails, places, strict=True):
            if not self._takes(tally, place, head, tail):
                continue
            tally.seams += tail.seam
            tally.longest = max(tally.longest, len(head.fed) + len(tail.ids))
            if item.prompt == "":
                windows = [replace(window, weight=item.weight) for window in self._windows(head, tail.ids)]
                tally.windows += len(windows) - 1
                tally.keep(False, False, sum(len(w.prompt_ids) + len(w.completion_ids) for w in windows))
                kept += windows
            elif self._has_room(tally, place, head):
                rendered = self._fitted(head, tail.ids)
                weights = None if tail.weights is None else tail.weights[: len(rendered.completion_ids)]
                if weights is not None and not any(weights):
                    tally.drop(_NOTHING_LEARNED, place)
                    continue
                tally.keep(head.cut, rendered.truncated, len(head.fed) + len(rendered.completion_ids))
                kept.append(replace(rendered, weight=item.weight, token_weights=weights))
        return kept, self._report(tally)

    def render_labelled(self, labelled: Items[Labelled]) -> tuple[list[RenderedLabelled], RenderReport]:
        """All labelled responses, in order; one whose prompt leaves no room is dropped and counted."""
        kept, report = self._responses(labelled)
        return [
            RenderedLabelled(
                e.prompt_ids, e.completion_ids, item.desirable, e.truncated, item.strength, item.weight, item.key
            )
            for item, e in kept
        ], report

    def render_rated(self, rated: Items[Rated]) -> tuple[list[RenderedRated], RenderReport]:
        """All rated responses, in order; one whose prompt leaves no room is dropped and counted."""
        kept, report = self._responses(rated)
        return [
            RenderedRated(e.prompt_ids, e.completion_ids, item.ratings, item.weight, item.key) for item, e in kept
        ], report

    # How -----------------------------------------------------------------------------------------------------------

    def _responses(self, responses: Items[Response]) -> tuple[list[tuple[Response, Rendered]], RenderReport]:
        """Single responses that fit, in order, with what a model sees of them."""
        items, places = _placed(responses, "example")
        tally = self._tally([t for d in items for t in (d.prompt, d.completion)], examples=len(items))
        heads = self._sequences.heads([d.prompt for d in items])
        kept: list[tuple[Response, Rendered]] = []
        tails = self._sequences.tails(heads, [d.completion for d in items])
        for item, head, tail, place in zip(items, heads, tails, places, strict=True):
            if not self._takes(tally, place, head, tail):
                continue
            tally.seams += tail.seam
            tally.longest = max(tally.longest, len(head.fed) + len(tail.ids))
            if self._has_room(tally, place, head):
                example = self._fitted(head, tail.ids)
                tally.keep(head.cut, example.truncated, len(head.fed) + len(example.completion_ids))
                kept.append((item, example))
        return kept, self._report(tally)

    def _tally(self, texts: Sequence[Prompt], examples: int | None = None) -> Tally:
        tally = Tally(len(texts) if examples is None else examples, self.max_length, self.notes)
        tally.chats = any(not isinstance(t, str) for t in texts)
        tally.special_text = sum(
            any(
                self.encoder.holds_special(part)
                for part in ([t] if isinstance(t, str) else [p for m in t for p in (m.content, m.turn)])
            )
            for t in set(texts)
        )
        return tally

    def _takes(self, tally: Tally, place: str, head: Head, *tails: Tail) -> bool:
        """Whether the chat template takes the example; counts what it leaves unused, and refusals if they may be."""
        parts: list[Head | Tail] = [head, *tails]
        fault = next((part.fault for part in parts if part.fault is not None), None)
        if fault is None:
            tally.leave(dict.fromkeys(key for part in parts for key in part.unused), place)
            return True
        if not self.skip_bad_rows:
            raise fault.error(place) from fault.__cause__
        tally.refuse(fault.reason, place)
        return False

    def _has_room(self, tally: Tally, place: str, head: Head) -> bool:
        if self._room(head) < 1:
            tally.drop(_NO_ROOM, place)
            return False
        return True

    def _report(self, tally: Tally) -> RenderReport:
        if tally.chats:
            tally.notes += self.chat.notes
        report = tally.report(self.max_truncated_share)
        if self.say is not None:
            for line in tally.losses():
                self.say(line)
        return report

    def _room(self, head: Head) -> int:
        return self.max_length - len(head.fed)

    def _roomy(self, head: Head, name: str = "prompt") -> Head:
        sound(head, name)
        if self._room(head) < 1:
            raise DataError(
                f"the prompt has {len(head.fed)} tokens and max_length is {self.max_length}: no completion fits",
                where=name,
                fix="raise batch.max_length, or set batch.max_prompt_length to keep the end of long prompts",
            )
        return head

    def _fitted(self, head: Head, ids: Ids) -> Rendered:
        room = self._room(head)
        return Rendered(head.fed, ids[:room], truncated=len(ids) > room, prompt_cut=head.cut)

    def _windows(self, head: Head, ids: Ids) -> list[Rendered]:
        # A later window starts from the token before it, so that each token is predicted exactly once.
        first, step = self._room(head), self.max_length - 1
        cuts = [0, *range(first, len(ids), step), len(ids)]
        return [
            Rendered(ids[a - 1 : a] if a else head.fed, ids[a:b], truncated=b < len(ids))
            for a, b in itertools.pairwise(cuts)
        ]


def _placed(items: Items[T], kind: str, name: Callable[[T], str] | None = None) -> tuple[Sequence[T], Sequence[str]]:
    """The examples, and how messages call each: by file and line where they are known."""
    if isinstance(items, Loaded):
        return items.items, [items.place(number) for number in range(len(items))]
    return items, [name(item) if name else f"{kind} {number + 1}" for number, item in enumerate(items)]


def _today(run: Run, setting: str | None) -> date:
    """The day that chat templates of this run take for today: the one that is set, else the day the run started."""
    if setting is not None:
        return date.fromisoformat(setting)
    pinned = run.fingerprint("today")
    if pinned is None:
        # The processes of a job, and a run that is resumed, know the day from the run's first event.
        started = next((row["time"] for row in read_lines(run.path / "events.jsonl")[0] if "time" in row), None)
        pinned = (date.today() if started is None else date.fromtimestamp(started)).isoformat()
        run.pin("today", pinned)
    return date.fromisoformat(pinned)


def _warn(line: str) -> None:
    print(f"warning: {line}", file=sys.stderr, flush=True)


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
        pair.key,
        pair.weight,
        pair.margin,
    )


def _ranking(item: Ranked, sides: Sequence[Rendered], numbers: Sequence[int]) -> RenderedRanking:
    """Those responses of a ranking that have ``numbers``."""
    texts, ranks = [item.responses[n] for n in numbers], tuple(item.ranks[n] for n in numbers)
    pairs = tuple(
        RankedPair(a, b, PreferencePair(item.prompt, texts[a], texts[b]).key)
        for a, b in itertools.permutations(range(len(numbers)), 2)
        if ranks[a] < ranks[b]
    )
    completions = tuple(sides[n].completion_ids for n in numbers)
    return RenderedRanking(sides[0].prompt_ids, completions, ranks, pairs, item.weight)
