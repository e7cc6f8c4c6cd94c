"""``trueup evaluate``: several models, the same held-out prompts, intervals and a report."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def evaluate(
    models: Annotated[list[str], typer.Argument(help="NAME=PATH, or paths; the first is the baseline.")],
    data: Annotated[str, typer.Option("--data", help="Held-out prompts: file, folder, pattern or hf:owner/name.")],
    reward: Annotated[str, typer.Option("--reward", help="Reward that judges, as for ppo: runs/judge/final")],
    out: Annotated[Path, typer.Option("--out", help="Folder for eval.jsonl and the report.")] = Path("runs/eval"),
    baseline: Annotated[str | None, typer.Option("--baseline", help="Name of the model to compare with.")] = None,
    reference: Annotated[str | None, typer.Option("--reference", help="Name of the model to measure KL from.")] = None,
    limit: Annotated[int, typer.Option("--limit", min=1, help="Prompts used, from the top.")] = 400,
    max_new_tokens: Annotated[int, typer.Option(help="Longest answer.")] = 64,
    temperature: Annotated[float, typer.Option(help="0 is greedy; KL is then not measured.")] = 1.0,
    dtype: Annotated[str, typer.Option(help="float32 or bfloat16.")] = "float32",
    seed: Annotated[int, typer.Option(min=0, help="Same seed, same answers.")] = 0,
) -> None:
    """Ask several models the same held-out prompts and compare: quality, win-rate, KL, length, with intervals.

    Example: `trueup evaluate sft=runs/sft/final ppo=runs/ppo/final --data test.jsonl --reward runs/judge/final`
    """
    from trueup.config import Model, Sampling, build

    values = {"max_new_tokens": max_new_tokens, "temperature": temperature}
    settings = build(Sampling, values, where="command line")
    beside = build(Model, {"name": reward, "dtype": dtype}, where="reward")
    from trueup.commands.comparison import compare_models
    from trueup.rewards.registry import open_reward

    written = compare_models(
        models,
        data,
        open_reward(reward, beside),
        out,
        baseline=baseline,
        reference=reference,
        limit=limit,
        sampling=settings,
        dtype=dtype,
        seed=seed,
        tell=typer.echo,
    )
    typer.echo(str(written.html))
