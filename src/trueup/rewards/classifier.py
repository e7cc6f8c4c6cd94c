"""A reward that is a sequence classifier of another tool: ``reward: path``, or ``path#label=POSITIVE``.

It reads a conversation as its own chat template writes it, whole, and as ``apply_chat_template`` would tokenize it. A
classifier of texts has no template: it reads prompt and answer as a pair where its tokenizer writes pairs apart, as
BERT's does, and one after the other elsewhere. What was chosen is said when it is opened, and can be set:

    reward: OpenAssistant/reward-model-deberta-v3-large-v2
    reward: my-sentiment#label=POSITIVE,text=answer,max_length=256

Shapes: B answers.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from pydantic import Field

from trueup.config import Batch, Model, Settings
from trueup.data.encode import Encoder, Text
from trueup.data.fields import Fault
from trueup.data.fit import Window
from trueup.data.render import Renderer
from trueup.data.template import ChatTemplate
from trueup.engine.processes import rank, share
from trueup.errors import ConfigError, DataError
from trueup.models.classifier import Row, SequenceClassifier, open_classifier
from trueup.models.files import CONFIG, REWARD_SCALE, identity, looks_like_path, read_json
from trueup.rewards.options import apart, options
from trueup.rewards.protocol import require_finite, sample_place
from trueup.types import Completion, Message, Prompt, StopReason, content_id

log = logging.getLogger("trueup.rewards")

SPEAKERS = {"user": "User", "assistant": "Assistant", "system": "System", "tool": "Tool"}
"""How turns are headed where a classifier without a template is given several."""
ONE_LETTER = Completion("a", (), StopReason.EOS)
"""The shortest answer: its row less one token is what stands around an answer."""
BUDGET = 16384
"""Padded tokens of one forward pass where no batch says otherwise."""


class Asked(Settings):
    """What stands behind the ``#`` of a reward: ``label=POSITIVE,text=answer,max_length=256``."""

    label: str | None = None
    """The label that is good, of a classifier with several."""
    text: Literal["chat", "pair", "joined", "answer"] | None = None
    """What it reads: the conversation by its chat template, prompt and answer as a pair of texts, one after the other,
    or the answer alone."""
    max_length: int | None = Field(default=None, ge=4)
    """Longest row in tokens, below what its positions and tokenizer allow."""


@dataclass(frozen=True, slots=True)
class Reading:
    """How a classifier is given prompt and answer, and why.

    Attributes:
        kind: As ``Asked.text``.
        why: The reason, as it is said.
        chat: The chat template, where it is read by.
    """

    kind: str
    why: str
    chat: ChatTemplate | None = None

    @classmethod
    def of(cls, tokenizer: Any, asked: str | None, source: str) -> Reading:
        """What was asked for; else by the chat template, as a pair, or joined, whichever the tokenizer has first.

        Raises:
            ConfigError: It was asked for what the tokenizer does not have.
        """
        template = tokenizer.chat_template is not None
        pairs = tokenizer.num_special_tokens_to_add(pair=True) > tokenizer.num_special_tokens_to_add(pair=False) > 0
        for kind, has, lacking in (
            ("chat", template, "its tokenizer has no chat template"),
            ("pair", pairs, "its tokenizer writes nothing between the texts of a pair"),
        ):
            if asked == kind and not has:
                raise ConfigError(
                    f"text is {kind!r}, and {lacking}",
                    where=source,
                    expected=" or ".join(
                        (*(["chat"] if template else []), *(["pair"] if pairs else []), "joined, answer")
                    ),
                )
        kind = asked or ("chat" if template else "pair" if pairs else "joined")
        whys = {
            "chat": "the conversation as its own chat template writes it",
            "pair": "prompt and answer as a pair of texts",
            "joined": "prompt and answer as one text",
            "answer": "the answer alone",
        }
        no_template = "" if asked or template else " (it has no chat template)"
        return cls(kind, whys[kind] + no_template, ChatTemplate(Encoder(tokenizer), None) if kind == "chat" else None)


