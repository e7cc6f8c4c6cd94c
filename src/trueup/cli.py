"""The commands. Nothing heavy is imported here: each command imports what it needs when it runs."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from trueup import __version__, cli_feedback
from trueup.cli_curate import curate
from trueup.errors import TrueupError, UsageError

if TYPE_CHECKING:
    from trueup.sample import Answer

app = typer.Typer(
    name="trueup",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    help="True up a language model to what people prefer.\n\n"
    "The road: `data check` -> `sft` -> `reward` -> `ppo`, or `sft` -> `dpo`; then `sample` and `report`. "
    "`trueup quickstart` walks it on an embedded sandbox in minutes, without network or GPU.",
)
data_app = typer.Typer(no_args_is_help=True, help="Look at data before training on it.")
app.add_typer(data_app, name="data")
app.add_typer(cli_feedback.app, name="feedback")
app.command()(curate)

Data = Annotated[str | None, typer.Option("--data", help="File, directory or hf:owner/name.")]
ModelName = Annotated[str | None, typer.Option("--model", help="Hugging Face name, local path, or tiny.")]
Out = Annotated[Path, typer.Option("--out", help="Run directory; an unfinished run there is resumed.")]
File = Annotated[str | None, typer.Argument(help="YAML file with settings; flags and --set win over it.")]
Sets = Annotated[list[str] | None, typer.Option("--set", help="Any setting: --set optim.learning_rate=1e-4")]
Validation = Annotated[str | None, typer.Option("--validation", help="Held-out data of the same kind.")]
NoResume = Annotated[bool, typer.Option("--no-resume", help="Refuse a directory that already holds a run.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Print the resolved settings and stop.")]
Quiet = Annotated[bool, typer.Option("--quiet", help="No progress.")]


def _train(
    kind: str,
    file: str | None,
    out: Path,
    flags: dict[str, Any],
    sets: list[str] | None,
    no_resume: bool,
    dry_run: bool,
    quiet: bool,
) -> None:
    from trueup.recipes.registry import execute, resolve

    config = resolve(kind, file, flags, sets or [])
    if dry_run:
        import yaml

        typer.echo(yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False).rstrip())
        return
    path = execute(kind, config, out, resume=not no_resume, quiet=quiet)
    if os.environ.get("RANK", "0") == "0":  # one of several processes speaks
        typer.echo(f"{path / 'final'}")


@app.command()
def sft(
    file: File = None,
    out: Out = Path("runs/sft"),
    model: ModelName = None,
    data: Data = None,
    validation: Validation = None,
    sets: Sets = None,
    no_resume: NoResume = False,
    dry_run: DryRun = False,
    quiet: Quiet = False,
) -> None:
    """Fine-tune on demonstrations.

    Example: `trueup sft --model gpt2 --data demos.jsonl --out runs/sft --set epochs=1`
    """
    flags = {"data": data, "validation": validation, "model.name": model}
    _train("sft", file, out, flags, sets, no_resume, dry_run, quiet)


@app.command()
def reward(
    file: File = None,
    out: Out = Path("runs/reward"),
    model: ModelName = None,
    data: Data = None,
    validation: Validation = None,
    sets: Sets = None,
    no_resume: NoResume = False,
    dry_run: DryRun = False,
    quiet: Quiet = False,
) -> None:
    """Train a reward model on preference pairs.

    Example: `trueup reward --model runs/sft/final --data pairs.jsonl --validation held.jsonl --out runs/reward`
    """
    flags = {"data": data, "validation": validation, "model.name": model}
    _train("reward", file, out, flags, sets, no_resume, dry_run, quiet)


@app.command()
def dpo(
    file: File = None,
    out: Out = Path("runs/dpo"),
    model: ModelName = None,
    data: Data = None,
    validation: Validation = None,
    reference: Annotated[str | None, typer.Option("--reference", help="Default: the starting weights.")] = None,
    sets: Sets = None,
    no_resume: NoResume = False,
    dry_run: DryRun = False,
    quiet: Quiet = False,
) -> None:
    """Train a policy on preference pairs directly: DPO and its family.

    Example: `trueup dpo --model runs/sft/final --data pairs.jsonl --out runs/dpo --set objective.beta=0.1`
    """
    flags = {"data": data, "validation": validation, "model.name": model, "reference": reference}
    _train("dpo", file, out, flags, sets, no_resume, dry_run, quiet)


@app.command()
def kto(
    file: File = None,
    out: Out = Path("runs/kto"),
    model: ModelName = None,
    data: Data = None,
    validation: Validation = None,
    reference: Annotated[str | None, typer.Option("--reference", help="Default: the starting weights.")] = None,
    sets: Sets = None,
    no_resume: NoResume = False,
    dry_run: DryRun = False,
    quiet: Quiet = False,
) -> None:
    """Train a policy on single responses marked good or bad.

    Example: `trueup kto --model runs/sft/final --data labelled.jsonl --out runs/kto`
    """
    flags = {"data": data, "validation": validation, "model.name": model, "reference": reference}
    _train("kto", file, out, flags, sets, no_resume, dry_run, quiet)


@app.command()
def ppo(
    file: File = None,
    out: Out = Path("runs/ppo"),
    model: ModelName = None,
    data: Data = None,
    reward: Annotated[str | None, typer.Option("--reward", help="Reward model: runs/reward/final")] = None,
    reference: Annotated[str | None, typer.Option("--reference", help="Default: the starting weights.")] = None,
    sets: Sets = None,
    no_resume: NoResume = False,
    dry_run: DryRun = False,
    quiet: Quiet = False,
) -> None:
    """RLHF: sample, score with a reward model, improve by PPO, stay near the reference.

    Example: `trueup ppo --model runs/sft/final --reward runs/reward/final --data prompts.jsonl --out runs/ppo`
    """
    flags = {"data": data, "reward": reward, "model.name": model, "reference": reference}
    _train("ppo", file, out, flags, sets, no_resume, dry_run, quiet)


@app.command()
def run(
    recipe: Annotated[Path, typer.Argument(help="YAML file with `stages`.")],
    fresh: Annotated[bool, typer.Option("--fresh", help="Move runs whose settings changed aside, start anew.")] = False,
    quiet: Quiet = False,
) -> None:
    """Run a chain of stages; what is done and unchanged is skipped, what was cut off is resumed.

    Example: `trueup run recipe.yaml`
    """
    from trueup.pipeline import read_recipe, run_stages

    out, stages = read_recipe(recipe)
    run_stages(out, stages, fresh=fresh, quiet=quiet, tell=typer.echo)


@app.command()
def quickstart(
    out: Annotated[Path, typer.Option("--out", help="Folder for data, runs and report.")] = Path("runs/quickstart"),
    seed: Annotated[int, typer.Option("--seed", help="World, annotators, weights and sampling.")] = 0,
    smoke: Annotated[bool, typer.Option("--smoke", help="Seconds instead of minutes; proves nothing.")] = False,
    quiet: Quiet = False,
) -> None:
    """Walk the whole road on the embedded sandbox: labels, SFT, reward model, PPO, DPO, evaluation, report.

    Example: `trueup quickstart --seed 1 --out runs/seed-1`
    """
    from trueup.quickstart import DEFAULT, SMOKE
    from trueup.quickstart import quickstart as go

    go(out, seed=seed, size=SMOKE if smoke else DEFAULT, quiet=quiet, tell=typer.echo)


@app.command()
def sample(
    models: Annotated[list[str], typer.Argument(help="Names or directories; answers are shown side by side.")],
    prompt: Annotated[list[str] | None, typer.Option("--prompt", help="Repeatable; without it you are asked.")] = None,
    reward: Annotated[str | None, typer.Option("--reward", help="Reward model to score the answers.")] = None,
    reference: Annotated[str | None, typer.Option("--reference", help="Model to measure KL from.")] = None,
    max_new_tokens: Annotated[int, typer.Option(help="Longest answer.")] = 64,
    temperature: Annotated[float, typer.Option(help="0 is greedy.")] = 1.0,
    top_p: Annotated[float, typer.Option(help="Nucleus; 1 is off.")] = 1.0,
    top_k: Annotated[int, typer.Option(help="0 is off.")] = 0,
    repetition_penalty: Annotated[float, typer.Option(help="1 is off.")] = 1.0,
    seed: Annotated[int, typer.Option(help="Same seed, same answers.")] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object a line.")] = False,
) -> None:
    """Ask models the same thing.

    Example: `trueup sample runs/sft/final runs/ppo/final --prompt "How do I learn Python?" --reward runs/reward/final`
    """
    import dataclasses
    import json

    from trueup.config import Sampling
    from trueup.sample import Panel

    settings = Sampling(
        max_new_tokens=max_new_tokens,
        temperature=temperature,
        top_p=top_p,
        top_k=top_k,
        repetition_penalty=repetition_penalty,
    )
    panel = Panel(models, reward=reward, reference=reference)
    for turn, text in enumerate(prompt or _ask()):
        for answer in panel.ask(text, settings, seed + turn):
            if as_json:
                typer.echo(json.dumps(dataclasses.asdict(answer), ensure_ascii=False))
            else:
                _show(answer)


def _ask() -> Iterator[str]:
    """Prompts typed by the user, until an empty line or the end of input."""
    while True:
        try:
            text = input("prompt> ").strip()
        except EOFError:
            return
        if not text:
            return
        yield text


def _show(answer: Answer) -> None:
    notes = [f"{answer.tokens} tokens, {answer.stop.value}"]
    notes += [f"reward {answer.reward:+.2f}"] if answer.reward is not None else []
    notes += [f"KL {answer.kl:.2f}"] if answer.kl is not None else []
    typer.secho(f"{answer.model}  ({'; '.join(notes)})", bold=True)
    typer.echo(f"  {answer.text}\n")


@app.command()
def evaluate(
    models: Annotated[list[str], typer.Argument(help="NAME=PATH, or paths; the first is the baseline.")],
    data: Annotated[str, typer.Option("--data", help="Held-out prompts: file, directory or hf:owner/name.")],
    reward: Annotated[str, typer.Option("--reward", help="Reward model that judges: runs/reward/final")],
    out: Annotated[Path, typer.Option("--out", help="Folder for eval.jsonl and the report.")] = Path("runs/eval"),
    baseline: Annotated[str | None, typer.Option("--baseline", help="Name of the model to compare with.")] = None,
    reference: Annotated[str | None, typer.Option("--reference", help="Name of the model to measure KL from.")] = None,
    limit: Annotated[int, typer.Option("--limit", min=1, help="Prompts used, from the top.")] = 400,
    max_new_tokens: Annotated[int, typer.Option(help="Longest answer.")] = 64,
    temperature: Annotated[float, typer.Option(help="0 is greedy; KL is then not measured.")] = 1.0,
    dtype: Annotated[str, typer.Option(help="float32 or bfloat16.")] = "float32",
    seed: Annotated[int, typer.Option(help="Same seed, same answers.")] = 0,
) -> None:
    """Ask several models the same held-out prompts and compare: quality, win-rate, KL, length, with intervals.

    Example: `trueup evaluate sft=runs/sft/final ppo=runs/ppo/final --data test.jsonl --reward runs/judge/final`
    """
    from trueup.config import Sampling
    from trueup.evaluate import evaluate as go

    settings = Sampling(max_new_tokens=max_new_tokens, temperature=temperature)
    written = go(
        models,
        data,
        reward,
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


@app.command()
def trace(
    pair: Annotated[str, typer.Argument(help="Id of a pair, or its beginning.")],
    runs: Annotated[list[Path], typer.Argument(help="Runs on pairs: runs/reward runs/dpo")],
    db: Annotated[str | None, typer.Option("--db", help="Feedback store that the pairs came from.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="For programs.")] = False,
) -> None:
    """Show one pair's whole life: who judged it and how, and its margin at every step that trained on it.

    Example: `trueup trace 41e4d354 runs/reward runs/dpo --db feedback.db`
    """
    import json

    from trueup.trace import format_text
    from trueup.trace import trace as follow

    life = follow(pair, runs, db=db)
    typer.echo(json.dumps(life.to_dict(), indent=2, ensure_ascii=False) if as_json else format_text(life))


def _columns(assignments: Sequence[str]) -> dict[str, str] | None:
    pairs = [a.partition("=") for a in assignments]
    for ours, equals, theirs in pairs:
        if not (ours and equals and theirs):
            raise UsageError(
                f"{ours + equals + theirs!r}", where="--column", expected="OURS=THEIRS, as chosen=best_answer"
            )
    return {ours: theirs for ours, _, theirs in pairs} or None


@data_app.command("check")
def data_check(
    source: Annotated[str, typer.Argument(help="File, directory or hf:owner/name.")],
    against: Annotated[
        list[str] | None, typer.Option("--against", help="Other splits, to find shared prompts.")
    ] = None,
    tokenizer: Annotated[str | None, typer.Option("--tokenizer", help="Also measure lengths in tokens.")] = None,
    split: Annotated[str | None, typer.Option("--split", help="Split of a dataset with several.")] = None,
    column: Annotated[list[str] | None, typer.Option("--column", help="OURS=THEIRS where names differ.")] = None,
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
    columns = _columns(column or ())
    report = check_file(source, against=against or (), tokenizer=opened, split=split, columns=columns)
    typer.echo(json.dumps(report.to_dict(), indent=2, ensure_ascii=False) if as_json else report.format_text())


@app.command()
def report(
    run_directory: Annotated[Path, typer.Argument(help="Directory of one run.")],
    out: Annotated[Path | None, typer.Option("--out", help="Folder for report.html, .md and summary.json.")] = None,
) -> None:
    """Write a self-contained report of one run.

    Example: `trueup report runs/dpo`
    """
    from trueup.reports.build import report_run

    written = report_run(run_directory, out)
    typer.echo(str(written.html))


@app.command()
def plan(
    recipe: Annotated[Path, typer.Argument(help="YAML file with `stages`, as `trueup run` takes it.")],
    steps: Annotated[int, typer.Option("--steps", min=3, help="Real steps taken of each stage.")] = 6,
    as_json: Annotated[bool, typer.Option("--json", help="Machine-readable.")] = False,
) -> None:
    """Say what a recipe will cost in time and memory, by taking a few real steps of each stage.

    Example: `trueup plan recipe.yaml`
    """
    import json

    from trueup.plan import plan as measure
    from trueup.plan import table

    costs = measure(recipe, steps=steps, tell=lambda line: typer.echo(line, err=True))
    typer.echo(json.dumps([c.to_dict() for c in costs], indent=2) if as_json else table(costs))


@app.command()
def doctor(as_json: Annotated[bool, typer.Option("--json", help="Machine-readable.")] = False) -> None:
    """Say what this machine is good at, and what to set because of it.

    Example: `trueup doctor`
    """
    import json

    from trueup.doctor import examine

    found = examine()
    typer.echo(json.dumps(found.to_dict(), indent=2) if as_json else found.format_text())


app.command()(cli_feedback.serve)


@app.command()
def version() -> None:
    """Print the version."""
    typer.echo(__version__)


def main() -> None:
    """Entry point: clear errors on stderr, exit codes 0 done, 1 run failed, 2 wrong use, 130 interrupted."""
    debug = "--debug" in sys.argv
    if debug:
        sys.argv.remove("--debug")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    logging.basicConfig(level=logging.DEBUG if debug else logging.WARNING, format="%(levelname)s %(name)s: %(message)s")
    try:
        app()
    except TrueupError as error:
        if debug:
            raise
        print(f"error: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        print("stopped; the last checkpoint is whole", file=sys.stderr)
        sys.exit(130)
    except OSError as error:
        if debug:
            raise
        print(f"error: {UsageError(str(error))}", file=sys.stderr)
        sys.exit(1)
