"""Columns of the data for rewards that ask for them, such as a reference answer or the kind of a prompt.

    def solved(prompts, completions, *, answer, kind=None): ...

A parameter after ``*`` is a column of the rows that the prompts come from, given as a list with a value for each
answer. Without a default every row must have it; ``**columns`` takes all that there are. What a reward was given is
known by the content of the prompt, so that prompts go on travelling alone.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar, runtime_checkable

from trueup.data.beside import PlacedRow, rows_beside
from trueup.data.read import Loaded
from trueup.data.sources import Given
from trueup.errors import DataError, UsageError, nearest
from trueup.rewards.protocol import Composite, Reward
from trueup.types import Prompt, content_id, prompt_json, prompt_text

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class ColumnsAsked:
    """The columns that a function asks for."""

    needed: tuple[str, ...] = ()
    optional: tuple[str, ...] = ()
    all_others: bool = False
    """Whether it takes whatever else there is; then without the names of its own parameters."""
    own: tuple[str, ...] = ()
    """Names of its parameters that are no columns."""

    def __bool__(self) -> bool:
        return bool(self.needed or self.optional or self.all_others)

    def among(self, there: Sequence[str]) -> tuple[str, ...]:
        """Those of the columns that are there which it takes."""
        named = (*self.needed, *self.optional)
        return tuple(n for n in there if n in named or (self.all_others and n not in self.own and n.isidentifier()))


def columns_asked(function: Callable[..., Any]) -> ColumnsAsked:
    """The columns that the signature of a reward names; none where it has no signature."""
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):
        return ColumnsAsked()
    after = [p for p in parameters if p.kind is p.KEYWORD_ONLY]
    return ColumnsAsked(
        tuple(p.name for p in after if p.default is p.empty),
        tuple(p.name for p in after if p.default is not p.empty),
        any(p.kind is p.VAR_KEYWORD for p in parameters),
        tuple(p.name for p in parameters if p.kind is not p.KEYWORD_ONLY),
    )


class ColumnStore:
    """What a reward was given of the columns that it asks for, by prompt.

    Args:
        name: The reward, as messages name it.
        asked: Its columns.
    """

    def __init__(self, name: str, asked: ColumnsAsked) -> None:
        self.name = name
        self.asked = asked
        self._names: tuple[str, ...] = ()
        self._rows: dict[str, PlacedRow] = {}

    def take(self, prompts: Sequence[Prompt], rows: Sequence[PlacedRow], source: str) -> tuple[str, ...]:
        """Take the columns of these prompts, in the place of those before; returns the names that are read.

        Raises:
            DataError: A column that is needed is missing, or a prompt stands in two rows with other values.
        """
        there = list(dict.fromkeys(name for _, row in rows for name in row))
        for name in self.asked.needed:
            self._require(name, rows, there, source)
        self._names = self.asked.among(there)
        known: dict[str, PlacedRow] = {}
        for prompt, (place, row) in zip(prompts, rows, strict=True):
            own = {name: row.get(name) for name in self._names}
            before = known.setdefault(_key(prompt), (place, own))
            if before[1] != own:
                differs = next(name for name in self._names if before[1][name] != own[name])
                raise DataError(
                    f"the prompt stands at {before[0]} too, with another {differs!r}",
                    where=f"{place}, {differs}",
                    expected=f"one row for each prompt, since {self.name} reads that column",
                    fix="keep one of them, put what tells them apart into the prompt, or make the value a list of both",
                )
        self._rows = known
        return self._names

    def _require(self, name: str, rows: Sequence[PlacedRow], there: Sequence[str], source: str) -> None:
        gap = next((place for place, row in rows if row.get(name) is None), None)
        if gap is None:
            return
        fix = f"add it, or give the parameter a default: {name}=None"
        if name not in there:
            expected = f"the column {name!r}; {nearest(name, there)}"
            raise DataError(f"the reward {self.name} asks for it", where=source, expected=expected, fix=fix)
        raise DataError(f"is missing, and the reward {self.name} asks for it", where=f"{gap}, {name}", fix=fix)

    @property
    def read(self) -> tuple[str, ...]:
        """Names of the columns that it was given."""
        return self._names

    def of(self, prompts: Sequence[Prompt]) -> dict[str, list[Any]]:
        """The columns as the function takes them, a value for each prompt.

        Raises:
            UsageError: A column that is needed was not given for a prompt.
        """
        if not self.asked:
            return {}
        rows = [self._rows.get(_key(prompt)) for prompt in prompts]
        if self.asked.needed and None in rows:
            prompt = prompts[rows.index(None)]
            raise UsageError(
                f"the reward asks for {', '.join(map(repr, self.asked.needed))}, and nobody gave it",
                where=f"{self.name}, prompt {prompt_text(prompt)[:80]!r}",
                expected="prompts from a file with that column",
                fix=f"give the parameter a default: {self.asked.needed[0]}=None",
            )
        return {name: [None if row is None else row[1][name] for row in rows] for name in self._names}


def _key(prompt: Prompt) -> str:
    return content_id(prompt_json(prompt))


@runtime_checkable
class Columned(Protocol):
    """A reward that may ask for columns."""

    columns: ColumnStore


def column_stores(reward: Reward) -> Iterator[ColumnStore]:
    """Of a reward and its members, those that ask for columns."""
    if isinstance(reward, Composite):
        for member in reward.members:
            yield from column_stores(member)
    elif isinstance(reward, Columned) and reward.columns.asked:
        yield reward.columns


def give_columns(
    reward: Reward,
    data: Given,
    loaded: Loaded[T],
    kept: Sequence[T],
    prompts: Sequence[Prompt],
    *,
    split: str | None = None,
) -> tuple[str, ...]:
    """Give a reward the columns that it asks for, of the rows behind the items that are used.

    Args:
        reward: Any reward.
        data: As the items were read from it.
        loaded: All that were read.
        kept: Those that are used.
        prompts: The prompt of each, as the reward will see it.
        split: Which split of a dataset.

    Returns:
        Names of the columns that are read; nothing, and no file is opened, where none is asked for.

    Raises:
        DataError: A column is missing; it names file and line.
    """
    stores = list(column_stores(reward))
    if not stores:
        return ()
    rows = rows_beside(data, loaded, kept, split=split)
    names = [name for store in stores for name in store.take(prompts, rows, loaded.report.source)]
    for name in names:
        loaded.report.unused_text.pop(name, None)
    loaded.report.unused_columns = tuple(name for name in loaded.report.unused_columns if name not in names)
    return tuple(dict.fromkeys(names))


def column_remarks(reward: Reward) -> list[str]:
    """What is to be said of the columns that rewards may read and that are not there."""
    return [
        f"{store.name}: there is no column {name!r}; its default is used"
        for store in column_stores(reward)
        for name in store.asked.optional
        if name not in store.read
    ]


def refuse_columns(reward: Reward, where: str) -> None:
    """Refuse a reward that needs columns where there is no row to take them from.

    Raises:
        UsageError: It does.
    """
    store = next((store for store in column_stores(reward) if store.asked.needed), None)
    if store is not None:
        raise UsageError(
            f"the reward {store.name} asks for the column {store.asked.needed[0]!r}; there is no row to take it from",
            where=where,
            expected="a file with that column",
            fix=f"give the parameter a default: {store.asked.needed[0]}=None",
        )
