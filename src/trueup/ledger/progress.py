"""Progress with ETA: a live bar on a terminal, a line now and then elsewhere, nothing when quiet."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Mapping
from types import TracebackType
from typing import Any


def duration(seconds: float) -> str:
    """``75`` -> ``1:15``; hours only when there are any."""
    whole = round(max(0.0, seconds))
    hours, rest = divmod(whole, 3600)
    minutes, secs = divmod(rest, 60)
    return f"{hours}:{minutes:02d}:{secs:02d}" if hours else f"{minutes}:{secs:02d}"


def warn(what: str) -> None:
    """One line on stderr that does not stop the work. Of several processes of a job the first one speaks."""
    if os.environ.get("RANK", "0") == "0":
        print(f"warning: {what}", file=sys.stderr, flush=True)


class Progress:
    """Shows steps done of total, elapsed time, ETA and a few numbers. Writes to stderr only."""

    def __init__(self, title: str, total: int, done: int = 0, *, quiet: bool = False, every_s: float = 10.0) -> None:
        self.title = title
        self.total = total
        self.first = done
        self.quiet = quiet
        self.every_s = every_s
        self._live: Any = None
        self._task: Any = None
        self._started = time.perf_counter()
        self._spoke = self._started

    def __enter__(self) -> Progress:
        if not self.quiet and sys.stderr.isatty():
            from rich.console import Console
            from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
            from rich.progress import Progress as Bar

            self._live = Bar(
                TextColumn("{task.description:>8}"),
                BarColumn(bar_width=24),
                MofNCompleteColumn(),
                TimeElapsedColumn(),
                TextColumn("eta"),
                TimeRemainingColumn(),
                TextColumn("{task.fields[numbers]}"),
                console=Console(stderr=True),
            )
            self._live.start()
            self._task = self._live.add_task(self.title, total=self.total, completed=self.first, numbers="")
        return self

    def update(self, done: int, numbers: Mapping[str, float]) -> None:
        """Report that ``done`` steps are finished."""
        text = "  ".join(f"{name} {value:.4g}" for name, value in numbers.items())
        if self._live is not None:
            self._live.update(self._task, completed=done, numbers=text)
            return
        now = time.perf_counter()
        if not self.quiet and (done == self.total or now - self._spoke >= self.every_s):
            self._spoke = now
            spent = now - self._started
            left = spent / max(1, done - self.first) * (self.total - done)
            line = f"{self.title} {done}/{self.total}  {duration(spent)} eta {duration(left)}  {text}"
            try:
                print(line.rstrip(), file=sys.stderr, flush=True)
            except OSError:  # nobody reads any more; training goes on
                self.quiet = True

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live is not None:
            self._live.stop()
