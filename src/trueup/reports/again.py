"""The command that does a run again, or goes on with it, from its run.json."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

_WORD = re.compile(r"[A-Za-z][\w./-]*")
_OTHER_MEANING = ("true", "false", "null")
FLAGS = ("model.name", "data", "validation", "reference", "reward")
"""Settings that have flags of their own."""


def flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Settings by dotted name; an empty block is a value."""
    leaves: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, Mapping) and value:
            leaves |= flat(value, f"{prefix}{key}.")
        else:
            leaves[prefix + key] = list(value) if isinstance(value, tuple) else value
    return leaves


def changed(record: Mapping[str, Any]) -> dict[str, Any]:
    """Settings of a run that differ from the defaults of its method; those that have none are not among them."""
    base = flat(record.get("defaults", {}))
    # A block that was chosen whole, as lora, has no defaults of its own: all of it was set.
    required = {key for key in record["config"] if key not in record.get("defaults", {})}
    return {
        name: value
        for name, value in flat(record["config"]).items()
        if name not in required and (name not in base or base[name] != value)
    }


def again(record: Mapping[str, Any], run: str | Path) -> Iterator[str]:
    """The command: on with a run that is not done, or the same into another directory."""
    if record["status"] != "done":
        yield f"trueup resume {shlex.quote(str(run))}"
        return
    wanted = {key: value for key, value in record["config"].items() if key not in record.get("defaults", {})}
    settings = {**flat(wanted), **changed(record)}
    kind, out = record["kind"], f"{run}-again"
    if ":" in kind or kind.startswith("@"):
        values = {name: value for name, value in record["config"].items() if record["defaults"].get(name) != value}
        code = f"import trueup; trueup.train({kind!r}, {values!r}, out={out!r})"
        yield f"python -c {shlex.quote(code)}"
        return
    words = ["trueup", kind]
    for name in (name for name in FLAGS if isinstance(settings.get(name), str)):
        words += [f"--{name.removesuffix('.name')}", settings.pop(name)]
    words += ["--out", out]
    for name, value in settings.items():
        words += ["--set", f"{name}={_written(value)}"]
    yield shlex.join(words)


def _written(value: Any) -> str:
    plain = isinstance(value, str) and _WORD.fullmatch(value) and value.lower() not in _OTHER_MEANING
    return value if plain else json.dumps(value, ensure_ascii=False)
