"""``trueup run``: a chain of stages from a file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from trueup.commands.options import Quiet


def run(
    recipe: Annotated[Path, typer.Argument(help="YAML file with `stages`.")],
    fresh: Annotated[bool, typer.Option("--fresh", help="Move runs whose settings changed aside, start anew.")] = False,
    quiet: Quiet = False,
) -> None:
    """Run a chain of stages; what is done and unchanged is skipped, what was cut off is resumed.

    Example: `trueup run recipe.yaml`
    """
    from trueup.commands.pipeline import read_recipe, run_stages

    out, stages = read_recipe(recipe)
    run_stages(out, stages, fresh=fresh, quiet=quiet, tell=typer.echo)
