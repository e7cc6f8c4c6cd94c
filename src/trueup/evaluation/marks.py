"""What held-out data says of a prompt beside its text: its kind, whether it is safe to answer, reference answers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from trueup.data.beside import rows_beside
from trueup.data.read import Loaded
from trueup.data.sources import Given
from trueup.errors import DataError, nearest
from trueup.types import Prompt

KIND, SAFE = ("kind",), ("safe", "prompt_label")
REFERENCES = ("reference", "references", "answer", "answers", "target", "output", "completion", "response")
"""Columns that are read where nobody names one: the first that is there."""
_SAFE_WORDS = {
    "safe": True,
    "true": True,
    "yes": True,
    "1": True,
    "unsafe": False,
    "false": False,
    "no": False,
    "0": False,
}


@dataclass(frozen=True, slots=True)
class Columns:
    """The columns of the data to look at; None looks for the usual names."""

    kind: str | None = None
    safe: str | None = None
    references: str | None = None


@dataclass(frozen=True, slots=True)
class Marks:
    """One entry for each prompt that is used."""

    kinds: list[str] | None
    safe: list[bool] | None
    references: list[tuple[str, ...]] | None
    columns: Columns
    """Those that were read."""


def read_marks(
    data: Given, loaded: Loaded[Prompt], kept: Sequence[Prompt], wanted: Columns, *, split: str | None = None
) -> Marks:
    """The marks of the prompts that are used.

    Args:
        data: As the prompts were read from it.
        loaded: All prompts that were read.
        kept: Those of them that are used, in order.
        wanted: The columns.
        split: Which split of a dataset.

    Raises:
        DataError: A column that was named is not there; a value is missing or is not what it should be.
    """
    rows = rows_beside(data, loaded, kept, split=split)
    there = list(dict.fromkeys(name for _, row in rows for name in row))
    chosen = Columns(
        _column("kind", wanted.kind, KIND, there),
        _column("safe", wanted.safe, SAFE, there),
        _column("references", wanted.references, REFERENCES, there),
    )
    return Marks(
        [_kind(row, chosen.kind, place) for place, row in rows] if chosen.kind else None,
        [_safe(row, chosen.safe, place) for place, row in rows] if chosen.safe else None,
        _references(rows, chosen.references, strict=wanted.references is not None) if chosen.references else None,
        chosen,
    )


def _column(what: str, wanted: str | None, usual: Sequence[str], there: Sequence[str]) -> str | None:
    if wanted is None:
        return next((name for name in usual if name in there), None)
    if wanted not in there:
        raise DataError(f"there is no column {wanted!r}", where=f"column of {what}", expected=nearest(wanted, there))
    return wanted


def _kind(row: Mapping[str, Any], column: str, place: str) -> str:
    value = row.get(column)
    if not isinstance(value, (str, int)):
        raise DataError(f"is {value!r}"[:80], where=f"{place}, {column}", expected="a word that names a kind of prompt")
    return str(value)


def _safe(row: Mapping[str, Any], column: str, place: str) -> bool:
    said = str(row.get(column)).strip().lower()
    if said not in _SAFE_WORDS:
        raise DataError(f"is {row.get(column)!r}"[:80], where=f"{place}, {column}", expected=" or ".join(_SAFE_WORDS))
    return _SAFE_WORDS[said]


def _references(
    rows: Sequence[tuple[str, Mapping[str, Any]]], column: str, *, strict: bool
) -> list[tuple[str, ...]] | None:
    """Reference answers of each prompt. A column that nobody named, and that holds something else, is left alone."""
    references = []
    for place, row in rows:
        value = row.get(column)
        texts = tuple(value) if isinstance(value, (list, tuple)) else (value,)
        if not texts or not all(isinstance(text, str) and text.strip() for text in texts):
            if not strict:
                return None
            raise DataError(
                f"is {value!r}"[:80], where=f"{place}, {column}", expected="a reference answer, or a list of them"
            )
        references.append(texts)
    return references
