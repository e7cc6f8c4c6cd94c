"""One mirror of one run, kept in step with it: where it stands is beside it, in ``mirrors/TARGET.json``.

A step is written once a later one is there, so that all that belongs to it is in the files. A resume takes steps back:
a mirror that can do so goes back to that step, and any other is written anew from the run's files. So is one whose
process was killed, because nobody knows what of its last steps arrived.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from trueup.commands.live.cursor import Cursor
from trueup.commands.live.follow import Followed
from trueup.commands.mirrors.sink import Head, Sink, flat, open_sink
from trueup.errors import RunError
from trueup.ledger import read_lines, read_run, write_json
from trueup.ledger.alerts import alerts
from trueup.ledger.columns import number_of
from trueup.ledger.files import is_held
from trueup.ledger.mirrors import FOLDER, TARGETS

LOOK_SECONDS, LONGEST_WAIT = 1.0, 60.0
"""Between two looks at the run, and at most between two attempts at a mirror that cannot be written."""
SETTINGS = ("config", "inputs", "versions")
"""Parts of run.json that a mirror has as its settings."""


@dataclass(frozen=True, slots=True)
class State:
    """Where a mirror stands."""

    origin: str
    """The run in the directory, as a cursor names it."""
    resumes: int
    """Resumes that it knows of."""
    next: int
    """The first step that it does not have."""
    attempt: int
    """How often it was written anew."""
    open: bool
    """Whether a process was writing it."""
    status: str
    """The run's, when it was closed."""
    project: str
    remote: str | None


