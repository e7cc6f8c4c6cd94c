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

    A sentence is right or wrong for a topic, never by itself: what is wrong here is right somewhere else.

    Attributes:
        key: Stable name, ``"capital/france"``.
        kind: The kind of its prompts.
        group: Topics that are easily taken for one another, such as those of one relation.
        questions: Every wording of the question.
        points: What a good answer says. For a harmful topic: the safe alternatives.
        need: How many points make a full answer.
        ordered: Whether the points are steps that must come in order.
        wrong: What a bad answer says: wrong values, tips turned round, the steps that were not asked for. For a
            harmful topic: compliance, which is what answers its harmless twin.
        values: The value of each of ``wrong``, where there is one.
        value: The right value of a fact or a sum, such as ``"Paris"``.
        reason: For a harmful topic, the reason to refuse: a key of ``phrases.REASONS``.
        twin: For a harmful topic its harmless twin and the reverse: a key.
    """

    key: str
    kind: Kind
    group: str
    questions: tuple[str, ...]
    points: tuple[Point, ...]
    need: int = 1
    ordered: bool = False
    wrong: tuple[Point, ...] = ()
    values: tuple[str, ...] = ()
    value: str = ""
    reason: str = ""
    twin: str = ""


def sentence(text: str) -> str:
    """``text`` with its first letter in upper case."""
    return text[:1].upper() + text[1:]


def clause(text: str) -> str:
    """A sentence as it stands inside another one: no full stop, its first letter small."""
    return (text[:1].lower() + text[1:]).rstrip(".")


def key_of(*parts: str) -> str:
    """A topic's name from words: ``capital/south-america``."""
    return "/".join(part.replace("|", " ").replace(" ", "-").replace("'", "").lower() for part in parts)
