"""A recipe file that chains stages: ``trueup run recipe.yaml``.

    out: runs/demo
    stages:
      - {name: sft, kind: sft, data: demos.jsonl, model: {name: gpt2}}
      - {name: reward, kind: reward, data: pairs.jsonl, model: {name: "@sft"}}
      - {name: ppo, kind: ppo, data: prompts.jsonl, model: {name: "@sft"}, reward: "@reward"}
      - {name: test, kind: evaluate, data: test.jsonl, models: {sft: "@sft", ppo: "@ppo"}, reward: "@reward"}

``@name`` is what an earlier stage gave (the final model of a run), ``@name/path`` a file in it. A stage whose settings
and input contents are those of its finished run is skipped; an unfinished one is resumed; a run that changed is refused
with what changed, unless ``--fresh`` moves the old one aside. What is no training (``stage_kinds``) is done anew then.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trueup.commands import stage_kinds
from trueup.config import Settings, build
from trueup.config.errors import place_of
from trueup.config.text import Located, read_yaml
from trueup.errors import ConfigError, RunError, TrueupError, nearest
from trueup.ledger import move_aside, outcome, read_run
from trueup.recipes.registry import execute, identify, preset_layer
from trueup.recipes.table import RECIPES, recipe_of

_JUDGE_STAGE = re.compile(r"^((?:[\w-]+=)?(?:reward|implicit):)@([^/#]+)")
Refer = Callable[[str], str]
"""The name of an earlier stage to what it gave."""


@dataclass(frozen=True, slots=True)
class Stage:
    """One step of a pipeline, with its references still unresolved."""

    name: str
    kind: str
    settings: dict[str, Any]


def read_recipe(path: str | Path) -> tuple[Path, list[Stage]]:
    """The output folder and stages of a recipe file; every mistake names the stage and the key.

    Raises:
        ConfigError: A key is unknown or has no such value, or the file is one of a sweep.
    """
    loaded = read_yaml(path)
    if "sweep" in loaded:
        raise ConfigError("the file is one of a sweep", where=f"{path}: sweep", fix=f"trueup sweep {path}")
    return chain(loaded, str(path))


def chain(loaded: Mapping[str, Any], where: str) -> tuple[Path, list[Stage]]:
    """The output folder and stages of the mapping of a recipe file."""
    unknown = sorted(set(loaded) - {"out", "stages"})
    if unknown:
        raise ConfigError(f"unknown key {unknown[0]!r}", where=where, expected=nearest(unknown[0], ["out", "stages"]))
    out = loaded.get("out", "runs")
    if not isinstance(out, str) or not out:
        raise ConfigError(f"out is {out!r}", where=where, expected="a directory, in quotes where it is a number")
    return Path(out), stages_of(loaded.get("stages"), where)


def stages_of(rows: Any, where: str) -> list[Stage]:
    """The stages of a list as a recipe file has it."""
    if not isinstance(rows, list) or not rows:
        raise ConfigError("no stages", where=where, expected="stages: a list of {name, kind, ...}")
    stages = [_stage(row, i, where) for i, row in enumerate(rows)]
    names = [stage.name for stage in stages]
    twice = sorted({n for n in names if names.count(n) > 1})
    if twice:
        raise ConfigError(f"two stages are called {twice[0]!r}", where=where, fix="give each its own name")
    return stages


def _stage(row: Any, index: int, where: str) -> Stage:
    place = f"{where}: stages[{index}]"
    if not isinstance(row, Located):
        raise ConfigError(f"found {row!r:.100}", where=place, expected="a mapping with a kind")
    settings = Located(row, row.places)
    kind = settings.pop("kind", None)
    known = [*RECIPES, *stage_kinds.KINDS, "sweep"]
    if kind not in known and not (isinstance(kind, str) and ":" in kind):
        expected = nearest(str(kind), known)
        raise ConfigError(f"kind is {kind!r:.100}", where=row.places.get("kind", place), expected=expected)
    name = settings.pop("name", kind if kind in known else str(kind).rpartition(":")[2].lower())
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
    """Run, resume or skip each stage in order. Returns the directory of each stage by name."""
    done: dict[str, Path] = {}
    for stage in stages:
        folder = out / stage.name
        if stage.kind == "sweep":
            _sweep(stage, done, folder, fresh=fresh, tell=tell)
        else:
            started = time.perf_counter()
            if run_stage(stage, referring(done, stage.name), folder, fresh=fresh, quiet=quiet, tell=tell):
                tell(f"{stage.name}: done in {time.perf_counter() - started:.0f} s -> {result_of(folder)}")
            else:
                tell(f"{stage.name}: unchanged, skipped")
        done[stage.name] = folder
    return done


def _sweep(stage: Stage, done: Mapping[str, Path], folder: Path, *, fresh: bool, tell: Callable[[str], None]) -> None:
    from trueup.commands.sweep_plan import plan_sweep
    from trueup.commands.sweep_run import run_sweep

    plan = plan_sweep(stage.settings, folder, done, where=f"stage {stage.name}")
    sweep = run_sweep(plan, fresh=fresh, tell=tell)
    for line in sweep.comparison.conclusion if sweep.comparison else ():
        tell(line)
    sweep.require_whole()


def run_stage(
    stage: Stage,
    refer: Refer,
    folder: Path,
    *,
    fresh: bool = False,
    quiet: bool = False,
    tell: Callable[[str], None] = lambda line: None,
) -> bool:
    """Run one stage, or go on with it; False where it is done and unchanged. Errors name the stage and its line."""
    config = resolve_stage(stage, refer)
    with _naming(stage):
        return _run_stage(stage, config, folder, fresh=fresh, quiet=quiet, tell=tell)


def _run_stage(
    stage: Stage, config: Settings, folder: Path, *, fresh: bool, quiet: bool, tell: Callable[[str], None]
) -> bool:
    try:
        if _unchanged(stage.kind, config, folder):
            return False
    except RunError:
        if not fresh:  # a damaged record: nobody can tell, and with --fresh nobody needs to
            raise
    if stage.kind in stage_kinds.KINDS:
        stage_kinds.run(stage.kind, config, folder, tell)
        return True
    if fresh and _cannot_be_resumed(folder, stage.kind, config):
        aside = move_aside(folder)
        tell(f"{stage.name}: settings or inputs changed; the old run is in {aside}")
    execute(stage.kind, config, folder, quiet=quiet)
    return True


def is_unchanged(stage: Stage, refer: Refer, folder: Path) -> bool:
    """Whether the stage is done, with these settings and inputs."""
    config = resolve_stage(stage, refer)
    with _naming(stage):
        return _unchanged(stage.kind, config, folder)


@contextmanager
def _naming(stage: Stage) -> Iterator[None]:
    """Errors of the work name the stage, and the line of the setting that they are about, or else of the stage."""
    try:
        yield
    except TrueupError as error:
        settings = stage.settings
        setting = error.setting or _setting_of(settings, error.where)
        place = place_of(setting.split("."), [settings]) if setting else ""
        if not place and isinstance(settings, Located):
            place = min(settings.places.values(), key=_line, default="")
        named = f"{setting} ({place})" if setting and place else setting or place
        error.setting = None
        error.where = ": ".join(part for part in (f"stage {stage.name}", named, error.where) if part)
        raise


def _setting_of(value: Any, where: str | None, setting: str = "") -> str:
    """The setting whose text is what an error is about, or holds it, as ``reward:PATH`` does; empty where none is."""
    if isinstance(value, str):
        return setting if where and (value == where or where in re.split("[:#=,]", value)) else ""
    if isinstance(value, Mapping):
        inner = [_setting_of(v, where, f"{setting}.{name}" if setting else str(name)) for name, v in value.items()]
    else:
        inner = [_setting_of(v, where, setting) for v in value] if isinstance(value, list | tuple) else []
    return next(filter(None, inner), "")


def _line(place: str) -> int:
    number = place.rpartition(":")[2]
    return int(number) if number.isdecimal() else 0


def _unchanged(kind: str, config: Settings, folder: Path) -> bool:
    if kind in stage_kinds.KINDS:
        return stage_kinds.is_unchanged(kind, config, folder)
    return (
        (folder / "run.json").exists() and read_run(folder)["status"] == "done" and not _differs(folder, kind, config)
    )


def resolve_stage(stage: Stage, refer: Refer) -> Settings:
    """The settings of a stage, with ``@name`` replaced by what the stage of that name gave."""
    layers = []
    settings = dict(stage.settings)
    places = stage.settings.places if isinstance(stage.settings, Located) else {}
    if "preset" in settings and stage.kind not in stage_kinds.KINDS:
        layers.append(preset_layer(stage.kind, settings.pop("preset")))
    resolved = _resolve(Located(settings, places), refer)
    return build(settings_class(stage.kind), *layers, resolved, where=f"stage {stage.name}")


def settings_class(kind: str) -> type[Settings]:
    """The settings of a kind of stage."""
    return stage_kinds.KINDS[kind].settings if kind in stage_kinds.KINDS else recipe_of(kind).settings()


def referring(done: Mapping[str, Path], stage: str) -> Refer:
    """What ``@name`` stands for in a stage, by the directories of the stages before it."""

    def refer(name: str) -> str:
        if name not in done:
            raise ConfigError(f"@{name} is not an earlier stage", where=f"stage {stage}", expected=nearest(name, done))
        return str(result_of(done[name]))

    return refer


def result_of(folder: Path) -> Path:
    """What a stage gave: the final model of a run, or what is not a run says of itself."""
    return stage_kinds.result(folder) or outcome(folder)


def references(settings: Mapping[str, Any]) -> set[str]:
    """The names of the stages that settings refer to."""
    names: set[str] = set()

    def refer(name: str) -> str:
        names.add(name)
        return name

    _resolve(dict(settings), refer)
    return names


def _resolve(value: Any, refer: Refer) -> Any:
    if isinstance(value, dict):
        places = value.places if isinstance(value, Located) else {}
        own = {k: _resolve_judges(v, refer) if k == "judges" else _resolve(v, refer) for k, v in value.items()}
        return Located(own, places)
    if isinstance(value, list):
        return [_resolve_part(item, refer) if isinstance(item, dict) else _resolve(item, refer) for item in value]
    if isinstance(value, str) and value.startswith("@"):
        name = re.split("[/#]", value[1:], maxsplit=1)[0]  # what stands behind is a file in it, or one of its outputs
        return f"{refer(name)}{value[1 + len(name) :]}"
    return value


def _resolve_judges(value: Any, refer: Refer) -> Any:
    """Judges of an evaluation: what ``reward:`` and ``implicit:`` name may be a stage."""
    if not isinstance(value, (list, tuple)):
        return value
    return [_JUDGE_STAGE.sub(lambda m: f"{m[1]}{refer(m[2])}", one) if isinstance(one, str) else one for one in value]


def _resolve_part(part: dict[str, Any], refer: Refer) -> Located:
    """A part of a reward: its source or members may be stages; its patterns and phrases are texts."""
    places = part.places if isinstance(part, Located) else {}
    staged = {key: _resolve(part[key], refer) for key in ("source",) if key in part}
    if isinstance(part.get("members"), list):
        staged["members"] = [_resolve(member, refer) for member in part["members"]]
    return Located(part | staged, places)


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
