"""The base model of the sandbox's language that comes with the package, so that nobody has to train one first.

``python -m benchmarks.sandbox_base`` makes it from ``World(0, whole=True)`` and writes its hashes; ``trueup quickstart
--from-scratch`` trains it anew.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

from trueup.errors import ModelError

BASE = Path(__file__).parent / "base"
RECORD = "made.json"
"""How it was made, and the SHA-256 of each of its files."""


def shipped_base(folder: Path = BASE) -> dict[str, Any]:
    """What is known of the shipped base model, whose files are checked.

    Raises:
        ModelError: A file is missing or is another one.
    """
    record = folder / RECORD
    reinstall = "install trueup again, or train the model: trueup quickstart --from-scratch"
    try:
        made = dict(json.loads(record.read_text(encoding="utf-8")))
        files = dict(made["sha256"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ModelError(
            f"the sandbox's base model cannot be used: {type(error).__name__}: {error}",
            where=str(record),
            fix=reinstall,
        ) from error
    for name, wanted in files.items():
        file = folder / name
        found = hashlib.sha256(file.read_bytes()).hexdigest() if file.is_file() else "no file"
        if found != wanted:
            raise ModelError(
                f"the sandbox's base model is not the one that was shipped: {name} is {found[:16]}",
                where=str(file),
                expected=f"{wanted[:16]}...",
                fix=reinstall,
            )
    return made


def copy_base(target: Path, folder: Path = BASE) -> Path:
    """Put the shipped base model into ``target``, whole or not at all. Returns ``target``."""
    made = shipped_base(folder)
    part = target.with_name(target.name + ".part")
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    for name in (*made["sha256"], RECORD):
        shutil.copyfile(folder / name, part / name)
    shutil.rmtree(target, ignore_errors=True)
    part.rename(target)
    return target
