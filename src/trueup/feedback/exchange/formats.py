"""The formats by name, and the two doors: a file read in, a project's judgments written out.

What a format cannot carry is not made up when it is read:

| format | a row | not carried |
|---|---|---|
| `preference` | a verdict on a pair, all votes together | single votes, annotators, strength of a vote, ties, times, \
reasons, order shown, generators |
| `kto` | a verdict on a response | as `preference` |
| `hh` | a verdict on a pair, as transcripts | as `preference`; also system and tool turns, texts that hold the next \
speaker's name, white space at the ends of a turn; a plain prompt comes back as a user turn |
| `ranking` | the ranking of all votes together | as `preference`, but ties are; responses that nobody ranked |
| `ultrafeedback` | ratings of one prompt's responses | other kinds than rating, skips, times, order shown, \
where a scale ends; a plain prompt comes back as a user turn |
| `argilla` | an item with its answers | other kinds than pairwise, ranking, yes or no, rating; why an item was \
skipped, times, order shown |
| `label-studio` | an item with its answers | other kinds than pairwise, yes or no, rating; why an item was skipped |
| `csv`, `parquet` | an answer with its item | earlier revisions, guideline, explanation of gold, ids of responses |
| `judgments` | every item and judgment as it is | nothing that a project read out holds |

Files of other tools are read by the format that says the same: see the guide.

`preference`, `kto`, `hh`, `ranking`, `ultrafeedback`, `argilla` and `label-studio` carry items of the main and \
hold-out streams alone; `csv`, `parquet` and `judgments` carry hidden gold too, marked by its stream.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from trueup.data.content import as_utf8, load
from trueup.errors import DataError, UsageError, nearest
from trueup.feedback.exchange import rankings, tables, training
from trueup.feedback.exchange.argilla import read_argilla, write_argilla
from trueup.feedback.exchange.incoming import Incoming
from trueup.feedback.exchange.label_studio import read_label_studio, write_label_studio
from trueup.feedback.exchange.raw import read_judgments, write_judgments
from trueup.feedback.exchange.shapes import advice, format_of_rows
from trueup.feedback.exchange.ultrafeedback import read_ultrafeedback, write_ultrafeedback
from trueup.feedback.exchange.writing import Lines, Written, put
from trueup.feedback.store.records import Judged


@dataclass(frozen=True, slots=True)
class Format:
    """One format. ``columns`` is what a row has to have, for people."""

    read: Callable[[bytes], Incoming]
    write: Callable[[Judged, Mapping[str, Mapping[str, Any]]], Lines]
    columns: str


FORMATS: Mapping[str, Format] = {
    "preference": Format(training.read_preference, training.write_preference, "chosen, rejected, and mostly prompt"),
    "kto": Format(training.read_kto, training.write_kto, "prompt, completion, label"),
    "hh": Format(training.read_hh, training.write_hh, "chosen, rejected"),
    "ranking": Format(rankings.read_ranking, training.write_ranking, "prompt, responses, ranks"),
    "ultrafeedback": Format(read_ultrafeedback, write_ultrafeedback, "instruction, completions"),
    "argilla": Format(read_argilla, write_argilla, "fields, responses, suggestions"),
    "label-studio": Format(read_label_studio, write_label_studio, "data, annotations"),
    "csv": Format(tables.read_csv, tables.write_csv, "kind, prompt, responses, annotator, answer, ..."),
    "parquet": Format(tables.read_parquet, tables.write_parquet, "kind, prompt, responses, annotator, answer, ..."),
    "judgments": Format(read_judgments, write_judgments, "a record 'project', then items and judgments"),
}


def format_of(name: str) -> Format:
    """The format of this name.

    Raises:
        UsageError: There is none.
    """
    if name not in FORMATS:
        raise UsageError(f"format is {name!r}", where="format", expected=nearest(name, FORMATS))
    return FORMATS[name]


def read_in(path: str | Path, format: str | None = None, encoding: str | None = None) -> Incoming:
    """A file's items and answers; a row that can be neither is counted with its line, and the others are read.

    Args:
        path: The file; gzipped is fine.
        format: One of ``FORMATS``; None takes the one that the file's rows have (see ``recognised``).
        encoding: Of a text file that is not UTF-8 and does not say so itself, such as ``cp1252``.

    Raises:
        UsageError: An unknown format or encoding.
        DataError: The file as a whole cannot be read, or holds no row.
    """
    if format is not None:
        format_of(format)
    data = load(path)
    return read_bytes(data, format or recognised(data, str(path), encoding), str(path), encoding)


def recognised(data: bytes, name: str = "file", encoding: str | None = None) -> str:
    """The format that most of a file's first rows have, by their keys.

    Raises:
        DataError: None that is known.
    """
    return format_of_rows(data, name, encoding)


def read_bytes(data: bytes, format: str, name: str = "file", encoding: str | None = None) -> Incoming:
    """The same for a file's content; ``name`` is what errors call it."""
    form = format_of(format)
    try:
        incoming = form.read(data if format == "parquet" else as_utf8(data, encoding))
    except DataError as error:
        where = f"{name}, {error.where}" if error.where else name
        raise DataError(
            error.what,
            where=where,
            expected=error.expected or f"rows with {form.columns}",
            fix=error.fix or "check the file",
        ) from None
    if not incoming.rows and format != "parquet":
        hint = advice(data, format, encoding)
        incoming = replace(incoming, notes=(*incoming.notes, *([] if hint is None else [hint])))
    if not incoming.rows and not incoming.rejected:
        raise DataError(
            "holds no rows", where=f"{name}, line 1", expected=f"rows with {form.columns}", fix="check the file"
        )
    return incoming


def write_out(
    judged: Judged,
    path: str | Path,
    format: str,
    *,
    adjudicated: Mapping[str, Mapping[str, Any]] | None = None,
) -> Written:
    """Write a project's current judgments; the same judgments give the same bytes, and the file is whole or not there.

    Args:
        judged: The project.
        path: File to write; one that is there is replaced.
        format: One of ``FORMATS``.
        adjudicated: Item -> final answer, which overrides the votes where a format has one verdict an item.

    Raises:
        UsageError: An unknown format, or no place for the file.
        DataError: Nothing can be written.
    """
    return put(Path(path), format_of(format).write(judged, adjudicated or {}))
