"""What an answer looks like beside what it says: markup, sentences, openings; and answers with a part removed."""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Mapping
from types import MappingProxyType

_MARKS = re.compile(
    r"^\s{0,3}#{1,6}\s"  # headers
    r"|^\s*[-*+\u2022]\s"  # bullets
    r"|^\s*\d{1,3}[.)]\s"  # numbered lists
    r"|^\s*\|.*\|\s*$"  # rows of tables
    r"|^\s*>\s"  # quotes
    r"|```[\w-]*"  # fences
    r"|\*\*|__|(?<!`)`(?!`)",  # bold and code, both ends
    re.MULTILINE,
)
_TABLE_RULE = re.compile(r"^\s*\|?[-:| ]{3,}\|?\s*$", re.MULTILINE)
_SENTENCE = re.compile(r"\S.*?(?:[.!?]+(?=\s|$)|\n|$)", re.DOTALL)
OPENING_WORDS = 3


def marks(text: str) -> int:
    """Marks of markup: headers, items of lists, rows of tables, quotes, fences, ends of bold and of code."""
    return len(_MARKS.findall(text))


def without_markup(text: str) -> str:
    """The words of a text alone: no marks, one line."""
    plain = _TABLE_RULE.sub("", text)
    return " ".join(_MARKS.sub(lambda mark: mark[0].replace("|", " ") if "|" in mark[0] else "", plain).split())


def sentences(text: str) -> list[str]:
    """Its sentences, or lines where they end first."""
    return [part.strip() for part in _SENTENCE.findall(text) if part.strip()]


def opening(text: str, words: int = OPENING_WORDS) -> str:
    """Its first words in small letters, without punctuation."""
    return " ".join(re.findall(r"[\w']+", text.lower())[:words])


def without_opening_words(text: str) -> str:
    """The text after its first words; all of it where nothing would be left."""
    rest = text.split(maxsplit=OPENING_WORDS)
    return rest[OPENING_WORDS] if len(rest) > OPENING_WORDS else text


def without_sentence(text: str, which: Callable[[int], int]) -> str:
    """The text without one sentence; all of it where there is only one. ``which`` chooses among so many."""
    parts = sentences(text)
    if len(parts) < 2:
        return text
    place = which(len(parts))
    return " ".join(parts[:place] + parts[place + 1 :])


def without_word(text: str, word: str) -> str:
    """The text without a word, wherever it stands."""
    return " ".join(re.sub(rf"(?<![\w']){re.escape(word)}(?![\w'])", "", text, flags=re.IGNORECASE).split())


EDITS: Mapping[str, Callable[[str, random.Random], str]] = MappingProxyType(
    {
        "markup": lambda text, draw: without_markup(text),
        "the first three words": lambda text, draw: without_opening_words(text),
        "the first sentence": lambda text, draw: without_sentence(text, lambda count: 0),
        "the last sentence": lambda text, draw: without_sentence(text, lambda count: count - 1),
        "any other sentence": lambda text, draw: without_sentence(text, lambda count: draw.randrange(1, count)),
    }
)
"""Parts that can be taken off an answer; the last one is what the sentences before it are to be compared with."""
