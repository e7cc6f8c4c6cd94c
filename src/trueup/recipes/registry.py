"""The methods by name, and how a command line becomes a run."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

from trueup.config import Settings, build, parse_assignments, read_yaml
from trueup.errors import ConfigError
from trueup.ledger import Run


@dataclass(frozen=True, slots=True)
class Recipe:
    """Where a method lives; modules are imported on use, so ``--help`` stays fast."""

    module: str
    config: str
    inputs: tuple[str, ...]
    teaches: str

    def settings(self) -> type[Settings]:
        """The config class."""
        found: type[Settings] = getattr(import_module(self.module), self.config)
        return found

    def train(self) -> Callable[[Any, Run], None]:
        """The training function."""
        found: Callable[[Any, Run], None] = import_module(self.module).train
        return found


RECIPES: dict[str, Recipe] = {
    "sft": Recipe("trueup.recipes.sft", "Sft", ("data", "validation", "model.name"), "imitate demonstrations"),
    "reward": Recipe(
        "trueup.recipes.reward", "Reward", ("data", "validation", "model.name"), "learn a reward from preferences"
    ),
    "dpo": Recipe(
        "trueup.recipes.dpo", "Dpo", ("data", "validation", "model.name", "reference"), "preferences into a policy"
    ),
    "kto": Recipe(
        "trueup.recipes.kto",
        "Kto",
        ("data", "validation", "model.name", "reference"),
        "learn from single responses marked good or bad",
    ),
    "ppo": Recipe(
        "trueup.recipes.ppo", "Ppo", ("data", "reward", "model.name", "reference"), "RLHF against a reward model"
    ),
}


def resolve(kind: str, file: str | None, flags: Mapping[str, Any], assignments: Iterable[str]) -> Settings:
    """Defaults < preset < YAML file < flags and ``--set``; the same setting in the last two is an error."""
    recipe = RECIPES[kind]
    from_file = read_yaml(file) if file else {}
    preset = from_file.pop("preset", None)
    settings = parse_assignments(assignments)
    preset = settings.pop("preset", preset)
    given = {key: value for key, value in flags.items() if value is not None}
    for key in given:
        if _lookup(settings, key) is not None:
            raise ConfigError(
                f"{key} is given twice: as a flag and by --set", where="command line", fix="keep one of them"
            )
    layers = [preset_layer(kind, str(preset))] if preset else []
    nested = parse_assignments([])
    for key, value in given.items():
        here = nested
        *parents, leaf = key.split(".")
        for parent in parents:
            here = here.setdefault(parent, {})
        here[leaf] = value
    return build(recipe.settings(), *layers, from_file, nested, settings, where=file or "command line")


def preset_layer(kind: str, name: str) -> dict[str, Any]:
    """Settings of a documented preset, see ``recipes.presets``."""
    from trueup.recipes.presets import PRESETS

    if name not in PRESETS or kind not in PRESETS[name]:
        known = ", ".join(sorted(n for n, kinds in PRESETS.items() if kind in kinds))
        raise ConfigError(f"no preset {name!r} for {kind}", where="preset", expected=f"one of: {known}")
    return dict(PRESETS[name][kind])


def identify(kind: str, config: Settings) -> dict[str, str]:
    """Content hashes of everything a run reads, by field; a run resumes only with the same ones."""
    found: dict[str, str] = {}
    values = config.model_dump()
    for field in RECIPES[kind].inputs:
        value = _lookup(values, field)
        if isinstance(value, str) and value:
            found[field] = content_hash(value)
    return found


def content_hash(source: str) -> str:
    """SHA-256 (16 digits) of a file or of a directory's files; a hub name stands for itself."""
    path = Path(source)
    digest = hashlib.sha256()
    if path.is_file():
        files = [path]
    elif path.is_dir():
        files = sorted(p for p in path.rglob("*") if p.is_file() and not p.name.startswith("."))
    else:
        return f"name:{source}"
    for file in files:
        digest.update(str(file.relative_to(path)).encode() if path.is_dir() else b"")
        with open(file, "rb") as handle:
            while block := handle.read(1 << 20):
                digest.update(block)
    return digest.hexdigest()[:16]


def execute(
    kind: str,
    config: Settings,
    out: str | Path,
    *,
    resume: bool = True,
    quiet: bool = False,
    probe: int | None = None,
) -> Path:
    """Run one method in the directory ``out``; an unfinished run there goes on where it stopped.

    Under ``torchrun`` all processes call this together, share the work and end with the same weights.
    ``probe`` takes only so many steps, spread over the whole run, to measure what it will cost.
    """
    from trueup.engine.device import tuned_process
    from trueup.engine.processes import barrier, highest, joined, rank

    with tuned_process(), joined():
        leads = rank() == 0
        if leads:
            values, inputs = config.model_dump(mode="json"), identify(kind, config)
            run = Run.start(out, kind=kind, config=values, inputs=inputs, resume=resume, quiet=quiet, probe=probe)
        barrier()
        with run if leads else Run.follow(out, probe=probe) as run:
            run.agree = highest
            RECIPES[kind].train()(config, run)
    return Path(out)


def _lookup(values: Mapping[str, Any], dotted: str) -> Any:
    here: Any = values
    for part in dotted.split("."):
        if not isinstance(here, Mapping) or part not in here:
            return None
        here = here[part]
    return here
