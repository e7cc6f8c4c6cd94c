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
    import shlex
    import sys

    from trueup.commands.compare_pages import compare_page, compare_sections
    from trueup.commands.measurements import compare_results, known_measurements
    from trueup.commands.run_groups import differing, group_runs
    from trueup.commands.sweep_run import results_of_sweep
    from trueup.errors import UsageError, nearest

    if bool(runs) == (sweep is not None):
        raise UsageError("runs or a sweep", where="trueup compare", expected="RUN RUN ..., or --sweep DIR")
    folders = tuple(evaluation or ())
    results = results_of_sweep(sweep, gold) if sweep else group_runs(runs or [], evaluations=folders, gold=gold)
    names = list(dict.fromkeys(result.name for result in results))
    if baseline is not None and baseline not in names:
        raise UsageError(f"no run {baseline!r}", where="--baseline", expected=nearest(baseline, names))
    decides = quality is not None or bool(known_measurements(results))
    comparison = compare_results(results, baseline or names[0], quality=quality) if decides else None
    sections = compare_sections(results, comparison, folders, samples)
    if html is not None:
        written = compare_page(html, results, comparison, sections, shlex.join(["trueup", *sys.argv[1:]]))
    if as_json:
        data = {"runs": [result.to_dict() for result in results], "settings": differing(results)}
        typer.echo(json.dumps({"comparison": comparison.to_dict() if comparison else None, **data}, indent=2))
        return
    for section in sections:
        if section.table is not None and section.heading in IN_TERMINAL:
            typer.echo(f"{section.heading}\n{section.table.plain()}\n")
    for line in comparison.conclusion if comparison else ["Nothing that all runs measured says which is better."]:
        typer.echo(line)
    if html is not None:
        typer.echo(str(written.html))
