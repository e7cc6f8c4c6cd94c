"""What the runs of one variant and seed measured: last metrics, values by prompt, time, memory, steadiness.

Quality by prompt comes from the last ``evaluate`` stage (``reward``, ``kl``, ``gold`` where it is known or can be
asked), else from the last audit of a stage ``constitution`` (``harmful``, and ``gold`` in the sandbox), else from the
probes that an online method answered last (``score``); a method without any has one value a run, such as
``heldout_accuracy``.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from trueup.commands.stage_kinds import RECORD, stage_record
from trueup.config.code import function_of, names_code
from trueup.errors import ConfigError, DataError, RunError, TrueupError, UsageError, nearest
from trueup.evaluation.intervals import Interval
from trueup.evaluation.rows import Row, column, models, of_model, read_rows
from trueup.evaluation.stability import series_mean, spikes, tail
from trueup.evaluation.variants import Better, Comparison, Measured, compare_variants
from trueup.ledger import read_lines
from trueup.metrics import METRICS
from trueup.reports.logs import RunLog, read_log

FIELDS = ("gold", "reward", "kl", "tokens", "eos")
"""Of evaluation rows."""
PREFERRED = ("gold", "reward", "score", "harmful", "heldout_accuracy", "heldout_nll", "heldout_loss")
"""Measurements that decide where nobody says which, the first that there is. The ``reward`` that training logs is not
that of an evaluation: penalties are taken off it."""
SHARED = "run"
"""The prompt of what is measured once a run."""

Gold = Callable[[str, str], float]


@dataclass(frozen=True, slots=True)
class Results:
    """One variant with one seed."""

    name: str
    seed: str
    folders: Mapping[str, Path]
    settings: Mapping[str, Any]
    error: str | None = None
    """Why it has no results."""
    evaluation: Path | None = None
    """Folder of the evaluation that its values come from."""
    last: str | None = None
    """Name of the training stage whose metrics these are: the last one."""
    finals: Mapping[str, Interval] = field(default_factory=dict)
    """Means over the last part of the run; of held-out measurements the last one."""
    values: Mapping[str, tuple[tuple[float, ...], tuple[str, ...]]] = field(default_factory=dict)
    """Measurement -> values and the prompt of each."""
    seconds: float | None = 0.0
    """Of all its stages, shared ones included; None where a run did not keep the time of all its steps."""
    peak_gb: float | None = None
    """Most memory of a stage; None where no run wrote it down."""
    steadiness: Mapping[str, Any] = field(default_factory=dict)
    """Of the last training stage: steps, spikes of the gradient norm, skipped steps, how often it was cut off."""
    problems: tuple[str, ...] = ()
    """What is damaged in the logs of its runs."""

    @property
    def metrics(self) -> dict[str, float]:
        """The last metrics without their intervals."""
        return {name: interval.estimate for name, interval in self.finals.items()}

    def to_dict(self) -> dict[str, Any]:
        """A line of the hyper-parameter log."""
        means = {name: sum(values) / len(values) for name, (values, _) in self.values.items()}
        return {
            "variant": self.name,
            "seed": self.seed,
            "settings": dict(self.settings),
            "status": "failed" if self.error else "done",
            "error": self.error,
            "runs": {name: str(folder) for name, folder in self.folders.items()},
            "trained": self.last,
            "measured": means,
            "metrics": self.metrics,
            "seconds": self.seconds,
            "peak_gb": self.peak_gb,
            "problems": list(self.problems),
            **self.steadiness,
        }


def read_results(
    name: str,
    seed: str,
    folders: Mapping[str, Path],
    *,
    kinds: Mapping[str, str],
    settings: Mapping[str, Any],
    model: str | None = None,
    gold: str | None = None,
    error: str | None = None,
) -> Results:
    """Read what the stages of one variant and seed left.

    Args:
        name: The variant.
        seed: Its seed.
        folders: Directories by stage.
        kinds: Kinds by stage.
        settings: What it differs in.
        model: Whose rows of an evaluation are its own; the last model by default.
        gold: ``sandbox`` or ``package.module:function``: the truth, where the rows do not hold it.
        error: Why it has no results.
    """
    gone = next((f for f in folders.values() if not any((f / name).exists() for name in ("run.json", RECORD))), None)
    if error is None and gone is not None:  # else another stage would be measured in the place of the lost one
        error = f"{gone} is gone, or holds no run"
    if error is not None:
        return Results(name, seed, folders, settings, error)
    logs = {stage: read_log(folder) for stage, folder in folders.items() if (folder / "run.json").exists()}
    last = next(reversed(logs), None)
    evaluations = [folder for stage, folder in folders.items() if kinds.get(stage) == "evaluate"]
    values = probe_values(folders[last], gold) if last else {}
    audited = [folder for stage, folder in folders.items() if kinds.get(stage) == "constitution"]
    if audited:
        values = {**values, **audit_values(audited[-1])}
    if evaluations:
        rows = with_gold(read_rows(evaluations[-1] / "eval.jsonl"), gold)
        values = {**values, **row_values(of_model(rows, model or models(rows)[-1]))}
    return Results(
        name,
        seed,
        folders,
        settings,
        evaluation=evaluations[-1] if evaluations else None,
        last=last,
        finals=last_metrics(logs[last]) if last else {},
        values=values,
        seconds=_total([_seconds(folder, logs.get(stage)) for stage, folder in folders.items()]),
        peak_gb=max((p for folder in folders.values() if (p := peak_gb(folder)) is not None), default=None),
        steadiness=steadiness(folders[last], logs[last]) if last else {},
        problems=tuple(problem for log in logs.values() for problem in log.problems),
    )


def last_metrics(log: RunLog) -> dict[str, Interval]:
    """Means over the last part of a run, and its last held-out measurements."""
    names = dict.fromkeys(name for row in log.metrics for name in row if name in METRICS)
    finals = {name: series_mean(tail(values)) for name in names if (values := numbers(log.metrics, name))}
    for row in log.evaluation:
        for name, value in row.items():
            if name in METRICS and _is_number(value):
                low, high = row.get("intervals", {}).get(name, (math.nan, math.nan))
                method = "none: not written down" if math.isnan(low) else "as written down"
                finals[name] = Interval(float(value), low, high, 1, 0.95, method)
    return finals


def numbers(rows: Sequence[Mapping[str, Any]], name: str) -> list[float]:
    """Values of a metric, step by step; what is not a number is left out."""
    return [float(row[name]) for row in rows if _is_number(row.get(name))]


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def row_values(rows: Sequence[Row]) -> dict[str, tuple[tuple[float, ...], tuple[str, ...]]]:
    """The measurements of evaluation rows, by name."""
    measured = {}
    for name in FIELDS:
        values, prompts = column(rows, name)
        if len(values):
            measured[name] = (tuple(values.tolist()), tuple(prompts))
    return measured


def audit_values(folder: Path) -> dict[str, tuple[tuple[float, ...], tuple[str, ...]]]:
    """What the last audit of a stage ``constitution`` says, by name; gold only where the truth judged."""
    report = json.loads((folder / "report.json").read_text(encoding="utf-8"))
    rows = read_lines(folder / f"round-{report['rounds'][-1]['round']}" / "audit.jsonl")[0]
    asked = [row for row in rows if row["kind"] == "harmful" and row["harmful"] is not None]
    measured = {}
    if asked:
        measured["harmful"] = (
            tuple(float(row["harmful"]) for row in asked),
            tuple(str(row["prompt_id"]) for row in asked),
        )
    if report["audited_by_truth"]:
        measured["gold"] = (tuple(float(row["total"]) for row in rows), tuple(str(row["prompt_id"]) for row in rows))
    return measured


def probe_values(run: Path, gold: str | None = None) -> dict[str, tuple[tuple[float, ...], tuple[str, ...]]]:
    """What the reward says of the answers to fixed prompts at the last step that asked them, and gold if it is there.

    One prompt that stands twice among the probes is two probes.
    """
    lines = probe_lines(run)
    last = max((int(line["step"]) for line in lines), default=None)
    ended = [line for line in lines if line["step"] == last]
    named = [(f"{index}: {line['prompt']}", line) for index, line in enumerate(ended)]
    named = [(name, line) for name, line in named if line["score"] is not None]  # the reward could not score it
    if not named:
        return {}
    prompts, own = tuple(name for name, _ in named), [line for _, line in named]
    measured = {"score": (tuple(float(line["score"]) for line in own), prompts)}
    judge = gold_of(gold)
    if judge is not None:
        measured["gold"] = (tuple(judge(line["question"], line["completion"]) for line in own), prompts)
    return measured


def probe_lines(run: Path) -> list[dict[str, Any]]:
    """The answers in ``samples.jsonl`` that a reward scored, in order; none where the run has none.

    Raises:
        RunError: A line is damaged, or its step or score is no number.
    """
    return [line for line in answer_lines(run) if "score" in line]


def answer_lines(run: Path) -> list[dict[str, Any]]:
    """The answers of a run's model to its fixed prompts, in order; none where the run has none.

    Raises:
        RunError: A line is damaged, or its step or score is no number.
    """
    file = run / "samples.jsonl"
    lines = read_lines(file)[0] if file.exists() else []
    for number, line in enumerate(lines, 1):
        step, score = line.get("step", 0), line.get("score")
        if isinstance(step, bool) or not isinstance(step, int):
            raise RunError(f"step is {step!r:.40}", where=f"{file}:{number}", expected="a whole number")
        if score is not None and not (_is_number(score) and math.isfinite(score)):
            expected = "a finite number, or null where the reward could not score it"
            raise RunError(f"score is {score!r:.40}", where=f"{file}:{number}", expected=expected)
    answers = [line for line in lines if {"step", "prompt", "question", "completion"} <= set(line)]
    return [line for line in answers if "label" not in line]  # a reward model scores answers of the data


def with_gold(rows: Sequence[Row], gold: str | None) -> list[Row]:
    """The rows with the truth added, where it is asked for."""
    judge = gold_of(gold)
    if judge is None:
        return list(rows)
    return [{**row, "gold": judge(str(row.get("question", row["prompt"])), str(row["completion"]))} for row in rows]


def gold_of(name: str | None) -> Gold | None:
    """The truth by name: ``sandbox``, or ``package.module:function`` of question and answer.

    Raises:
        UsageError: It is neither.
    """
    if name is None:
        return None
    if name == "sandbox":
        from trueup.sandbox import gold_score

        return lambda question, answer: gold_score(question, answer).total
    if not names_code(name):
        raise UsageError(f"{name!r} names no truth", where="gold", expected="sandbox, or package.module:function")
    function = function_of(name, "gold", "question, answer")

    def judge(question: str, answer: str) -> float:
        place = f"{name}, prompt {question[:80]!r}, answer {answer[:80]!r}"
        try:
            value = float(function(question, answer))
        except TrueupError:
            raise
        except Exception as error:
            raise RunError(f"gold raised {type(error).__name__}: {error}", where=place) from error
        if not math.isfinite(value):
            raise DataError(f"gold is {value}", where=place, expected="a finite number")
        return value

    return judge


def steadiness(run: Path, log: RunLog) -> dict[str, Any]:
    """Steps, spikes of the gradient norm (or what is no number), skipped steps, and how often the run was cut off."""
    norms = [float(row["grad_norm"]) for row in log.metrics if "grad_norm" in row]
    skipped = numbers(log.metrics, "skipped_steps")
    events = [event.get("event") for event in read_lines(run / "events.jsonl", damaged=[])[0]]
    return {
        "steps": len(log.metrics),
        "spikes": len(spikes(norms)),
        "skipped_steps": int(max(skipped, default=0)),
        "failed": events.count("failed"),
        "interrupted": events.count("interrupted"),
    }


def peak_gb(folder: Path) -> float | None:
    """Most memory that a run wrote down, in GiB: of the GPU where there is one. None where it wrote none."""
    file = folder / "events.jsonl"
    events = read_lines(file, damaged=[])[0] if file.exists() else []
    peaks = [int(e.get("gpu_peak_memory", e["peak_memory"])) for e in events if "peak_memory" in e]
    return max(peaks) / 2**30 if peaks else None


def _total(seconds: Sequence[float | None]) -> float | None:
    known = [value for value in seconds if value is not None]
    return sum(known) if len(known) == len(seconds) else None


def _seconds(folder: Path, log: RunLog | None) -> float | None:
    if log is not None:
        if len(log.timing) < len(log.metrics):
            return None
        return sum(float(row["seconds"]) for row in log.timing)
    record = stage_record(folder)
    return 0.0 if record is None else float(record.get("seconds", 0.0))


def compare_results(results: Sequence[Results], baseline: str, *, quality: str | None = None) -> Comparison | None:
    """The variants by one measurement; None where none was measured.

    Args:
        results: Of every variant and seed.
        baseline: The variant that the others are compared with; the first with results where it has none.
        quality: The measurement; by default the first of ``PREFERRED`` that all have.

    Raises:
        ConfigError: There is no such measurement.
    """
    whole = [result for result in results if result.error is None]
    if not whole:
        return None
    known = _shared(whole)
    chosen = quality or next(iter(known_measurements(whole)), None)
    if chosen is None or chosen not in known:
        problem = f"not every run was measured by {chosen!r}" if chosen else "nothing says which run is better"
        expected = nearest(chosen or "reward", known) if known else "an evaluation of all of them"
        raise ConfigError(problem, where="quality", expected=expected)
    names = list(dict.fromkeys(result.name for result in whole))
    measured = [_measured(name, [result for result in whole if result.name == name], chosen) for name in names]
    return compare_variants(
        measured, baseline if baseline in names else names[0], quality=chosen, better=better_way(chosen)
    )


def known_measurements(results: Sequence[Results]) -> list[str]:
    """Those of ``PREFERRED`` that every finished variant has."""
    whole = [result for result in results if result.error is None]
    shared = _shared(whole)
    return [name for name in PREFERRED if name in shared and not (name == "reward" and "reward" not in whole[0].values)]


def _shared(whole: Sequence[Results]) -> list[str]:
    """Measurements that all have by prompt, and those that all have as one number a run; never some of each."""
    first = [*whole[0].values, *whole[0].finals] if whole else []
    return [
        name
        for name in dict.fromkeys(first)
        if all(name in result.values for result in whole)
        or all(name in result.finals and name not in result.values for result in whole)
    ]


def better_way(quality: str) -> Better:
    """Whether more of a measurement is better, or less."""
    return "down" if quality in METRICS and METRICS[quality].better == "down" else "up"


def _measured(name: str, results: Sequence[Results], quality: str) -> Measured:
    values: list[float] = []
    seeds: list[str] = []
    prompts: list[str] = []
    for result in results:
        own, asked = result.values.get(quality) or ((result.finals[quality].estimate,), (SHARED,))
        values += own
        prompts += asked
        seeds += [result.seed] * len(own)
    return Measured(name, tuple(values), tuple(seeds), tuple(prompts))
