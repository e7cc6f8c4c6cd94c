"""``trueup evaluate``: several models, the same held-out prompts, any judges or none, intervals and a report."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from trueup.commands.options import Database, Json
from trueup.errors import UsageError


def evaluate(
    models: Annotated[list[str] | None, typer.Argument(help="NAME=PATH, or paths; the first is the baseline.")] = None,
    data: Annotated[
        str | None, typer.Option("--data", help="Held-out prompts: file, folder, pattern or hf:owner/name.")
    ] = None,
    judge: Annotated[
        list[str] | None,
        typer.Option(
            "--judge",
            help="Repeatable: gold, reward:PATH, implicit:RUN, python:package.module:name, reference[:f1|exact|rouge], "
            "people; NAME=KIND:... names it. Without one, answers are described and not judged.",
        ),
    ] = None,
    reward: Annotated[
        str | None, typer.Option("--reward", help="As --judge reward:PATH, with the rewards that ppo takes.")
    ] = None,
    out: Annotated[Path, typer.Option("--out", help="Folder for rows, report and figures.")] = Path("runs/evaluation"),
    baseline: Annotated[str | None, typer.Option("--baseline", help="Name of the model to beat.")] = None,
    reference: Annotated[str | None, typer.Option("--reference", help="Name of the model KL is measured from.")] = None,
    limit: Annotated[int, typer.Option(min=1, help="Prompts used.")] = 400,
    samples: Annotated[int, typer.Option(min=1, help="Answers of each model to each prompt.")] = 1,
    kind: Annotated[str | None, typer.Option("--kind", help="Column of kinds of prompt; default: kind.")] = None,
    safe: Annotated[
        str | None, typer.Option("--safe", help="Column that says which prompts are safe; default: safe, prompt_label.")
    ] = None,
    references: Annotated[
        str | None, typer.Option("--references", help="Column of reference answers; default: reference, answer, ...")
    ] = None,
    max_new_tokens: Annotated[int, typer.Option(help="Longest answer.")] = 64,
    temperature: Annotated[float, typer.Option(help="0 is greedy.")] = 1.0,
    dtype: Annotated[str, typer.Option(help="float32 or bfloat16.")] = "float32",
    seed: Annotated[int, typer.Option(min=0, help="Same seed, same answers.")] = 0,
    project: Annotated[
        str | None, typer.Option("--project", help="With --judge people: name of a new project for their pairs.")
    ] = None,
    votes: Annotated[int, typer.Option("--votes", min=1, help="With --judge people: how many judge each pair.")] = 2,
    db: Database = "feedback.db",
    read_back: Annotated[
        str | None,
        typer.Option("--read-back", help="Project of an earlier --judge people: take its answers into --out."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Ask several models the same held-out prompts, judge or describe their answers, and write a report.

    Example: `trueup evaluate sft=runs/sft/final ppo=runs/ppo/final --data test.jsonl --judge reward:runs/judge/final`
    """
    import json
    import sys

    def tell(line: str) -> None:
        typer.echo(line, err=as_json)

    if read_back is not None:
        if models or data or judge or reward or project:
            raise UsageError("is given with models or judges", where="--read-back", expected="only --db and --out")
        from trueup.commands.people import read_back as read_people

        written = read_people(read_back, db, out, tell=tell)
    else:
        if not models or data is None:
            missing = "no models" if not models else "no --data"
            raise UsageError(missing, where="evaluate", expected="models and --data FILE, or --read-back PROJECT")
        from trueup.commands.comparison import compare_models
        from trueup.commands.people import Room
        from trueup.config import Sampling, build
        from trueup.evaluation.marks import Columns

        settings = build(Sampling, {"max_new_tokens": max_new_tokens, "temperature": temperature}, where="command line")
        written = compare_models(
            models,
            data,
            None,
            out,
            judges=[*([f"reward:{reward}"] if reward is not None else []), *(judge or ())],
            baseline=baseline,
            reference=reference,
            limit=limit,
            samples=samples,
            columns=Columns(kind, safe, references),
            sampling=settings,
            room=None if project is None else Room(db, project, votes),
            dtype=dtype,
            seed=seed,
            tell=tell,
        )
    if as_json:
        sys.stdout.write(json.dumps(written.data, indent=2, ensure_ascii=False) + "\n")
    else:
        typer.echo(str(written.html))
