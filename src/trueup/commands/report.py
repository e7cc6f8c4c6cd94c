"""``trueup report``: a self-contained report of one run."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from trueup.commands.options import Json


def report(
    run_directory: Annotated[Path, typer.Argument(help="Directory of one run.")],
    out: Annotated[Path | None, typer.Option("--out", help="Folder for report.html, .md and summary.json.")] = None,
    as_json: Json = False,
) -> None:
    """Write a self-contained report of one run.

    Example: `trueup report runs/dpo`
    """
    import json

    from trueup.reports.build import report_run

    written = report_run(run_directory, out)
    for problem in written.problems:
        typer.echo(f"warning: {problem}", err=True)
    files = {"html": str(written.html), "markdown": str(written.markdown), "summary": str(written.summary)}
    typer.echo(json.dumps({**files, **written.data}, indent=2, ensure_ascii=False) if as_json else files["html"])
