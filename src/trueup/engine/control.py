"""What a run that trains does when somebody asks it to pause or to end (``ledger.control``)."""

from __future__ import annotations

from typing import Any, TypeVar

from trueup.engine.loop import Loop
from trueup.engine.processes import from_first, rank
from trueup.ledger import Run
from trueup.ledger.control import Request, take
from trueup.ledger.progress import warn

T = TypeVar("T")


def obey(run: Run, step: int, loop: Loop[T], *, allowed: bool) -> bool:
    """Pause the loop after this step if somebody asked for it, or say that the run is to end with it: then True.

    In a job of several processes the first one looks, and tells the others.

    Args:
        run: The run.
        step: The step that was just taken.
        loop: Its loop.
        allowed: Whether the settings of the run let others do this; else nobody looks.
    """
    asked = from_first(lambda: _take(run)) if allowed else None
    if asked is None:
        return False
    facts: dict[str, Any] = {"step": step, "by": asked.by, "asked": asked.time}
    run.event("control", action=asked.action, **facts)
    if asked.action == "pause":
        run.note(paused=facts)
        loop.pause(f"{asked.by} asked for it", f"the same command goes on from here, or: trueup resume {run.path}")
        return False
    run.note(stopped=facts)
    if rank() == 0:
        warn(f"step {step}: the run ends here, as {asked.by} asked; final/ holds the model as it is now")
    return True


def _take(run: Run) -> Request | None:
    try:
        return take(run.path)
    except (OSError, ValueError) as error:
        run.event("control_refused", problem=str(error))
        warn(f"{run.path}: what was asked of this run cannot be read, and nothing was done: {error}")
        return None
