"""A run's numbers for other tools, as ``trueup mirror`` writes them."""

from __future__ import annotations

import contextlib
import sys
from pathlib import Path

from trueup.commands.api.runs import Run
from trueup.commands.mirrors.follow import Mirror
from trueup.errors import UsageError, nearest
from trueup.ledger import read_run
from trueup.ledger.mirrors import FOLDER, TARGETS, holds_key, require


def mirror(
    run: str | Path | Run,
    to: str,
    *,
    remote: str | None = None,
    project: str = "trueup",
    once: bool = False,
    quiet: bool = False,
) -> Path:
    """Copy a run's numbers for another tool; what the tool has already is not written twice.

    Args:
        run: The run, or its directory.
        to: ``tensorboard``, ``trackio``, ``wandb`` or ``mlflow``; its package must be installed.
        remote: Send it there: owner/space or a server of trackio, a user or team of W&B, MLflow's address. Without it
            nothing leaves this computer. Keys come from the environment.
        project: The name that the tool files the run under.
        once: Write what is there and return; else a run that trains is followed until it ends.
        quiet: Print only warnings.

    Returns:
        The folder of the mirror, in ``mirrors/`` of the run.

    Raises:
        UsageError: There is no run or no such tool, its package is not installed, or ``remote`` cannot be used.
        RunError: The mirror is not complete at the end.
    """
    folder = run.path if isinstance(run, Run) else Path(run)
    read_run(folder)
    if to not in TARGETS:
        raise UsageError(f"{to!r}", where="to", expected=f"one of {', '.join(TARGETS)}", fix=nearest(to, TARGETS))
    if remote is not None and to == "tensorboard":
        raise UsageError("TensorBoard reads files", where="remote", fix="leave it out, and copy the folder")
    if remote is not None and holds_key(remote):
        raise UsageError("the address holds a password or key", where="remote", fix="put it into the environment")
    require(to, "to")
    spoken = sys.stdout

    def say(line: str) -> None:
        if quiet and not line.startswith("warning: "):
            return
        with contextlib.suppress(OSError):  # who started this may be gone
            print(line, file=spoken, flush=True)

    with contextlib.redirect_stdout(sys.stderr):  # what the tool's package prints
        Mirror(folder, to, project, remote, say).follow(once=once)
    return folder / FOLDER / to
