"""``trueup frontier``: what is gained for how much KL."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from trueup.commands.options import Json


def frontier(
    runs: Annotated[list[str] | None, typer.Argument(help="Runs (RUN or NAME=RUN), and evaluations.")] = None,
    sweep: Annotated[Path | None, typer.Option("--sweep", help="All variants of this sweep.")] = None,
    evaluation: Annotated[
        list[Path] | None, typer.Option("--evaluation", help="What `trueup evaluate` wrote of the runs; repeatable.")
    ] = None,
    gold: Annotated[str | None, typer.Option("--gold", help="The truth: sandbox, or package.module:function.")] = None,
    out: Annotated[Path, typer.Option("--out", help="Folder of the page.")] = Path("runs/frontier"),
    as_json: Json = False,
) -> None:
    """Draw quality and reward over KL: paths along training, evaluations, best-of-n, the front, where gold turns over.

    Example: `trueup frontier --sweep runs/betas --gold sandbox --out runs/frontier`
    """
    from trueup.commands.api.comparing import frontier as drawn
    from trueup.commands.frontier_pages import ENDS

    result = drawn(runs or (), sweep=sweep, evaluations=evaluation or (), gold=gold, out=out)
    if as_json:
        typer.echo((out / "summary.json").read_text(encoding="utf-8"))
        return
    typer.echo(result.page.tables[ENDS].plain())
    for line in result.sentences:
        typer.echo(line)
    typer.echo(str(out / "report.html"))
