"""How a command line becomes a run of one of the recipes."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from trueup.config import Settings, build, code, default_values
from trueup.config.log import Log
from trueup.config.text import Located, parse_assignments, read_yaml
from trueup.data.listing import data_hash
from trueup.errors import ConfigError, RunError, nearest
from trueup.ledger import Run, move_aside, read_run
from trueup.ledger.mirrors import Mirrors
from trueup.models.files import identity
from trueup.recipes.table import recipe_of
from trueup.rewards.registry import identify as reward_identity

IDENTITIES: dict[str, Callable[[Any], str]] = {
    "model.name": identity,
    "reference": identity,
    "reward": reward_identity,
}
"""Inputs that are no plain files or directories, and what tells two of them apart: a model's own files, the source of
a reward or every part of it. One that is not there is refused."""


def resolve(kind: str, file: str | None, flags: Mapping[str, Any], assignments: Iterable[str]) -> Settings:
    """Defaults < preset < YAML file < flags and ``--set``; the same setting in the last two is an error."""
    recipe = recipe_of(kind)
    from_file = read_yaml(file) if file else {}
    preset = from_file.pop("preset", None)
    settings = parse_assignments(assignments)
    preset = settings.pop("preset", preset)
    set_flags = {key: value for key, value in flags.items() if value is not None}
    for key in set_flags:
        if _lookup(settings, key) is not _ABSENT:
            raise ConfigError(
                f"{key} is given twice: as a flag and by --set", where="command line", fix="keep one of them"
            )
    layers = [preset_layer(kind, preset)] if preset is not None else []
    nested = Located({}, {})
    for key, value in set_flags.items():
        parent_block = nested
        *parents, leaf = key.split(".")
        for parent in parents:
            parent_block = parent_block.setdefault(parent, Located({}, {}))
        parent_block[leaf], parent_block.places[leaf] = value, f"--{key.removesuffix('.name')}"
    return build(recipe.settings(), *layers, from_file, nested, settings, where=file or "command line")


def preset_layer(kind: str, name: Any) -> dict[str, Any]:
    """Settings of a documented preset, see ``recipes.presets``."""
    from trueup.recipes.presets import PRESETS

    if not isinstance(name, str) or kind not in PRESETS.get(name, {}):
        known = [n for n, kinds in PRESETS.items() if kind in kinds]
        expected = nearest(str(name), known) if known else f"none: no preset says anything about {kind}"
        raise ConfigError(f"no preset {name!r} for {kind}", where="preset", expected=expected)
    return dict(PRESETS[name][kind])


def identify(kind: str, config: Settings) -> dict[str, str]:
    """Content hashes of everything a run reads, by field; a run resumes only with the same ones."""
    identities: dict[str, str] = {}
    values = config.model_dump()
    recipe = recipe_of(kind)
    for field in (*recipe.inputs, *recipe.inner_inputs):
        value = _lookup(values, field)
        if isinstance(value, str | tuple) and value:
            identities[field] = IDENTITIES.get(field, data_hash)(value)
    identities |= {field: code.identify(text, field) for field, text in code.code_in(config).items()}
    own = recipe.code()
    return identities if own is None else identities | {"recipe": own}


def execute(
    kind: str,
    config: Settings,
    out: str | Path,
    *,
    resume: bool = True,
    fresh: bool = False,
    start_from: str | None = None,
    accept_damage: bool = False,
    quiet: bool = False,
    probe: int | None = None,
) -> Path:
    """Run one method in the directory ``out``; an unfinished run there goes on where it stopped.

    Under ``torchrun`` all processes call this together, share the work and end with the same weights.

    Args:
        kind: Name of the method.
        config: Its settings.
        out: The run's directory.
        resume: Whether a run that is there may be gone on with.
        fresh: Move what is there aside first, whatever it is of ours.
        start_from: Name of an older checkpoint to go on from, as ``step-00000100``.
        accept_damage: Go on although the logs are not what the checkpoint counts on.
        quiet: No progress.
        probe: Take only so many steps, spread over the whole run, to measure what it will cost.
    """
    from trueup.engine import checkpoint
    from trueup.engine.device import tuned_process
    from trueup.engine.loop import terminable
    from trueup.engine.processes import barrier, joined, rank

    with tuned_process(), joined(), terminable(), ExitStack() as stack:
        if rank() == 0:
            mirrors = stack.enter_context(_mirrors(config, Path(out), quiet=quiet, probes=probe is not None))
            if fresh and (aside := move_aside(Path(out))) is not None:
                print(f"{out}: the run that was here is now {aside}", file=sys.stderr)
            run = stack.enter_context(
                Run.start(
                    out,
                    kind=kind,
                    config=config.model_dump(mode="json"),
                    inputs=identify(kind, config),
                    defaults=default_values(type(config)),
                    resume=resume,
                    quiet=quiet,
                    probe=probe,
                )
            )
            mirrors.start()
            if start_from is not None:
                checkpoint.select(run.path, start_from)
            barrier()
        else:
            barrier()
            run = stack.enter_context(Run.follow(out, probe=probe))
        run.accept_damage = accept_damage
        recipe_of(kind).train()(config, run)
    return Path(out)


def _mirrors(config: Settings, out: Path, *, quiet: bool, probes: bool) -> Mirrors:
    """The mirrors that the settings ask for, none for a probe; a recipe of your own need not have such settings."""
    log = getattr(config, "log", None)
    asked = log if isinstance(log, Log) and not probes else Log()
    return Mirrors(out, asked.targets(), asked.project, quiet=quiet)


def settings_of(run: str | Path) -> tuple[str, Settings]:
    """Method and settings of the run in a directory, from its run.json.

    Raises:
        RunError: run.json is damaged, or holds what this version of trueup does not know.
    """
    record = read_run(run)
    try:
        recipe = recipe_of(record["kind"])
    except ConfigError as error:
        raise RunError(f"the method is {record['kind']!r}", where=str(run), expected=error.expected) from error
    return record["kind"], build(recipe.settings(), record["config"], where=f"{run}/run.json")


_ABSENT = object()


def _lookup(values: Mapping[str, Any], dotted: str) -> Any:
    value: Any = values
    for part in dotted.split("."):
        if not isinstance(value, Mapping) or part not in value:
            return _ABSENT
        value = value[part]
    return value
