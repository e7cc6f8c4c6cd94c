"""Answers against reference answers: the same text, the same words, or the same words in order.

``exact`` and ``f1`` compare texts as SQuAD does (Rajpurkar et al. 2016, arXiv 1606.05250): lower case, without
punctuation, articles and extra spaces. ``rouge`` is the F-measure of ROUGE-L (Lin 2004), the longest common subsequence
of words. With several references the best one counts.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Sequence

_PUNCTUATION = re.compile(r"[^\w\s]|_")
_ARTICLE = re.compile(r"\b(?:a|an|the)\b")


def words(text: str) -> list[str]:
    """A text as the measures see it."""
    return _ARTICLE.sub(" ", _PUNCTUATION.sub("", text.lower())).split()


def exact(answer: str, reference: str) -> float:
    """1 if both are the same words in the same order, else 0."""
    return float(words(answer) == words(reference))


def f1(answer: str, reference: str) -> float:
    """Harmonic mean of precision and recall over words, whatever their order."""
    ours, theirs = words(answer), words(reference)
    return _harmonic(sum((Counter(ours) & Counter(theirs)).values()), len(ours), len(theirs))


def rouge(answer: str, reference: str) -> float:
    """Harmonic mean of precision and recall of the longest common subsequence of words."""
    ours, theirs = words(answer), words(reference)
    return _harmonic(_common(ours, theirs), len(ours), len(theirs))


MEASURES: dict[str, tuple[Callable[[str, str], float], str]] = {
    "exact": (exact, "the same words as a reference answer: 1 or 0"),
    "f1": (f1, "words shared with a reference answer (F1)"),
    "rouge": (rouge, "longest common sequence of words with a reference answer (ROUGE-L, F1)"),
}
"""By name: the measure and what it says."""


def best(measure: str, answer: str, references: Sequence[str]) -> float:
    """The measure against the nearest reference."""
    return max(MEASURES[measure][0](answer, reference) for reference in references)


def _harmonic(common: int, ours: int, theirs: int) -> float:
    if not ours and not theirs:
        return 1.0
    return 2 * common / (ours + theirs)


def _common(a: Sequence[str], b: Sequence[str]) -> int:
    """Length of the longest common subsequence, a row of the table at a time."""
    row = [0] * (len(b) + 1)
    for word in a:
        before = 0
        for place, other in enumerate(b, 1):
            kept = row[place]
            row[place] = before + 1 if word == other else max(kept, row[place - 1])
            before = kept
    return row[-1]
