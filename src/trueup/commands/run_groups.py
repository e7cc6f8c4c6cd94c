"""Runs to compare, grouped: those that differ in nothing but seeds are repetitions of one.

A run that starts from another run's model is the same with another seed where that run is, too: what an input names is
followed back to the run that made it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from trueup.commands.measurements import Results, read_results, row_values, with_gold
from trueup.commands.stage_kinds import run_of
from trueup.errors import DataError, RunError, UsageError
from trueup.evaluation.rows import models, of_model, read_rows
from trueup.ledger import read_run
from trueup.reports.again import changed, flat
from trueup.reports.build import evaluated_as

FOLLOWED = ("model.name", "reference", "reward")
"""Inputs that runs make."""
DEEPEST = 20


def group_runs(arguments: Sequence[str], *, evaluations: Sequence[Path] = (), gold: str | None = None) -> list[Results]:
    """Runs with what they measured, those of one group under one name.

    Args:
        arguments: ``RUN`` or ``NAME=RUN``; runs of one name are repetitions because that says so.
        evaluations: Folders of ``trueup evaluate`` in which the runs' models took part.
        gold: The truth, where the rows do not hold it.

    Raises:
        UsageError: Not a run, one comes twice, or two repetitions have one seed.
        DataError: Two evaluations measured the same run.
    """
    chosen = [_named(argument) for argument in arguments]
    paths = [path.resolve() for _, path in chosen]
    if twice := next((path for i, path in enumerate(paths) if path in paths[:i]), None):
        raise UsageError("is given twice", where=str(twice), fix="name each run once")
    records = [read_run(path) for _, path in chosen]
    keys = [name or identity(record) for (name, _), record in zip(chosen, records, strict=True)]
    names: dict[str, str] = {}
    for key, (name, path) in zip(keys, chosen, strict=True):
        names.setdefault(key, name or _free(path, names.values()))
    shared = set.intersection(*(set(flat(record["config"])) for record in records))
    results: list[Results] = []
    for key, (_, path), record in zip(keys, chosen, records, strict=True):
        seed = str(record["config"].get("seed", "none"))
        if any(result.name == names[key] and result.seed == seed for result in results):
            raise UsageError(
                f"is the second of {names[key]} with seed {seed}",
                where=str(path),
                fix="leave it out, or name the runs that belong together: NAME=RUN",
            )
        kind = str(record["kind"])
        read = read_results(
            names[key], seed, {kind: path}, kinds={kind: kind}, settings=_settings(record, shared), gold=gold
        )
        results.append(_evaluated(read, path, evaluations, gold))
    return results


def _settings(record: Mapping[str, Any], shared: set[str]) -> dict[str, Any]:
    """Settings that all the runs have, and what was set of those that only this method has."""
    own = changed(record)
    return {name: value for name, value in flat(record["config"]).items() if name in shared or name in own}


def _named(argument: str) -> tuple[str, Path]:
    name, equals, path = argument.partition("=")
    return (name, run_of(path)) if equals and not Path(argument).exists() else ("", run_of(argument))


def _free(path: Path, taken: Any) -> str:
    own = path.resolve()
    return own.name if own.name not in set(taken) else f"{own.parent.name}/{own.name}"


def _evaluated(result: Results, path: Path, evaluations: Sequence[Path], gold: str | None) -> Results:
    values = dict(result.values)
    measured = None
    for folder in evaluations:
        rows = read_rows(folder / "eval.jsonl")
        name = evaluated_as(path, folder, rows)
        if name not in models(rows):
            continue
        if measured is not None:
            raise DataError(f"{path} is measured in {measured} and in {folder}", where="--evaluation", fix="give one")
        measured = folder
        values |= row_values(of_model(with_gold(rows, gold), name))
    return replace(result, values=values, evaluation=measured)


def identity(record: Mapping[str, Any], depth: int = 0) -> str:
    """What a run is apart from seeds, as a hash: method, settings, contents of its data, and what made its models."""
    if depth > DEEPEST:
        raise RunError("runs start from one another in a circle", where="inputs")
    settings = {name: value for name, value in flat(record["config"]).items() if name.rpartition(".")[2] != "seed"}
    for name, content in record["inputs"].items():
        maker = run_of(str(settings.get(name, ""))) if name in FOLLOWED else None
        made = maker is not None and str(settings.get(name, "")) and (maker / "run.json").exists()
        settings[name] = identity(read_run(maker), depth + 1) if made and maker is not None else content
    text = json.dumps([record["kind"], settings], sort_keys=True)
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:16]


def differing(results: Sequence[Results]) -> dict[str, dict[str, Any]]:
    """Setting -> group -> value, of the settings in which groups differ; seeds tell apart runs, not groups."""
    first: dict[str, Results] = {}
    for result in results:
        first.setdefault(result.name, result)
    keys = list(dict.fromkeys(key for result in first.values() for key in result.settings))
    table = {}
    for key in keys:
        values = {name: result.settings.get(key, "–") for name, result in first.items()}
        if key.rpartition(".")[2] != "seed" and len({json.dumps(v, default=str) for v in values.values()}) > 1:
            table[key] = values
    return table
