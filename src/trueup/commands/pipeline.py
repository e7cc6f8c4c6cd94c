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
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trueup.config import Settings, build
from trueup.config.text import Located, read_yaml
from trueup.errors import ConfigError, TrueupError, nearest
from trueup.ledger import move_aside, outcome, read_run
from trueup.recipes.registry import execute, identify, preset_layer
from trueup.recipes.table import RECIPES, recipe_of


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
    rows, out = loaded.get("stages"), loaded.get("out", "runs")
    if not isinstance(rows, list) or not rows:
        raise ConfigError("no stages", where=str(path), expected="stages: a list of {name, kind, ...}")
    if not isinstance(out, str) or not out:
        raise ConfigError(f"out is {out!r}", where=str(path), expected="a directory, in quotes where it is a number")
    return Path(out), [_stage(row, i, str(path)) for i, row in enumerate(rows)]


def _stage(row: Any, index: int, where: str) -> Stage:
    place = f"{where}: stages[{index}]"
    if not isinstance(row, Located):
        raise ConfigError(f"found {row!r:.100}", where=place, expected="a mapping with a kind")
    settings = Located(row, row.places)
    kind = settings.pop("kind", None)
    if kind not in RECIPES and not (isinstance(kind, str) and ":" in kind):
        expected = nearest(str(kind), RECIPES)
        raise ConfigError(f"kind is {kind!r:.100}", where=row.places.get("kind", place), expected=expected)
    name = settings.pop("name", kind if kind in RECIPES else str(kind).rpartition(":")[2].lower())
    if not isinstance(name, str) or not name or not name.isprintable() or "/" in name or name.startswith("."):
        expected = "a plain word; it becomes a directory"
        raise ConfigError(f"name is {name!r:.100}", where=row.places.get("name", place), expected=expected)
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
        if fresh and _cannot_be_resumed(folder, stage.kind, config):
            aside = move_aside(folder)
            tell(f"{stage.name}: settings or inputs changed; the old run is in {aside}")
        if _finished(folder, stage.kind, config):
            tell(f"{stage.name}: unchanged, skipped")
        else:
            started = time.perf_counter()
            execute(stage.kind, config, folder, quiet=quiet)
            tell(f"{stage.name}: done in {time.perf_counter() - started:.0f} s -> {outcome(folder)}")
        done[stage.name] = folder
    return done


def resolve_stage(stage: Stage, done: Mapping[str, Path]) -> Settings:
    """The settings of a stage, with ``@name`` replaced by what the stage of that name made."""
    layers = []
    settings = dict(stage.settings)
    places = stage.settings.places if isinstance(stage.settings, Located) else {}
    if "preset" in settings:
        layers.append(preset_layer(stage.kind, settings.pop("preset")))
    resolved = _resolve(Located(settings, places), done, stage.name)
    return build(recipe_of(stage.kind).settings(), *layers, resolved, where=f"stage {stage.name}")


def _resolve(value: Any, done: Mapping[str, Path], stage: str) -> Any:
    if isinstance(value, dict):
        places = value.places if isinstance(value, Located) else {}
        return Located({k: _resolve(v, done, stage) for k, v in value.items()}, places)
    if isinstance(value, list):
        parts = ((_resolve_part if isinstance(item, dict) else _resolve)(item, done, stage) for item in value)
        return list(parts)
    if isinstance(value, str) and value.startswith("@"):
        if value[1:] not in done:
            raise ConfigError(
                f"{value} is not an earlier stage", where=f"stage {stage}", expected=nearest(value[1:], done)
            )
        return str(outcome(done[value[1:]]))
    return value


def _resolve_part(part: dict[str, Any], done: Mapping[str, Path], stage: str) -> Located:
    """A part of a reward: its source or members may be stages; its patterns and phrases are texts."""
    places = part.places if isinstance(part, Located) else {}
    staged = {key: _resolve(part[key], done, stage) for key in ("source",) if key in part}
    if isinstance(part.get("members"), list):
        staged["members"] = [_resolve(member, done, stage) for member in part["members"]]
    return Located(part | staged, places)


def _finished(folder: Path, kind: str, config: Settings) -> bool:
    return (
        (folder / "run.json").exists() and read_run(folder)["status"] == "done" and not _differs(folder, kind, config)
    )


def _cannot_be_resumed(folder: Path, kind: str, config: Settings) -> bool:
    """Whether a run is there that is another one, or whose run.json cannot tell."""
    if not folder.is_dir() or not any(folder.iterdir()):
        return False
    try:
        return _differs(folder, kind, config)
    except TrueupError:
        return True


def _differs(folder: Path, kind: str, config: Settings) -> bool:
    record = read_run(folder)
    wanted = json.loads(json.dumps(config.model_dump(mode="json")))
    return (record["kind"], record["config"], record["inputs"]) != (kind, wanted, identify(kind, config))
