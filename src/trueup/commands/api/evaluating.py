"""Evaluation from Python: models in, rows, comparison and report out."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trueup.commands.api.material import as_files
from trueup.commands.comparison import compare_models
from trueup.commands.people import Room
from trueup.commands.people import read_back as read_room
from trueup.config import Sampling, build
from trueup.config.code import register
from trueup.data.sources import Given
from trueup.evaluation.marks import Columns
from trueup.evaluation.rows import read_rows
from trueup.reports.build import Report


@dataclass(frozen=True, slots=True)
class Evaluation:
    """What was asked and answered, and what the judges say of it."""

    out: Path
    rows: list[dict[str, Any]]
    """One for each answer: model, prompt, completion, and a column for each judge that scores."""
    comparison: dict[str, Any]
    """As in ``summary.json``: ``judges``, ``models``, ``agreement``."""
    report: Path
    """The HTML page."""
    sentences: tuple[str, ...]
    """What the page says first."""

    def win_rate(self, model: str, judge: str | None = None) -> dict[str, Any]:
        """Win-rate of a model over the baseline by a judge, the first by default: ``estimate``, ``low``, ``high``."""
        return dict(self._measured(model, judge, "win_rate", "win-rate")["rate"])

    def score(self, model: str, judge: str | None = None) -> dict[str, Any]:
        """Mean score of a model by a judge that scores: ``estimate``, ``low``, ``high``."""
        return self._measured(model, judge, "score", "score")

    def difference(self, model: str, judge: str | None = None) -> dict[str, Any]:
        """Score of a model less that of the baseline, on the same prompts: ``estimate``, ``low``, ``high``."""
        return self._measured(model, judge, "difference", "difference")

    def _measured(self, model: str, judge: str | None, name: str, what: str) -> dict[str, Any]:
        judges = self.comparison["judges"]
        chosen = next((one for one in judges if judge in (None, one["label"])), None)
        if chosen is None or name not in chosen["models"].get(model, {}):
            raise KeyError(f"no {what} of {model!r} by {judge or 'any judge'}")
        return dict(chosen["models"][model][name])


def evaluate(
    models: Mapping[str, str | Path] | Sequence[str | Path],
    data: Given,
    *,
    judges: Sequence[str | Callable[..., Any]] | Mapping[str, str | Callable[..., Any]] = (),
    out: str | Path = "runs/evaluation",
    baseline: str | None = None,
    reference: str | None = None,
    limit: int = 400,
    samples: int = 1,
    columns: Mapping[str, str] | None = None,
    people: Mapping[str, Any] | None = None,
    seed: int = 0,
    quiet: bool = False,
    **sampling: Any,
) -> Evaluation:
    """Ask several models the same held-out prompts, judge or describe their answers, and write a report.

    Args:
        models: Names or directories, by the name that the report gives them; a list names them by their folders.
        data: Prompts that no model was trained on: files, or rows.
        judges: As ``--judge`` takes them, or functions of (prompt, answer) for a score or (prompt, answer, other
            answer) for ``a``, ``b`` or ``tie``; a mapping gives them names. Without any, answers are only described.
        out: Folder of rows and report.
        baseline: Name of the model the others are compared with; the first by default.
        reference: Name of the model from which KL is measured; the baseline by default.
        limit: Prompts used.
        samples: Answers of each model to each prompt.
        columns: Columns of the data: ``kind``, ``safe``, ``references``.
        people: With the judge ``people``: ``db``, ``project`` and ``votes``.
        seed: Names the draws.
        quiet: No lines on the way.
        sampling: ``max_new_tokens``, ``temperature`` and the like.

    Raises:
        UsageError, ConfigError, DataError, ModelError, RunError: As the command says.
    """
    folder = Path(out)
    named = [f"{name}={path}" for name, path in models.items()] if isinstance(models, Mapping) else map(str, models)
    file = as_files({"data": data}, folder)["data"]
    judged = judges.items() if isinstance(judges, Mapping) else [(None, judge) for judge in judges]
    report = compare_models(
        list(named),
        file if isinstance(file, str) else ",".join(file),
        None,
        folder,
        judges=[_text(name, judge) for name, judge in judged],
        baseline=baseline,
        reference=reference,
        limit=limit,
        samples=samples,
        columns=Columns(**(columns or {})),
        sampling=build(Sampling, sampling, where="evaluate"),
        room=None if people is None else Room(**people),
        seed=seed,
        tell=_nothing if quiet else print,
    )
    return _evaluation(folder, report)


def read_people(project: str, *, db: str = "feedback.db", out: str | Path, quiet: bool = False) -> Evaluation:
    """Take what people said in a project of the feedback room into the evaluation in ``out``.

    Its rows get the column ``true_quality``: the share of its comparisons that an answer won, None where nobody judged.
    """
    return _evaluation(Path(out), read_room(project, db, Path(out), tell=_nothing if quiet else print))


def _text(name: str | None, judge: str | Callable[..., Any]) -> str:
    text = judge if isinstance(judge, str) else f"python:{register(judge)}"
    return text if name is None else f"{name}={text}"


def _evaluation(out: Path, report: Report) -> Evaluation:
    return Evaluation(out, read_rows(out / "eval.jsonl"), report.data["comparison"], report.html, report.verdict)


def _nothing(line: str) -> None:
    """For callers that want no lines."""
