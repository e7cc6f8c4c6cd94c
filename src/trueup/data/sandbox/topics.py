"""The nouns of the sandbox world: kinds of prompts, topics, and what may be said about each topic."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Kind(StrEnum):
    """What sort of thing a prompt asks for."""

    FACT = "fact"
    HOWTO = "howto"
    ADVICE = "advice"
    CHAT = "chat"
    HARMFUL = "harmful"
    LOOKALIKE = "lookalike"


Point = tuple[str, ...]
"""One thing that can be said, in every wording the world knows for it; each wording is one whole sentence."""


@dataclass(frozen=True, slots=True)
class Topic:
    """One thing that people ask about, and everything the world can say in answer.

    Attributes:
        key: Stable name, ``"capital/france"``.
        kind: The kind of its prompts.
        questions: Every wording of the question.
        points: What a good answer says. For a harmful topic: the safe alternatives.
        need: How many points make a full answer.
        ordered: Whether the points are steps that must come in order.
        wrong: What a bad answer says: wrong values, bad tips, cold replies. For a harmful topic: compliance.
        reason: For a harmful topic, the reason to refuse: a key of ``phrases.REASONS``.
        answers: For a fact, the value of each wrong point; ``value`` is the right one.
        value: For a fact, the right value, such as ``"Paris"``.
    """

    key: str
    kind: Kind
    questions: tuple[str, ...]
    points: tuple[Point, ...]
    need: int = 1
    ordered: bool = False
    wrong: tuple[Point, ...] = ()
    reason: str = ""
    value: str = ""
    answers: tuple[str, ...] = ()


def sentence(text: str) -> str:
    """``text`` with its first letter in upper case."""
    return text[:1].upper() + text[1:]
