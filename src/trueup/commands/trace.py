"""``trueup trace``: one pair or response, from its judgments to each step that trained on it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def trace(
    pair: Annotated[str, typer.Argument(help="Id or key of a pair or labelled response, or its beginning.")],
    runs: Annotated[list[Path], typer.Argument(help="Runs: runs/reward runs/dpo runs/kto runs/ppo")],
    db: Annotated[str | None, typer.Option("--db", help="Feedback store that the pairs came from.")] = None,
    models: Annotated[bool, typer.Option("--models", help="Open the models: likelihoods, rewards, gradients.")] = False,
    html: Annotated[Path | None, typer.Option("--html", help="Also write it as a page.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="For programs.")] = False,
) -> None:
    """Show one pair's whole life: who judged it and how, what it did at every step that trained on it, and what came of
    it.

    Example: `trueup trace 41e4d354 runs/reward runs/dpo --db feedback.db`
    """
    import json

    from trueup.commands.life import trace as follow
    from trueup.commands.life_text import format_text

    life = follow(pair, runs, db=db, models=models)
    if html is not None:
        from trueup.reports.trace import write_trace

        write_trace(life.to_dict(), html)
    typer.echo(
        json.dumps(life.to_dict(), indent=2, ensure_ascii=False) if as_json else format_text(life, models=models)
    )
