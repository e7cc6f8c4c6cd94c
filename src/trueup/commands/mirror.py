"""``trueup mirror``: copy a run's numbers for another tool, while it trains or afterwards."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from trueup.ledger.mirrors import TARGETS

To = StrEnum("To", list(TARGETS))  # type: ignore[misc]


def mirror(
    run_directory: Annotated[Path, typer.Argument(help="Directory of one run.")],
    to: Annotated[To, typer.Option("--to", help="For which tool.")],
    remote: Annotated[
        str | None,
        typer.Option(
            "--remote",
            help="Send it there: owner/space or a server of trackio, a user or team of W&B, MLflow's address.",
        ),
    ] = None,
    project: Annotated[str, typer.Option("--project", help="The name that the tool files it under.")] = "trueup",
    once: Annotated[bool, typer.Option("--once", help="Write what is there, and end.")] = False,
) -> None:
    """Copy a run's numbers for TensorBoard, trackio, Weights & Biases or MLflow; what it has is not written twice.

    It follows a run that trains, until that ends. The copy lies in `mirrors/` of the run, and nothing leaves this
    computer without `--remote`; keys come from the environment. `--set log.tensorboard=true` does it from the start.

    Example: `trueup mirror runs/ppo --to tensorboard`, then `tensorboard --logdir runs/ppo`
    """
    import contextlib
    import sys

    from trueup.errors import UsageError
    from trueup.ledger import read_run
    from trueup.ledger.mirrors import holds_key, require

    read_run(run_directory)
    target = to.value
    if remote is not None and target == "tensorboard":
        raise UsageError("TensorBoard reads files", where="--remote", fix="leave it out, and copy the folder")
    if remote is not None and holds_key(remote):
        raise UsageError("the address holds a password or key", where="--remote", fix="put it into the environment")
    require(target, "--to")
    from trueup.commands.mirrors.follow import Mirror

    spoken = sys.stdout

    def say(line: str) -> None:
        with contextlib.suppress(OSError):  # who started this may be gone
            print(line, file=spoken, flush=True)

    with contextlib.redirect_stdout(sys.stderr):  # what the tool's package prints
        Mirror(run_directory, target, project, remote, say).follow(once=once)
