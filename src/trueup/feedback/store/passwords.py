"""Which passwords are refused: those that somebody who knows the handle would try first.

No list of leaked passwords is shipped. Instead everything that adds nothing is taken away - the handle, the name of
this program, words of common passwords, years, runs such as 1234 or qwerty, repeats - and enough must be left.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from difflib import SequenceMatcher

from trueup.errors import DataError, UsageError

SHORTEST, LONGEST = 12, 200
"""In characters; the upper end keeps hashing from being a way to exhaust the server."""

LEAST_LEFT = 6
"""Characters that must be left of a password, and how many different ones it must have."""

NEAR = 0.8
"""Share of characters in common (Ratcliff and Obershelp) from which on a password is the handle with a twist."""

NAMES = ("trueup", "feedbackroom", "feedback")
WORDS = (
    "administrator admin password passwort passwd passphrase pass login welcome willkommen letmein changeme change "
    "please secret default guest root superuser user test testing temp temporary iloveyou sunshine princess monkey "
    "dragon master football baseball basketball superman batman shadow michael jordan hunter freedom whatever hello "
    "trustno starwars pokemon computer internet qwerty qwertz azerty asdf zxcv abc spring summer autumn winter monday "
    "tuesday wednesday thursday friday saturday sunday january february march april june july august september october "
    "november december annotator adjudicator annotate viewer lead demo"
).split()
ROWS = (
    "qwertyuiop",
    "qwertzuiop",
    "azertyuiop",
    "asdfghjkl",
    "zxcvbnm",
    "yxcvbnm",
    "1qaz2wsx3edc4rfv5tgb",
    "!@#$%^&*()_+",
)
"""Of keyboards; alphabets and digits are runs of code points."""
RUN = 4
FREE_MARKS = 3
"""Different marks that count for nothing: an exclamation mark at the end is the first thing to be tried."""
LEET = str.maketrans("013457@$!|", "oieastasii")
YEAR = re.compile(r"(?:19|20)\d\d")
DOUBLED = re.compile(r"(.)\1+", re.DOTALL)
REPEAT = re.compile(r"(.{1,8}?)\1{2,}", re.DOTALL)


class WeakPassword(UsageError, DataError):
    """A password that is too short, too long or too easily guessed: wrong in itself, whatever the state of things."""


def check_password(password: str, handle: str) -> None:
    """Refuse a weak password; the message never holds it.

    Raises:
        WeakPassword: Its length, or how easily it is guessed by whoever knows the handle.
    """
    if not SHORTEST <= len(password) <= LONGEST:
        raise WeakPassword(
            f"the password has {len(password)} characters", where="password", expected=f"{SHORTEST} to {LONGEST}"
        )
    for text in _readings(password):
        for name in (handle, *NAMES):
            plain = _letters(name)
            near = SequenceMatcher(None, plain, _letters(text), autojunk=False).ratio() >= NEAR
            if len(plain) >= LEAST_LEFT and near:
                raise _weak("is nearly " + ("the handle" if name is handle else f"{name!r}"))
        if len(set(text)) < LEAST_LEFT:
            raise _weak("has only a few different characters")
        marks = set(_without_runs("".join(c for c in text if not c.isalnum())))
        if len(_left(text, handle)) + max(0, len(marks) - FREE_MARKS) < LEAST_LEFT:
            raise _weak("is made of the handle, common words, years, runs or repeats")


def _weak(why: str) -> WeakPassword:
    return WeakPassword(
        f"the password {why}",
        where="password",
        expected="one that nobody guesses who knows the handle",
        fix="take four or more words that have nothing to do with each other, or let a password manager make it",
    )


def _readings(password: str) -> Iterator[str]:
    """The password without case and width, also with digits and marks read as the letters they stand for."""
    text = unicodedata.normalize("NFKC", password).casefold()
    yield text
    yield text.translate(LEET)


def _letters(text: str) -> str:
    return "".join(c for c in unicodedata.normalize("NFKC", text).casefold() if c.isalnum())


def _left(text: str, handle: str) -> str:
    parts = [_letters(handle), *(_letters(part) for part in re.split(r"[\W_]+", handle))]
    known = {part for part in parts if len(part) >= 3} | set(NAMES) | set(WORDS)
    known |= {part.translate(LEET) for part in known}
    known |= {part[::-1] for part in known}
    left = _letters(text)
    for part in sorted(known, key=lambda one: (-len(one), one)):
        left = left.replace(part, "")
    left = REPEAT.sub("", YEAR.sub("", left))
    return min(_without_runs(left), _without_runs(DOUBLED.sub(r"\1", left)), key=len)


def _without_runs(text: str) -> str:
    """Without stretches of ``RUN`` or more that go up, down or along a keyboard's row by one."""
    kept, start = [], 0
    while start < len(text):
        end = start + 1
        for step in (1, -1, 0):
            stop = start + 1
            while stop < len(text) and ord(text[stop]) - ord(text[stop - 1]) == step:
                stop += 1
            end = max(end, stop)
        for row in (*ROWS, *(row[::-1] for row in ROWS)):
            stop = start + 1
            while stop < len(text) and text[start : stop + 1] in row:
                stop += 1
            end = max(end, stop)
        if end - start < RUN:
            kept.append(text[start])
            end = start + 1
        start = end
    return "".join(kept)
