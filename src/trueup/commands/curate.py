"""The command that turns judgments into training data; ``cli`` registers it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from trueup.feedback.store.records import DEFAULT_METHOD


def curate(
    project: Annotated[str, typer.Argument(help="Id or name of the project.")],
    db: Annotated[str, typer.Option("--db", help="Feedback database: a file, or postgresql+psycopg://...")],
    out: Annotated[Path, typer.Option("--out", help="New directory for the snapshot.")],
    format: Annotated[str, typer.Option("--format", help="preference, kto, ranking or sft.")] = "preference",
    method: Annotated[
        str, typer.Option("--method", help="ability, dawid_skene, majority or bradley_terry.")
    ] = DEFAULT_METHOD,
    min_votes: Annotated[int, typer.Option("--min-votes", min=1, help="Fewest votes a pair needs.")] = 1,
    min_strength: Annotated[
        float, typer.Option("--min-strength", min=0.5, max=1.0, help="Less probable winners are ties.")
    ] = 0.5,
    drop: Annotated[list[str] | None, typer.Option("--drop", help="Pseudonym not to use; repeatable.")] = None,
    axis: Annotated[
        list[str] | None,
        typer.Option("--axis", help="Axis of ratings to use, NAME or NAME=WEIGHT; repeatable. All alike by default."),
    ] = None,
    surplus: Annotated[
        bool, typer.Option("--surplus", help="Count late judgments as votes, whose seat was taken back meanwhile.")
    ] = False,
) -> None:
    """Freeze a project's judgments into training files, a manifest and a quality card.

    Example: `trueup curate my-project --db feedback.db --out snapshots/first`
    """
    from sqlalchemy import select

    from trueup.feedback.snapshot.curate import curate as go
    from trueup.feedback.store.database import Store
    from trueup.feedback.store.schema import project as table
    from trueup.feedback.workflow.adjudication import settled

    with Store(db, read_only=True) as store:
        with store.read() as connection:
            ids = connection.execute(select(table.c.id).where((table.c.id == project) | (table.c.name == project)))
            identity = ids.scalar()
        done = go(
            store,
            identity or project,
            out,
            method=method,
            format=format,
            min_votes=min_votes,
            min_strength=min_strength,
            drop_annotators=drop or (),
            axes=_axes(axis or ()),
            surplus=surplus,
            adjudicated={name: settlement.answer for name, settlement in settled(store, identity).items()}
            if identity
            else {},
        )
    for split, path in done.files.items():
        typer.echo(f"{split}: {done.rows[split]} rows in {path}")
    for note in done.manifest["notes"]:
        typer.echo(f"note: {note}", err=True)
    left_out = {**done.manifest["items_dropped"], **done.manifest["pairs_dropped"]}
    if left_out:
        typer.echo(f"left out: {'; '.join(f'{n} x {reason}' for reason, n in left_out.items())}", err=True)
    typer.echo(f"{done.path / 'card.html'}")


def _axes(options: Sequence[str]) -> dict[str, float]:
    from trueup.errors import UsageError

    weights: dict[str, float] = {}
    for option in options:
        name, _, weight = option.rpartition("=") if "=" in option else (option, "", "1")
        try:
            value = float(weight)
        except ValueError:
            name = ""
        if not name or name in weights:
            raise UsageError(f"{option!r}", where="--axis", expected="NAME or NAME=WEIGHT, each axis once")
        weights[name] = value
    return weights
