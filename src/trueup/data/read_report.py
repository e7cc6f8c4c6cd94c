"""What reading did: every row is an item, left out or skipped, and the books balance."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from trueup.data.json_rows import FileLine
from trueup.errors import DataError

T_co = TypeVar("T_co", covariant=True)

_NAMED = 20
"""How many line numbers a report names for each reason."""


@dataclass(slots=True)
class Count:
    """How many, and the first twenty line (or row) numbers; one line may hold several."""

    count: int = 0
    lines: list[int] = field(default_factory=list)

    def add(self, line: int, count: int = 1) -> None:
        """Count ``count`` more, found at ``line``."""
        self.count += count
        if len(self.lines) < _NAMED and self.lines[-1:] != [line]:
            self.lines.append(line)

    def to_dict(self) -> dict[str, Any]:
        """JSON form; a line of one of several files is written ``file:line``."""
        return {"count": self.count, "lines": [str(n) if isinstance(n, FileLine) else n for n in self.lines]}

    def __str__(self) -> str:
        if not self.lines:
            return str(self.count)
        more = ", ..." if len(self.lines) == _NAMED else ""
        first = line_name(self.lines[0])
        return f"{self.count} ({', '.join([first, *map(str, self.lines[1:])])}{more})"


def line_name(number: int) -> str:
    """``line 3``, or ``file:3`` of one of several files."""
    return str(number) if isinstance(number, FileLine) else f"line {number}"


@dataclass(slots=True)
class FileCount:
    """One of several files: how many rows were looked at, how many items they gave, and which columns they have."""

    rows: int = 0
    items: int = 0
    columns: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """JSON form."""
        return {"rows": self.rows, "items": self.items, "columns": list(self.columns)}


@dataclass(slots=True)
class ReadReport:
    """One reading pass.

    ``rows`` counts the rows that were looked at. ``skipped`` are rows that could not be used (only with
    ``on_bad="skip"``), ``left_out`` are comparisons without a winner and the like: sound, but no item.
    """

    source: str
    kind: str
    format: str = ""
    """Which of the known formats the columns have."""
    rows: int = 0
    items: int = 0
    skipped: dict[str, Count] = field(default_factory=dict)
    left_out: dict[str, Count] = field(default_factory=dict)
    duplicates: Count = field(default_factory=Count)
    """Items with the same content as an earlier one; they are kept."""
    blank_lines: int = 0
    bom: bool = False
    crlf_lines: int = 0
    columns: dict[str, str] = field(default_factory=dict)
    """Renamed columns: our name -> the file's."""
    unused_columns: tuple[str, ...] = ()
    unused_text: dict[str, Count] = field(default_factory=dict)
    """Of these, columns that hold text, lists or objects in some rows, and in which."""
    doubts: dict[str, Count] = field(default_factory=dict)
    """What makes items doubtful that are made all the same."""
    repeated_ids: Count = field(default_factory=Count)
    """Pairs with an id that an earlier pair of other content has; nothing goes by ids, so no harm is done."""
    templated: dict[str, Count] = field(default_factory=dict)
    """Prompts (or texts without one) that already went through a chat template, by its name and a marker."""
    templated_control: int = 0
    """How many of these hold control tokens, rather than plain words."""
    limited: bool = False
    """Reading stopped at ``limit`` before the end of the source."""
    notes: tuple[str, ...] = ()
    files: dict[str, FileCount] = field(default_factory=dict)
    """Where the source is several files, each of them."""

    def count_row(self, number: int) -> None:
        """Count a row that was looked at."""
        self.rows += 1
        if isinstance(number, FileLine):
            self.files.setdefault(number.file, FileCount()).rows += 1

    def count_item(self, number: int) -> None:
        """Count an item that a row gave."""
        self.items += 1
        if isinstance(number, FileLine):
            self.files.setdefault(number.file, FileCount()).items += 1

    def file_remarks(self) -> list[str]:
        """What is odd about one of several files beside the others."""
        if self.limited:  # the files were not read to their end
            return []
        lines = [f"{name} has no rows" for name, file in self.files.items() if not file.rows]
        filled = {name: file for name, file in self.files.items() if file.rows}
        for column in dict.fromkeys(name for file in filled.values() for name in file.columns):
            there = [name for name, file in filled.items() if column in file.columns]
            if len(there) < len(filled):
                without = [name for name in filled if name not in there]
                where = f"only in {', '.join(there[:4])}" if len(there) <= len(without) else f"not in {without[0]}"
                more = ", ..." if len(there) > 4 and len(there) <= len(without) else ""
                others = f" and {len(without) - 1} others" if where.startswith("not") and len(without) > 1 else ""
                lines.append(f"column {column!r} is {where}{more}{others} ({len(there)} of {len(filled)} files)")
        return lines

    def remarks(self) -> list[str]:
        """What whoever trains on this should be told, one line each."""
        lines = [
            f"column {name!r} is not used; it holds text or lists in {n.count} of {self.rows} rows, from"
            f" {line_name(n.lines[0])} on"
            for name, n in self.unused_text.items()
        ]
        if self.kind == "prompts" and len(lines) > 1:  # other data has prompts too, and its answers are not wanted here
            lines = [f"columns not used for prompts: {', '.join(map(repr, self.unused_text))}"]
        lines += [f"{line}" for line in self.file_remarks()]
        lines += [f"skipped: {why}: {n}" for why, n in self.skipped.items()]
        lines += [f"{why}: {n}" for why, n in self.doubts.items()]
        if self.repeated_ids.count:
            lines.append(f"pair_id repeats with other content: {self.repeated_ids}; pairs go by their content instead")
        for name, n in self.templated.items():
            lines.append(f"prompts already went through a chat template, {name}: {n}; it is read as plain text")
        return [f"{self.source}: {line}" for line in lines]

    def skip(self, reason: str, line: int) -> None:
        """Count a row that cannot be used."""
        self.skipped.setdefault(reason, Count()).add(line)

    def leave_out(self, reason: str, line: int, count: int = 1) -> None:
        """Count what is sound but makes no item."""
        self.left_out.setdefault(reason, Count()).add(line, count)

    def require_items(self, fix: str | None = None) -> None:
        """Refuse a source that gave nothing.

        Raises:
            DataError: Saying whether the source is empty or which reasons emptied it.
        """
        if self.items:
            return
        reasons = [f"{why}: {n}" for why, n in (self.skipped | self.left_out).items()]
        raise DataError(
            f"none of its {self.rows} rows gives {self.kind}: {'; '.join(reasons)}"
            if self.rows
            else "the source is empty",
            where=self.source,
            expected="at least one usable row",
            fix=fix,
        )

    def to_dict(self) -> dict[str, Any]:
        """JSON form."""
        return {
            "source": self.source,
            "kind": self.kind,
            "format": self.format,
            "rows": self.rows,
            "items": self.items,
            "skipped": {why: n.to_dict() for why, n in self.skipped.items()},
            "left_out": {why: n.to_dict() for why, n in self.left_out.items()},
            "duplicates": self.duplicates.to_dict(),
            "blank_lines": self.blank_lines,
            "bom": self.bom,
            "crlf_lines": self.crlf_lines,
            "columns": dict(self.columns),
            "unused_columns": list(self.unused_columns),
            "unused_text": {name: n.to_dict() for name, n in self.unused_text.items()},
            "doubts": {why: n.to_dict() for why, n in self.doubts.items()},
            "repeated_ids": self.repeated_ids.to_dict(),
            "templated": {name: n.to_dict() for name, n in self.templated.items()},
            "limited": self.limited,
            "notes": list(self.notes),
            "files": {name: file.to_dict() for name, file in self.files.items()},
        }


@dataclass(frozen=True, slots=True)
class Loaded(Generic[T_co]):
    """Items, the line each came from, and the report."""

    items: tuple[T_co, ...]
    report: ReadReport
    lines: tuple[int, ...] = ()

    def __len__(self) -> int:
        return len(self.items)

    def place(self, number: int) -> str:
        """Where item ``number`` came from: ``file:line``."""
        if not self.lines:
            return f"{self.report.source}, item {number + 1}"
        line = self.lines[number]
        return str(line) if isinstance(line, FileLine) else f"{self.report.source}:{line}"
