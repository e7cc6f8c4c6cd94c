"""``trueup hacking``: whether a run games its reward, by the three signs of the course's document."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from trueup.commands.options import Json

if TYPE_CHECKING:
    from trueup.commands.api.hacking import RunHacking


def hacking(
    run_directory: Annotated[Path, typer.Argument(help="Directory of a run that optimised a reward, such as ppo.")],
    judge: Annotated[
        str | None,
        typer.Option(
            "--judge",
            help="Who judges the quality of the probe answers: gold, reward:PATH, implicit:RUN, python:module:name. "
            "Default: gold where the prompts are the sandbox's.",
        ),
    ] = None,
    quality: Annotated[
        Path | None, typer.Option("--quality", help="Judged by people: JSON lines with step and quality.")
    ] = None,
    kl_limit: Annotated[
        float | None, typer.Option("--kl-limit", min=0.0, help="Nats; default: twice the run's KL target, else 12.")
    ] = None,
    html: Annotated[Path | None, typer.Option("--html", help="Also write it as a page: one file.")] = None,
    as_json: Json = False,
) -> None:
    """Say whether a run games its reward: quality falls, outputs degenerate, the policy runs away.

    Example: `trueup hacking runs/ppo --judge reward:runs/judge/final --html hacking.html`
    """
    import json

    from trueup.commands.api.hacking import hacking as look

    result = look(run_directory, judge=judge, quality=quality, kl_limit=kl_limit)
    for problem in result.problems:
        typer.echo(f"warning: {problem}", err=True)
    if html is not None:
        result.page.write_html(html)
    if as_json:
        typer.echo(json.dumps(result.to_dict(), indent=2, ensure_ascii=False))
        return
    _show(result)
    if html is not None:
        typer.echo(str(html))


SHOWN = 200
"""Characters of an example."""


def _show(result: RunHacking) -> None:
    from trueup.commands.api.hacking import OPENINGS

    found = result.hacking
    typer.secho(f"{result.run}: {OPENINGS[found.verdict]}", bold=True)
    for sentence in found.sentences:
        typer.echo(f"  {sentence}")
    if result.point_step is not None:
        typer.echo(f"  The last good evaluation was at step {result.point_step}.")
    for note in result.notes:
        typer.echo(f"  {note}")
    if found.advice:
        typer.echo("What helps:")
        for line in found.advice:
            typer.echo(f"  - {line}")
    if result.examples:
        typer.echo(f"Highly rewarded at the end, and {'worst' if found.quality is not None else 'to read'}:")
        for example in result.examples:
            worth = "" if example["quality"] is None else f", quality {example['quality']:+.2f}"
            typer.echo(f"  reward {example['score']:+.2f}{worth}  {example['question']}")
            text = " ".join(example["completion"].split())
            typer.echo(f"    {text if len(text) <= SHOWN else text[:SHOWN] + ' ...'}")
