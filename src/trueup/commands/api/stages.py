"""The stages of a recipe from Python, as a file would have them: rows become files, code gets a name that any process
can import."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from trueup.commands.api.material import as_files
from trueup.commands.api.runs import nested
from trueup.config.text import Located
from trueup.errors import ConfigError, UsageError, nearest

KEYS = ("out", "stages", "sweep")


def located_stages(recipe: Mapping[str, Any], out: Path | None) -> tuple[Path, dict[str, Any]]:
    """The folder and the block ``sweep`` with its stages, of the mapping of a recipe.

    Args:
        recipe: ``stages``, ``sweep`` and perhaps ``out``; stages may be nested or have dots.
        out: Folder instead of the recipe's own.

    Raises:
        ConfigError: A key is unknown, or something is no mapping.
        UsageError: Code that another process could not import.
    """
    if unknown := sorted(set(recipe) - set(KEYS)):
        raise ConfigError(f"unknown key {unknown[0]!r}", where="sweep", expected=nearest(str(unknown[0]), KEYS))
    block = recipe.get("sweep")
    if not isinstance(block, Mapping):
        example = '"sweep": {"grid": {"ppo.kl.beta": [0.01, 0.05], "seed": [0, 1, 2]}}'
        raise ConfigError("no sweep", where="sweep", expected=example)
    folder = out or Path(recipe.get("out", "runs/sweep"))
    rows = recipe.get("stages")
    if not isinstance(rows, Sequence) or isinstance(rows, str) or not all(isinstance(row, Mapping) for row in rows):
        raise ConfigError("no stages", where="sweep", expected='"stages": a list of {"name": ..., "kind": ..., ...}')
    stages = [_stage(row, number, folder) for number, row in enumerate(rows)]
    return folder, {**_importable(dict(block), "sweep"), "stages": stages}


def _stage(row: Mapping[str, Any], number: int, folder: Path) -> Located:
    name = str(row.get("name", row.get("kind", number)))
    own = {key: value for key, value in row.items() if key not in ("name", "kind")}
    settings = _importable(own, f"stage {name}")
    models = settings.pop("models", None)  # names of models may have dots
    settings = as_files(nested(settings), folder / name)
    if models is not None:
        settings["models"] = {key: str(value) for key, value in models.items()}
    located = _located({**{key: row[key] for key in ("name", "kind") if key in row}, **settings})
    assert isinstance(located, Located)
    return located


def _importable(value: Any, place: str) -> Any:
    """The settings with code under the name by which any process finds it."""
    if isinstance(value, Mapping):
        return {key: _importable(inner, f"{place}: {key}") for key, inner in value.items()}
    if isinstance(value, (list, tuple)) and any(callable(item) or isinstance(item, Mapping) for item in value):
        return [_importable(item, place) for item in value]
    if not callable(value):
        return value
    module, name = getattr(value, "__module__", None), getattr(value, "__qualname__", "")
    if module in (None, "__main__") or getattr(sys.modules.get(str(module)), name, None) is not value:
        raise UsageError(
            f"{name or value!r} is written in this session",
            where=place,
            expected="code that another process can import: each stage runs in one of its own",
            fix="write it to a .py file and import it, or name it package.module:name",
        )
    return f"{module}:{name}"


def _located(value: Any) -> Any:
    """Blocks as a settings file gives them, without lines."""
    if isinstance(value, Mapping):
        return Located({key: _located(inner) for key, inner in value.items()}, {})
    return [_located(item) for item in value] if isinstance(value, (list, tuple)) else value
