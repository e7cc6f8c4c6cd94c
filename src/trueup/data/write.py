"""Writing examples: JSONL, atomically, in the form that ``data.read`` gives back."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from trueup.data.conversations import messages
from trueup.data.fields import Fault, identifier
from trueup.errors import DataError
from trueup.ledger import write_atomic
from trueup.types import PreferencePair, answer_json, answer_of, prompt_json


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
        "chosen": answer_json(pair.chosen),
        "rejected": answer_json(pair.rejected),
        "strength": pair.strength,
        "pair_id": pair.pair_id,
    }
    if pair.origin:
        row["origin"] = list(pair.origin)
    if pair.weight != 1.0:
        row["weight"] = pair.weight
    if pair.margin is not None:
        row["margin"] = pair.margin
    return row


def pair_from_json(row: Mapping[str, Any]) -> PreferencePair:
    """A pair from what ``pair_to_json`` wrote. For files of other origin use ``data.read.read_pairs``, which checks.

    Raises:
        DataError: A field is missing, a turn cannot be read, ``strength`` is outside [0.5, 1], or the id is neither
            text nor a whole number.
    """
    missing = [name for name in ("prompt", "chosen", "rejected") if name not in row]
    if missing:
        raise DataError(f"fields are missing: {', '.join(missing)}", where="pair", expected="prompt, chosen, rejected")
    prompt = row["prompt"]
    try:
        turns = prompt if isinstance(prompt, str) else messages(prompt, "prompt")
        chosen, rejected = _answer(row["chosen"]), _answer(row["rejected"])
        name = identifier(row.get("pair_id"), "pair_id")
    except Fault as fault:
        raise fault.error("pair") from fault
    return PreferencePair(
        turns,
        chosen,
        rejected,
        float(row.get("strength", 1.0)),
        tuple(row.get("origin", ())),
        name,
        float(row.get("weight", 1.0)),
        float(row["margin"]) if row.get("margin") is not None else None,
    )


def _answer(value: Any) -> str:
    return value if isinstance(value, str) else answer_of(messages(value, "answer")[-1])


def write_pairs(path: str | Path, pairs: Iterable[PreferencePair]) -> Path:
    """Write pairs as JSONL in the form of ``pair_to_json``."""
    return write_jsonl(path, map(pair_to_json, pairs))
