"""What a reward says of texts, and what it leans on, from Python: the work of ``trueup score``."""

from __future__ import annotations

import html
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

from trueup.commands.api.material import reward_part
from trueup.commands.api.runs import Columns
from trueup.commands.scoring import (
    as_read,
    check_output,
    open_source,
    read_answers,
    rewards_of,
    scored_rows,
    scores_of,
    write_scored,
)
from trueup.data.read import read_pairs
from trueup.data.sources import Given
from trueup.evaluation.leaning import Leaning
from trueup.evaluation.leaning import leaning as leaning_on
from trueup.ledger.progress import warn
from trueup.rewards.columns import column_remarks, give_columns
from trueup.rewards.protocol import Reward, log_odds_of
from trueup.types import Prompt

Source: TypeAlias = str | Path | Callable[..., Any] | Sequence[Any]
"""A reward: a directory, ``package.module:name``, a YAML file with ``reward:``, a function, or a list of parts."""


@dataclass(frozen=True, slots=True, repr=False)
class Scores:
    """Answers with their rewards."""

    reward: str
    """The reward, as messages name it."""
    rows: tuple[dict[str, Any], ...]
    """In order: prompt, answer, reward (None where a part could not score it) and, of several parts, ``parts``."""

    def __repr__(self) -> str:
        lost = len(self.rows) - len(self.rewards)
        told = "" if self.mean is None else f": mean {self.mean:+.3f}, standard deviation {self.spread:.3f}"
        return f"{len(self.rewards)} answers{told}" + (f"; {lost} could not be scored" if lost else "")

    def _repr_html_(self) -> str:
        shown = [*self.highest(), *self.lowest()] if len(self.rows) > 6 else self.highest(6)
        lines = "".join(
            f"<tr><td>{row['reward']:+.2f}</td><td>{html.escape(row['prompt'][:200])}</td>"
            f"<td>{html.escape(row['answer'][:400])}</td></tr>"
            for row in shown
        )
        head = "<tr><th>reward</th><th>prompt</th><th>answer</th></tr>"
        return f"<p>{html.escape(repr(self))}</p><table>{head}{lines}</table>"

    @property
    def rewards(self) -> list[float]:
        """The rewards of the answers that have one."""
        return [float(row["reward"]) for row in self.rows if row["reward"] is not None]

    @property
    def mean(self) -> float | None:
        """Their mean; None without any."""
        known = self.rewards
        return sum(known) / len(known) if known else None

    @property
    def spread(self) -> float | None:
        """Their standard deviation; None without any."""
        known, mean = self.rewards, self.mean
        return None if mean is None else float((sum((x - mean) ** 2 for x in known) / len(known)) ** 0.5)

    def highest(self, count: int = 3) -> list[dict[str, Any]]:
        """The rows with the highest rewards, the highest first."""
        known = sorted((row for row in self.rows if row["reward"] is not None), key=lambda row: -row["reward"])
        return known[:count]

    def lowest(self, count: int = 3) -> list[dict[str, Any]]:
        """The rows with the lowest rewards, the lowest last."""
        known = sorted((row for row in self.rows if row["reward"] is not None), key=lambda row: -row["reward"])
        return known[-count:] if count else []

    def columns(self) -> Columns:
        """The rows as columns; ``columns().frame()`` is a data frame."""
        return Columns([dict(row) for row in self.rows])


def score(
    reward: Source,
    data: Given,
    *,
    columns: Mapping[str, str] | None = None,
    limit: int | None = None,
    dtype: str = "float32",
    out: str | Path | None = None,
) -> Scores:
    """What a reward says of answers.

    Args:
        reward: A directory, ``package.module:name``, a YAML file with ``reward:``, a function of (prompts,
            completions), or a list of parts.
        data: Prompts with answers, or texts: files, or rows.
        columns: Our column name -> the data's, where they differ.
        limit: Rows used, from the top.
        dtype: ``float32`` or ``bfloat16``.
        out: Write every row: ``.jsonl``, ``.json`` or ``.csv``.

    Raises:
        UsageError, ConfigError, DataError, ModelError, RunError: As the command says.
    """
    if out is not None:
        check_output(Path(out))  # before a model is opened
    opened = _opened(reward, dtype)
    answers = read_answers(opened, data, {"columns": columns, "limit": limit})
    judged = scores_of(opened, [prompt for _, prompt, _ in answers], [text for _, _, text in answers])
    rows = scored_rows(answers, judged)
    if out is not None:
        write_scored(rows, Path(out))
    return Scores(opened.name, tuple(rows))


def leaning(
    reward: Source,
    pairs: Given,
    *,
    columns: Mapping[str, str] | None = None,
    limit: int | None = None,
    dtype: str = "float32",
) -> Leaning:
    """What a reward leans on, by pairs that it was not trained on: ``trueup score --pairs``. Arguments as ``score``.

    Returns:
        Accuracy beside length alone and a bag of words, correlations, removals, calibration; ``format_text()`` is what
        the command prints.
    """
    return leaning_of(_opened(reward, dtype), pairs, {"columns": columns, "limit": limit})


def leaning_of(reward: Reward, pairs: Given, options: Mapping[str, Any]) -> Leaning:
    """A reward that is open, on pairs."""

    def scorer(prompts: Sequence[Prompt], texts: Sequence[str]) -> list[float]:
        return rewards_of(reward, prompts, texts)

    loaded = read_pairs(pairs, **options)
    give_columns(reward, pairs, loaded, loaded.items, as_read(reward, [pair.prompt for pair in loaded.items]))
    for remark in column_remarks(reward):
        warn(remark)
    return leaning_on(loaded.items, scorer, scale=log_odds_of(reward))


def _opened(reward: Source, dtype: str) -> Reward:
    named = reward_part(reward) if isinstance(reward, str) or not isinstance(reward, Sequence) else None
    return open_source([reward_part(part) for part in reward] if named is None else named, dtype=dtype)  # type: ignore[union-attr]
