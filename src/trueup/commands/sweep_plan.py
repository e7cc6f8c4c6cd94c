"""A sweep as a plan: which settings each variant has, and which stages variants share.

    out: runs/betas
    stages: [...]                                       # as for trueup run
    sweep:
      grid: {ppo.kl.beta: [0.01, 0.05], seed: [0, 1]}   # crossed: four variants
      list: [{sft.epochs: 1}, {sft.epochs: 3}]          # listed; with a grid, each of them with all of it
      baseline: {ppo.kl.beta: 0.05}                     # what the others are compared with; the first by default

A key is a stage's name and a setting of it, or a setting alone, which then holds for every stage that has it. Settings
that end in ``seed`` tell repetitions apart, all others variants. A stage gets a directory by a hash of its settings and
of the stages it refers to, so that variants which do not differ in them share it.
"""

from __future__ import annotations

import hashlib
import itertools
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from trueup.commands.pipeline import Stage, references, resolve_stage, result_of, settings_class, stages_of
from trueup.config import Settings, default_values, merge
from trueup.config.text import Located, read_yaml
from trueup.errors import ConfigError, nearest

KEYS = ("grid", "list", "baseline", "quality", "gold", "model")
MOST_VARIANTS = 1000


@dataclass(frozen=True, slots=True)
class Job:
    """One stage of one or more variants."""

    stage: Stage
    folder: Path
    needs: Mapping[str, Path]
    """Directories of the stages that it refers to, by name."""


@dataclass(frozen=True, slots=True)
class Variant:
    """One choice of settings with one choice of seeds."""

    settings: Mapping[str, Any]
    seeds: Mapping[str, Any]
    jobs: Mapping[str, Job]
    """By the name of the stage."""

    @property
    def name(self) -> str:
        """What it differs in, without seeds."""
        return written(self.settings) or "as written"

    @property
    def seed(self) -> str:
        """Its seeds: the value of ``seed``, or which seed has which value."""
        return str(self.seeds["seed"]) if list(self.seeds) == ["seed"] else written(self.seeds) or "as written"


@dataclass(frozen=True, slots=True)
class SweepPlan:
    """Everything that is to be run, and how it is judged."""

    out: Path
    variants: tuple[Variant, ...]
    jobs: tuple[Job, ...]
    """Each once, after those that it needs."""
    baseline: str
    """Name of the variant that the others are compared with."""
    quality: str | None = None
    gold: str | None = None
    model: str | None = None
    recipe: str | None = None
    """The file that it was read from."""


def written(settings: Mapping[str, Any]) -> str:
    """``ppo.kl.beta=0.05, epochs=2``."""
    return ", ".join(
        f"{key}={value if isinstance(value, str) else json.dumps(value)}" for key, value in settings.items()
    )


def read_sweep(path: str | Path, out: Path | None = None) -> SweepPlan:
    """The plan of a recipe file with a block ``sweep``.

    Raises:
        ConfigError: A mistake in the file, or a variant that cannot be: nothing was run.
    """
    loaded = read_yaml(path)
    unknown = sorted(set(loaded) - {"out", "stages", "sweep"})
    if unknown:
        expected = nearest(unknown[0], ["out", "stages", "sweep"])
        raise ConfigError(f"unknown key {unknown[0]!r}", where=str(path), expected=expected)
    block = loaded.get("sweep")
    if not isinstance(block, dict):
        example = "sweep: {grid: {ppo.kl.beta: [0.01, 0.05], seed: [0, 1, 2]}}"
        raise ConfigError("no sweep", where=str(path), expected=example)
    folder = loaded.get("out", "runs/sweep")
    if not isinstance(folder, str) or not folder:
        raise ConfigError(f"out is {folder!r}", where=str(path), expected="a directory")
    plan = plan_sweep({**block, "stages": loaded.get("stages")}, out or Path(folder), {}, where=str(path))
    return replace(plan, recipe=str(path))


