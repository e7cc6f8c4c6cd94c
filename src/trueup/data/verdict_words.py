"""Verdicts in words: which of several responses a choice names, how clearly, or that none is better.

The one parser of them, for training, for import and for the questions of annotation tools.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

CLEAR = 2
"""Strength of the plain word, "better"; 1 is "slightly", 3 is "much"."""

TIES = frozenset(
    "tie tied draw equal equally same similar both nopreference nodifference aboutthesame thesame equallygood "
    "bothgood botharegood bothequallygood equalquality aboutequal samequality bothequal".split()
)
UNCLEAR = frozenset("neither none nothing neitherone noneofthem".split())
"""They may mean that both are as good, that both are bad, or that nobody answered."""
BOTH_BAD = frozenset("bothbad tiebothbad botharebad bothbadly bothpoor equallybad bothequallybad".split())
_FILLER = frozenset(
    "is was the i response answer option output model assistant completion candidate choice side text reply better "
    "prefer preferred wins win won winner best chosen than".split()
)
_DEGREES = {
    **dict.fromkeys("much significantly far strongly definitely considerably greatly".split(), 3),
    **dict.fromkeys("slightly marginally somewhat weakly barely".split(), 1),
    **dict.fromkeys("clearly moderately".split(), CLEAR),
}
_PHRASES = (("a bit", "slightly"), ("a little", "slightly"), ("a lot", "much"))
_ORDINALS = {
    **dict.fromkeys(("left", "first", "1st"), 0),
    **dict.fromkeys(("right", "second", "2nd"), 1),
    **dict.fromkeys(("third", "3rd"), 2),
}


@dataclass(frozen=True, slots=True)
class SpokenVerdict:
    """What a choice says. ``place`` is that of the better response, None where none is."""

    place: int | None
    strength: int = 0
    both_bad: bool = False
    unclear: bool = False
    """It may mean a tie, that both are bad, or that nobody answered."""


def spoken_verdict(choice: Any, names: Sequence[str]) -> SpokenVerdict | None:
    """What a choice says of responses that go by these names; None where it says nothing, or could mean two of them.

    ``answer2``, ``Answer 2``, ``B``, ``right``, ``tie`` and ``B is slightly better`` all speak of answer1 and answer2.
    """
    if choice in names:
        return SpokenVerdict(names.index(choice), CLEAR)
    word = name_key(choice) if isinstance(choice, (str, int)) and not isinstance(choice, bool) else ""
    if word in BOTH_BAD or word in TIES:
        return SpokenVerdict(None, both_bad=word in BOTH_BAD)
    if word in UNCLEAR:
        return SpokenVerdict(None, unclear=True)
    place = place_named(choice, names)
    return None if place is None else SpokenVerdict(place, _degree(str(choice)))


def place_named(choice: Any, names: Sequence[str]) -> int | None:
    """The place of the response that a choice names, or None where it names none, or two."""
    if isinstance(choice, bool) or not isinstance(choice, (str, int)):
        return None
    keys = [name_key(name) for name in names]
    if keys.count(name_key(choice)) == 1:
        return keys.index(name_key(choice))
    words = _words(str(choice))
    ends = [ending(name) for name in names]
    if len(words) != 1:
        joined = "".join(words)
        return keys.index(joined) if keys.count(joined) == 1 else None
    (word,) = words
    if ends.count(word) == 1:
        return ends.index(word)
    place = _ORDINALS.get(word)
    if place is None and len(word) == 1 and "a" <= word <= "j" and not any(end.isalpha() for end in ends):
        place = ord(word) - ord("a")
    if place is None and word.isdecimal() and not any(end.isdecimal() for end in ends):
        place = int(word) - 1
    return place if place is not None and 0 <= place < len(names) else None


def name_key(name: Any) -> str:
    """A name without case and marks, so that ``Answer 1``, ``answer_1`` and ``answer1`` are the same."""
    return re.sub(r"[\W_]+", "", str(name).casefold())


def _words(choice: str) -> list[str]:
    text = choice.casefold()
    for phrase, word in _PHRASES:
        text = text.replace(phrase, word)
    words = re.findall(r"[^\W\d_]+|\d+", text)
    return [word for word in words if word not in _FILLER and word not in _DEGREES]


def ending(name: str) -> str:
    """The last part of a name that is counted, in small letters: ``b`` of ``response_b``; empty for a plain name."""
    parts = re.findall(r"[A-Z]?[a-z]+|[A-Z]+|\d+", name)
    return parts[-1].casefold() if len(parts) > 1 or (parts and len(parts[-1]) == 1) else ""


def _degree(choice: str) -> int:
    text = choice.casefold()
    for phrase, word in _PHRASES:
        text = text.replace(phrase, word)
    return next((_DEGREES[word] for word in re.findall(r"[^\W\d_]+", text) if word in _DEGREES), CLEAR)
