"""``trueup plan``: what a recipe will cost."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def plan(
    recipe: Annotated[Path, typer.Argument(help="YAML file with `stages`, as `trueup run` takes it.")],
    steps: Annotated[int, typer.Option("--steps", min=3, help="Real steps taken of each stage.")] = 6,
    as_json: Annotated[bool, typer.Option("--json", help="Machine-readable.")] = False,
) -> None:
    """Say what a recipe will cost in time and memory, by taking a few real steps of each stage.

    Example: `trueup plan recipe.yaml`
    """
    import json

    from trueup.commands.costs import plan as measure
    from trueup.commands.costs import table

    costs = measure(recipe, steps=steps, tell=lambda line: typer.echo(line, err=True))
    typer.echo(json.dumps([c.to_dict() for c in costs], indent=2) if as_json else table(costs))
