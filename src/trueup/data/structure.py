"""What can be wrong with the role of a column: a file may be whole, and its columns not be what their names say.

Some of it shows in one row: an answer that is the prompt, or begins with a speaker's name. Some of it shows only over
the file: an answer that is the same text in most rows, sides that differ in form and not in content, rows in which
chosen reads like what the file rejects. The second kind is a suspicion, and its thresholds are set high.
"""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trueup.data.markers import begins_with_a_role, family_of, goes_on_for_the_user
from trueup.data.read_report import Count
from trueup.data.spool import Column, hash64
from trueup.types import Labelled, PreferencePair

FEWEST = 5
"""Rows from which a share says something."""
_NOTHING = re.compile(
    r"\A[\W_]*(?:n/?a|none|null|nan|nil|empty|todo|tbd|undefined|deleted|removed)?[\W_]*\Z", re.IGNORECASE
)
_HTML = re.compile(
    r"</?(?:p|div|br|span|li|ul|ol|html|body|strong|em|h[1-6]|table|tr|td|a|img|script|style)(?:\s[^<>]*)?/?>"
    r"|&(?:amp|lt|gt|quot|nbsp|#\d{2,5});",
    re.IGNORECASE,
)
_IDENTIFIER = re.compile(
    r"\A\s*(?:[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}|(?=\w*\d)[0-9a-f]{12,64}|https?://\S+"
    r"|[A-Za-z]+[-_:#]?\d+)\s*\Z",
    re.IGNORECASE,
)
_NUMBER = re.compile(r"\A\s*\d{1,12}\s*\Z")
_NO_ANSWER = re.compile(
    r"\A\W*(?:i (?:do not|don't|don’t) know|i have no idea|no idea|i am not sure|no answer)\b", re.IGNORECASE
)
_FINISHED = re.compile(r"[.!?…\"'”’)\]}`*:;。！？」>|]\s*\Z")
_WORD = re.compile(r"[\w']+")
_FORMS: Mapping[str, re.Pattern[str]] = {
    "begins with white space": re.compile(r"\A\s"),
    "ends with white space": re.compile(r"\s\Z"),
    "begins with a small letter": re.compile(r"\A\s*[a-z]"),
    "breaks off without a full stop": re.compile(r"(?s)\A(?!.*" + _FINISHED.pattern + ")"),
}


def is_spelled(text: str) -> bool:
    """Whether ``text`` is a list or an object that was turned into text, by JSON or by Python."""
    text = text.strip()
    if not (text[:1] + text[-1:] in ("[]", "{}") and len(text) > 3) or len(text) > 1_000_000:
        return False
    if re.match(r"""\[?\{\s*['"](?:role|content|from|value|text)['"]\s*:""", text):
        return True
    for parse in (json.loads, ast.literal_eval):
        try:
            return isinstance(parse(text), (list, dict)) and any(mark in text for mark in "\"'")
        except (ValueError, SyntaxError, RecursionError, MemoryError):
            continue
    return False


def lead(text: str) -> int:
    """A number for how a text begins: its first two words, digits alike."""
    words = _WORD.findall(text[:80])[:2]
    return hash64(re.sub(r"\d+", "0", " ".join(words)).casefold()) % 2**32