class ClassifierReward:
    """A sequence classifier and how it is given prompt and answer. It is its own measure of prompts.

    Args:
        model: The classifier.
        asked: What stood behind the ``#``.
        fingerprint: Hash of its files and of what was asked.
        budget: Padded tokens of one forward pass.
    """

    def __init__(self, model: SequenceClassifier, asked: Asked, fingerprint: str, budget: int = BUDGET) -> None:
        self.model = model
        self.fingerprint = fingerprint
        self.budget = budget
        self.cut = 0
        self.reading = Reading.of(model.tokenizer, asked.text, model.source)
        known = [limit for limit in (asked.max_length, model.longest) if limit is not None]
        self.max_length = min(known, default=None)
        if asked.max_length is not None and model.longest is not None and asked.max_length > model.longest:
            raise ConfigError(
                f"max_length is {asked.max_length}", where=model.source, expected=f"at most {model.longest} tokens"
            )

    @property
    def name(self) -> str:
        """Where the classifier was opened from."""
        return self.model.source

    def __str__(self) -> str:
        output = self.model.output
        score = {
            "one": "its one logit",
            "odds": f"the log-odds of its label {output.name!r}",
            "own": f"the logit of its label {output.name!r}",
        }[output.kind]
        limit = "" if self.max_length is None else f", at most {self.max_length} tokens"
        kind = type(self.model.model).__name__
        return f"{self.name} is a {kind}: it reads {self.reading.why}{limit}; {score} is the score"

    def score(self, prompts: Sequence[Prompt], completions: Sequence[Completion]) -> torch.Tensor:
        """Scores [B], neither centred nor scaled; an answer that did not end is shown without an end.

        Raises:
            DataError: The template refuses a conversation, or a prompt leaves no room for any of its answer.
            NonFiniteError: A score is NaN or infinite; it names the prompt.
        """
        rows = [self._row(p, c) for p, c in zip(prompts, completions, strict=True)]
        own: list[tuple[int, float]] = []
        micros = share(range(len(rows)), lambda i: len(rows[i].ids), self.budget)
        for group in micros:
            own += zip(group, self.model.scores([rows[i] for i in group]).tolist(), strict=True)
        by_index = dict(micros.gather(own))
        score_B = torch.tensor([by_index[i] for i in range(len(rows))])
        require_finite(score_B, prompts, completions, self.name)
        return score_B

    # As a reader -----------------------------------------------------------------------------------------------------

    def windows(self, policy: Renderer, new_tokens: int, *, fix: str) -> list[Window]:
        """What fits the classifier: its own rows, and an answer of ``new_tokens`` policy tokens.

        With another tokenizer an answer may take more tokens than that; one that does not fit then loses its end, and
        is counted.
        """
        if self.max_length is None:
            return []
        limit = f"the {self.max_length} tokens that it reads"
        return [Window(f"the classifier {self.name}", self, self.max_length, limit, new_tokens, fix)]

    def prompt_lengths(self, prompts: Sequence[Prompt]) -> list[int]:
        """Tokens of each prompt with all that is written around it and its answer.

        Raises:
            DataError: The template refuses a prompt.
        """
        return [len(self._whole(prompt, ONE_LETTER, "prompt").ids) - 1 for prompt in prompts]

    def check(self, prompts: Sequence[Prompt]) -> None:
        """Say before the first answer how it reads, and how it is given prompts that it has no form for."""
        _say(str(self))
        texts = sum(isinstance(prompt, str) for prompt in prompts)
        if self.reading.kind == "chat" and texts:
            _say(f"{self.name} reads chats; {texts} of {len(prompts)} prompts are plain text, read as one user turn")
        several = sum(not isinstance(prompt, str) and len(prompt) > 1 for prompt in prompts)
        if self.reading.kind in ("pair", "joined") and several:
            _say(
                f"{self.name} reads texts; {several} of {len(prompts)} prompts have several turns, which are written"
                " one after the other as 'User: ...', 'Assistant: ...'"
            )

    def as_prompt(self, text: str) -> Prompt:
        """A question as the kind of prompt that this classifier reads."""
        return (Message("user", text),) if self.reading.kind == "chat" else text

    # Rows ------------------------------------------------------------------------------------------------------------

    def _row(self, prompt: Prompt, completion: Completion) -> Row:
        place = sample_place(self.name, prompt, completion)
        row = self._whole(prompt, completion, place)
        if self.max_length is None or len(row.ids) <= self.max_length:
            return row
        self.cut += 1
        if self.cut == 1:
            _say(
                f"{self.name} reads {self.max_length} tokens: an answer is longer and lost its end; such answers are"
                " counted"
            )
        around = len(self._whole(prompt, ONE_LETTER, place).ids) - 1
        if around >= self.max_length and self.reading.kind != "answer":
            raise DataError(
                f"the prompt has {around} tokens for the classifier, which reads {self.max_length}",
                where=place,
                fix="shorten the prompt, or take a reward that reads more",
            )
        if self.reading.kind == "chat":
            return Row(row.ids[: self.max_length])
        return self._texts(prompt, completion, limit=self.max_length)

    def _whole(self, prompt: Prompt, completion: Completion, place: str) -> Row:
        if self.reading.chat is None:
            return self._texts(prompt, completion)
        chat = self.reading.chat
        turns = (Message("user", prompt),) if isinstance(prompt, str) else prompt
        try:
            if completion.ended:
                text = chat.conversation(turns, completion.text)
            else:
                asked = chat.prompt(turns)
                text = asked + chat.answer(asked, turns, completion.text).body
        except Fault as fault:
            raise fault.error(place) from fault.__cause__
        return Row(chat.encoder.encode([Text(text, parsed=True)])[0])

    def _texts(self, prompt: Prompt, completion: Completion, limit: int | None = None) -> Row:
        """A row of a classifier of texts, by its tokenizer; special tokens that data spells stay text."""
        kind, first = self.reading.kind, _plain(prompt)
        texts = {"pair": (first, completion.text), "joined": (first + completion.text,), "answer": (completion.text,)}
        how: Any = False if limit is None else "only_second" if kind == "pair" else "only_first"
        written = self.model.tokenizer(
            *texts[kind], truncation=how, max_length=limit, split_special_tokens=True, verbose=False
        )
        return Row(tuple(written["input_ids"]), tuple(written.get("token_type_ids") or ()))


