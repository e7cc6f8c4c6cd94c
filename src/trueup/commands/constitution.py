"""``trueup constitution``: principles, what judges by them are worth, and rounds of training by them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from trueup.commands.options import Commands, DryRun, File, Json, Quiet, Sets

app = Commands(no_args_is_help=True, help="Constitutional AI: critique, revise, prefer, train, audit, again.")
Principles = Annotated[Path | None, typer.Argument(help="File of principles; the bundled one if absent.")]


@app.command("check")
def check(path: Principles = None) -> None:
    """Say whether a file of principles can be used, and what is wrong with it, with line numbers.

    Example: `trueup constitution check ours.yaml`
    """
    from trueup.collectors.constitution import read_constitution

    known = read_constitution(path)
    without = [principle.id for principle in known.principles if principle.aspect is None]
    typer.echo(f"{known.name}: {len(known.principles)} principles, annotator {known.annotator}")
    if without:
        typer.echo(f"note: no aspect, so in no figure by aspect: {', '.join(without)}", err=True)


@app.command("show")
def show(path: Principles = None, as_json: Json = False) -> None:
    """Print the principles, each with how often it is drawn.

    Example: `trueup constitution show > ours.yaml` prints the bundled file, to change.
    """
    import json

    from trueup.collectors.constitution import BUNDLED, read_constitution

    known = read_constitution(path)
    if not as_json:
        typer.echo((BUNDLED if path is None else path).read_text(encoding="utf-8"), nl=False)
        return
    rows = [p.model_dump(mode="json") | {"share": known.weights[p.id]} for p in known.principles]
    shown = {"name": known.name, "annotator": known.annotator, "principles": rows}
    typer.echo(json.dumps(shown, indent=2, ensure_ascii=False))


@app.command("label")
def label(
    pairs: Annotated[str, typer.Argument(help="Preference pairs; what they say is compared with the labels.")],
    judge: Annotated[str, typer.Option("--judge", help="A model, or http://host/v1#model=NAME.")],
    out: Annotated[Path, typer.Option("--out", help="New folder: labels.jsonl, pairs.jsonl, report.json.")],
    constitution: Annotated[Path | None, typer.Option("--constitution", help="File of principles.")] = None,
    clamp: Annotated[
        str | None, typer.Option("--clamp", help="LOW,HIGH: bounds of a label, as 0.4,0.6 for a judge that reasons.")
    ] = None,
    limit: Annotated[int | None, typer.Option("--limit", min=1, help="Only the first pairs.")] = None,
    db: Annotated[Path | None, typer.Option("--db", help="Also put the judgments into this feedback store.")] = None,
) -> None:
    """Label pairs softly by a constitution, in both orders, and say what the judge is worth (RL-CAI).

    Example: `trueup constitution label pairs.jsonl --judge runs/sft/final --out labels`
    """
    from trueup.commands.constitution_label import label_file

    for line in label_file(pairs, judge, out, constitution=constitution, clamp=clamp, limit=limit, db=db):
        typer.echo(line)


@app.command("audit")
def audit(
    suspect: Annotated[str, typer.Argument(help="A model, a file of answers, or sandbox (the package's base model).")],
    baseline: Annotated[str, typer.Option("--baseline", help="The clean side: the same.")] = "sandbox",
    prompts: Annotated[str, typer.Option("--prompts", help="What models are asked: sandbox, or a file.")] = "sandbox",
    size: Annotated[int, typer.Option("--size", min=10, max=500, help="Prompts of each kind of the sandbox.")] = 100,
    judge: Annotated[str | None, typer.Option("--judge", help="Who says what is harmful outside the sandbox.")] = None,
    plant: Annotated[
        str | None, typer.Option("--plant", help="Make the suspect an organism: flatterer, or flatterer=0.1.")
    ] = None,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Names every draw.")] = 0,
    out: Annotated[Path | None, typer.Option("--out", help="Folder for the page and the answers.")] = None,
) -> None:
    """Say which bad traits a model has more of than a clean one, trait by trait, with a verdict.

    Example: `trueup constitution audit sandbox --plant sycophant=0.3`
    """
    from trueup.commands.constitution_suspect import Examination, examine

    examine(Examination(suspect, baseline, prompts, size, judge, plant=plant, seed=seed), out, tell=typer.echo)


@app.command("review")
def review(
    revisions: Annotated[Path, typer.Argument(help="revisions.jsonl of a round.")],
    db: Annotated[Path, typer.Option("--db", help="Feedback store; made if it is not there.")],
    project: Annotated[str, typer.Option("--project", help="Project in it; made if it is not there.")],
    constitution: Annotated[Path | None, typer.Option("--constitution", help="What they were made by.")] = None,
    overlap: Annotated[int, typer.Option("--overlap", min=1, help="People that each is shown to.")] = 2,
    limit: Annotated[int | None, typer.Option("--limit", min=1, help="Only the first revisions.")] = None,
    out: Annotated[Path | None, typer.Option("--out", help="Folder for a page: where people say otherwise.")] = None,
) -> None:
    """Queue revisions for people, who say whether they are better and follow the principle; or print what they said.

    Example: `trueup constitution review runs/constitution/round-1/revisions.jsonl --db feedback.db --project review`
    """
    from trueup.commands.constitution_label import review_lines

    for line in review_lines(revisions, db, project, constitution=constitution, overlap=overlap, limit=limit, out=out):
        typer.echo(line)


@app.command("run")
def run(
    file: File = None,
    out: Annotated[Path, typer.Option("--out", help="Folder; what is there is gone on with.")] = Path(
        "runs/constitution"
    ),
    rounds: Annotated[int | None, typer.Option("--rounds", min=1, help="Rounds of collecting and training.")] = None,
    model: Annotated[
        str | None, typer.Option("--model", help="The policy; the sandbox's base model if absent.")
    ] = None,
    judge: Annotated[str | None, typer.Option("--judge", help="rules, a model, or http://host/v1#model=NAME.")] = None,
    prompts: Annotated[str | None, typer.Option("--prompts", help="Red-team prompts; the sandbox's if absent.")] = None,
    seed: Annotated[int | None, typer.Option("--seed", min=0, help="Names every draw.")] = None,
    sets: Sets = None,
    dry_run: DryRun = False,
    quiet: Quiet = False,
) -> None:
    """Rounds of generate, critique, revise, SFT or DPO, audit; killed at any point, the same command goes on.

    Example: `trueup constitution run --rounds 2 --out runs/constitution`, offline, in the sandbox.
    """
    import yaml

    from trueup.commands.constitution_settings import Constitutional
    from trueup.config import build
    from trueup.config.text import parse_assignments, read_yaml

    flags = {"rounds": rounds, "judge": judge, "prompts": prompts, "seed": seed}
    given: dict[str, Any] = {name: value for name, value in flags.items() if value is not None}
    if model is not None:
        given["model"] = {"name": model}
    layers = [read_yaml(file) if file is not None else {}, given, parse_assignments(sets or ())]
    config = build(Constitutional, *layers, where=file or "command line")
    if dry_run:
        typer.echo(yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False), nl=False)
        return
    from trueup.commands.constitution_run import run_constitution

    run_constitution(config, out, quiet=quiet, tell=typer.echo)
    typer.echo((out / "report.md").read_text(encoding="utf-8"), nl=False)
