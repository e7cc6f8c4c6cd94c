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
    import shlex
    import sys

    from trueup.commands.frontier_data import gather
    from trueup.commands.frontier_pages import frontier_page
    from trueup.errors import UsageError

    if not runs and sweep is None:
        raise UsageError("nothing to draw", where="trueup frontier", expected="RUN ..., or --sweep DIR")
    tradeoff = gather(runs or [], sweep, evaluation or (), gold)
    page = frontier_page(out, tradeoff, shlex.join(["trueup", *sys.argv[1:]]))
    if as_json:
        typer.echo(page.written.summary.read_text(encoding="utf-8"))
        return
    typer.echo(page.table.plain())
    for line in page.verdict:
        typer.echo(line)
    typer.echo(str(page.written.html))
