"""``trueup why``: which judgments pushed a model towards an answer, and which against it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from trueup.commands.options import Json


def why(
    run: Annotated[Path, typer.Argument(help="A run of reward, dpo or sft; of ppo through its reward model.")],
    prompt: Annotated[list[str] | None, typer.Option("--prompt", help="One for all answers, or one for each.")] = None,
    answer: Annotated[
        list[str] | None, typer.Option("--answer", help="What is asked about; by default what the model says.")
    ] = None,
    against: Annotated[
        list[str] | None, typer.Option("--against", help="Why the answer rather than this one? Repeatable.")
    ] = None,
    db: Annotated[str | None, typer.Option("--db", help="Feedback store that the pairs came from.")] = None,
    data: Annotated[str | None, typer.Option("--data", help="Where the training data lies now.")] = None,
    top: Annotated[int, typer.Option("--top", min=1, help="How many examples are shown each way.")] = 5,
    blocks: Annotated[int, typer.Option("--blocks", min=1, help="How many of the last blocks are looked at.")] = 2,
    as_json: Json = False,
) -> None:
    """Name the training examples that pushed a model towards an answer and those that pushed against it, with who
    judged them and how far each moved it.

    Example: `trueup why runs/dpo --prompt "How do I learn Python?" --db feedback.db`
    """
    import json

    from trueup.commands.causes import explanation, format_text
    from trueup.commands.influences import explain

    done = explain(run, prompt or (), answer or (), against or (), data=data, blocks=blocks)
    said = explanation(str(run), done, top=top, db=db)
    typer.echo(json.dumps(said.to_dict(), indent=2, ensure_ascii=False) if as_json else format_text(said))
