"""``trueup plan``: what a recipe will cost."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def plan(
    recipe: Annotated[Path, typer.Argument(help="YAML file with `stages`, as `trueup run` takes it.")],
    steps: Annotated[int, typer.Option("--steps", min=3, help="Real steps taken of each stage.")] = 6,
    on: Annotated[str | None, typer.Option("--on", help="Count for this GPU instead: h100, a100, rtx4090, ...")] = None,
    gpus: Annotated[int | None, typer.Option("--gpus", min=1, help="With --on: so many; else the fewest.")] = None,
    model: Annotated[
        str | None, typer.Option("--as", help="With --on: every model has this shape (llama-3.1-8b, a directory).")
    ] = None,
    rows: Annotated[int | None, typer.Option("--rows", min=1, help="With --on: rows of data of each stage.")] = None,
    tokens: Annotated[
        int | None,
        typer.Option("--tokens", min=3, help="With --on: tokens of a row, a third the prompt's."),
    ] = None,
    efficiency: Annotated[
        float | None,
        typer.Option("--efficiency", min=0.01, max=1.0, help="With --on: share of the peak; .35 unless given."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Machine-readable.")] = False,
) -> None:
    """Say what a recipe will cost in time and memory, by taking a few real steps of each stage.

    With --on nothing is run: memory and time on a GPU that is not here are counted from the model's shape.

    Example: `trueup plan recipe.yaml`, `trueup plan recipe.yaml --on h100 --as llama-3.1-8b`
    """
    import json

    if on is not None:
        from trueup.commands import estimate
        from trueup.commands.hardware import accelerator

        share = efficiency or estimate.EFFICIENCY
        asked = estimate.Asked(accelerator(on), gpus, model, rows, tokens, share)
        counted = estimate.estimate(recipe, asked)
        shown = json.dumps([one.to_dict() for one in counted], indent=2) if as_json else estimate.table(counted, asked)
        typer.echo(shown)
        return
    alone = {"--gpus": gpus, "--as": model, "--rows": rows, "--tokens": tokens, "--efficiency": efficiency}
    given = [name for name, value in alone.items() if value is not None]
    if given:
        from trueup.errors import UsageError

        raise UsageError(f"{given[0]} without --on", where="command line", fix="--on h100, say; or leave it out")
    from trueup.commands.costs import plan as measure
    from trueup.commands.costs import table

    costs = measure(recipe, steps=steps, tell=lambda line: typer.echo(line, err=True))
    typer.echo(json.dumps([c.to_dict() for c in costs], indent=2) if as_json else table(costs))