def takes(source: str) -> bool:
    """Whether this names a sequence classifier that trueup did not write, with or without what is asked of it."""
    path = Path(apart(source)[0]).expanduser()
    if not path.is_dir():
        return "#" in source or _named_so(_cached_config(source))
    if (path / REWARD_SCALE).exists():
        return False
    if not (path / CONFIG).is_file():
        return "#" in source and not Path(source).exists()
    return _named_so(path / CONFIG)


def identify(source: str) -> str:
    """Content hash of the classifier's own files and of what is asked of it; a hub name stands for itself."""
    path, asked = options(source, Asked)
    values = asked.model_dump(exclude_none=True)
    return content_id(identity(path), values) if values else identity(path)


def load(source: str, beside: Model, batch: Batch | None = None) -> ClassifierReward:
    """Open a sequence classifier, frozen, on the device of the model whose answers it scores.

    Raises:
        ModelError: It is not there, or it is not clear what its score is.
        ConfigError: What stands behind the ``#`` cannot be used.
    """
    path, asked = options(source, Asked)
    config = Model(name=path, dtype=beside.dtype, device=beside.device)
    model = open_classifier(config, asked.label)
    budget = BUDGET if batch is None or batch.micro_tokens is None else 2 * batch.micro_tokens
    return ClassifierReward(model, asked, identify(source), budget)


def _named_so(config: Path | None) -> bool:
    if config is None:
        return False
    kinds = read_json(config).get("architectures") or []
    return any(str(kind).endswith("ForSequenceClassification") for kind in kinds)


def _cached_config(name: str) -> Path | None:
    """``config.json`` of a model of the hub, from its cache or, where it can be reached, from there."""
    if looks_like_path(name) or name == "tiny":
        return None
    from huggingface_hub import hf_hub_download

    try:
        return Path(hf_hub_download(name, CONFIG))
    except Exception:  # no such name, no connection, no access: whoever opens the model says so
        return None


def _plain(prompt: Prompt) -> str:
    """A prompt as text: of one turn its content, of several each headed by who speaks."""
    if isinstance(prompt, str):
        return prompt
    if len(prompt) == 1:
        return prompt[0].content
    return "\n\n".join(f"{SPEAKERS[message.role]}: {message.content}" for message in prompt)


def _say(line: str) -> None:
    if rank() == 0:  # one of several processes speaks
        log.warning(line)
