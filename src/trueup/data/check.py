"""What is in a data file and what is wrong with it, with line numbers: ``trueup data check FILE``.

It reads like training does, but goes on past bad rows. Beyond what the readers refuse it looks for what training
would take in silently: near-duplicates, contradictions, prompts shared with another split, damaged encoding, columns
that are not what their names say, and a preference for the longer response. What it keeps of each row it keeps on
disk, so that memory does not grow with the file.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice, pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trueup.data.formats import recognise, renamed
from trueup.data.parts import content_of, parts_of
from trueup.data.read import KINDS, Reading
from trueup.data.read_report import Count, ReadReport
from trueup.data.similar import Index, words_of
from trueup.data.sources import SourceSet, open_source
from trueup.data.spool import Column, hash64, repeated
from trueup.data.structure import Structure
from trueup.types import Labelled, PreferencePair

# Most specific first: a file of pairs also has prompts.
_KINDS = ("preference pairs", "labelled responses", "demonstrations", "prompts", "texts")
_HELD = 16_000_000
"""Characters of responses that are held while they are gathered by prompt."""
_TOKENIZED = 256
"""Texts that go through a tokenizer together."""


@dataclass(frozen=True, slots=True)
class Lengths:
    """Lengths of one part of the examples, in characters or tokens."""

    unit: str
    least: int
    median: float
    p95: float
    most: int

    @classmethod
    def of(cls, lengths: NDArray[Any], unit: str) -> Lengths:
        """Summary of at least one length; quantiles interpolate linearly."""
        median, p95 = np.quantile(lengths, [0.5, 0.95])
        return cls(unit, int(lengths.min()), float(median), float(p95), int(lengths.max()))

    def to_dict(self) -> dict[str, Any]:
        """JSON form."""
        return {"unit": self.unit, "min": self.least, "median": self.median, "p95": self.p95, "max": self.most}


@dataclass(frozen=True, slots=True)
class Shared:
    """Prompts that also occur in another file: there word for word (case and punctuation aside), or nearly."""

    other: str
    exact: Count
    near: Count

    def to_dict(self) -> dict[str, Any]:
        """JSON form."""
        return {"other": self.other, "exact": self.exact.to_dict(), "near": self.near.to_dict()}


@dataclass(slots=True)
class CheckReport:
    """The findings; ``read`` is the report of the reader, with everything that was skipped or left out."""

    read: ReadReport
    prompts: int
    """Distinct prompts."""
    lengths: dict[str, list[Lengths]]
    near_duplicates: Count = field(default_factory=Count)
    """Prompts (or texts without one) that are nearly the same as an earlier, different one."""
    contradictions: Count = field(default_factory=Count)
    """Examples that say the opposite of an earlier one."""
    cycles: Count = field(default_factory=Count)
    """Pairs that close a circle over three or more responses of one prompt (a over b, b over c, c over a)."""
    encoding: dict[str, Count] = field(default_factory=dict)
    structure: dict[str, Count] = field(default_factory=dict)
    """What suggests that a column is not what its name says, or is not ready to be trained on."""
    shared: list[Shared] = field(default_factory=list)
    longer_chosen: float | None = None
    """Share of pairs whose chosen response has more characters, among those of unequal length."""
    desirable: float | None = None
    """Share of labelled responses with a yes."""

    @property
    def problems(self) -> dict[str, Count]:
        """Everything that deserves a look, by name."""
        counts = {f"skipped: {why}": n for why, n in self.read.skipped.items()}
        counts |= {
            "pair_id repeats with other content (nothing goes by it)": self.read.repeated_ids,
            "duplicates": self.read.duplicates,
            "near-duplicate prompts or texts": self.near_duplicates,
            "contradictions": self.contradictions,
            "preferences that run in a circle": self.cycles,
        }
        counts |= {f"encoding: {why}": n for why, n in self.encoding.items()}
        part = "texts" if self.read.kind == "texts" else "prompts"
        counts |= {f"{part} already went through a chat template: {name}": n for name, n in self.read.templated.items()}
        counts |= self.read.doubts | self.structure
        for overlap in self.shared:
            counts[f"prompts also in {overlap.other}"] = overlap.exact
            counts[f"prompts nearly also in {overlap.other}"] = overlap.near
        return {name: n for name, n in counts.items() if n.count}

    def to_dict(self) -> dict[str, Any]:
        """JSON form."""
        return {
            "read": self.read.to_dict(),
            "prompts": self.prompts,
            "lengths": {part: [length.to_dict() for length in all_] for part, all_ in self.lengths.items()},
            "near_duplicates": self.near_duplicates.to_dict(),
            "contradictions": self.contradictions.to_dict(),
            "cycles": self.cycles.to_dict(),
            "encoding": {why: n.to_dict() for why, n in self.encoding.items()},
            "structure": {why: n.to_dict() for why, n in self.structure.items()},
            "shared": [overlap.to_dict() for overlap in self.shared],
            "longer_chosen": self.longer_chosen,
            "desirable": self.desirable,
        }

    def format_text(self) -> str:
        """The report for people."""
        read = self.read
        lines = [
            f"{read.source}: {read.items} {read.kind} from {read.rows} rows, {self.prompts} distinct prompts",
            f"  format: {read.format}",
            *(f"  note: {note}" for note in read.notes),
            *(f"  file {name}: {file.rows} rows, {file.items} {read.kind}" for name, file in read.files.items()),
            *(f"  ! {remark}" for remark in read.file_remarks()),
        ]
        lines += [f"  left out: {why}: {n}" for why, n in read.left_out.items()]
        for part, all_ in self.lengths.items():
            for length in all_:
                quantiles = f"min {length.least}, median {length.median:.0f}, p95 {length.p95:.0f}, max {length.most}"
                lines.append(f"  length of {part}: {quantiles} {length.unit}")
        if self.longer_chosen is not None:
            lines.append(f"  the longer response is chosen in {self.longer_chosen:.1%} of pairs of unequal length")
        if self.desirable is not None:
            lines.append(f"  {self.desirable:.1%} of the responses are labelled yes")
        marks = [
            text for text, there in (("a byte-order mark", read.bom), ("CRLF line ends", read.crlf_lines)) if there
        ]
        if marks:
            lines.append(f"  the file has {' and '.join(marks)}; read correctly")
        lines += [f"  ! column {name!r} holds text and is not used: {n}" for name, n in read.unused_text.items()]
        rest = [name for name in read.unused_columns if name not in read.unused_text]
        if rest:
            lines.append(f"  columns not used: {', '.join(rest)}")
        problems = self.problems
        lines += [f"  ! {name}: {n}" for name, n in problems.items()]
        return "\n".join(
            lines if problems or read.unused_text or read.file_remarks() else [*lines, "  no problems found"]
        )


def check_file(
    source: str | Path,
    *,
    against: Sequence[str | Path] = (),
    columns: Mapping[str, str] | None = None,
    split: str | None = None,
    tokenizer: Any = None,
    verdicts: Mapping[str, str] | None = None,
) -> CheckReport:
    """Check one file or dataset.

    Args:
        source: As in ``data.read.read_pairs``; what it holds is recognised from the columns.
        against: Other splits, to find prompts that occur in both.
        columns: Our column name -> the file's, where they differ; also for ``against``.
        split: Which split of a dataset that has several.
        tokenizer: A Hugging Face tokenizer, to measure lengths in tokens too and to find spelled special tokens.
        verdicts: What the verdicts on two responses mean, where the file leaves it open; also for ``against``.

    Returns:
        The findings.

    Raises:
        DataError: Nothing in the source can be used, or it cannot be read at all.
    """
    reading = _reading(source, columns, split, verdicts)
    look = _Look(reading, tokenizer)
    for line, item in reading.each():
        look.take(line, item)
    look.close()
    for other in against:
        look.share(other, _reading(other, columns, None, verdicts))
    if isinstance(reading.source, SourceSet):  # numbers that lay on disk in between
        for count in look.report.problems.values():
            count.lines = [reading.source.shown(number) for number in count.lines]
    return look.report


def _reading(
    source: str | Path, columns: Mapping[str, str] | None, split: str | None, verdicts: Mapping[str, str] | None
) -> Reading:
    opened = open_source(source, split)
    first = [renamed(line.row, columns or {}) for line in islice(opened.lines(), 50) if line.row is not None]
    for kind in _KINDS:
        if not first or any(row_format.fits(row) for row_format in KINDS[kind] for row in first):
            return Reading(source, kind, columns=columns, split=split, on_bad="skip", verdicts=verdicts, hold=_HELD)
    everything = [row_format for kind in _KINDS for row_format in KINDS[kind]]
    recognise(everything, first, source=str(source), kind="training data")
    raise AssertionError("recognise raises when no format fits")


def _prompt_words(parts: Mapping[str, str]) -> str:
    """What may not be in two splits: the prompt, or the text where there is none."""
    return words_of(next(iter(parts.values())))


class _Look:
    """One look over a file: takes the examples as they are read, and keeps of each only numbers, on disk."""

    def __init__(self, reading: Reading, tokenizer: Any) -> None:
        self.report = CheckReport(reading.report, 0, {})
        self.alone = reading.alone
        self.tokenizer = tokenizer
        self.tests = _tests(tokenizer)
        self.index = Index()
        self.structure = Structure()
        self.lines, self.contents, self.names = Column("Q"), Column("Q"), Column("Q")
        self.lengths: dict[str, Column] = {}
        self.tokens: dict[str, Column] = {}
        self.waiting: dict[str, list[str]] = {}
        self.questions, self.verdicts = Column("Q"), Column("B")
        self.prompts, self.chosen, self.rejected = Column("Q"), Column("Q"), Column("Q")

    def take(self, line: int, item: Any) -> None:
        """Look at one example."""
        parts = parts_of(item, self.alone)
        self.lines.append(line)
        self.contents.append(hash64(repr(content_of(item))))
        self.index.add(_prompt_words(parts))
        self.structure.take(line, item, parts)
        for name, text in parts.items():
            self.lengths.setdefault(name, Column("I")).append(len(text))
            if self.tokenizer is not None:
                self._measure(name, text)
        for why, test in self.tests.items():
            if any(test(text) for text in parts.values()):
                self.report.encoding.setdefault(why, Count()).add(line)
        if isinstance(item, PreferencePair):
            self._compare(item)
        elif isinstance(item, Labelled):
            self.questions.append(hash64(repr(item.prompt), item.completion))
            self.verdicts.append(item.desirable)

    def _measure(self, name: str, text: str | None) -> None:
        """Count the tokens of a text, many at a time; with None those that wait."""
        texts = self.waiting.setdefault(name, [])
        texts += [] if text is None else [text]
        if texts and (text is None or len(texts) >= _TOKENIZED):
            for ids in self.tokenizer(texts, add_special_tokens=False, verbose=False)["input_ids"]:
                self.tokens.setdefault(name, Column("I")).append(len(ids))
            texts.clear()

    def _compare(self, pair: PreferencePair) -> None:
        sides = sorted((pair.chosen, pair.rejected))
        prompt = repr(pair.prompt)
        self.questions.append(hash64(prompt, *sides))
        self.verdicts.append(pair.chosen == sides[0])
        self.prompts.append(hash64(prompt))
        self.chosen.append(hash64(pair.chosen))
        self.rejected.append(hash64(pair.rejected))
        self.names.append(hash64(pair.pair_id))

    def close(self) -> None:
        """Say what all of them together show."""
        report, lines = self.report, self.lines.values()
        for name, lengths in self.lengths.items():
            report.lengths[name] = [Lengths.of(lengths.values(), "characters")]
            if self.tokenizer is not None:
                self._measure(name, None)
                report.lengths[name].append(Lengths.of(self.tokens[name].values(), "tokens"))
        report.prompts = len(np.unique(self.index.hashes))
        _mark(report.near_duplicates, lines[sorted(self.index.near_duplicates())])
        contents = self.contents.values()
        _mark(report.read.duplicates, lines[repeated(contents)])
        if len(self.names):
            _mark(report.read.repeated_ids, lines[_differ(self.names.values(), contents)])
        if len(self.questions):
            _mark(report.contradictions, lines[_differ(self.questions.values(), self.verdicts.values())])
        report.structure = self.structure.findings()
        if len(self.prompts):
            longer, unequal = _compared(*(self.lengths[side].values() for side in ("chosen", "rejected")))
            report.longer_chosen = longer / unequal if unequal else None
            _mark(report.cycles, lines[self._in_circles()])
        elif len(self.verdicts):
            report.desirable = float(self.verdicts.values().mean())

    def share(self, other: str | Path, reading: Reading) -> None:
        """Find prompts that ``other`` has too."""
        theirs = Index()
        for _, item in reading.each():
            theirs.add(_prompt_words(parts_of(item, reading.alone)))
        exact, near = self.index.also_in(theirs)
        overlap = Shared(str(other), Count(), Count())
        _mark(overlap.exact, self.lines.values()[exact])
        _mark(overlap.near, self.lines.values()[near])
        self.report.shared.append(overlap)

    def _in_circles(self) -> NDArray[np.bool_]:
        """Pairs inside a strongly connected set of three or more responses; no reward orders those (property 18)."""
        prompts, chosen, rejected = (c.values() for c in (self.prompts, self.chosen, self.rejected))
        inside = np.zeros(len(prompts), dtype=np.bool_)
        order = np.argsort(prompts, kind="stable")
        starts = np.flatnonzero(np.diff(prompts[order], prepend=prompts[order[:1]] + np.uint64(1)))
        for begin, end in pairwise([*starts.tolist(), len(order)]):
            rows = order[begin:end]
            if len(rows) < 3:
                continue
            names, place = np.unique(np.concatenate([chosen[rows], rejected[rows]]), return_inverse=True)
            if len(names) >= 3:
                inside[rows] = _circular(place[: len(rows)], place[len(rows) :], len(names))
        return inside


def _circular(better: NDArray[Any], worse: NDArray[Any], names: int) -> NDArray[np.bool_]:
    """Which of the pairs of one prompt lie on a circle."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    graph = coo_array((np.ones(len(better)), (better, worse)), shape=(names, names))
    _, group = connected_components(graph, directed=True, connection="strong")
    return np.asarray((group[better] == group[worse]) & (np.bincount(group)[group[better]] >= 3))


