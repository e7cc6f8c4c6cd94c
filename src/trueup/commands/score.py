"""``trueup score``: what a reward says of texts, and on pairs what it leans on."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from trueup.commands.options import Json

if TYPE_CHECKING:
    from trueup.commands.api.scores import Scores
    from trueup.types import Prompt

SHOWN = 70
"""Characters of an answer that a line of the table shows."""


def score(
    reward: Annotated[str, typer.Argument(help="As for ppo: runs/reward/final; or a YAML file with `reward:`.")],
    data: Annotated[
        str | None, typer.Option("--data", help="Prompts with answers, or texts: any known format.")
    ] = None,
    pairs: Annotated[str | None, typer.Option("--pairs", help="Held-out pairs: what does the reward lean on?")] = None,
    text: Annotated[list[str] | None, typer.Option("--text", help="An answer; several: --text A --text B.")] = None,
    prompt: Annotated[str | None, typer.Option("--prompt", help="What the answers of --text were given to.")] = None,
    column: Annotated[list[str] | None, typer.Option("--column", help="OURS=THEIRS, as completion=answer.")] = None,
    limit: Annotated[int | None, typer.Option("--limit", min=1, help="Rows used, from the top.")] = None,
    top: Annotated[int, typer.Option("--top", min=1, help="How many of the highest and lowest are shown.")] = 3,
    out: Annotated[Path | None, typer.Option("--out", help="Write every row: .jsonl, .json or .csv.")] = None,
    dtype: Annotated[str, typer.Option("--dtype", help="float32 or bfloat16.")] = "float32",
    as_json: Json = False,
) -> None:
    """Score texts with a reward, the highest and the lowest shown; with `--pairs` say what the reward leans on.

    Example: `trueup score runs/reward/final --prompt "Write a haiku about coding" --text "Lines of logic flow" --text
    "Coding is fun."`
    """
    import json

    from trueup.commands.api.scores import Scores, leaning_of
    from trueup.commands.data import assigned
    from trueup.commands.scoring import check_output, open_source, read_answers, scored_rows, scores_of, write_scored
    from trueup.errors import UsageError
    from trueup.rewards.columns import refuse_columns

    if sum((data is not None, pairs is not None, bool(text))) != 1:
        given = ", ".join(n for n, v in (("--data", data), ("--pairs", pairs), ("--text", text)) if v) or "none of them"
        raise UsageError(f"given: {given}", where="command line", expected="one of --data, --pairs, --text")
    if prompt is not None and not text:
        raise UsageError("there is no answer to it", where="--prompt", expected="--text beside it")
    if out is not None:
        if pairs is not None:
            raise UsageError(
                "--pairs gives no rows to write", where="--out", fix="leave it out; --json has all numbers"
            )
        check_output(out)  # before a model is opened
    options = {"columns": assigned("--column", column or (), "OURS=THEIRS, as completion=answer"), "limit": limit}
    opened = open_source(reward, dtype=dtype)
    if pairs is not None:
        measured = leaning_of(opened, pairs, options)
        typer.echo(json.dumps(measured.to_dict(), indent=2) if as_json else measured.format_text())
        return
    if data is None:
        refuse_columns(opened, "--text")
        answers: list[tuple[int | None, Prompt, str]] = [(None, prompt or "", each) for each in text or ()]
    else:
        answers = read_answers(opened, data, options)
    rows = scored_rows(answers, scores_of(opened, [a[1] for a in answers], [a[2] for a in answers]))
    if out is not None:
        write_scored(rows, out)
    if as_json:
        for row in rows:
            typer.echo(json.dumps(row, ensure_ascii=False))
    else:
        _show(Scores(opened.name, tuple(rows)), top)


def _show(scores: Scores, top: int) -> None:
    """All rows of a few, else the highest and the lowest, and what lies between."""
    if len(scores.rows) <= 2 * top:
        _table("", [*scores.highest(len(scores.rows)), *(row for row in scores.rows if row["reward"] is None)])
    else:
        _table("highest", scores.highest(top))
        _table("lowest", scores.lowest(top))
    if scores.rewards:
        typer.echo(repr(scores))


def _table(title: str, rows: Sequence[dict[str, Any]]) -> None:
    if title:
        typer.secho(title, bold=True)
    for row in rows:
        shown = " ".join(row["answer"].split())
        shown = shown if len(shown) <= SHOWN else f"{shown[: SHOWN - 3]}..."
        number = "  none" if row["reward"] is None else f"{row['reward']:+6.2f}"
        parts = "".join(f"  {name} {part['weighted']:+.2f}" for name, part in row.get("parts", {}).items())
        typer.echo(f"{number}  {shown}{parts}")
