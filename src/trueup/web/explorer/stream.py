"""Server-sent events: what is new in some runs, with the place that was reached as the id of each event.

The id is the cursors of the runs, in the order in which they were asked for. A browser that comes back sends the last
id that it saw, to this server or to the next one, and gets what came after it, once.
"""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import AsyncIterator, Sequence
from typing import Any

from anyio.to_thread import run_sync

from trueup.errors import TrueupError
from trueup.web.explorer.source import Source

PAUSE = 0.3
"""Seconds between two looks at the files; a look costs a few calls of the system for each run."""
ALIVE = 10.0
"""Seconds after which something is said even if nothing is new, and the list of runs is looked at."""
LISTED = 2.0
BETWEEN = "~"
"""Stands between the cursors of an id."""


class Follower:
    """What one browser knows of some runs.

    Args:
        source: Who reads the runs.
        names: The runs.
        after: Id of the last event that the browser saw; empty for none.
    """

    def __init__(self, source: Source, names: Sequence[str], after: str) -> None:
        self.source, self.names = source, list(names)
        parts = after.split(BETWEEN) if after else []
        self.cursors: list[str | None] = [*parts] if len(parts) == len(self.names) else [None] * len(self.names)
        self._states: dict[str, str] = {}
        self._lines = ""
        self._listed, self._alive = 0.0, time.monotonic()

    def look(self) -> list[str]:
        """The events by now, as text for the wire."""
        events, now = [], time.monotonic()
        due = now - self._listed > LISTED
        for number, name in enumerate(self.names):
            rows = self._rows(number, name)
            events += rows
            if rows or due:
                events += self._state(name)
        if due:
            events += self._list()
            self._listed = now
        if not events and now - self._alive > ALIVE:
            events = [": still here\n\n"]
        if events:
            self._alive = now
        return events

    def _rows(self, number: int, name: str) -> list[str]:
        try:
            news = self.source.news(name, self.cursors[number])
        except TrueupError as error:
            return self._changed(name, {"run": name, "gone": str(error)}, "gone")
        if not news.rows and not news.reset and self.cursors[number] == str(news.cursor):
            return []
        self.cursors[number] = str(news.cursor)
        data = {"run": name, "rows": [dict(row) for row in news.rows]}
        return [event("reset" if news.reset else "rows", data, BETWEEN.join(map(str, self.cursors)))]

    def _state(self, name: str) -> list[str]:
        try:
            return self._changed(name, {"run": name, **self.source.state(name)}, "state")
        except TrueupError as error:
            return self._changed(name, {"run": name, "gone": str(error)}, "gone")

    def _changed(self, name: str, data: dict[str, Any], kind: str) -> list[str]:
        text = event(kind, data)
        if self._states.get(name) == text:
            return []
        self._states[name] = text
        return [text]

    def _list(self) -> list[str]:
        lines = self.source.runs()
        text = event("runs", {"runs": lines})
        shape = json.dumps([{**line, "written": 0} for line in lines])
        if shape == self._lines:
            return []
        self._lines = shape
        return [text]


def event(kind: str, data: Any, cursor: str | None = None) -> str:
    """One event. Its data is ASCII on one line, so nothing in it can begin another."""
    head = "" if cursor is None else f"id: {cursor}\n"
    return f"{head}event: {kind}\ndata: {json.dumps(data, ensure_ascii=True, allow_nan=False)}\n\n"


async def stream(follower: Follower, closing: threading.Event) -> AsyncIterator[bytes]:
    """Look and tell, until the server ends or the browser goes, which cancels this."""
    yield b"retry: 1000\n\n"
    while not closing.is_set():
        for text in await run_sync(follower.look):
            yield text.encode("ascii")
        await asyncio.sleep(PAUSE)
