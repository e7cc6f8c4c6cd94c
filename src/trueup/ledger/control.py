"""What somebody asks of a run that trains: to pause, or to end. One file in the run directory, ``control.json``.

Whoever asks writes it; the process that trains looks for it after each step, takes it away and does it. A request is
written only where a process that trains holds the run, so none waits for a later start.
"""

from __future__ import annotations

import contextlib
import json
import shlex
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias, get_args

from trueup.errors import NotAllowed, RunError, UsageError
from trueup.ledger.files import is_held, storage_error, write_json
from trueup.ledger.record import read_run

CONTROL = "control.json"
Action: TypeAlias = Literal["pause", "stop"]
ACTIONS: tuple[Action, ...] = get_args(Action)
MOST_NAME = 200
"""Characters of who asked."""


@dataclass(frozen=True, slots=True)
class Request:
    """Somebody wants a run to pause or to stop."""

    action: Action
    by: str
    """Who."""
    time: float
    """When, in seconds since 1970."""

    def to_dict(self) -> dict[str, Any]:
        """JSON form."""
        return asdict(self)


def is_allowed(record: Mapping[str, Any]) -> bool:
    """Whether the settings of a run let others pause and stop it."""
    return record["config"].get("control") is True


def request(folder: Path, action: Action, by: str) -> Request:
    """Ask the process that trains a run to pause or to stop it after its running step.

    Args:
        folder: The run directory.
        action: ``pause`` or ``stop``.
        by: Who asks; it is written into the run.

    Raises:
        NotAllowed: The settings of the run do not allow it.
        UsageError: The run has ended.
        RunError: No process here trains the run, or something was asked already; or the disk refuses.
    """
    record, where = read_run(folder), str(folder)
    if not is_allowed(record):
        raise NotAllowed(
            "this run does not allow it",
            where=where,
            expected="control: true in its settings",
            fix="it is set before a run starts: --set control=true; on the run's terminal Ctrl-C saves and leaves",
        )
    if record["status"] != "running":
        raise UsageError(f"this run is {record['status']}: there is nothing to {action}", where=where)
    if not is_held(folder):
        raise RunError(
            "no process here trains this run: it was killed, or it trains on another computer and is copied here",
            where=where,
            fix=f"go on: trueup resume {shlex.quote(where)}; or, if it trains elsewhere, ask there: trueup explore",
        )
    waiting = pending(folder)
    if waiting is not None:
        raise RunError(
            f"to {waiting.action} was asked already, by {waiting.by}",
            where=where,
            fix="wait until the running step is done",
        )
    asked = Request(action, by[:MOST_NAME], time.time())
    try:
        write_json(folder / CONTROL, asked.to_dict())
    except OSError as error:
        raise storage_error(error, f"the request to {action} cannot be written", folder) from error
    return asked


def pending(folder: Path) -> Request | None:
    """What was asked and not done yet; None where there is nothing, or nothing that can be read."""
    try:
        return _read(folder / CONTROL)
    except (OSError, ValueError):
        return None


def take(folder: Path) -> Request | None:
    """What was asked, which is then no longer waiting. For the process that trains; without a request it costs one
    question to the file system.

    Raises:
        ValueError: The file is not a request; it is removed.
    """
    file = folder / CONTROL
    if not file.exists():
        return None
    try:
        return _read(file)
    finally:
        with contextlib.suppress(OSError):
            file.unlink()


def _read(file: Path) -> Request:
    try:
        loaded = json.loads(file.read_text(encoding="utf-8"))
    except RecursionError:
        raise ValueError(f"{CONTROL} is nested too deeply") from None
    if not isinstance(loaded, dict) or loaded.get("action") not in ACTIONS:
        raise ValueError(f"{CONTROL} holds no action: {loaded!r:.80}")
    by, when = loaded.get("by"), loaded.get("time")
    if not isinstance(by, str) or isinstance(when, bool) or not isinstance(when, int | float):
        raise ValueError(f"{CONTROL} does not say who asked, and when")
    return Request(loaded["action"], by[:MOST_NAME], float(when))
