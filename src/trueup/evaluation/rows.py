"""Evaluation rows: one completion of one model for one prompt, as a line of ``eval.jsonl``.

    {model, prompt_id, prompt, kind?, sample, completion, stop, tokens, gold, gold_parts, reward, kl, seed}

A measurement that was not made is null or absent; it is never 0.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from trueup.errors import DataError, UsageError, near_file, nearest
from trueup.ledger import write_atomic

Row: TypeAlias = Mapping[str, Any]
Floats: TypeAlias = npt.NDArray[np.float64]

REQUIRED = ("model", "prompt_id", "prompt", "completion")


def write_rows(rows: Iterable[Row], path: str | Path) -> None:
    """Write rows as JSON lines, whole or not at all."""
    text = "".join(json.dumps(row, ensure_ascii=False, allow_nan=False) + "\n" for row in rows)
    write_atomic(Path(path), text.encode("utf-8", "surrogatepass"))


def read_rows(path: str | Path) -> list[dict[str, Any]]:
    """Read rows written by ``write_rows``.

    Raises:
        UsageError: there is no such file.
        DataError: a line is not an object with the required keys.
    """
    file = Path(path)
    if not file.is_file():
        raise UsageError(
            "no such file", where=str(file), expected="an eval.jsonl written by `collect`", fix=near_file(file)
        )
    rows: list[dict[str, Any]] = []
    for number, line in enumerate(file.read_bytes().decode("utf-8", "surrogatepass").split("\n"), start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except json.JSONDecodeError as error:
            raise DataError(f"not JSON: {error.msg}", where=f"{file}:{number}", expected="one object a line") from error
        rows.append(check_row(row, f"{file}:{number}"))
    return rows


def check_row(row: Any, where: str) -> dict[str, Any]:
    """The row itself, if it is an object with the required keys."""
    if not isinstance(row, Mapping):
        raise DataError(f"found {type(row).__name__}", where=where, expected="an object")
    missing = [key for key in REQUIRED if key not in row]
    if missing:
        raise DataError(f"no {missing[0]!r}", where=where, expected=f"the keys {', '.join(REQUIRED)}")
    return dict(row)


def models(rows: Sequence[Row]) -> list[str]:
    """Names of the models, in order of first appearance."""
    return list(dict.fromkeys(str(row["model"]) for row in rows))


def of_model(rows: Sequence[Row], model: str) -> list[Row]:
    """The rows of one model.

    Raises:
        UsageError: no row is of that model.
    """
    own = [row for row in rows if row["model"] == model]
    if not own:
        known = models(rows)
        raise UsageError(f"no rows of model {model!r}", where="evaluation rows", fix=nearest(model, known or ["none"]))
    return own


def value(row: Row, field: str) -> float | None:
    """A measurement by name; ``gold.helpful`` reads ``gold_parts``; ``eos`` is 1 for an EOS. None if not made."""
    if field.startswith("gold."):
        raw = (row.get("gold_parts") or {}).get(field.removeprefix("gold."))
    elif field == "eos":
        stop = row.get("stop")
        raw = None if stop is None else float(str(stop) == "eos")
    else:
        raw = row.get(field)
    if raw is None:
        return None
    number = float(raw)
    if not math.isfinite(number):
        raise DataError(f"{field} is {number}", where=f"model {row['model']}, prompt {row['prompt_id']}")
    return number


def column(rows: Sequence[Row], field: str) -> tuple[Floats, list[str]]:
    """Values of ``field`` and the prompt id of each, both in row order.

    Raises:
        DataError: some rows have the measurement and others do not.
    """
    numbers = [value(row, field) for row in rows]
    present = [number for number in numbers if number is not None]
    if len(present) != len(numbers):
        if present:
            bad = rows[numbers.index(None)]
            raise DataError(
                f"{field} is missing in {len(numbers) - len(present)} of {len(numbers)} rows",
                where=f"model {bad['model']}, prompt {bad['prompt_id']}",
                fix="collect again; a missing value is never counted as 0",
            )
        return np.zeros(0), []
    return np.asarray(present, dtype=np.float64), [str(row["prompt_id"]) for row in rows]


def by_prompt(rows: Sequence[Row]) -> dict[str, list[Row]]:
    """Rows grouped by prompt id, in order of first appearance."""
    groups: dict[str, list[Row]] = {}
    for row in rows:
        groups.setdefault(str(row["prompt_id"]), []).append(row)
    return groups


def same_prompts(a: Sequence[Row], b: Sequence[Row]) -> list[str]:
    """Prompt ids of ``a``; an error unless ``b`` has exactly the same ones, since a paired comparison needs both."""
    left, right = by_prompt(a), by_prompt(b)
    if left.keys() != right.keys():
        only = sorted(left.keys() ^ right.keys())
        raise DataError(
            f"{len(only)} prompts are answered by one model only, the first is {only[0]}",
            where=f"models {a[0]['model']} and {b[0]['model']}",
            expected="answers of both models to the same prompts",
        )
    return list(left)