def plan_sweep(block: Mapping[str, Any], out: Path, done: Mapping[str, Path], *, where: str) -> SweepPlan:
    """The plan of a block ``sweep`` that holds its stages.

    Args:
        block: ``stages`` and the keys of ``sweep``.
        out: Directory of the sweep.
        done: Directories of stages before the sweep that its stages may refer to.
        where: The file or stage, for errors.
    """
    unknown = sorted(set(block) - {"stages", *KEYS})
    if unknown:
        expected = nearest(unknown[0], KEYS)
        raise ConfigError(f"unknown key {unknown[0]!r}", where=f"{where}: sweep", expected=expected)
    stages = stages_of(block.get("stages"), where)
    if nested := [stage.name for stage in stages if stage.kind == "sweep"]:
        raise ConfigError("a sweep within a sweep", where=f"{where}: {nested[0]}", fix="cross all settings in one grid")
    if clash := [stage.name for stage in stages if stage.name in done]:
        raise ConfigError(f"two stages are called {clash[0]!r}", where=where, fix="give each its own name")
    jobs: dict[Path, Job] = {}
    variants = [_variant(choice, stages, out, done, jobs, where) for choice in choices(block, where)]
    if twice := _first_twice([f"{v.name}; seed {v.seed}" for v in variants]):
        raise ConfigError(f"the variant {twice} comes twice", where=f"{where}: sweep", fix="list each once")
    options = {key: _text(block.get(key), f"{where}: sweep.{key}") for key in ("quality", "gold", "model")}
    return SweepPlan(out, tuple(variants), tuple(jobs.values()), _baseline(block, variants, where), **options)


def choices(block: Mapping[str, Any], where: str) -> Iterator[dict[str, Any]]:
    """The settings of each variant, seeds among them, in the order of the file."""
    grid, listed = block.get("grid", {}), block.get("list", [{}])
    if not isinstance(grid, dict):
        raise ConfigError(f"found {grid!r:.100}", where=f"{where}: sweep.grid", expected="{setting: [value, ...]}")
    for key, values in grid.items():
        if not isinstance(values, list) or not values:
            place = f"{where}: sweep.grid.{key}"
            raise ConfigError(f"found {values!r:.100}", where=place, expected="a list of values")
    if not isinstance(listed, list) or not listed or not all(isinstance(item, dict) for item in listed):
        raise ConfigError(f"found {listed!r:.100}", where=f"{where}: sweep.list", expected="a list of {setting: value}")
    if not grid and "list" not in block:
        raise ConfigError("nothing varies", where=f"{where}: sweep", expected="grid or list")
    if both := sorted({key for item in listed for key in item} & set(grid)):
        raise ConfigError(f"{both[0]} stands in grid and in list", where=f"{where}: sweep", fix="keep one of them")
    count = len(listed)
    for values in grid.values():
        count *= len(values)
    if count > MOST_VARIANTS:
        raise ConfigError(f"{count} variants", where=f"{where}: sweep", expected=f"at most {MOST_VARIANTS}")
    for item in listed:
        for values in itertools.product(*grid.values()):
            yield {**item, **dict(zip(grid, values, strict=True))}


def _variant(
    choice: Mapping[str, Any],
    stages: Sequence[Stage],
    out: Path,
    done: Mapping[str, Path],
    jobs: dict[Path, Job],
    where: str,
) -> Variant:
    changed = {stage.name: stage for stage in stages}
    for key, value in choice.items():
        for name in _stages_with(key, stages, where):
            setting = key.removeprefix(f"{name}.") if key.partition(".")[0] == name else key
            changed[name] = _with(changed[name], setting, value, f"{where}: sweep: {key}")
    folders = dict(done)
    own: dict[str, Job] = {}
    for stage in changed.values():
        job = _job(stage, out, folders, jobs, where)
        folders[stage.name], own[stage.name] = job.folder, job
    seeds = {key: value for key, value in choice.items() if is_seed(key)}
    return Variant({key: value for key, value in choice.items() if key not in seeds}, seeds, own)


