"""``trueup resume``: go on with a run, or check whether it can be gone on with."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from trueup.commands.training import train


def resume(
    run_directory: Annotated[Path, typer.Argument(help="Directory of a run that was cut off.")],
    verify: Annotated[
        bool, typer.Option("--verify", help="Check every hash of the run and stop; nothing is written.")
    ] = False,
    start_from: Annotated[
        str | None, typer.Option("--from", help="Go on from this older checkpoint: --from step-00000100")
    ] = None,
    accept_damage: Annotated[
        bool, typer.Option("--accept-damaged-logs", help="Go on although a log is not what was saved.")
    ] = False,
    quiet: Annotated[bool, typer.Option("--quiet", help="No progress.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Machine-readable.")] = False,
) -> None:
    """Go on with a run from its newest checkpoint, with the settings in its run.json.

    Example: `trueup resume runs/dpo`, or `trueup resume runs/dpo --verify`
    """
    from trueup.errors import CheckpointError, UsageError

    if not verify:
        from trueup.recipes.registry import settings_of

        kind, config = settings_of(run_directory)
        options = {"start_from": start_from, "accept_damage": accept_damage, "quiet": quiet}
        train(kind, config, run_directory, as_json=as_json, **options)
        return
    if start_from is not None or accept_damage:
        raise UsageError(
            "--verify only looks, at all checkpoints",
            where="trueup resume",
            fix="drop --from and --accept-damaged-logs",
        )
    from trueup.engine.resume import inspect_run

    state = inspect_run(run_directory)
    typer.echo(json.dumps(state.to_dict(), indent=2) if as_json else state.format_text())
    if state.problem is not None:
        raise CheckpointError(state.problem, where=str(run_directory), fix=state.fix)
