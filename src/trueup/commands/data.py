"""``trueup data``: look at data before training on it, and write the sandbox's."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from trueup.commands.options import Commands
from trueup.errors import UsageError

app = Commands(no_args_is_help=True, help="Look at data before training on it; write the sandbox's.")


@app.command("check")
def check(
    source: Annotated[str, typer.Argument(help="File, folder, pattern or hf:owner/name.")],
    against: Annotated[
        list[str] | None, typer.Option("--against", help="Other splits, to find shared prompts.")
    ] = None,
    tokenizer: Annotated[str | None, typer.Option("--tokenizer", help="Also measure lengths in tokens.")] = None,
    split: Annotated[str | None, typer.Option("--split", help="Split of a dataset with several.")] = None,
    column: Annotated[list[str] | None, typer.Option("--column", help="OURS=THEIRS where names differ.")] = None,
    verdict: Annotated[
        list[str] | None, typer.Option("--verdict", help="What a verdict on two responses means: 0=first, or =tie.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Machine-readable.")] = False,
) -> None:
    """Say what is in a data file and what is wrong with it, with line numbers.

    Example: `trueup data check pairs.jsonl --against held-out.jsonl`
    """
    import json

    from trueup.data.check import check_file

    opened = None
    if tokenizer is not None:
        from trueup.models.load import load_tokenizer

        opened = load_tokenizer(tokenizer)
    columns = assigned("--column", column or (), "OURS=THEIRS, as chosen=best_answer")
    verdicts = assigned("--verdict", verdict or (), "VERDICT=first, second or tie, as 0=first")
    report = check_file(
        source, against=against or (), tokenizer=opened, split=split, columns=columns, verdicts=verdicts
    )
    typer.echo(json.dumps(report.to_dict(), indent=2, ensure_ascii=False) if as_json else report.format_text())


@app.command("sandbox")
def sandbox(
    out: Annotated[Path, typer.Option("--out", help="New folder.")] = Path("data/sandbox"),
    seed: Annotated[int, typer.Option("--seed", min=0, help="World and annotators.")] = 0,
    smoke: Annotated[bool, typer.Option("--smoke", help="Seconds instead of minutes; proves nothing.")] = False,
    from_scratch: Annotated[
        bool, typer.Option("--from-scratch", help="The corpus of a base model instead of the base model.")
    ] = False,
) -> None:
    """Write the sandbox's files: base model, demonstrations, judged pairs, prompts, and held-out ones of each.

    They are those of `trueup quickstart` with that seed, which trains on them too.

    Example: `trueup data sandbox --out data/sandbox`, then `trueup sft --model data/sandbox/base --data
    data/sandbox/demonstrations.jsonl --out runs/sft`
    """
    from trueup.commands.api.sandboxed import write_sandbox

    for name, path in write_sandbox(out, seed=seed, smoke=smoke, from_scratch=from_scratch).items():
        typer.echo(f"{name.replace('_', ' ')}: {path}")


def assigned(option: str, assignments: Sequence[str], expected: str) -> dict[str, str] | None:
    """``NAME=VALUE`` arguments by name; None without any.

    Raises:
        UsageError: One is not of this form, or a name is given twice.
    """
    pairs = [a.partition("=") for a in assignments]
    for name, equals, value in pairs:
        if not (name and equals and value):
            raise UsageError(f"{name + equals + value!r}", where=option, expected=expected)
    values = {name: value for name, _, value in pairs}
    if len(values) < len(pairs):
        raise UsageError("one name is given twice", where=option, expected=expected, fix="keep one of them")
    return values or None
