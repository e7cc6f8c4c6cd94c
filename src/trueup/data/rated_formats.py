"""Formats with one response and its ratings: HelpSteer and what is like it. Which columns are ratings is asked for."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, Unpack

from trueup.data.fields import SKIPPING, Fault, Row, checked_number, short
from trueup.data.formats import Doubt, Format, LeftOut, Made, Survey
from trueup.data.read import Loaded, Options, Reading
from trueup.data.single_formats import DEMONSTRATIONS
from trueup.data.sources import Given
from trueup.errors import DataError, nearest
from trueup.types import Demonstration, Rated

UNRATED = "a response without any of the ratings"


def read_rated(source: Given, ratings: Sequence[str], **options: Unpack[Options]) -> Loaded[Rated]:
    """Single responses with the numbers in the columns ``ratings``, in that order. See ``data.read.read_pairs``.

    A rating that is null, an empty cell or not in its row is None, and counted; a row without any is left out.

    Raises:
        DataError: As ``read_pairs``; also where no row has one of the columns.
    """
    return Reading(source, "rated responses", formats=rated_formats(ratings), **options).load()


def rated_formats(ratings: Sequence[str]) -> tuple[Format[Rated], ...]:
    """The formats of single responses, with the columns that ``ratings`` names."""
    names, made = tuple(ratings), []
    for f in DEMONSTRATIONS:
        if f.name in ("seed tasks", "text"):  # several responses to a row, and none with a prompt
            continue
        rated: Format[Rated] = Format(
            f.name, f.needs, partial(_rated, f.convert, names), (*f.uses, *names), f.when, note=f.note
        )
        made.append(replace(rated, settle=partial(_with_columns, rated, names)))
    return tuple(made)


def _rated(convert: Callable[[Row], Made[Any]], names: tuple[str, ...], row: Row) -> Made[Rated]:
    ratings = tuple(_rating(row, name) for name in names)
    for item in convert(row):
        if not isinstance(item, Demonstration):
            yield item
        elif all(rating is None for rating in ratings):
            yield LeftOut(UNRATED)
        else:
            yield from (Doubt(_missing(n)) for n, r in zip(names, ratings, strict=True) if r is None)
            yield Rated(item.prompt, item.completion, ratings, item.origin, item.weight)


def _missing(name: str) -> str:
    return f"no rating in {name!r}, which is not learned from there"


def _rating(row: Row, name: str) -> float | None:
    value = row.get(name)
    if value is None or (isinstance(value, str) and not value.strip()):
        return None
    if isinstance(value, float) and math.isnan(value):
        what = "NaN"
    else:
        try:
            return checked_number(value, name)
        except Fault:
            what = short(value)
    raise Fault(
        f"{name} is not a number",
        f"is {what}",
        field=name,
        expected="a finite number; null or an empty cell where there is no rating",
        fix=f"correct the row, or {SKIPPING}",
    )


def _with_columns(rated: Format[Rated], names: tuple[str, ...], survey: Survey) -> Format[Rated]:
    """The format, once every column was seen in some row; a null is a column that is there."""
    left, others = list(names), dict[str, None]()
    for _, row in survey.rows:
        others |= dict.fromkeys(name for name in row if name not in rated.columns())
        left = [name for name in left if name not in row]
        if not left:
            return rated
    raise DataError(
        f"there is no column {left[0]!r}",
        where=survey.report.source,
        expected=f"the columns of ratings that were asked for: {', '.join(names)}",
        fix=nearest(left[0], others),
    )
