"""Reading examples: files and datasets in, typed examples out, every row checked.

The format is recognised from the columns and stated in the report. A row that cannot be used is an error that names
file, line, field, what was found and what to do; with ``on_bad="skip"`` it is counted with its line number instead.
Identical rows are kept and counted. Nothing is lost silently: ``report`` accounts for every row.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from itertools import chain, islice
from typing import Any, Literal, TypeAlias, TypedDict, Unpack

from trueup.data.fields import Fault, Row
from trueup.data.formats import Doubt, Format, LeftOut, Survey, Watched, recognise, renamed, unread
from trueup.data.json_rows import Line
from trueup.data.markers import ALLOWED, templated
from trueup.data.pair_formats import PAIRS
from trueup.data.parts import content_of, parts_of
from trueup.data.ranked_formats import ALONE, NO_PAIRS, RANKED
from trueup.data.read_report import Count, Loaded, ReadReport
from trueup.data.single_formats import DEMONSTRATIONS, LABELLED, PROMPTS, TEXTS
from trueup.data.sources import Given, SourceSet, open_source
from trueup.data.spool import Column, hash64
from trueup.data.verdicts import meaning_of
from trueup.errors import DataError, UsageError, nearest
from trueup.types import Demonstration, Labelled, PreferencePair, Prompt, Ranked

__all__ = [
    "Loaded",
    "OnBad",
    "Options",
    "ReadReport",
    "Reading",
    "read_demonstrations",
    "read_labelled",
    "read_pairs",
    "read_prompts",
    "read_ranked",
    "read_rows",
    "read_texts",
]

OnBad: TypeAlias = Literal["error", "skip"]

_LOOKED_AT = 50
"""How many rows decide the format."""
_NAMES = re.compile(r"(?:item|split|annotator|model|(?:.*_)?(?:ids?|uuid|idx|index|hash))\Z", re.IGNORECASE)
"""Columns that only name a row or where it comes from: not used, and nobody expects them to be."""


class Options(TypedDict, total=False):
    """What every reader takes beside its source. See ``read_pairs``."""

    columns: Mapping[str, str] | None
    split: str | None
    limit: int | None
    on_bad: OnBad
    verdicts: Mapping[str, str] | None
    refuse_templated: bool
    tell: Callable[[str], None] | None


def read_pairs(source: Given, **options: Unpack[Options]) -> Loaded[PreferencePair]:
    """Preference pairs, from pairs, rankings, ratings or two responses with a verdict.

    Args:
        source: A file (.jsonl, .json, .csv, .tsv, .txt, each also .gz; .parquet), a folder or a pattern
            (``data/**/*.jsonl``) of such files, a directory written by ``Dataset.save_to_disk``,
            ``hf:owner/name/config@revision:split``, or several of these: a list, or with commas between them. Or rows
            in memory: a list of dicts, a ``datasets.Dataset`` or ``DatasetDict``.
        options: ``columns``: our column name -> the file's, where they differ: ``{"chosen": "good"}``.
            ``split``: which split of a dataset that has several. ``limit``: stop after this many items.
            ``on_bad``: ``error`` (default) raises at the first row that cannot be used, ``skip`` leaves such rows out
            and counts them. ``verdicts``: what the verdicts on two responses mean where a file does not show it:
            ``{"0": "first", "1": "second"}``, or ``tie``. ``refuse_templated``: raise where most prompts already went
            through a chat template whose markers are control tokens. ``tell``: called with a line on everything that
            whoever trains on this should know, such as columns of text that are not used.

    Returns:
        The pairs in the order of the file, and the report. A tie gives no pair and is counted.

    Raises:
        DataError: A file or row that cannot be used, or none that can; it names file, line and field.
        UsageError: ``columns``, ``split``, ``limit`` or ``verdicts`` do not make sense.
    """
    return Reading(source, "preference pairs", **options).load()


def read_ranked(source: Given, **options: Unpack[Options]) -> Loaded[Ranked]:
    """Rankings of two or more responses to a prompt, from ranks, ratings or message trees. See ``read_pairs``."""
    return Reading(source, "rankings", **options).load()


def read_labelled(source: Given, **options: Unpack[Options]) -> Loaded[Labelled]:
    """Responses with a yes/no label; a pair gives a yes (chosen) and a no (rejected). See ``read_pairs``."""
    return Reading(source, "labelled responses", **options).load()


def read_demonstrations(source: Given, **options: Unpack[Options]) -> Loaded[Demonstration]:
    """Prompts with a completion to imitate; plain text has the empty prompt. See ``read_pairs``.

    To imitate the chosen side of pairs: ``columns={"completion": "chosen"}``.
    """
    return Reading(source, "demonstrations", **options).load()


def read_prompts(source: Given, **options: Unpack[Options]) -> Loaded[Prompt]:
    """Prompts, from any file that has them; what else a row holds is not looked at. See ``read_pairs``."""
    return Reading(source, "prompts", **options).load()


def read_texts(source: Given, **options: Unpack[Options]) -> Loaded[str]:
    """Plain texts, from a column ``text`` or the documents of a .txt file. See ``read_pairs``.

    A .txt file is one document, or several that lines with only ``<|endoftext|>`` separate.
    """
    return Reading(source, "texts", **options).load()


def read_rows(source: Given, *, split: str | None = None) -> Iterator[tuple[int, dict[str, Any]]]:
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

KINDS: Mapping[str, Sequence[Format[Any]]] = {
    "preference pairs": PAIRS,
    "rankings": RANKED,
    "labelled responses": LABELLED,
    "demonstrations": DEMONSTRATIONS,
    "prompts": PROMPTS,
    "texts": TEXTS,
}
"""Kind of example -> the formats that give it."""


class Reading:
    """One pass over one source: ``each`` gives the items as they are read, ``load`` all of them. See ``read_pairs``.

    ``hold`` is how many characters of responses may be held where rows have to be gathered by prompt; None is all.
    ``formats`` are those of a kind that depends on what is asked for.
    """

    def __init__(
        self,
        source: Given,
        kind: str,
        *,
        columns: Mapping[str, str] | None = None,
        split: str | None = None,
        limit: int | None = None,
        on_bad: OnBad = "error",
        verdicts: Mapping[str, str] | None = None,
        refuse_templated: bool = False,
        tell: Callable[[str], None] | None = None,
        hold: int | None = None,
        formats: Sequence[Format[Any]] | None = None,
    ) -> None:
        self.formats = KINDS[kind] if formats is None else formats
        self.alone = "prompt" if kind == "prompts" else "text"
        _check_arguments(columns, limit, on_bad, self.formats)
        meaning_of(verdicts or {})
        self.open = partial(open_source, source, split)
        self.source = self.open()
        self.columns = dict(columns or {})
        self.limit = limit
        self.on_bad = on_bad
        self.verdicts = dict(verdicts or {})
        self.refuse_templated = refuse_templated
        self.tell = tell
        self.hold = hold
        self.report = ReadReport(self.source.name, kind, columns=self.columns)

    def load(self) -> Loaded[Any]:
        """All items, their lines and the report."""
        items: list[Any] = []
        lines: list[int] = []
        seen: set[Any] = set()
        named: dict[str, Any] = {}
        for number, item in self.each():
            content = content_of(item)
            if content in seen:
                self.report.duplicates.add(number)
            seen.add(content)
            if isinstance(item, PreferencePair) and named.setdefault(item.pair_id, content) != content:
                self.report.repeated_ids.add(number)
            items.append(item)
            lines.append(number)
        if self.tell is not None:
            for remark in self.report.remarks():
                self.tell(remark)
        return Loaded(tuple(items), self.report, tuple(lines))

    def each(self) -> Iterator[tuple[int, Any]]:
        """Line number and item, in order. The report is complete once all were taken.

        Raises:
            DataError: As ``read_pairs``.
        """
        lines = self.source.lines()
        first = list(islice(lines, _LOOKED_AT))
        row_format = self._format([renamed(line.row, self.columns) for line in first if line.row is not None], first)
        if row_format is not None:
            rest = chain(first, lines)
            if row_format.gather is None:
                items = self._rows(rest, row_format)
            elif self.hold is None:
                items = self._gathered(self._rows(rest, row_format), row_format)
            else:
                items = self._in_portions(rest, row_format, self.hold)
            for number, item in items:
                yield from self._taken(number, item)
        self.report.blank_lines, self.report.bom = self.source.blank_lines, self.source.bom
        self.report.crlf_lines = self.source.crlf_lines
        if isinstance(self.source, SourceSet):
            self.source.describe(self.report)
        self.report.require_items(NO_PAIRS if self.report.left_out.keys() == {ALONE} else None)
        self._judge_templated()

    def _format(self, rows: list[Row], first: Sequence[Line]) -> Format[Any] | None:
        if not rows:
            for line in first:
                self._bad(line.number, _fault(line))
            return None
        there = {name for row in rows for name in row}
        missing = [f"{ours}={name!r}" for ours, name in self.columns.items() if ours not in there]
        if missing:
            theirs = [name for line in first if line.row is not None for name in line.row]
            wrong = next(name for ours, name in self.columns.items() if ours not in there)
            raise DataError(
                f"there is no such column: {', '.join(missing)}",
                where=self.source.name,
                expected="columns={our name: the file's name}",
                fix=nearest(wrong, dict.fromkeys(theirs)),
            )
        row_format = recognise(self.formats, rows, source=self.source.name, kind=self.report.kind)
        self.report.format = row_format.name
        self.report.notes = (row_format.note,) if row_format.note else ()
        if row_format.settle is not None:
            row_format = row_format.settle(
                Survey(self._all_rows(row_format), self.verdicts, self.columns, self.source.place, self.report)
            )
        elif self.verdicts:
            self.report.notes += ("the verdicts that are given a meaning play no part in this format",)
        return row_format

    def _all_rows(self, row_format: Format[Any]) -> Iterator[tuple[int, Row]]:
        """Every row of the source that has the format, from a pass of its own."""
        for line in self.open().lines():
            if line.row is not None and row_format.fits(row := renamed(line.row, self.columns)):
                yield line.number, row

    def _rows(self, lines: Iterator[Line], row_format: Format[Any]) -> Iterator[tuple[int, Any]]:
        used: set[str] = set()
        there: dict[str, None] = {}
        for line in lines:
            if self.limit is not None and self.report.items >= self.limit:
                self.report.limited = True
                break
            if line.row is None:
                self._bad(line.number, _fault(line))
                continue
            row = Watched(renamed(line.row, self.columns))
            try:
                items = list(row_format.convert(row))
            except Fault as fault:
                self._bad(line.number, fault)
                continue
            self.report.count_row(line.number)
            used |= row.read
            there |= dict.fromkeys(row)
            for name in row.keys() - row.read:
                if holds_text(unread(row, name)) and not _NAMES.match(name):
                    self.report.unused_text.setdefault(name, Count()).add(line.number)
            yield from ((line.number, item) for item in items)
        self.report.unused_columns = tuple(name for name in there if name not in used)
        self.report.unused_text = {n: self.report.unused_text[n] for n in there if n in self.report.unused_text}

    def _gathered(self, items: Iterable[tuple[int, Any]], row_format: Format[Any]) -> Iterator[tuple[int, Any]]:
        assert row_format.gather is not None
        yield from row_format.gather(list(items))

    def _in_portions(self, lines: Iterator[Line], row_format: Format[Any], hold: int) -> Iterator[tuple[int, Any]]:
        """The same, a portion of the prompts at a time, each from a pass of its own over the source.

        Rows are known by their place in the source: the entries of an array may all be on one line.
        """
        places, portions, size, place = Column("Q"), Column("Q"), 0, -1

        def counted() -> Iterator[Line]:
            nonlocal place
            for line in lines:
                place += 1  # of the row that is made next
                yield line

        for _, item in self._rows(counted(), row_format):
            places.append(place)
            portions.append(hash64(repr(item.prompt)))
            size += len(item.response)
        many = 1 + size // hold
        where, portion_of = places.values(), portions.values() % many
        for portion in range(many):
            wanted = set(where[portion_of == portion].tolist())
            rows = (line for at, line in enumerate(self.open().lines()) if at in wanted)
            again = (
                (line.number, item)
                for line in rows
                for item in row_format.convert(renamed(line.row or {}, self.columns))
            )
            yield from self._gathered(again, row_format)

    def _taken(self, number: int, item: Any) -> Iterator[tuple[int, Any]]:
        if isinstance(item, LeftOut):
            self.report.leave_out(item.reason, number, item.count)
        elif isinstance(item, Doubt):
            self.report.doubts.setdefault(item.reason, Count()).add(number)
        elif self.limit is not None and self.report.items >= self.limit:
            self.report.limited = True
        else:
            self.report.count_item(number)
            self._see_markers(number, item)
            yield number, item

    def _see_markers(self, number: int, item: Any) -> None:
        marked = templated(parts_of(item, self.alone))
        if marked is not None:
            family, marker = marked
            name = f"{family.name} ({marker})"
            # The markers of one family vary; one of them is enough to recognise it by.
            name = next((n for n in self.report.templated if n.startswith(f"{family.name} (")), name)
            self.report.templated.setdefault(name, Count()).add(number)
            self.report.templated_control += family.control

    def _judge_templated(self) -> None:
        many = 2 * self.report.templated_control > self.report.items
        if not (self.refuse_templated and many):
            return
        names = ", ".join(self.report.templated)
        lines = next(iter(self.report.templated.values())).lines
        raise DataError(
            f"{self.report.templated_control} of {self.report.items} prompts already went through a chat template:"
            f" {names}",
            where=self.source.place(lines[0]),
            expected="prompts as chat turns or as plain text; control tokens in data are spelled in letters, so a model"
            " would learn '<', '|' and words",
            fix=ALLOWED,
        )

    def _bad(self, number: int, fault: Fault) -> None:
        if self.on_bad == "error":
            raise fault.error(self.source.place(number), self.columns) from None
        self.report.count_row(number)
        self.report.skip(fault.reason, number)


def holds_text(value: Any) -> bool:
    """Whether an unused value could have been meant for the model: text, or a list or object that is not empty."""
    return bool(value.strip() if isinstance(value, str) else isinstance(value, (list, tuple, Mapping)) and value)


def _fault(line: Line) -> Fault:
    assert line.fault is not None
    return line.fault


def _check_arguments(
    columns: Mapping[str, str] | None, limit: int | None, on_bad: str, formats: Sequence[Format[Any]]
) -> None:
    known = {name for row_format in formats for name in row_format.columns()}
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
