"""run.json: what a run is, and when a directory may be gone on with."""

from __future__ import annotations

import contextlib
import hashlib
import json
import platform
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from trueup import __version__
from trueup.errors import RunError, UsageError
from trueup.ledger.files import storage_problem

_PACKAGES = ("torch", "transformers", "tokenizers", "peft", "numpy")
_FIELDS: dict[str, type] = {"kind": str, "config": dict, "inputs": dict, "status": str}
_OPTIONAL: dict[str, type] = {"pinned": dict, "versions": dict, "facts": dict, "defaults": dict}


def read_run(path: str | Path) -> dict[str, Any]:
    """The content of ``run.json``, with a clear error when ``path`` is no run directory or the file is damaged."""
    file = Path(path) / "run.json"
    try:
        loaded = json.loads(file.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError) as error:
        raise UsageError("not a run directory", where=str(path), expected="a directory with run.json") from error
    except OSError as error:
        problem, fix = storage_problem(error)
        raise RunError(f"run.json cannot be read: {problem}", where=str(file), fix=fix) from error
    except (ValueError, RecursionError) as error:
        raise RunError(f"run.json is damaged: {error}", where=str(file), fix=_RESTORE) from error
    return validate_record(loaded, file)


_RESTORE = "restore the file from a copy, or start anew with --fresh, which moves this directory aside"


def validate_record(loaded: Any, file: Path) -> dict[str, Any]:
    """``loaded`` itself, if it has the form of our run.json.

    Raises:
        RunError: It has not.
    """
    if not isinstance(loaded, dict):
        raise RunError(f"run.json is not an object but {type(loaded).__name__}", where=str(file), fix=_RESTORE)
    for name, kind in (_FIELDS | _OPTIONAL).items():
        if name not in loaded and name in _OPTIONAL:
            continue
        if not isinstance(loaded.get(name), kind):
            problem = f"{name} is {loaded[name]!r:.60}" if name in loaded else f"{name} is missing"
            raise RunError(
                f"run.json is damaged, or not one of ours: {problem}",
                where=str(file),
                expected=_NOUNS[kind],
                fix=_RESTORE,
            )
    for name in ("inputs", "pinned", "versions"):
        if not all(isinstance(value, str) for value in loaded.get(name, {}).values()):
            raise RunError(f"run.json is damaged: {name} holds more than text", where=str(file), fix=_RESTORE)
    return loaded


_NOUNS: dict[type, str] = {str: "text", dict: "an object"}


def outcome(folder: Path) -> Path:
    """What a finished run gave: ``final/``, or the run itself where its method makes no model."""
    final = folder / "final"
    return final if final.is_dir() else folder


def rated_columns(record: Mapping[str, Any]) -> tuple[str, ...]:
    """The outputs of a model of ratings, by name; none where the run trained something else."""
    objective = record["config"].get("objective")
    rated = isinstance(objective, Mapping) and objective.get("kind") == "ratings"
    return tuple(map(str, objective.get("columns") or ())) if rated and isinstance(objective, Mapping) else ()


def identity(record: Mapping[str, Any]) -> str:
    """What a run is, as a hash: kind, settings and inputs. Its checkpoints carry it."""
    what = {name: record[name] for name in ("kind", "config", "inputs")}
    return hashlib.sha256(json.dumps(what, sort_keys=True).encode("utf-8", "surrogatepass")).hexdigest()[:16]


def changes(record: Mapping[str, Any], wanted: Mapping[str, Any]) -> list[str]:
    """In what a wanted run differs from the one that is there; a setting that it could not know yet is no change."""
    differences = [] if record["kind"] == wanted["kind"] else [f"kind was {record['kind']!r}, now {wanted['kind']!r}"]
    differences += _changed_keys(record["inputs"], wanted["inputs"], "inputs", {})
    differences += _changed_keys(record["config"], wanted["config"], "config", wanted["defaults"])
    return differences


def refusal(folder: Path, differences: list[str]) -> UsageError:
    """The error for a directory that holds a different run."""
    moved = [d for d in differences if d.startswith("inputs.") and "now 'name:" in d]
    hint = "; an input that is now called 'name:...' is not there: run from the same directory" if moved else ""
    return UsageError(
        f"the run here was started differently: {'; '.join(differences)}",
        where=str(folder),
        fix=f"use the same settings and inputs to go on, or --fresh, which moves it aside, or another --out{hint}",
    )


def _changed_keys(old: Any, new: Any, prefix: str, defaults: Any) -> list[str]:
    if isinstance(old, dict) and isinstance(new, dict):
        differences = []
        for key in sorted(set(old) | set(new)):
            default = defaults.get(key, _ABSENT) if isinstance(defaults, dict) else _ABSENT
            if key not in old and default is not _ABSENT and new[key] == default:
                continue  # a setting that is newer than the run, left as it is by default
            differences += _changed_keys(old.get(key), new.get(key), f"{prefix}.{key}", default)
        return differences
    return [] if old == new else [f"{prefix} was {old!r}, now {new!r}"]


_ABSENT = object()


def versions() -> dict[str, str]:
    """Of Python, trueup and the packages that results depend on."""
    from importlib.metadata import PackageNotFoundError, version

    installed = {"trueup": __version__, "python": platform.python_version()}
    for package in _PACKAGES:
        with contextlib.suppress(PackageNotFoundError):
            installed[package] = version(package)
    return installed


def version_changes(record: Mapping[str, Any]) -> list[str]:
    """``torch 2.12.0, now 2.13.0`` for each version that is another one than when the run was started."""
    then, now = record.get("versions", {}), versions()
    names = [name for name in now if name in then and then[name] != now[name]]
    names += [name for name in then if name not in now]
    return [f"{name} {then[name]}, now {now.get(name, 'absent')}" for name in names]


def work_done(folder: Path) -> str | None:
    """What shows that the run in ``folder`` took a step, or None if it never did."""
    checkpoints = folder / "checkpoints"
    if checkpoints.is_dir() and any(checkpoints.glob("step-*")):
        return "checkpoints/"
    metrics, final = folder / "metrics.jsonl", folder / "final"
    if metrics.is_file() and metrics.stat().st_size:
        return metrics.name
    return "final/" if final.is_dir() and any(final.iterdir()) else None
