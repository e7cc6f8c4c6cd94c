"""Where the inputs of a run lie, from any working directory.

run.json has them as they were given, often relative to the directory that the run was started in. Seen from another
one, they are looked for in the directories above the run.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

INPUTS = ("data", "validation", "model.name", "reference", "reward")


def input_of(record: Mapping[str, Any], name: str) -> str | None:
    """What run.json says of one input: a path or a name; None where it is none, or a list of parts."""
    value: Any = record["config"]
    for part in name.split("."):
        value = value.get(part) if isinstance(value, Mapping) else None
    return value if isinstance(value, str) and value else None


def places(run: Path, record: Mapping[str, Any]) -> dict[str, str]:
    """Setting -> where that input lies, for those that are not where run.json says as seen from here."""
    moved = {}
    for name in INPUTS:
        value = input_of(record, name)
        if value is None or Path(value).is_absolute() or _is(value, name, record):
            continue
        above = (str(folder / value) for folder in run.resolve().parents)
        place = next((place for place in above if _is(place, name, record)), None)
        if place is not None:
            moved[name] = place
    return moved


def _is(place: str, name: str, record: Mapping[str, Any]) -> bool:
    """Whether something lies there, and of data: what the run read."""
    if not Path(place).exists():
        return False
    known = record["inputs"].get(name)
    if name not in ("data", "validation") or known is None:
        return True
    from trueup.data.listing import data_hash

    return data_hash(place) == str(known)
