"""Writing examples: JSONL, atomically, in the form that ``data.read`` gives back."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from trueup.errors import DataError
from trueup.ledger import write_atomic
from trueup.types import Message, PreferencePair, Prompt, prompt_json


def write_jsonl(path: str | Path, rows: Iterable[Mapping[str, Any]]) -> Path:
    """Write one JSON object a line, UTF-8; the file appears whole or not at all.

    Args:
        path: The file; missing parent folders are made.
        rows: JSON objects.

    Returns:
        The path.

    Raises:
        DataError: A row that JSON or UTF-8 cannot hold (NaN, a lone surrogate, an object of another type).
    """
    path = Path(path)
    lines = []
    for number, row in enumerate(rows, 1):
        try:
            lines.append((json.dumps(row, ensure_ascii=False, allow_nan=False) + "\n").encode("utf-8"))
        except (TypeError, ValueError) as error:  # UnicodeEncodeError is a ValueError
            raise DataError(
                f"row {number} cannot be written as JSON: {error}",
                where=str(path),
                expected="strings, finite numbers, booleans, null, lists and objects",
            ) from error
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(path, b"".join(lines))
    return path


def pair_to_json(pair: PreferencePair) -> dict[str, Any]:
    """The JSON form of a pair; ``pair_from_json`` is its inverse."""
    row: dict[str, Any] = {
        "prompt": prompt_json(pair.prompt),
        "chosen": pair.chosen,
        "rejected": pair.rejected,
        "strength": pair.strength,
        "pair_id": pair.pair_id,
    }
    if pair.origin:
        row["origin"] = list(pair.origin)
    return row


def pair_from_json(row: Mapping[str, Any]) -> PreferencePair:
    """A pair from what ``pair_to_json`` wrote. For files of other origin use ``data.read.read_pairs``, which checks.

    Raises:
        DataError: A field is missing, or ``strength`` is outside [0.5, 1].
    """
    missing = [name for name in ("prompt", "chosen", "rejected") if name not in row]
    if missing:
        raise DataError(f"fields are missing: {', '.join(missing)}", where="pair", expected="prompt, chosen, rejected")
    prompt: Prompt = (
        row["prompt"]
        if isinstance(row["prompt"], str)
        else tuple(Message(turn["role"], turn["content"]) for turn in row["prompt"])
    )
    return PreferencePair(
        prompt,
        row["chosen"],
        row["rejected"],
        float(row.get("strength", 1.0)),
        tuple(row.get("origin", ())),
        str(row.get("pair_id", "")),
    )


def write_pairs(path: str | Path, pairs: Iterable[PreferencePair]) -> Path:
    """Write pairs as JSONL in the form of ``pair_to_json``."""
    return write_jsonl(path, map(pair_to_json, pairs))
