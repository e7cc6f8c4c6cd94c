"""Opening what data is named by: a file, a folder, a pattern, a list of them, a dataset, or rows in memory.

Several files are one set: their rows come one file after the other, and each knows its file and its line there.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeAlias, cast

from trueup.data.containers import Source
from trueup.data.hub import from_folder, from_hub, split_of
from trueup.data.json_rows import FileLine, Line
from trueup.data.listing import LAYOUTS, Member, layout_of, listed
from trueup.data.read_report import FileCount, ReadReport
from trueup.errors import DataError, UsageError

Given: TypeAlias = str | Path | Sequence[str | Path] | Iterable[Mapping[str, Any]]
"""Where rows come from: a path, a pattern, ``hf:owner/name``, or several of these in a list; or the rows themselves: a
list of dicts, a ``datasets.Dataset``."""


@dataclass(slots=True)
class SourceSet:
    """Several sources as one. The counts and ``columns`` are complete once ``lines()`` is exhausted."""

    name: str
    members: tuple[Source, ...]
    notes: tuple[str, ...] = ()
    columns: list[dict[str, None]] = field(default_factory=list)
    """Of each member that was begun, the columns of its rows."""

    def lines(self) -> Iterator[Line]:
        """All rows, file by file."""
        self.columns = []
        for index, member in enumerate(self.members):
            columns: dict[str, None] = {}
            self.columns.append(columns)
            for line in member.lines():
                columns |= dict.fromkeys(line.row or ())
                yield replace(line, number=self._line(index, line.number))

    def place(self, number: int) -> str:
        """``file:line``, or ``file row n``."""
        return str(self.shown(number))

    def shown(self, number: int) -> FileLine:
        """A number that ``lines`` gave, which may have been a plain one in between, with its file."""
        return self._line(number >> FileLine.BITS, number & ((1 << FileLine.BITS) - 1))

    def _line(self, index: int, number: int) -> FileLine:
        member = self.members[index]
        return FileLine(index, number, member.name, of_rows=member.layout in ("parquet", "dataset"))

    def describe(self, report: ReadReport) -> None:
        """Enter each file into a report, also one without rows; those that ``limit`` left unread are not there."""
        for member, columns in zip(self.members, self.columns, strict=False):
            if member.name in report.files or not report.limited:
                report.files.setdefault(member.name, FileCount()).columns = tuple(columns)
        order = [member.name for member in self.members if member.name in report.files]
        report.files = {name: report.files[name] for name in order}
        report.notes += self.notes

    @property
    def blank_lines(self) -> int:
        """Of all files."""
        return sum(member.blank_lines for member in self.members)

    @property
    def crlf_lines(self) -> int:
        """Of all files."""
        return sum(member.crlf_lines for member in self.members)

    @property
    def bom(self) -> bool:
        """Whether any file has a byte-order mark."""
        return any(member.bom for member in self.members)


def open_source(source: Given, split: str | None = None) -> Source | SourceSet:
    """Whatever rows come from, opened.

    Raises:
        DataError: Nothing there, an unknown extension, a split that does not exist, or no way to reach the hub.
        UsageError: ``split`` for what has none.
    """
    if not isinstance(source, (str, Path)) and not _is_list_of_names(source):
        return _of_rows(cast(Iterable[Mapping[str, Any]], source), split)
    names = cast("str | Path | Sequence[str | Path]", source)
    listing = listed(names, split)
    opened = tuple(_opened(member) for member in listing.members)
    if not listing.several:
        return opened[0]
    name = str(names) if isinstance(names, (str, Path)) else ",".join(map(str, names))
    return SourceSet(name, opened, listing.notes)


def _is_list_of_names(source: Any) -> bool:
    return isinstance(source, (list, tuple)) and bool(source) and all(isinstance(s, (str, Path)) for s in source)


def _opened(member: Member) -> Source:
    name, path, split = member.name, member.path, member.split
    if path is None:
        return Source(f"{name} ({split})" if split else name, "dataset", dataset=from_hub(name, split))
    if path.is_dir():
        return Source(name, "dataset", dataset=from_folder(path, split))
    if not path.exists():
        raise _not_there(path)
    if not path.is_file():
        raise DataError(
            "is neither a file nor a folder", where=name, expected="a file", fix="write what comes out of it to a file"
        )
    layout = layout_of(path)
    if layout is None:
        raise DataError(
            f"the extension {''.join(s.lower() for s in path.suffixes[-2:]) or '(none)'!r} is not known",
            where=name,
            expected=", ".join(LAYOUTS) + ", each but .parquet also with .gz; a saved dataset; or hf:owner/name",
            fix="rename the file after what it holds; a file with one JSON object a line is .jsonl",
        )
    if split is not None:
        raise UsageError(
            f"split is {split!r}", where=name, expected="no split: a file is one split", fix="leave it out"
        )
    return Source(name, layout, path)


def _of_rows(rows: Iterable[Mapping[str, Any]], split: str | None) -> Source:
    """Rows that are in memory; of a ``DatasetDict`` the split that was asked for, or its only one."""
    if isinstance(rows, Mapping):
        if split is None and len(rows) > 1:
            raise UsageError(
                f"split is {split!r}", where="rows", expected=f"one of {', '.join(map(repr, rows))}", fix="name a split"
            )
        rows, split = split_of(dict(rows), split, "rows"), None
    if split is not None:
        raise UsageError(f"split is {split!r}", where="rows", expected="no split: rows are one", fix="leave it out")
    return Source("rows", "dataset", dataset=rows if hasattr(rows, "__len__") else list(rows))


def _not_there(path: Path) -> DataError:
    folder = path.parent
    close = difflib.get_close_matches(path.name, [p.name for p in folder.iterdir()], n=1) if folder.is_dir() else []
    hint = f"did you mean {folder / close[0]}?" if close else None
    if str(path).count("/") == 1 and not path.suffix:
        hint = f"for a dataset of the Hugging Face hub write hf:{path}"
    return DataError(
        "there is no such file" if folder.is_dir() else f"there is no folder {folder}",
        where=str(path),
        expected="a file, a folder, a pattern such as data/*.jsonl, a saved dataset, or hf:owner/name",
        fix=hint,
    )
