"""What Python hands to a run, which is told by files: rows become a file, functions get a name.

A run must be able to say what it was made from, and to go on after a kill; so rows are written beside the run's
directory under the hash of their content, and a function is known by the hash of its source.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from trueup.config.code import register
from trueup.errors import DataError
from trueup.ledger import write_atomic

DATA = ("data", "validation")
"""Settings that name a file of rows."""


SPLIT = re.compile(r"\w[\w.-]*")
"""Names of splits, which become names of files."""


def as_files(settings: dict[str, Any], out: Path) -> dict[str, Any]:
    """The settings, with rows written to files and functions under their registered names.

    Args:
        settings: As ``train`` got them.
        out: The run's directory; rows go to ``<out>.data/``.
    """
    values = {
        name: as_files(value, out) if isinstance(value, dict) and name not in DATA else value
        for name, value in settings.items()
    }
    for name, value in values.items():
        if isinstance(value, Path):
            values[name] = str(value)
        elif name in DATA and _names(value):
            values[name] = [str(file) for file in value]
        elif name in DATA and value is not None and not isinstance(value, str):
            values[name] = str(_written(value, out, name))
        elif name == "objective" and callable(value):
            values[name] = {"kind": "python", "call": register(value)}
        elif name == "reward" and isinstance(value, (list, tuple)):
            values[name] = [reward_part(part) for part in value]
        elif callable(value):
            values[name] = register(value)
    return values


def reward_part(part: Any) -> Any:
    """A part of a reward, its functions under their registered names and its paths as texts, an ensemble's too."""
    if isinstance(part, Mapping):
        named = {key: reward_part(part[key]) for key in ("source",) if key in part}
        members = part.get("members")
        if isinstance(members, (list, tuple)):
            named["members"] = [reward_part(member) for member in members]
        return {**part, **named}
    return register(part) if callable(part) else str(part) if isinstance(part, Path) else part


def _names(value: Any) -> bool:
    """Whether it is a list of names of files, which settings hold as they are."""
    return isinstance(value, (list, tuple)) and bool(value) and all(isinstance(v, (str, Path)) for v in value)


def _written(rows: Iterable[Mapping[str, Any]] | Mapping[str, Any], out: Path, name: str) -> Path:
    """The file of the rows; of a ``DatasetDict`` a folder with a file for each split, named after it."""
    if isinstance(rows, Mapping):
        if not all(SPLIT.fullmatch(str(split)) and not isinstance(part, (str, int)) for split, part in rows.items()):
            raise DataError(
                "is a dict", where=name, expected="a list of rows, a datasets.Dataset or DatasetDict, or a file"
            )
        texts = {split: _text(part, f"{name}, split {split}") for split, part in rows.items()}
        mark = hashlib.sha256(b"\0".join(k.encode() + b"\0" + t for k, t in texts.items())).hexdigest()[:16]
        folder = out.with_name(f"{out.name}.data") / f"{name}-{mark}"
        folder.mkdir(parents=True, exist_ok=True)
        for split, text in texts.items():
            write_atomic(folder / f"{split}.jsonl", text)
        return folder
    text = _text(rows, name)
    file = out.with_name(f"{out.name}.data") / f"{name}-{hashlib.sha256(text).hexdigest()[:16]}.jsonl"
    file.parent.mkdir(parents=True, exist_ok=True)
    if not file.exists():
        write_atomic(file, text)
    return file


def _text(rows: Iterable[Mapping[str, Any]], name: str) -> bytes:
    lines = [_line(row, number, name) for number, row in enumerate(rows, 1)]
    if not lines:
        raise DataError("there are no rows", where=name, expected="a list of rows, a datasets.Dataset, or a file")
    return "".join(line + "\n" for line in lines).encode()


def _line(row: Any, number: int, name: str) -> str:
    if not isinstance(row, Mapping):
        raise DataError(
            f"is {type(row).__name__}", where=f"{name} row {number}", expected='a dict such as {"prompt": "..."}'
        )
    try:
        return json.dumps(dict(row), ensure_ascii=False)
    except (TypeError, ValueError) as error:
        raise DataError(
            f"cannot be written as JSON: {error}", where=f"{name} row {number}", expected="texts, numbers and lists"
        ) from error
