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
    from trueup.commands.api.mirroring import mirror as copy

    copy(run_directory, to.value, remote=remote, project=project, once=once)
