"""Rows that remember what was read of them, so that whatever is not used can be said."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from trueup.data.json_rows import DEEPEST
from trueup.errors import DataError


class Watched(dict[str, Any]):
    """An object of a file that remembers which of its keys were read, in it and in the objects inside."""

    def __init__(self, value: Mapping[str, Any], depth: int = 0) -> None:
        super().__init__((name, watch(inner, depth + 1)) for name, inner in value.items())
        self.read: set[str] = set()

    def __getitem__(self, name: str) -> Any:
        self.read.add(name)
        return super().__getitem__(name)

    def get(self, name: str, default: Any = None) -> Any:
        """As ``dict.get``, and remembered."""
        self.read.add(name)
        return super().get(name, default)


def watch(value: Any, depth: int = 0) -> Any:
    """A value of a file with every object in it ``Watched``.

    Raises:
        DataError: It is nested more than ``DEEPEST`` deep.
    """
    if depth > DEEPEST:
        raise DataError(f"is nested more than {DEEPEST} deep", where="row", expected="a row of plain values")
    if isinstance(value, dict):
        return Watched(value, depth)
    return [watch(entry, depth + 1) for entry in value] if isinstance(value, list) else value


def plain(value: Any) -> Any:
    """The same value without the watching; all of it counts as read."""
    if isinstance(value, Watched):
        value.read |= set(value)
    if isinstance(value, dict):
        return {name: plain(dict.__getitem__(value, name)) for name in value}
    return [plain(entry) for entry in value] if isinstance(value, list) else value


def unread(value: Any, path: str = "") -> Iterator[str]:
    """Names of what nobody read and that holds something, with the names of the objects that it is in."""
    if isinstance(value, list):
        for entry in value:
            yield from unread(entry, path)
    if not isinstance(value, Watched):
        return
    for name in value:
        inner, place = dict.__getitem__(value, name), f"{path}.{name}" if path else str(name)
        if name in value.read:
            yield from unread(inner, place)
        elif inner not in (None, "", [], {}):
            yield place


def peek(row: Mapping[str, Any], name: str) -> Any:
    """A value without reading it: whatever looks at every column decides first which ones it uses."""
    return dict.get(row, name) if isinstance(row, dict) else row.get(name)
