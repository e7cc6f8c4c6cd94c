"""A recipe file that chains stages: ``trueup run recipe.yaml``.

    out: runs/demo
    stages:
      - {name: sft, kind: sft, data: demos.jsonl, model: {name: gpt2}}
      - {name: reward, kind: reward, data: pairs.jsonl, model: {name: "@sft"}}
      - {name: ppo, kind: ppo, data: prompts.jsonl, model: {name: "@sft"}, reward: "@reward"}

``@name`` is the final model of an earlier stage. A stage whose settings and input contents are those of its
finished run is skipped; an unfinished one is resumed; a changed one is refused with what changed, unless
``--fresh`` moves the old run aside.
"""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trueup.config import Settings, build, read_yaml
from trueup.errors import ConfigError, nearest
from trueup.ledger import read_run
from trueup.recipes.registry import RECIPES, execute, identify, preset_layer


@dataclass(frozen=True, slots=True)
class Stage:
    """One step of a pipeline, with its references still unresolved."""

    name: str
    kind: str
    settings: dict[str, Any]


def read_recipe(path: str | Path) -> tuple[Path, list[Stage]]:
    """The output folder and stages of a recipe file; every mistake names the stage and the key."""
    loaded = read_yaml(path)
    unknown = sorted(set(loaded) - {"out", "stages"})
    if unknown:
        raise ConfigError(
            f"unknown key {unknown[0]!r}", where=str(path), expected=nearest(unknown[0], ["out", "stages"])
        )
    rows = loaded.get("stages")
    if not isinstance(rows, list) or not rows:
        raise ConfigError("no stages", where=str(path), expected="stages: a list of {name, kind, ...}")
    return Path(str(loaded.get("out", "runs"))), [_stage(row, i, str(path)) for i, row in enumerate(rows)]


def _stage(row: Any, index: int, where: str) -> Stage:
    place = f"{where}: stages[{index}]"
    if not isinstance(row, dict):
        raise ConfigError(f"found {row!r}", where=place, expected="a mapping with a kind")
    settings = dict(row)
    kind = settings.pop("kind", None)
    if kind not in RECIPES:
        raise ConfigError(f"kind is {kind!r}", where=place, expected=nearest(str(kind), RECIPES))
    name = str(settings.pop("name", kind))
    if not name or "/" in name or name.startswith("."):
        raise ConfigError(f"name is {name!r}", where=place, expected="a plain word; it becomes a directory")
    return Stage(name, kind, settings)


def run_stages(
    out: Path,
    stages: list[Stage],
    *,
    fresh: bool = False,
    quiet: bool = False,
    tell: Callable[[str], None] = lambda line: None,
) -> dict[str, Path]:
    """Run, resume or skip each stage in order. Returns the run directory of each stage by name."""
    names = [s.name for s in stages]
    twice = sorted({n for n in names if names.count(n) > 1})
    if twice:
        raise ConfigError(f"two stages are called {twice[0]!r}", where="stages", fix="give each its own name")
    done: dict[str, Path] = {}
    for stage in stages:
        config = resolve_stage(stage, done)
        folder = out / stage.name
        if _finished(folder, stage.kind, config):
            tell(f"{stage.name}: unchanged, skipped")
        else:
            if fresh and (folder / "run.json").exists() and _differs(folder, stage.kind, config):
                aside = folder.with_name(f"{folder.name}.{int(time.time())}")
                shutil.move(folder, aside)
                tell(f"{stage.name}: settings or inputs changed; the old run is in {aside}")
            started = time.perf_counter()
            execute(stage.kind, config, folder, quiet=quiet)
            tell(f"{stage.name}: done in {time.perf_counter() - started:.0f} s -> {folder / 'final'}")
        done[stage.name] = folder
    return done


def resolve_stage(stage: Stage, done: Mapping[str, Path]) -> Settings:
    """The settings of a stage, with ``@name`` replaced by what the stage of that name made."""
    layers = []
    settings = dict(stage.settings)
    if "preset" in settings:
        layers.append(preset_layer(stage.kind, str(settings.pop("preset"))))
    resolved = _resolve(settings, done, stage.name)
    return build(RECIPES[stage.kind].settings(), *layers, resolved, where=f"stage {stage.name}")


def _resolve(value: Any, done: Mapping[str, Path], stage: str) -> Any:
    if isinstance(value, dict):
        return {k: _resolve(v, done, stage) for k, v in value.items()}
    if isinstance(value, str) and value.startswith("@"):
        if value[1:] not in done:
            raise ConfigError(
                f"{value} is not an earlier stage", where=f"stage {stage}", expected=nearest(value[1:], done)
            )
        return str(done[value[1:]] / "final")
    return value


def _finished(folder: Path, kind: str, config: Settings) -> bool:
    return (
        (folder / "run.json").exists()
        and read_run(folder)["status"] == "done"
        and not _differs(folder, kind, config)
        and (folder / "final").is_dir()
    )


def _differs(folder: Path, kind: str, config: Settings) -> bool:
    record = read_run(folder)
    wanted = json.loads(json.dumps(config.model_dump(mode="json")))
    return (record["kind"], record["config"], record["inputs"]) != (kind, wanted, identify(kind, config))