class Structure:
    """Takes examples one by one; ``findings`` says what is odd about the roles of their parts."""

    def __init__(self) -> None:
        self._rows: dict[str, Count] = {}
        self._columns: dict[str, Column] = {}
        self._lines = Column("Q")

    def take(self, line: int, item: Any, parts: Mapping[str, str]) -> None:
        """Look at one example, given with its texts by part."""
        self._lines.append(line)
        for why in self._of_row(parts):
            self._rows.setdefault(why, Count()).add(line)
        for part, text in parts.items():
            self._note(part, "text", "Q", hash64(text))
            self._note(part, "length", "I", len(text))
            named = bool(_IDENTIFIER.match(text[:200]) or (part == "prompt" and _NUMBER.match(text[:20])))
            self._note(part, "identifier", "B", named)
            self._note(part, "question", "B", text.rstrip().endswith(("?", "？")))
            if isinstance(item, PreferencePair) and part != "prompt":
                for form, pattern in _FORMS.items():
                    self._note(
                        part,
                        form,
                        "B",
                        pattern.search(text if len(text) < 400 else text[:100] + text[-100:]) is not None,
                    )
                self._note(part, "no answer", "B", _NO_ANSWER.match(text[:80]) is not None)
                self._note(part, "lead", "I", lead(text))
        if isinstance(item, Labelled):
            self._note("label", "yes", "B", item.desirable)

    def findings(self) -> dict[str, Count]:
        """What was found -> how often, and the first lines."""
        findings = dict(self._rows)
        for why, rows in self._of_file():
            count = Count()
            for line in np.sort(self._lines.values()[rows]).tolist():
                count.add(line)
            if count.count:
                findings[why] = count
        return findings

    def _note(self, part: str, what: str, code: str, value: int) -> None:
        column = self._columns.get(f"{part} {what}")
        if column is None:
            column = self._columns[f"{part} {what}"] = Column(code)
        if len(column) < len(self._lines):
            column.append(value)

    def _values(self, part: str, what: str) -> NDArray[Any]:
        """One value for each example; none at all where some examples lack the part."""
        column = self._columns.get(f"{part} {what}")
        return column.values() if column is not None and len(column) == len(self._lines) else np.zeros(0, np.uint8)

    # One row ---------------------------------------------------------------------------------------------------------

    def _of_row(self, parts: Mapping[str, str]) -> Iterator[str]:
        prompt = parts.get("prompt", "")
        answers = {part: text for part, text in parts.items() if part not in ("prompt", "text")}
        for part, text in parts.items():
            if part != "prompt":
                marked = family_of(text)
                if marked is not None and part != "text":
                    yield f"{part} holds markers of a chat template ({marked[0].name})"
            if is_spelled(text):
                yield f"{part} is a list or an object spelled as text"
            if _HTML.search(text):
                yield f"{part} holds HTML"
        for part, text in answers.items():
            if begins_with_a_role(text):
                yield f"{part} begins with a speaker's name, as 'Assistant:'"
            elif goes_on_for_the_user(text):
                yield f"{part} goes on with a turn by the user"
            if _NOTHING.match(text):
                yield f"{part} stands for no answer, as 'N/A'"
            if prompt.strip() and text.strip() == prompt.strip():
                yield f"{part} is the prompt"
            elif len(text) >= 20 and text.strip() in prompt:
                yield f"the prompt holds the text of {part}"
        begin = [part for part, text in answers.items() if len(prompt) >= 10 and _continues(prompt, text)]
        if begin:
            yield f"{' and '.join(begin)} begin{'s' if len(begin) == 1 else ''} with the prompt"

    # The whole file --------------------------------------------------------------------------------------------------

    def _of_file(self) -> Iterator[tuple[str, NDArray[Any]]]:
        """What was found, and the numbers of the examples that show it."""
        size = len(self._lines)
        if size < FEWEST:
            return
        for part in dict.fromkeys(name.split(" ")[0] for name in self._columns if name.endswith(" length")):
            yield from self._of_part(part, size)
        yes = self._values("label", "yes")
        if len(yes) and yes.min() == yes.max():
            yield f"every label is {'yes' if yes[0] else 'no'}", np.arange(size)
        if len(self._values("chosen", "lead")):
            yield from self._of_sides(size)

    def _of_part(self, part: str, size: int) -> Iterator[tuple[str, NDArray[Any]]]:
        texts, lengths = self._values(part, "text"), self._values(part, "length")
        if not len(texts):
            return
        names, counts = np.unique(texts, return_counts=True)
        if counts.max() >= max(FEWEST, (0.9 if part == "prompt" else 0.5) * size):
            yield f"{part} is the same text in most rows", np.flatnonzero(texts == names[counts.argmax()])
        identifier = self._values(part, "identifier")
        if identifier.sum() > 0.8 * size:
            yield f"{part} looks like an identifier", np.flatnonzero(identifier)
        longest = lengths == lengths.max()
        many = longest.sum() >= max(FEWEST, 0.05 * size) and len(np.unique(texts[longest])) >= FEWEST
        if lengths.max() >= 50 and many and lengths.min() < lengths.max():
            yield f"{part} breaks off at {lengths.max()} characters", np.flatnonzero(longest)
        asks = self._values(part, "question")
        prompt_asks = self._values("prompt", "question")
        if part != "prompt" and len(prompt_asks) and asks.sum() >= 0.7 * size and prompt_asks.sum() <= 0.1 * size:
            yield f"{part} asks and the prompt does not: are the columns mixed up?", np.flatnonzero(asks)

    def _of_sides(self, size: int) -> Iterator[tuple[str, NDArray[Any]]]:
        good, bad = (self._values(side, "text") for side in ("chosen", "rejected"))
        prompts = self._values("prompt", "text")
        if len(prompts):
            # In a ranking an answer is chosen over one and rejected for another, under the same prompt.
            mixed = prompts * np.uint64(0x9E3779B97F4A7C15)
            elsewhere = np.isin(bad, good) & ~np.isin(bad ^ mixed, good ^ mixed)
            if elsewhere.sum() >= max(FEWEST, 0.3 * size):
                yield "rejected is the chosen answer to another prompt", np.flatnonzero(elsewhere)
        none_good, none_bad = (self._values(side, "no answer") for side in ("chosen", "rejected"))
        if none_good.sum() >= 0.5 * size and none_bad.sum() <= 0.1 * size:
            yield "chosen gives no answer and rejected does: are the sides exchanged?", np.flatnonzero(none_good)
        yield from self._exchanged()
        if size < 2 * FEWEST:
            return
        long_good, long_bad = (self._values(side, "length").astype(np.int64) for side in ("chosen", "rejected"))
        for side, other, ours, theirs in (
            ("chosen", "rejected", long_good, long_bad),
            ("rejected", "chosen", long_bad, long_good),
        ):
            twice = ours >= 2 * theirs
            if size >= 4 * FEWEST and twice.sum() >= 0.9 * size:
                yield f"{side} is nearly always more than twice as long as {other}", np.flatnonzero(twice)
            for form in _FORMS:
                has, lacks = self._values(side, form), self._values(other, form)
                if has.sum() >= 0.9 * size and lacks.sum() <= 0.1 * size:
                    yield f"only {side} {form}: the form gives the side away", np.flatnonzero(has)

    def _exchanged(self) -> Iterator[tuple[str, NDArray[Any]]]:
        """Rows whose sides both begin as the other side of this file does, where that is more than chance (2 %)."""
        leads = np.concatenate([self._values(side, "lead") for side in ("chosen", "rejected")])
        names, leads = np.unique(leads, return_inverse=True)
        good, bad = np.split(leads, 2)
        chosen, rejected = (np.bincount(side, minlength=len(names)) for side in (good, bad))
        both = chosen + rejected
        sure = (both >= 8) & (2 * np.abs(chosen - rejected) >= both)
        sure &= np.abs(chosen - rejected) >= 2.05 * np.sqrt(both)
        usually_chosen, usually_rejected = sure & (chosen > rejected), sure & (chosen < rejected)
        exchanged = usually_rejected[good] & usually_chosen[bad]
        yield "chosen begins as rejected does elsewhere, and rejected as chosen: exchanged?", np.flatnonzero(exchanged)


def _continues(prompt: str, answer: str) -> bool:
    head = prompt.strip()
    return answer.lstrip().startswith(head) and len(answer.strip()) > len(head)