def _mark(count: Count, lines: NDArray[Any]) -> None:
    for line in np.sort(lines).tolist():
        count.add(line)


def _differ(keys: NDArray[Any], values: NDArray[Any]) -> NDArray[np.bool_]:
    """Where a key was there before with another value."""
    _, first, inverse = np.unique(keys, return_index=True, return_inverse=True)
    return np.asarray(values[first][inverse] != values)


def _compared(chosen: NDArray[Any], rejected: NDArray[Any]) -> tuple[int, int]:
    """Pairs with the longer response chosen, and pairs of unequal length."""
    return int((chosen > rejected).sum()), int((chosen != rejected).sum())


# UTF-8 bytes shown as Windows-1252 or Latin-1: "é" becomes "Ã©", a curly quote "â€™".
_MOJIBAKE = re.compile("[\u00c2-\u00f4][\u0080-\u00bf\u0152-\u2122]{1,3}")
_SIGNS = {
    "replacement characters (U+FFFD), text was lost when it was decoded": re.compile("\ufffd"),
    "control characters": re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]"),
    "a byte-order mark inside text": re.compile("\ufeff"),
}


def _tests(tokenizer: Any) -> dict[str, Callable[[str], object]]:
    tests: dict[str, Callable[[str], object]] = {why: sign.search for why, sign in _SIGNS.items()}
    tests["UTF-8 that was read as Latin-1"] = is_mojibake
    if tokenizer is not None:
        from trueup.data.encode import Encoder

        tests["spells a special token of the tokenizer (encoded as plain text)"] = Encoder(tokenizer).holds_special
    return tests


def is_mojibake(text: str) -> bool:
    """Whether ``text`` holds UTF-8 that was read as Windows-1252 or Latin-1, such as ``cafÃ©``."""
    for suspect in _MOJIBAKE.findall(text):
        for encoding in ("cp1252", "latin-1"):
            for end in range(2, len(suspect) + 1):
                try:
                    if len(suspect[:end].encode(encoding).decode("utf-8")) == 1:
                        return True
                except UnicodeError:
                    continue
    return False
