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
    sort: Annotated[
        str,
        typer.Option("--sort", help="probe, reward, reward-low, typical, kl, kl-low, length or length-short."),
    ] = "probe",
    against: Annotated[
        str | None,
        typer.Option("--against", help="Mark what changed since the probe `before`, or since the `start`."),
    ] = None,
    limit: Annotated[int, typer.Option("--limit", min=1, help="Most answers to show.")] = 20,
    trained: Annotated[
        bool, typer.Option("--trained", help="Answers that an online method learned from, not those to fixed prompts.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object a line.")] = False,
) -> None:
    """Show what a run answered to its fixed prompts, or learned from, at one step or through all of them.

    Example: `trueup rollouts runs/ppo --sort reward --against start`, then `--prompt` with an id that it shows
    """
    import json

    from trueup.commands.live.samples import Samples
    from trueup.errors import UsageError
    from trueup.ledger import read_run

    read_run(run_directory)
    samples = Samples(run_directory, "training" if trained else "probes")
    samples.refresh()
    if not samples.steps:
        expected = "a run of an online method with probes" if trained else "a run with probes"
        raise UsageError("the run has written no samples", where=str(run_directory), expected=expected)
    if sum(option is not None for option in (step, prompt, search)) > 1:
        raise UsageError("give one of --step, --prompt and --search", where="command line")
    if against not in (None, "before", "start"):
        raise UsageError(f"nothing is called {against!r}", where="--against", expected="before or start")
    if against is not None and search is not None:
        raise UsageError("a search marks no changes", where="--against", fix="leave it out, or use --prompt")
    if prompt is not None:
        total = samples.history(prompt, limit=0)["total"]
        rows = samples.history(prompt, offset=max(total - limit, 0), limit=limit)["rows"]
    elif search is not None:
        rows = samples.search(search, limit=limit)["rows"]
    else:
        rows = samples.page(samples.steps[-1] if step is None else step, sort=sort, limit=limit)["rows"]
    for row in rows:
        if as_json:
            typer.echo(json.dumps(row, ensure_ascii=False))
        else:
            _show(row, None if against is None else row.get(against))
    if samples.left_out:
        typer.echo(f"warning: {samples.left_out} damaged lines are left out", err=True)


def _show(row: dict[str, Any], earlier: dict[str, Any] | None) -> None:
    notes = [f"step {row['step']}", row["prompt"], *([row["label"]] if row["label"] else [])]
    name = "reward" if row["label"] else "score"
    notes += [f"{name} {_signed(row['score'])}"] if row["score"] is not None else []
    if earlier is not None and isinstance(row["score"], float) and isinstance(earlier["score"], float):
        notes.append(f"{row['score'] - earlier['score']:+.3f} since step {earlier['step']}")
    notes += [f"log-ratio {_signed(row['log_ratio'])}"] if row["log_ratio"] is not None else []
    notes += [f"{row['words']} words", *([row["stop"]] if row["stop"] else [])]
    typer.secho(_plain(" | ".join(notes)), bold=True)
    typer.echo(f"  > {_plain(row['question'])}")
    text = _plain(row["text"]) if earlier is None else _marked(earlier["text"], row["text"])
    typer.echo(f"  {text}\n")


def _signed(value: float | str) -> str:
    return f"{value:+.3f}" if isinstance(value, float) else value


def _marked(before: str, after: str) -> str:
    """What is gone as ``[-this-]``, what is new as ``{+this+}``, in colours where the terminal has them."""
    import re
    from difflib import SequenceMatcher

    old, new = (re.findall(r"\s+|\w+|[^\w\s]", text.strip()) for text in (before, after))
    pieces = []
    for how, a, b, c, d in SequenceMatcher(None, old, new, autojunk=False).get_opcodes():
        gone, come = _plain("".join(old[a:b]), strip=False), _plain("".join(new[c:d]), strip=False)
        if how == "equal":
            pieces.append(come)
            continue
        pieces += [typer.style(f"[-{gone}-]", fg="red")] if gone else []
        pieces += [typer.style(f"{{+{come}+}}", fg="green")] if come else []
    return "".join(pieces)


def _plain(text: str, *, strip: bool = True) -> str:
    """Text of a model for a terminal: nothing in it can move the cursor or change colours."""
    text = text.strip() if strip else text
    shown = "".join(c if c.isprintable() or c == "\n" else f"\\x{ord(c):02x}" for c in text)
    return shown.encode("utf-8", "replace").decode().replace("\n", "\n  ")
