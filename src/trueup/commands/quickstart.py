"""``trueup quickstart``: the whole way on the embedded sandbox."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from trueup.commands.options import Quiet


def quickstart(
    out: Annotated[Path, typer.Option("--out", help="Folder for data, runs and report.")] = Path("runs/quickstart"),
    seed: Annotated[int, typer.Option("--seed", min=0, help="World, annotators, weights and sampling.")] = 0,
    smoke: Annotated[bool, typer.Option("--smoke", help="Seconds instead of minutes; proves nothing.")] = False,
    from_scratch: Annotated[
        bool, typer.Option("--from-scratch", help="Train the base model first, about half an hour more.")
    ] = False,
    quiet: Quiet = False,
) -> None:
    """Run the whole pipeline on the embedded sandbox: labels, SFT, reward model, PPO, DPO, evaluation, report.

    Example: `trueup quickstart --seed 1 --out runs/seed-1`
    """
    from trueup.commands.sandbox_recipe import DEFAULT, SMOKE
    from trueup.commands.walkthrough import quickstart as walk

    walk(out, seed=seed, size=SMOKE if smoke else DEFAULT, from_scratch=from_scratch, quiet=quiet, tell=typer.echo)
