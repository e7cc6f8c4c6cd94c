"""Answers of a file or a command line to a reward, and its numbers to rows and files."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from trueup.config import Model, build
from trueup.config.text import Located, read_yaml
from trueup.data.read import read_demonstrations
from trueup.data.sources import Given
from trueup.errors import UsageError
from trueup.ledger import write_atomic
from trueup.ledger.progress import warn
from trueup.rewards.columns import column_remarks, give_columns
from trueup.rewards.mixture import PartList
from trueup.rewards.protocol import Reward, Scored, check_prompts, prompt_for, scored
from trueup.rewards.registry import open_reward
from trueup.types import Completion, Message, Prompt, StopReason, prompt_text

ENDINGS = (".jsonl", ".json", ".csv")


def named_source(source: str | Sequence[Any]) -> str | Sequence[Any]:
    """What ``reward:`` of a YAML file names, a source or a list of parts; anything else as it is.

    Raises:
        UsageError: The file has no ``reward``.
        ConfigError: A part of it cannot be used; names file and line.
    """
    if not isinstance(source, str) or not source.endswith((".yaml", ".yml")):
        return source
    settings = read_yaml(source)
    if "reward" not in settings:
        raise UsageError("there is no reward", where=source, expected="reward: a source, or a list of parts")
    named = settings["reward"]
    if isinstance(named, str):
        return named
    places = settings.places if isinstance(settings, Located) else {}
    return build(PartList, Located({"reward": named}, places), where=source).reward


def open_source(source: str | Sequence[Any], **settings: Any) -> Reward:
    """A reward by its source, by a list of parts, or by the ``reward:`` of a YAML file.

    Args:
        source: Which.
        settings: ``dtype`` and ``device`` of models in it.

    Raises:
        UsageError, ConfigError: As ``named_source``; a part cannot be used.
        ModelError: A model cannot be opened.
    """
    named = named_source(source)
    beside = build(Model, {"name": named if isinstance(named, str) else "", **settings}, where="reward")
    return open_reward(named, beside)


def read_answers(reward: Reward, data: Given, options: Mapping[str, Any]) -> list[tuple[int | None, Prompt, str]]:
    """Line, prompt and answer of each row; texts have the empty prompt. The reward gets the columns it asks for.

    Raises:
        DataError: A row cannot be read, or lacks such a column.
    """
    loaded = read_demonstrations(data, **options)
    if give_columns(reward, data, loaded, loaded.items, as_read(reward, [item.prompt for item in loaded.items])):
        for remark in loaded.report.remarks():
            warn(remark)
    for remark in column_remarks(reward):
        warn(remark)
    return [(line, item.prompt, item.completion) for line, item in zip(loaded.lines, loaded.items, strict=True)]


def as_read(reward: Reward, prompts: Sequence[Prompt]) -> list[Prompt]:
    """Prompts as a reward reads them: a plain one in the kind that it was trained on."""
    return [
        prompt_for(reward, prompt, (Message("user", prompt),)) if isinstance(prompt, str) else prompt
        for prompt in prompts
    ]


def scores_of(reward: Reward, prompts: Sequence[Prompt], texts: Sequence[str]) -> Scored:
    """Scores of finished answers, part by part; a plain prompt is read in the kind that the reward was trained on."""
    asked = as_read(reward, prompts)
    check_prompts(reward, asked)
    return scored(reward, asked, [Completion(text, (), StopReason.EOS) for text in texts])


def rewards_of(reward: Reward, prompts: Sequence[Prompt], texts: Sequence[str]) -> list[float]:
    """The same as numbers, for whoever needs all of them.

    Raises:
        UsageError: A part of the reward could not score an answer.
    """
    judged = scores_of(reward, prompts, texts)
    if len(judged.kept) < len(texts):
        raise UsageError(
            f"{len(texts) - len(judged.kept)} of {len(texts)} answers could not be scored",
            where=reward.name,
            fix="leave out the part with on_error: drop, or these pairs",
        )
    return [float(value) for value in judged.score_K]


def scored_rows(answers: Sequence[tuple[int | None, Prompt, str]], judged: Scored) -> list[dict[str, Any]]:
    """A row for each answer: its line in the file, prompt, answer, reward, and each part; None where it has none."""
    place = {i: k for k, i in enumerate(judged.kept)}
    rows: list[dict[str, Any]] = []
    for i, (line, prompt, text) in enumerate(answers):
        row: dict[str, Any] = {} if line is None else {"line": int(line)}
        row |= {"prompt": prompt_text(prompt), "answer": text, "reward": None}
        if i in place:
            k = place[i]
            row["reward"] = float(judged.score_K[k])
            if judged.parts:
                row["parts"] = {part.name: part.of(k) for part in judged.parts}
        rows.append(row)
    return rows


def check_output(out: Path) -> None:
    """Whether rows can be written there, asked before anything is scored; its folder is made.

    Raises:
        UsageError: The file's name ends otherwise, or it is a folder.
    """
    if out.suffix not in ENDINGS:
        raise UsageError(f"the file ends in {out.suffix!r}", where=str(out), expected=", ".join(ENDINGS))
    if out.is_dir():
        raise UsageError("is a folder", where=str(out), expected="a file")
    out.parent.mkdir(parents=True, exist_ok=True)


def write_scored(rows: Sequence[Mapping[str, Any]], out: Path) -> None:
    """Write rows as JSON lines, as one JSON list, or as CSV with a column for each part.

    Raises:
        UsageError: As ``check_output``.
    """
    check_output(out)
    if out.suffix == ".csv":
        flat = [
            {k: v for k, v in row.items() if k != "parts"}
            | {f"{name} {kind}": part[kind] for name, part in row.get("parts", {}).items() for kind in part}
            for row in rows
        ]
        buffer = io.StringIO()
        writer = csv.DictWriter(buffer, list(dict.fromkeys(name for row in flat for name in row)))
        writer.writeheader()
        writer.writerows(flat)
        text = buffer.getvalue()
    elif out.suffix == ".json":
        text = json.dumps(list(rows), ensure_ascii=False, indent=1) + "\n"
    else:
        text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    write_atomic(out, text.encode("utf-8", "surrogatepass"))
