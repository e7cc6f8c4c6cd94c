"""The command that turns judgments into training data; ``cli`` registers it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from trueup.feedback.records import DEFAULT_METHOD


def curate(
    project: Annotated[str, typer.Argument(help="Id or name of the project.")],
    db: Annotated[str, typer.Option("--db", help="Feedback database: a file, or postgresql+psycopg://...")],
    out: Annotated[Path, typer.Option("--out", help="New directory for the snapshot.")],
    format: Annotated[str, typer.Option("--format", help="preference, kto, ranking or sft.")] = "preference",
    method: Annotated[
        str, typer.Option("--method", help="ability, dawid_skene, majority or bradley_terry.")
    ] = DEFAULT_METHOD,
    min_votes: Annotated[int, typer.Option("--min-votes", help="Fewest votes a pair needs.")] = 1,
    min_strength: Annotated[float, typer.Option("--min-strength", help="Less probable winners are ties.")] = 0.5,
    drop: Annotated[list[str] | None, typer.Option("--drop", help="Pseudonym not to use; repeatable.")] = None,
) -> None:
    """Freeze a project's judgments into training files, a manifest and a quality card.

    Example: `trueup curate my-project --db feedback.db --out snapshots/first`
    """
    from sqlalchemy import select

    from trueup.errors import UsageError
    from trueup.feedback.adjudication import settled
    from trueup.feedback.curate import curate as go
    from trueup.feedback.schema import project as table
    from trueup.feedback.store import Store

    if "://" not in db and not Path(db).exists():
        raise UsageError("there is no such file", where=db, fix="check --db")
    with Store(db) as store:
        with store.read() as connection:
            found = connection.execute(select(table.c.id).where((table.c.id == project) | (table.c.name == project)))
            identity = found.scalar()
        done = go(
            store,
            identity or project,
            out,
            method=method,
            format=format,
            min_votes=min_votes,
            min_strength=min_strength,
            drop_annotators=drop or (),
            adjudicated={name: verdict["answer"] for name, verdict in settled(store, identity).items()}
            if identity
            else {},
        )
    for split, path in done.files.items():
        typer.echo(f"{split}: {done.rows[split]} rows in {path}")
    typer.echo(f"{done.path / 'card.html'}")
