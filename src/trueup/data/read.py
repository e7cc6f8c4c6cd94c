"""Reading examples: files and datasets in, typed examples out, every row checked.

The format is recognised from the columns and stated in the report. A row that cannot be used is an error that names
file, line, field, what was found and what to do; with ``on_bad="skip"`` it is counted with its line number instead.
Identical rows are kept and counted. Nothing is lost silently: ``report`` accounts for every row.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from itertools import chain, islice
from pathlib import Path
from typing import Any, Generic, Literal, TypeAlias, TypeVar

from trueup.data.fields import Fault, Row
from trueup.data.formats import Format, LeftOut, Watched, recognise, renamed
from trueup.data.pair_formats import PAIRS
from trueup.data.ranked_formats import RANKED
from trueup.data.read_report import Loaded, ReadReport
from trueup.data.single_formats import DEMONSTRATIONS, LABELLED, PROMPTS, TEXTS
from trueup.data.sources import Line, Source, open_source
from trueup.errors import DataError, UsageError, nearest
from trueup.types import Demonstration, Labelled, PreferencePair, Prompt, Ranked

__all__ = [
    "Loaded",
    "OnBad",
    "ReadReport",
    "read_demonstrations",
    "read_labelled",
    "read_pairs",
    "read_prompts",
    "read_ranked",
    "read_rows",
    "read_texts",
]

OnBad: TypeAlias = Literal["error", "skip"]
T = TypeVar("T")

_LOOKED_AT = 50
"""How many rows decide the format."""


def read_pairs(
    source: str | Path,
    *,
    columns: Mapping[str, str] | None = None,
    split: str | None = None,
    limit: int | None = None,
    on_bad: OnBad = "error",
) -> Loaded[PreferencePair]:
    """Preference pairs, from pairs, rankings, ratings or two responses with a verdict.

    Args:
        source: A file (.jsonl, .json, .csv, .tsv, .txt, each also .gz; .parquet), a directory written by
            ``Dataset.save_to_disk``, or ``hf:owner/name``.
        columns: Our column name -> the file's, where they differ: ``{"chosen": "good", "rejected": "bad"}``.
        split: Which split of a dataset that has several.
        limit: Stop after this many items.
        on_bad: ``error`` raises at the first row that cannot be used, ``skip`` leaves such rows out and counts them.

    Returns:
        The pairs in the order of the file, and the report. A tie gives no pair and is counted.

    Raises:
        DataError: A file or row that cannot be used, or none that can; it names file, line and field.
        UsageError: ``columns``, ``split`` or ``limit`` do not make sense.
    """
    return _read(source, "preference pairs", PAIRS, _pair_content, columns, split, limit, on_bad)


def read_ranked(
    source: str | Path,
    *,
    columns: Mapping[str, str] | None = None,
    split: str | None = None,
    limit: int | None = None,
    on_bad: OnBad = "error",
) -> Loaded[Ranked]:
    """Rankings of two or more responses to a prompt, from ranks, ratings or message trees. See ``read_pairs``."""
    return _read(source, "rankings", RANKED, _ranked_content, columns, split, limit, on_bad)


def read_labelled(
    source: str | Path,
    *,
    columns: Mapping[str, str] | None = None,
    split: str | None = None,
    limit: int | None = None,
    on_bad: OnBad = "error",
) -> Loaded[Labelled]:
    """Responses with a yes/no label; a pair gives a yes (chosen) and a no (rejected). See ``read_pairs``."""
    return _read(source, "labelled responses", LABELLED, _labelled_content, columns, split, limit, on_bad)


def read_demonstrations(
    source: str | Path,
    *,
    columns: Mapping[str, str] | None = None,
    split: str | None = None,
    limit: int | None = None,
    on_bad: OnBad = "error",
) -> Loaded[Demonstration]:
    """Prompts with a completion to imitate; plain text has the empty prompt. See ``read_pairs``.

    To imitate the chosen side of pairs: ``columns={"completion": "chosen"}``.
    """
    return _read(source, "demonstrations", DEMONSTRATIONS, _demonstration_content, columns, split, limit, on_bad)


def read_prompts(
    source: str | Path,
    *,
    columns: Mapping[str, str] | None = None,
    split: str | None = None,
    limit: int | None = None,
    on_bad: OnBad = "error",
) -> Loaded[Prompt]:
    """Prompts, from any file that has them; what else a row holds is not looked at. See ``read_pairs``."""
    return _read(source, "prompts", PROMPTS, _itself, columns, split, limit, on_bad)


def read_texts(
    source: str | Path,
    *,
    columns: Mapping[str, str] | None = None,
    split: str | None = None,
    limit: int | None = None,
    on_bad: OnBad = "error",
) -> Loaded[str]:
    """Plain texts, from a column ``text`` or the documents of a .txt file. See ``read_pairs``.

    A .txt file is one document, or several that lines with only ``<|endoftext|>`` separate.
    """
    return _read(source, "texts", TEXTS, _itself, columns, split, limit, on_bad)


def read_rows(source: str | Path, *, split: str | None = None) -> Iterator[tuple[int, dict[str, Any]]]:
    """Raw rows with their line numbers (row numbers for Parquet and datasets), from 1.

    Raises:
        DataError: At the first line that is not a row.
    """
    opened = open_source(source, split)
    for line in opened.lines():
        if line.row is None:
            raise _fault(line).error(opened.place(line.number))
        yield line.number, dict(line.row)


# How ------------------------------------------------------------------------------------------------------------------


def _read(
    source: str | Path,
    kind: str,
    formats: Sequence[Format[T]],
    content: Callable[[T], Hashable],
    columns: Mapping[str, str] | None,
    split: str | None,
    limit: int | None,
    on_bad: OnBad,
) -> Loaded[T]:
    _check_arguments(columns, limit, on_bad, formats)
    opened = open_source(source, split)
    reading = _Reading(opened, kind, dict(columns or {}), formats, content, limit, on_bad)
    return reading.run()


class _Reading(Generic[T]):
    """One pass over one source."""

    def __init__(
        self,
        source: Source,
        kind: str,
        columns: dict[str, str],
        formats: Sequence[Format[T]],
        content: Callable[[T], Hashable],
        limit: int | None,
        on_bad: OnBad,
    ) -> None:
        self.source = source
        self.columns = columns
        self.formats = formats
        self.content = content
        self.limit = limit
        self.on_bad = on_bad
        self.report = ReadReport(source.name, kind, columns=columns)
        self.items: list[T] = []
        self.lines: list[int] = []
        self.seen: set[Hashable] = set()

    def run(self) -> Loaded[T]:
        lines = self.source.lines()
        first = list(islice(lines, _LOOKED_AT))
        one = self._format([renamed(line.row, self.columns) for line in first if line.row is not None], first)
        partial: list[tuple[int, Any]] = []
        if one is not None:
            self._rows(chain(first, lines), one, partial)
        if one is not None and one.gather is not None:
            for number, item in one.gather(partial):
                self._take(number, [item])
        self.report.items = len(self.items)
        self.report.blank_lines, self.report.bom = self.source.blank_lines, self.source.bom
        self.report.crlf_lines = self.source.crlf_lines
        self.report.require_items()
        return Loaded(tuple(self.items), self.report, tuple(self.lines))

    def _format(self, rows: list[Row], first: Sequence[Line]) -> Format[T] | None:
        if not rows:
            for line in first:
                self._bad(line.number, _fault(line))
            return None
        found = {name for row in rows for name in row}
        missing = [f"{ours}={name!r}" for ours, name in self.columns.items() if ours not in found]
        if missing:
            theirs = [name for line in first if line.row is not None for name in line.row]
            wrong = next(name for ours, name in self.columns.items() if ours not in found)
            raise DataError(
                f"there is no such column: {', '.join(missing)}",
                where=self.source.name,
                expected="columns={our name: the file's name}",
                fix=nearest(wrong, dict.fromkeys(theirs)),
            )
        one = recognise(self.formats, rows, source=self.source.name, kind=self.report.kind)
        self.report.format = one.name
        self.report.notes = (one.note,) if one.note else ()
        return one

    def _rows(self, lines: Iterator[Line], one: Format[T], partial: list[tuple[int, Any]]) -> None:
        used: set[str] = set()
        found: dict[str, None] = {}
        for line in lines:
            if self.limit is not None and len(self.items) >= self.limit:
                self.report.limited = True
                break
            if line.row is None:
                self._bad(line.number, _fault(line))
                continue
            row = Watched(renamed(line.row, self.columns))
            try:
                made = list(one.convert(row))
            except Fault as fault:
                self._bad(line.number, fault)
                continue
            self.report.rows += 1
            used |= row.read
            found |= dict.fromkeys(row)
            if one.gather is not None:
                partial += [(line.number, item) for item in made]
            else:
                self._take(line.number, made)
        self.report.unused_columns = tuple(name for name in found if name not in used)

    def _take(self, number: int, made: Sequence[T | LeftOut]) -> None:
        for item in made:
            if isinstance(item, LeftOut):
                self.report.leave_out(item.reason, number, item.count)
                continue
            if self.limit is not None and len(self.items) >= self.limit:
                self.report.limited = True
                return
            key = self.content(item)
            if key in self.seen:
                self.report.duplicates.add(number)
            self.seen.add(key)
            self.items.append(item)
            self.lines.append(number)

    def _bad(self, number: int, fault: Fault) -> None:
        if self.on_bad == "error":
            raise fault.error(self.source.place(number), self.columns) from None
        self.report.rows += 1
        self.report.skip(fault.reason, number)


def _fault(line: Line) -> Fault:
    assert line.fault is not None
    return line.fault


def _check_arguments(
    columns: Mapping[str, str] | None, limit: int | None, on_bad: str, formats: Sequence[Format[Any]]
) -> None:
    known = {name for one in formats for name in one.columns()}
    unknown = [ours for ours in columns or {} if ours not in known]
    if unknown:
        raise UsageError(
            f"{unknown[0]!r} is not one of our columns",
            where="columns",
            expected="columns={our name: the file's name}",
            fix=nearest(unknown[0], known),
        )
    if limit is not None and limit < 1:
        raise UsageError(f"limit is {limit}", where="limit", expected="at least 1, or None for all")
    if on_bad not in ("error", "skip"):
        raise UsageError(f"on_bad is {on_bad!r}", where="on_bad", expected="error or skip")


def _pair_content(pair: PreferencePair) -> Hashable:
    return (pair.prompt, pair.chosen, pair.rejected)


def _ranked_content(ranked: Ranked) -> Hashable:
    return (ranked.prompt, ranked.responses, ranked.ranks)


def _labelled_content(labelled: Labelled) -> Hashable:
    return (labelled.prompt, labelled.completion, labelled.desirable)


def _demonstration_content(demonstration: Demonstration) -> Hashable:
    return (demonstration.prompt, demonstration.completion)


def _itself(item: Hashable) -> Hashable:
    return item