class Mirror:
    """A mirror that follows a run.

    Args:
        folder: The run directory.
        target: One of ``ledger.mirrors.TARGETS``.
        project: The name that the run is filed under.
        remote: Where it is sent instead of lying in the run directory.
        say: Takes each line for the user.
    """

    def __init__(self, folder: Path, target: str, project: str, remote: str | None, say: Callable[[str], None]) -> None:
        self._folder, self._target, self._project, self._remote, self._say = folder, target, project, remote, say
        self._title, self._sinks = TARGETS[target].title, open_sink(target)
        self._file = folder / FOLDER / f"{target}.json"
        self._sink: Sink | None = None
        self._followed, self._cursor = Followed(folder), Cursor("", 0, (0, 0))
        self._state = self._known()
        self.late = 0
        """Values that were written to the run after a later step, and so are not in the mirror."""

    def follow(self, *, once: bool) -> None:
        """Write what is new until the run has ended; with ``once`` what is there.

        What the tool's package raises is said once and tried again as long as the run goes on.

        Raises:
            RunError: The mirror is not complete at the end.
        """
        with self._alone():
            problem, wait = "", LOOK_SECONDS
            while True:
                record, live = self._live()
                ends = once or not live
                try:
                    self._look(record, final=not live)
                    if ends:
                        self._close(record)
                        return
                    if problem:
                        self._say(f"the mirror for {self._title} is written again; it has every step")
                    problem, wait = "", LOOK_SECONDS
                except Exception as error:  # whatever the tool's package raises: a mirror must not take anything along
                    self._sink, new = None, f"{type(error).__name__}: {error}"
                    if ends:
                        raise RunError(
                            f"the mirror for {self._title} is not complete: {new}",
                            where=str(self._folder),
                            fix="the same command writes what is missing",
                        ) from error
                    if not problem:
                        self._say(f"warning: the mirror for {self._title} cannot be written; it is tried again: {new}")
                    problem, wait = new, min(2 * wait, LONGEST_WAIT)
                until = time.monotonic() + wait
                while time.monotonic() < until and self._live()[1]:
                    time.sleep(LOOK_SECONDS)

    def _live(self) -> tuple[dict[str, Any], bool]:
        """run.json, and whether a process goes on writing the run."""
        record = read_run(self._folder)
        with contextlib.suppress(RunError):  # no locks here: the status alone has to tell
            return record, record["status"] == "running" and is_held(self._folder)
        return record, record["status"] == "running"

    @contextlib.contextmanager
    def _alone(self) -> Iterator[None]:
        """Wait until no other process writes this mirror."""
        self._file.parent.mkdir(exist_ok=True)
        with open(self._file.with_suffix(".lock"), "ab") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                self._say(f"another process writes the mirror for {self._title}; this one waits for it")
                fcntl.flock(lock, fcntl.LOCK_EX)
                self._state = self._known()
            yield

    def _known(self) -> State | None:
        """Where the mirror stood; None where there is none of this run at this place."""
        try:
            state = State(**json.loads(self._file.read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError):
            return None
        return state if (state.project, state.remote) == (self._project, self._remote) else None

    def _save(self, state: State) -> None:
        self._state = state
        write_json(self._file, asdict(state))

    def _look(self, record: dict[str, Any], *, final: bool) -> None:
        """Read on and write the steps that are whole; with ``final`` all steps are."""
        while self._sink is not None or self._begin(record, final=final):
            news = self._followed.news(self._cursor)
            if news.reset:  # a resume took steps back, or another run is here
                self._leave("running", record)
                continue
            for row in news.rows:
                self._take(row)
            if news.cursor == self._cursor:
                self._write(record, math.inf if final else self._newest[0])
                return
            self._cursor = news.cursor
            self._write(record, min(self._newest))

    def _begin(self, record: dict[str, Any], *, final: bool) -> bool:
        """Open the mirror where it stands, and read the run from its first step on; False where nothing is new."""
        self._cursor = self._followed.news(None).cursor
        self._steps: dict[int, dict[str, float]] = {}
        self._newest = [-1, -1]
        self._seconds, self._written = 0.0, -1
        origin, resumes = self._cursor.origin, self._cursor.resumes
        known = self._state if self._state is not None and self._state.origin == origin else None
        if known is None:
            self._open(State(origin, resumes, 0, 0, True, "", self._project, self._remote), record, new=True)
            return True
        self._followed.refresh()
        events, _ = read_lines(self._folder / "events.jsonl", damaged=[])
        rewinds = [event["step"] for event in events if event.get("event") == "rewind"][known.resumes : resumes]
        first, last = min([known.next, *rewinds]), self._followed.metrics.last_step
        stale = first < known.next or known.open
        if not stale and (last is None or last < first) and not (final and known.status != record["status"]):
            return False
        state = replace(known, resumes=resumes, next=first, open=True)
        if self._sinks.overwrites or (self._sinks.goes_on and not stale):
            self._open(state, record, new=False)
            return True
        head = self._head(record, known)
        try:
            self._sinks.forget(head, head.key(known.attempt))
        except Exception as error:  # it is the tool's own: the new one is written beside it
            self._say(f"warning: an earlier mirror for {self._title} cannot be removed: {error}")
        self._open(replace(state, next=0, attempt=known.attempt + 1), record, new=True)
        return True

    def _open(self, state: State, record: dict[str, Any], *, new: bool) -> None:
        self._save(state)
        head = self._head(record, state)
        self._sink = self._sinks(head, state.next, head.key(state.attempt), new=new)
        self._first = state.next

    def _head(self, record: dict[str, Any], state: State) -> Head:
        folder = self._folder / FOLDER / self._target
        folder.mkdir(exist_ok=True)
        events, _ = read_lines(self._folder / "events.jsonl", damaged=[])
        started = next((float(event["time"]) for event in events if "time" in event), 0.0)
        settings = flat({name: record.get(name, {}) for name in SETTINGS})
        settings = {name.removeprefix("config."): value for name, value in settings.items()}
        name = self._folder.resolve().name
        return Head(name, state.origin, record["kind"], settings, folder, self._project, self._remote, started)

    def _take(self, row: dict[str, Any]) -> None:
        """Add a row of either file to its step."""
        step, timing = row["step"], "seconds" in row
        if not isinstance(step, int):
            return
        values = {name: value for name, raw in row.items() if name != "step" and (value := number_of(raw)) is not None}
        if step <= self._written:
            self.late += len(values)
            return
        self._newest[timing] = max(self._newest[timing], step)
        named = {f"timing/{name}": value for name, value in values.items()} if timing else values
        self._steps.setdefault(step, {}).update(named)

    def _write(self, record: dict[str, Any], below: float) -> None:
        """Write the steps before ``below``, and the alerts that opened at them."""
        assert self._sink is not None
        assert self._state is not None
        whole = sorted(step for step in self._steps if step < below)
        if not whole:
            return
        self._followed.refresh()
        opened = alerts(self._followed.metrics, record["config"])
        for step in whole:
            values = self._steps.pop(step)
            self._seconds += max(0.0, values.get("timing/seconds", 0.0))
            self._written = step
            if step >= self._first:
                self._sink.step(step, values, self._seconds)
                for alert in opened:
                    if alert.step == step:
                        self._sink.alert(alert)
        if self._written < self._first:
            return
        self._sink.flush()
        self._save(replace(self._state, next=self._written + 1))

    def _leave(self, status: str, record: dict[str, Any]) -> None:
        """Close the mirror, which then has all that it was given."""
        if self._sink is not None and self._state is not None:
            self._sink.close(status, record.get("facts", {}))
            self._sink = None
            self._save(replace(self._state, open=False, status=status))

    def _close(self, record: dict[str, Any]) -> None:
        """Write how the run ended, and say where the mirror is."""
        place = "" if self._sink is None else f": {self._sink.place()}"
        self._leave(record["status"], record)
        steps = 0 if self._state is None else self._state.next
        self._say(f"{self._title}: {steps} steps{place or '; nothing was new'}")
        for count, what in ((self.late, "values came after their step"), (self._followed.left_out, "damaged lines")):
            if count:
                self._say(f"warning: {count} {what} and are not in the mirror for {self._title}")
