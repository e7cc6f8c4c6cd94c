"""Tie a run directory, a stepper and a checkpoint together: save after a step, resume to the same bytes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from trueup.engine import checkpoint
from trueup.engine.step import Stepper
from trueup.ledger import Run


def resume(run: Run, stepper: Stepper) -> dict[str, Any]:
    """Restore the newest checkpoint of ``run`` into ``stepper`` and rewind the logs to it.

    Returns:
        What the recipe stored beside it (see ``saver``), empty for a new run.
    """
    found = checkpoint.load(run.path)
    if found is None:
        run.rewind(0, {})
        return {}
    stepper.restore(found.tensors, found.state["stepper"])
    run.rewind(found.step, found.state["positions"])
    extra: dict[str, Any] = found.state["extra"]
    return extra


def saver(run: Run, stepper: Stepper, extra: Callable[[], dict[str, Any]] = dict) -> Callable[[int], None]:
    """A function that checkpoints everything a resume needs; pass it to ``Run.steps``."""

    def save(done: int) -> None:
        state = {"stepper": stepper.state(), "positions": run.positions(), "extra": extra()}
        tensors = stepper.tensors()
        if run.writes:
            checkpoint.save(run.path, done, tensors, state)

    return save