def is_seed(key: str) -> bool:
    """Whether a setting tells repetitions apart."""
    return key.rpartition(".")[2] == "seed"


def _stages_with(key: str, stages: Sequence[Stage], where: str) -> list[str]:
    """Names of the stages that a key of a sweep sets something in."""
    head, dot, _ = key.partition(".")
    names = [stage.name for stage in stages]
    if dot and head in names:
        return [head]
    having = [stage.name for stage in stages if head in settings_class(stage.kind).model_fields]
    if not having:
        fields = {field for stage in stages for field in settings_class(stage.kind).model_fields}
        raise ConfigError(
            f"no stage is called {head!r}, and none has such a setting",
            where=f"{where}: sweep: {key}",
            expected=f"{nearest(head, [*names, *sorted(fields)])}, as {names[-1]}.{sorted(fields)[0]}",
        )
    return having


def _with(stage: Stage, setting: str, value: Any, place: str) -> Stage:
    """The stage with one setting changed; a block with another ``kind`` is replaced whole."""
    *parents, leaf = setting.split(".")
    block: Any = {leaf: value}
    for parent in reversed(parents):
        block = {parent: block}
    head = (*parents, leaf)[0]
    places = stage.settings.places if isinstance(stage.settings, Located) else {}
    return replace(stage, settings=Located(merge(stage.settings, block), {**places, head: place}))


def _job(stage: Stage, out: Path, folders: Mapping[str, Path], jobs: dict[Path, Job], where: str) -> Job:
    needs = {}
    for name in sorted(references(stage.settings)):
        if name not in folders:
            raise ConfigError(f"@{name} is not an earlier stage", where=f"{where}: stage {stage.name}",
                              expected=nearest(name, folders) if folders else "none")  # fmt: skip
        needs[name] = folders[name]
    inside = {folder.name for folder in (job.folder for job in jobs.values())}

    def refer(name: str) -> str:
        # Not what is there, but which it is: the plan is the same before and after the stage has run.
        return f"@{needs[name].name}" if needs[name].name in inside else str(result_of(needs[name]))

    config = resolve_stage(stage, refer)
    digest = hashlib.sha256(json.dumps([stage.kind, _set(config)], sort_keys=True).encode()).hexdigest()[:8]
    folder = out / f"{stage.name}-{digest}"
    return jobs.setdefault(folder, Job(stage, folder, needs))


def _set(config: Settings) -> dict[str, Any]:
    """What differs from the defaults: a setting that a later version adds changes no hash."""
    values, defaults = config.model_dump(mode="json"), json.loads(json.dumps(default_values(type(config))))
    return {name: value for name, value in values.items() if name not in defaults or defaults[name] != value}


def _baseline(block: Mapping[str, Any], variants: Sequence[Variant], where: str) -> str:
    names = list(dict.fromkeys(variant.name for variant in variants))
    if "baseline" not in block:
        return names[0]
    wanted = block["baseline"]
    if not isinstance(wanted, dict):
        raise ConfigError(f"found {wanted!r:.100}", where=f"{where}: sweep.baseline", expected="{setting: value}")
    fitting = [v.name for v in variants if all(v.settings.get(key) == value for key, value in wanted.items())]
    fitting = list(dict.fromkeys(fitting))
    if len(fitting) != 1:
        problem = f"{len(fitting)} variants have {written(wanted)}"
        raise ConfigError(problem, where=f"{where}: sweep.baseline", expected=f"one of: {'; '.join(names)}")
    return fitting[0]


def _text(value: Any, where: str) -> str | None:
    if value is not None and (not isinstance(value, str) or not value):
        raise ConfigError(f"found {value!r:.100}", where=where, expected="a name")
    return value


def _first_twice(names: Sequence[str]) -> str | None:
    return next((name for i, name in enumerate(names) if name in names[:i]), None)
