"""The training commands, one for each recipe of the table, and what each does once its settings are known."""

from __future__ import annotations

import inspect
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from trueup.commands.options import DryRun, File, Fresh, Json, NoResume, Out, Quiet, Sets
from trueup.commands.restart import restart
from trueup.recipes.table import RECIPES

if TYPE_CHECKING:
    from trueup.config import Settings

FLAGS = {
    "model.name": ("--model", "Hugging Face name, local path, or tiny."),
    "data": ("--data", "File, folder, pattern or hf:owner/name."),
    "validation": ("--validation", "Held-out data of the same kind."),
    "reference": ("--reference", "Default: the starting weights."),
    "reward": ("--reward", "runs/reward/final, a classifier, or package.module:name; several are added up."),
}
"""The flag of each setting that names an input, and its help."""
REPEATED = ("reward",)
"""Settings whose flag may stand several times; all of them count."""


def command(kind: str) -> Callable[..., None]:
    """The command that runs the recipe called ``kind``: a flag for each of its inputs, ``--set`` for all else."""
    recipe = RECIPES[kind]

    def run(**values: Any) -> None:
        flags = {setting: _one_or_all(values[_argument(setting)]) for setting in recipe.inputs}
        options = {"resume": not values["no_resume"], "fresh": values["fresh"], "quiet": values["quiet"]}
        _run(kind, values["file"], values["out"], flags, values["sets"], values["dry_run"], values["as_json"], options)

    parameters = [_parameter("file", File), _parameter("out", Out, Path("runs") / kind)]
    parameters += [_parameter(_argument(setting), _flag(setting)) for setting in recipe.inputs]
    parameters.append(_parameter("sets", Sets))
    switches = {"no_resume": NoResume, "fresh": Fresh, "dry_run": DryRun, "quiet": Quiet, "as_json": Json}
    parameters += [_parameter(name, annotation, False) for name, annotation in switches.items()]
    run.__name__, run.__doc__ = kind, f"{recipe.summary}\n\nExample: `{recipe.example}`"
    run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    run.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return run


def _argument(setting: str) -> str:
    return setting.removesuffix(".name")


def _flag(setting: str) -> Any:
    name, meaning = FLAGS[setting]
    several = list[str] | None if setting in REPEATED else str | None
    return Annotated[several, typer.Option(name, help=meaning)]


def _one_or_all(value: str | list[str] | None) -> str | list[str] | None:
    """One value of a flag that may stand several times is that value; none is no value."""
    return (value[0] if len(value) == 1 else value or None) if isinstance(value, list) else value


def _parameter(name: str, annotation: Any, default: Any = None) -> inspect.Parameter:
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation)


def _run(
    kind: str,
    file: str | None,
    out: Path,
    flags: dict[str, Any],
    sets: list[str] | None,
    dry_run: bool,
    as_json: bool,
    options: dict[str, bool],
) -> None:
    from trueup.recipes.registry import resolve

    config = resolve(kind, file, flags, sets or [])
    if not dry_run:
        train(kind, config, out, as_json=as_json, **options)
        return
    import yaml

    values = config.model_dump(mode="json")
    typer.echo(json.dumps(values, indent=2) if as_json else yaml.safe_dump(values, sort_keys=False).rstrip())


def train(kind: str, config: Settings, out: Path, *, as_json: bool = False, **options: Any) -> None:
    """Run a method and say where its model is; ``options`` are those of ``recipes.registry.execute``."""
    from trueup.ledger import outcome
    from trueup.recipes.registry import execute

    restart()
    path = execute(kind, config, out, **options)
    if os.environ.get("RANK", "0") != "0":  # one of several processes speaks
        return
    typer.echo(json.dumps(summary(path), indent=2, ensure_ascii=False) if as_json else str(outcome(path)))


def summary(path: Path) -> dict[str, Any]:
    """What a finished run says to programs: where its model is, and its last metrics."""
    from trueup.ledger import metric_rows, outcome, read_run

    record, rows = read_run(path), metric_rows(path)
    last = {name: value for name, value in (rows[-1] if rows else {}).items() if name != "ids"}
    run = {"run": str(path), "kind": record["kind"], "status": record["status"], "final": str(outcome(path))}
    return {**run, "steps": len(rows), "last": last}
