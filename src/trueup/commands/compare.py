"""``trueup compare``: runs side by side."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from trueup.commands.options import Json

IN_TERMINAL = ("Quality", "Cost and steadiness", "Settings that differ")
"""What is printed; the page has more."""


def compare(
    runs: Annotated[list[str] | None, typer.Argument(help="Run directories, or NAME=RUN.")] = None,
    sweep: Annotated[Path | None, typer.Option("--sweep", help="All variants of this sweep instead.")] = None,
    evaluation: Annotated[
        list[Path] | None,
        typer.Option("--evaluation", help="What `trueup evaluate` wrote of their models; repeatable."),
    ] = None,
    baseline: Annotated[str | None, typer.Option("--baseline", help="What the others are compared with.")] = None,
    quality: Annotated[str | None, typer.Option("--quality", help="The measurement that decides.")] = None,
    gold: Annotated[str | None, typer.Option("--gold", help="The truth: sandbox, or package.module:function.")] = None,
    samples: Annotated[int, typer.Option("--samples", min=0, help="Prompts whose answers are shown.")] = 6,
    html: Annotated[Path | None, typer.Option("--html", help="Folder for report.html, .md and summary.json.")] = None,
    as_json: Json = False,
) -> None:
    """Compare runs: quality with intervals, KL, time, memory, steadiness over seeds, settings that differ, answers.

    Runs that differ in nothing but their seeds are repetitions of one.

    Example: `trueup compare runs/dpo runs/ppo --evaluation runs/test --html runs/dpo-ppo`
    """
    import json

    from trueup.commands.api.comparing import compare as side_by_side

    compared = side_by_side(
        runs or (),
        sweep=sweep,
        evaluations=evaluation or (),
        baseline=baseline,
        quality=quality,
        gold=gold,
        samples=samples,
        out=html,
    )
    for problem in compared.problems:
        typer.echo(f"warning: {problem}", err=True)
    if as_json:
        typer.echo(json.dumps(compared.to_dict(), indent=2))
        return
    for heading, table in compared.page.tables.items():
        if heading in IN_TERMINAL:
            typer.echo(f"{heading}\n{table.plain()}\n")
    for line in compared.sentences:
        typer.echo(line)
    if html is not None:
        typer.echo(str(html / "report.html"))
