"""``trueup rollouts``: a run's samples in the terminal."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer


def rollouts(
    run_directory: Annotated[Path, typer.Argument(help="Directory of one run.")],
    step: Annotated[int | None, typer.Option("--step", min=0, help="Probe step; default: the newest one.")] = None,
    prompt: Annotated[
        str | None, typer.Option("--prompt", help="One prompt at every step: its id, or the beginning of that.")
    ] = None,
    search: Annotated[str | None, typer.Option("--search", help="Answers at any step that hold this text.")] = None,
    sort: Annotated[str, typer.Option("--sort", help="probe, reward, reward-low, length or length-short.")] = "probe",
    limit: Annotated[int, typer.Option("--limit", min=1, help="Most answers to show.")] = 20,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object a line.")] = False,
) -> None:
    """Show what a run answered to its fixed prompts, at one step or through all of them.

    Example: `trueup rollouts runs/ppo --sort reward`, then `--prompt` with an id that it shows
    """
    import json

    from trueup.commands.live.samples import Samples
    from trueup.errors import UsageError
    from trueup.ledger import read_run

    read_run(run_directory)
    samples = Samples(run_directory)
    samples.refresh()
    if not samples.steps:
        raise UsageError("the run has written no samples", where=str(run_directory), expected="a run with probes")
    if sum(option is not None for option in (step, prompt, search)) > 1:
        raise UsageError("give one of --step, --prompt and --search", where="command line")
    if prompt is not None:
        rows = samples.history(prompt)[-limit:]
    elif search is not None:
        rows = samples.search(search, limit=limit)["rows"]
    else:
        rows = samples.page(samples.steps[-1] if step is None else step, sort=sort, limit=limit)["rows"]
    for row in rows:
        if as_json:
            typer.echo(json.dumps(row, ensure_ascii=False))
        else:
            _show(row)
    if samples.left_out:
        typer.echo(f"warning: {samples.left_out} damaged lines are left out", err=True)


def _show(row: dict[str, Any]) -> None:
    score = row["score"]
    notes = [f"step {row['step']}", row["prompt"]]
    notes += [f"score {score:+.3f}" if isinstance(score, float) else f"score {score}"] if score is not None else []
    notes += [f"{row['words']} words", *([row["stop"]] if row["stop"] else [])]
    typer.secho(" | ".join(notes), bold=True)
    typer.echo(f"  > {_plain(row['question'])}")
    typer.echo(f"  {_plain(row['text'])}\n")


def _plain(text: str) -> str:
    """Text of a model for a terminal: nothing in it can move the cursor or change colours."""
    shown = "".join(c if c.isprintable() or c == "\n" else f"\\x{ord(c):02x}" for c in text.strip())
    return shown.encode("utf-8", "replace").decode().replace("\n", "\n  ")
