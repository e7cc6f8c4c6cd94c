"""``trueup sweep``: a chain of stages with settings crossed or listed."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from trueup.commands.options import Json


def sweep(
    recipe: Annotated[Path, typer.Argument(help="YAML file with `stages` and `sweep`.")],
    jobs: Annotated[int, typer.Option("--jobs", min=1, help="Stages that run at once, each in its process.")] = 1,
    out: Annotated[Path | None, typer.Option("--out", help="Directory of the sweep; by default the file's.")] = None,
    fresh: Annotated[bool, typer.Option("--fresh", help="Move runs whose inputs changed aside, start anew.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be run and stop.")] = False,
    as_json: Json = False,
) -> None:
    """Run a chain of stages for every choice of settings, and say which choice is better, if any is.

    Stages that do not differ are shared, what is done is skipped, what was cut off is resumed. A variant that fails is
    said, the others go on, and the exit code is 1.

    Example: `trueup sweep recipe.yaml --jobs 2`
    """

    from trueup.commands.sweep_pages import variants_table
    from trueup.commands.sweep_plan import read_sweep
    from trueup.commands.sweep_run import run_sweep

    plan = read_sweep(recipe, out)
    if dry_run:
        for variant in plan.variants:
            typer.echo(
                f"{variant.name}; seed {variant.seed}: {', '.join(j.folder.name for j in variant.jobs.values())}"
            )
        typer.echo(f"{len(plan.variants)} variants, {len(plan.jobs)} stages in {plan.out}")
        return
    done = run_sweep(plan, jobs=jobs, fresh=fresh, tell=lambda line: typer.echo(line, err=as_json))
    if as_json:
        typer.echo(done.written.summary.read_text(encoding="utf-8"))
    else:
        if done.comparison is not None:
            typer.echo(variants_table(done.results, done.comparison).plain())
            for line in done.comparison.conclusion:
                typer.echo(line)
        typer.echo(str(done.written.html))
    if done.failures:
        typer.echo(f"{len(done.failures)} stage(s) failed: {', '.join(done.failures)}", err=True)
        raise typer.Exit(1)
