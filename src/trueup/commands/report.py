"""``trueup report``: a self-contained report of one run."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from trueup.commands.options import Json


def report(
    run_directory: Annotated[Path, typer.Argument(help="Directory of one run.")],
    out: Annotated[Path | None, typer.Option("--out", help="Folder for report.html, .md and summary.json.")] = None,
    evaluation: Annotated[
        Path | None, typer.Option("--evaluation", help="What `trueup evaluate` wrote: is the run's model better?")
    ] = None,
    model: Annotated[str | None, typer.Option("--model", help="What that evaluation calls the run's model.")] = None,
    as_json: Json = False,
) -> None:
    """Write a self-contained report of one run: what is asked of it and whether it is met, curves, answers,
    signs of reward hacking, pairs to trace, settings.

    Example: `trueup report runs/ppo --evaluation runs/test`
    """
    import json

    from trueup.commands.run_report import write_run_report

    written = write_run_report(run_directory, out, evaluation=evaluation, model=model)
    for problem in written.problems:
        typer.echo(f"warning: {problem}", err=True)
    files = {"html": str(written.html), "markdown": str(written.markdown), "summary": str(written.summary)}
    typer.echo(json.dumps({**files, **written.data}, indent=2, ensure_ascii=False) if as_json else files["html"])
