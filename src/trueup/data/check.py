"""What is in a data file and what is wrong with it, with line numbers: ``trueup data check FILE``.

It reads like training does, but goes on past bad rows. Beyond what the readers refuse it looks for what training
would take in silently: near-duplicates, contradictions, prompts shared with another split, damaged encoding, and a
preference for the longer response.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from trueup.data.formats import Format, recognise, renamed
from trueup.data.pair_formats import PAIRS
from trueup.data.read import read_demonstrations, read_labelled, read_pairs, read_prompts, read_texts
from trueup.data.read_report import Count, Loaded, ReadReport
from trueup.data.similar import Similar, near_duplicates, words_of
from trueup.data.single_formats import DEMONSTRATIONS, LABELLED, PROMPTS, TEXTS
from trueup.data.sources import open_source
from trueup.types import Demonstration, Labelled, PreferencePair

# Most specific first: a file of pairs also has prompts.
_KINDS: tuple[tuple[Sequence[Format[Any]], Callable[..., Loaded[Any]]], ...] = (
    (PAIRS, read_pairs),
    (LABELLED, read_labelled),
    (DEMONSTRATIONS, read_demonstrations),
    (PROMPTS, read_prompts),
    (TEXTS, read_texts),
)


@dataclass(frozen=True, slots=True)
class Lengths:
    """Lengths of one part of the examples, in characters or tokens."""

    unit: str
    least: int
    median: float
    p95: float
    most: int

    @classmethod
    def of(cls, lengths: Sequence[int], unit: str) -> Lengths:
        """Summary of at least one length; quantiles interpolate linearly."""
        median, p95 = np.quantile(lengths, [0.5, 0.95])
        return cls(unit, min(lengths), float(median), float(p95), max(lengths))

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
    shared: list[Shared] = field(default_factory=list)
    longer_chosen: float | None = None
    """Share of pairs whose chosen response has more characters, among those of unequal length."""
    desirable: float | None = None
    """Share of labelled responses with a yes."""

    @property
    def problems(self) -> dict[str, Count]:
        """Everything that deserves a look, by name."""
        found = {f"skipped: {why}": n for why, n in self.read.skipped.items()}
        found |= {
            "duplicates": self.read.duplicates,
            "near-duplicate prompts or texts": self.near_duplicates,
            "contradictions": self.contradictions,
            "preferences that run in a circle": self.cycles,
        }
        found |= {f"encoding: {why}": n for why, n in self.encoding.items()}
        for one in self.shared:
            found[f"prompts also in {one.other}"] = one.exact
            found[f"prompts nearly also in {one.other}"] = one.near
        return {name: n for name, n in found.items() if n.count}

    def to_dict(self) -> dict[str, Any]:
        """JSON form."""
        return {
            "read": self.read.to_dict(),
            "prompts": self.prompts,
            "lengths": {part: [one.to_dict() for one in all_] for part, all_ in self.lengths.items()},
            "near_duplicates": self.near_duplicates.to_dict(),
            "contradictions": self.contradictions.to_dict(),
            "cycles": self.cycles.to_dict(),
            "encoding": {why: n.to_dict() for why, n in self.encoding.items()},
            "shared": [one.to_dict() for one in self.shared],
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
        ]
        lines += [f"  left out: {why}: {n}" for why, n in read.left_out.items()]
        for part, all_ in self.lengths.items():
            for one in all_:
                quantiles = f"min {one.least}, median {one.median:.0f}, p95 {one.p95:.0f}, max {one.most}"
                lines.append(f"  length of {part}: {quantiles} {one.unit}")
        if self.longer_chosen is not None:
            lines.append(f"  the longer response is chosen in {self.longer_chosen:.1%} of pairs of unequal length")
        if self.desirable is not None:
            lines.append(f"  {self.desirable:.1%} of the responses are labelled yes")
        marks = [
            text for text, there in (("a byte-order mark", read.bom), ("CRLF line ends", read.crlf_lines)) if there
        ]
        if marks:
            lines.append(f"  the file has {' and '.join(marks)}; read correctly")
        if read.unused_columns:
            lines.append(f"  columns not used: {', '.join(read.unused_columns)}")
        problems = self.problems
        lines += [f"  ! {name}: {n}" for name, n in problems.items()]
        return "\n".join(lines if problems else [*lines, "  no problems found"])


def check_file(
    source: str | Path,
    *,
    against: Sequence[str | Path] = (),
    columns: Mapping[str, str] | None = None,
    split: str | None = None,
    tokenizer: Any = None,
) -> CheckReport:
    """Check one file or dataset.

    Args:
        source: As in ``data.read.read_pairs``; what it holds is recognised from the columns.
        against: Other splits, to find prompts that occur in both.
        columns: Our column name -> the file's, where they differ; also for ``against``.
        split: Which split of a dataset that has several.
        tokenizer: A Hugging Face tokenizer, to measure lengths in tokens too and to find spelled special tokens.

    Returns:
        The findings.

    Raises:
        DataError: Nothing in the source can be used, or it cannot be read at all.
    """
    loaded = _load(source, columns, split)
    report = CheckReport(loaded.report, 0, {})
    parts = [dict(_parts(item)) for item in loaded.items]
    names = list(dict.fromkeys(name for one in parts for name in one))
    for name in names:
        report.lengths[name] = list(_lengths([one[name] for one in parts if name in one], tokenizer))
    keys = [_key(one) for one in parts]
    report.prompts = len(set(keys))
    for number, _ in near_duplicates(keys):
        report.near_duplicates.add(loaded.lines[number])
    _find_faults(report, parts, loaded.lines, tokenizer)
    _compare(report, loaded)
    for other in against:
        report.shared.append(_shared(keys, loaded.lines, other, columns))
    return report


def _load(source: str | Path, columns: Mapping[str, str] | None, split: str | None) -> Loaded[Any]:
    opened = open_source(source, split)
    first = [renamed(line.row, columns or {}) for line in islice(opened.lines(), 50) if line.row is not None]
    for formats, read in _KINDS:
        if not first or any(one.fits(row) for one in formats for row in first):
            return read(source, columns=columns, split=split, on_bad="skip")
    everything = [one for formats, _ in _KINDS for one in formats]
    recognise(everything, first, source=str(source), kind="training data")
    raise AssertionError("recognise raises when no format fits")


def _parts(item: Any) -> Iterator[tuple[str, str]]:
    """The named texts of an example; turns of a chat are joined without their roles."""
    match item:
        case PreferencePair():
            yield "prompt", _said(item.prompt)
            yield "chosen", item.chosen
            yield "rejected", item.rejected
        case Demonstration() | Labelled():
            if item.prompt:
                yield "prompt", _said(item.prompt)
            yield "completion", item.completion
        case _:
            yield "prompt" if isinstance(item, tuple) else "text", _said(item)


def _said(prompt: Any) -> str:
    return prompt if isinstance(prompt, str) else "\n".join(turn.content for turn in prompt)


def _key(parts: Mapping[str, str]) -> str:
    """What may not be in two splits: the prompt, or the text where there is none."""
    return words_of(next(iter(parts.values())))


def _lengths(texts: Sequence[str], tokenizer: Any) -> Iterator[Lengths]:
    yield Lengths.of([len(text) for text in texts], "characters")
    if tokenizer is not None:
        ids = tokenizer(list(texts), add_special_tokens=False, verbose=False)["input_ids"]
        yield Lengths.of([len(one) for one in ids], "tokens")


# UTF-8 bytes shown as Windows-1252 or Latin-1: "é" becomes "Ã©", a curly quote "â€™".
_MOJIBAKE = re.compile("[\u00c2-\u00f4][\u0080-\u00bf\u0152-\u2122]{1,3}")
_SIGNS = {
    "replacement characters (U+FFFD), text was lost when it was decoded": re.compile("\ufffd"),
    "control characters": re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]"),
    "a byte-order mark inside text": re.compile("\ufeff"),
}


def _find_faults(report: CheckReport, parts: Sequence[Mapping[str, str]], lines: Sequence[int], tokenizer: Any) -> None:
    tests: dict[str, Callable[[str], object]] = {why: sign.search for why, sign in _SIGNS.items()}
    tests["UTF-8 that was read as Latin-1"] = is_mojibake
    if tokenizer is not None:
        from trueup.data.encode import Encoder

        tests["spells a special token of the tokenizer (encoded as plain text)"] = Encoder(tokenizer).holds_special
    for one, line in zip(parts, lines, strict=True):
        for why, test in tests.items():
            if any(test(text) for text in one.values()):
                report.encoding.setdefault(why, Count()).add(line)


def is_mojibake(text: str) -> bool:
    """Whether ``text`` holds UTF-8 that was read as Windows-1252 or Latin-1, such as ``cafÃ©``."""
    for found in _MOJIBAKE.findall(text):
        for encoding in ("cp1252", "latin-1"):
            for end in range(2, len(found) + 1):
                try:
                    if len(found[:end].encode(encoding).decode("utf-8")) == 1:
                        return True
                except UnicodeError:
                    continue
    return False


def _compare(report: CheckReport, loaded: Loaded[Any]) -> None:
    said: dict[Any, bool] = {}
    for item, line in zip(loaded.items, loaded.lines, strict=True):
        if isinstance(item, PreferencePair):
            sides = sorted((item.chosen, item.rejected))
            key, verdict = (item.prompt, *sides), item.chosen == sides[0]
        elif isinstance(item, Labelled):
            key, verdict = (item.prompt, item.completion), item.desirable
        else:
            return
        if said.setdefault(key, verdict) is not verdict:
            report.contradictions.add(line)
    if isinstance(loaded.items[0], Labelled):
        report.desirable = sum(item.desirable for item in loaded.items) / len(loaded.items)
        return
    _find_cycles(report, loaded)
    unequal = [p for p in loaded.items if len(p.chosen) != len(p.rejected)]
    if unequal:
        report.longer_chosen = sum(len(p.chosen) > len(p.rejected) for p in unequal) / len(unequal)


def _find_cycles(report: CheckReport, loaded: Loaded[Any]) -> None:
    """Mark pairs inside a strongly connected set of three or more responses; no reward orders those (property 18)."""
    by_prompt: dict[Any, list[tuple[PreferencePair, int]]] = {}
    for pair, line in zip(loaded.items, loaded.lines, strict=True):
        if pair.strength > 0.5:
            by_prompt.setdefault(pair.prompt, []).append((pair, line))
    for pairs in by_prompt.values():
        names = list(dict.fromkeys(text for pair, _ in pairs for text in (pair.chosen, pair.rejected)))
        if len(pairs) < 3 or len(names) < 3:
            continue
        place = {name: at for at, name in enumerate(names)}
        better = [place[pair.chosen] for pair, _ in pairs]
        worse = [place[pair.rejected] for pair, _ in pairs]
        graph = coo_array((np.ones(len(pairs)), (better, worse)), shape=(len(names), len(names)))
        _, group = connected_components(graph, directed=True, connection="strong")
        size = np.bincount(group)
        for first, second, (_, line) in zip(better, worse, pairs, strict=True):
            if group[first] == group[second] and size[group[first]] >= 3:
                report.cycles.add(line)


def _shared(keys: Sequence[str], lines: Sequence[int], other: str | Path, columns: Mapping[str, str] | None) -> Shared:
    theirs = dict.fromkeys(_key(dict(_parts(item))) for item in _load(other, columns, None).items)
    index = Similar()
    for words in theirs:
        index.add(words)
    found = Shared(str(other), Count(), Count())
    verdicts: dict[str, bool | None] = {}
    for words, line in zip(keys, lines, strict=True):
        if words not in verdicts:
            verdicts[words] = True if words in theirs else (False if index.nearest(words) is not None else None)
        verdict = verdicts[words]
        if verdict is not None:
            (found.exact if verdict else found.near).add(line)
    return found
