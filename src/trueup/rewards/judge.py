"""A judge: which of two answers is better by a principle, and does one answer break it; as probabilities.

A judge is a name, a fingerprint and two questions. Everything that is read out of a judge is a probability of one
answer word against another, so nothing has to be parsed and small models can judge. Whoever asks shows pairs in both
orders (Bai et al. 2022, arXiv 2212.08073, section 4.1).

    open_judge("runs/sft/final")                                a local model
    open_judge("runs/sft/final#reasons=128")                    the same; it writes its reasons before the letter
    open_judge("http://127.0.0.1:8080/v1#model=smollm2")        a server that speaks OpenAI's protocol

A judge that reasons first is too sure of itself: whoever trains on its labels clamps them (section 4.1 of the paper).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from pydantic import Field

from trueup.config import Model, Settings, build
from trueup.config.text import parse_assignments
from trueup.errors import ConfigError
from trueup.types import Prompt, prompt_text

SERVERS = ("http://", "https://")
"""How the address of a server begins."""
LETTERS = ("A", "B")
WHICH = (
    "Two answers to one request follow.\n\nRequest: {prompt}\n\nAnswer A: {first}\n\nAnswer B: {second}\n\n"
    "Principle: {principle}\n\nWhich answer is better by this principle? Reply with one letter only, A or B."
)
THINK = (
    "Two answers to one request follow.\n\nRequest: {prompt}\n\nAnswer A: {first}\n\nAnswer B: {second}\n\n"
    "Principle: {principle}\n\nThink step by step about which answer is better by this principle."
)
DECIDE = "{question}\n\nThoughts: {thoughts}\n\nSo which answer is better? Reply with one letter only, A or B."
BROKEN = (
    "Request: {prompt}\n\nAnswer: {answer}\n\nPrinciple: {principle}\n\n"
    "Does the answer break the principle? Reply with one word only, {yes} or {no}."
)
KEPT = (
    "Request: {prompt}\n\nAnswer: {answer}\n\nPrinciple: {principle}\n\n"
    "Does the answer keep to the principle? Reply with one word only, {yes} or {no}."
)
"""The same question the other way round: what a judge says to anything cancels out."""


class Asking(Settings):
    """What may stand behind the ``#`` of any judge."""

    reasons: int = Field(default=0, ge=0, le=4096)
    """Tokens of reasons that it may write before it says which answer is better; 0: it gives the letter at once."""


class Judge(Protocol):
    """Who judges answers by principles. ``None`` is no verdict: it is counted, and never taken for a number."""

    @property
    def name(self) -> str:
        """What it is, as messages and rows name it."""

    @property
    def fingerprint(self) -> str:
        """Hash of everything that its verdicts depend on."""

    def first_wins(self, asked: Sequence[tuple[str, Prompt, str, str]]) -> list[float | None]:
        """P(the answer shown first is better) for each (principle, prompt, first answer, second answer)."""

    def breaks(self, asked: Sequence[tuple[str, Prompt, str]]) -> list[float | None]:
        """P(the answer breaks the principle) for each (principle, prompt, answer)."""


def open_judge(source: str, beside: Model | None = None) -> Judge:
    """The judge that ``source`` names.

    Args:
        source: A model's name or directory, or the address of a server with ``#model=NAME`` behind it. ``reasons=128``
            behind the ``#`` lets it write that many tokens before it gives a letter.
        beside: Settings of a model: device and dtype of a local judge are taken from it.

    Raises:
        ModelError: The model cannot be opened, or has no single tokens for the words of a verdict.
        ConfigError: An address without the name of a model.
    """
    name, asked = parse_judge(source)
    if name.startswith(SERVERS):
        from trueup.rewards.judge_endpoint import EndpointJudge

        return EndpointJudge.at(source)
    from trueup.rewards.judge_model import ModelJudge

    return ModelJudge.load(name, beside, reasons=asked.reasons)


def parse_judge(source: str) -> tuple[str, Asking]:
    """The model or address that ``source`` names, and how it is asked; opens nothing.

    Raises:
        ConfigError: No model is named, or what stands behind the ``#`` is unknown.
    """
    if source.startswith(SERVERS):
        from trueup.rewards.judge_endpoint import parse_address

        return parse_address(source)
    name, _, rest = source.partition("#")
    if not name.strip():
        raise ConfigError(f"no model is named in {source!r:.80}", expected="a model's name or directory, or an address")
    asked = build(Asking, parse_assignments([part for part in rest.split(",") if part]), where=f"judge {source}")
    return name, asked


def which(principle: str, prompt: Prompt, first: str, second: str) -> str:
    """The question about a pair."""
    return WHICH.format(principle=principle, prompt=asked_for(prompt), first=first, second=second)


def think(principle: str, prompt: Prompt, first: str, second: str) -> str:
    """The question about a pair for a judge that reasons first."""
    return THINK.format(principle=principle, prompt=asked_for(prompt), first=first, second=second)


def asked_for(prompt: Prompt) -> str:
    """A request as a judge reads it: the text, or the one turn's text, or all turns with who speaks."""
    if not isinstance(prompt, str) and len(prompt) == 1:
        return prompt[0].content
    return prompt_text(prompt)
