"""Whether a run games its reward: its metrics, its probe answers, and a judge of their quality, put together."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trueup.commands.judges import NamedJudge, open_judge, parse_judges, python_scorer
from trueup.commands.measurements import probe_lines
from trueup.config.code import register
from trueup.errors import DataError, UsageError, near_file
from trueup.evaluation.answers import mean_repetition, same_opening
from trueup.evaluation.hacking import KL_LIMIT, Hacking, find_hacking
from trueup.reports.figures import panels
from trueup.reports.logs import RunLog, read_log
from trueup.reports.page import Page, Section, ShowsPage, Table, number
from trueup.rewards.refusal_phrases import Refusal, refusal
from trueup.sandbox import knows
from trueup.types import Completion, Message, Prompt, StopReason

_FROM_METRICS = ("distinct_2", "completion_length", "eos_rate")
"""Series of the outputs that online methods log at every step."""
_EXAMPLES = 3
OPENINGS = {
    "hacking": "The reward is being gamed.",
    "suspected": "The reward may be gamed: there are signs, and quality does not speak against them.",
    "none": "No sign that the reward is being gamed.",
}
"""What a verdict says, in one line."""


@dataclass(frozen=True, slots=True, repr=False)
class RunHacking(ShowsPage):
    """What was found in a run; in a notebook it shows its page."""

    run: str
    hacking: Hacking
    judge: str | None
    """Who judged quality; None where nobody did."""
    point_step: int | None
    """Step of the last good evaluation."""
    examples: tuple[Mapping[str, Any], ...]
    """Answers to the probes at the last step: among the better rewarded half, those of least quality."""
    series: tuple[Mapping[str, Any], ...] = ()
    """Along the run, by ``step``: ``score`` and ``kl`` of training, and ``quality`` where it was judged."""
    notes: tuple[str, ...] = ()
    problems: tuple[str, ...] = ()
    """What is damaged in the run's logs."""

    def __repr__(self) -> str:
        return "\n".join([repr(self.page), *(f"warning: {problem}" for problem in self.problems)])

    @property
    def page(self) -> Page:
        """The signs in words, the curves they rest on, and examples."""
        return hacking_page(self)

    def to_dict(self) -> dict[str, Any]:
        """JSON form."""
        return {
            "run": self.run,
            **self.hacking.to_dict(),
            "judge": self.judge,
            "point_step": self.point_step,
            "examples": [dict(example) for example in self.examples],
            "notes": list(self.notes),
            "problems": list(self.problems),
        }


def hacking(
    run: str | Path,
    *,
    judge: str | Callable[[str, str], float] | None = None,
    quality: str | Path | None = None,
    kl_limit: float | None = None,
) -> RunHacking:
    """Look for the three signs of reward hacking in a run that optimised a reward.

    Reward, KL, diversity, length and ends come from metrics.jsonl; repetition, openings and refusals, and with a judge
    quality, from the answers to fixed prompts in samples.jsonl.

    Args:
        run: The run's directory.
        judge: Scores the probe answers: ``gold``, ``reward:PATH``, ``implicit:RUN``, ``python:package.module:name``, or
            a function of (prompt, answer). By default gold where the prompts are the sandbox's, else nobody.
        quality: Instead of a judge: JSON lines with ``step`` and ``quality``, such as people's ratings.
        kl_limit: A KL above it has run away; by default twice the target of the run's controller, else 12 nats.

    Raises:
        UsageError: Not a run directory, one without a reward, or a judge that cannot score.
        DataError: ``quality`` is no such file, or is of other steps.
    """
    if judge is not None and quality is not None:
        raise UsageError("a judge and judged quality", where="hacking", expected="one of the two")
    log = read_log(run)
    rows = [row for row in log.metrics if isinstance(row.get("score"), int | float)]
    if len(rows) < 2:
        raise UsageError(
            f"{len(rows)} steps with a score", where=str(run), expected="a run that optimised a reward, such as ppo"
        )
    probes = _probes(Path(run))
    judged, name, notes = _quality(probes, judge, quality, rows)
    kl = _series(rows, "kl")
    notes += _gaps(log, kl)
    found = find_hacking(
        _series(rows, "score"),
        [value for _, _, value in judged] if judged else None,
        judged_reward=[score for _, score, _ in judged] if judged else None,
        outputs=_outputs(rows, probes),
        kl=kl if len(kl) > 1 else None,
        kl_limit=_limit(log) if kl_limit is None else kl_limit,
    )
    if not probes:
        notes = (*notes, "The run answered no probe prompts (probes=0): its outputs are known by its metrics only.")
    point = None if found.point is None or not judged else judged[found.point][0]
    shown = _examples(probes)
    series: list[dict[str, Any]] = [{key: row[key] for key in ("step", "score", "kl") if key in row} for row in rows]
    series += [{"step": step, "quality": value} for step, _, value in judged]
    return RunHacking(str(run), found, name, point, shown, tuple(series), notes, log.problems)


def hacking_page(result: RunHacking) -> Page:
    """What was found as a page: sentences, curves, examples."""
    found = result.hacking
    verdict = [OPENINGS[found.verdict], *found.sentences]
    if result.point_step is not None:
        verdict.append(f"The last good evaluation was at step {result.point_step}.")
    verdict += [*result.notes, *(f"What helps: {line}." for line in found.advice)]
    wanted = (("score", "reward"), ("quality", "quality"), ("kl", "KL, nats"))
    caption = "Reward and KL of training; quality as it was judged of the answers to fixed prompts."
    figure = panels("hacking", "Reward, quality and KL", caption, result.series, wanted)
    sections = [] if figure is None else [Section(figure.title, (), None, figure)]
    if result.examples:
        rows = tuple(
            (e["question"], e["completion"], number(e["score"]), number(e["quality"])) for e in result.examples
        )
        table = Table(("question", "answer", "reward", "quality"), rows, texts=True)
        worst = "worst" if found.quality is not None else "to read"
        sections.append(Section(f"Highly rewarded at the end, and {worst}", (), table))
    return Page(f"Reward hacking in {result.run}", tuple(verdict), tuple(sections), result.to_dict())


def _series(rows: Sequence[Mapping[str, Any]], name: str) -> list[float]:
    """A metric at the steps that have it as a number."""
    return [float(row[name]) for row in rows if isinstance(row.get(name), int | float)]


def _gaps(log: RunLog, kl: Sequence[float]) -> tuple[str, ...]:
    """What is to be said of steps whose score or KL is no number."""
    gaps = sum(any(isinstance(row.get(name), str) for name in ("score", "kl")) for row in log.metrics)
    notes = (
        (f"At {gaps} of {len(log.metrics)} steps the score or the KL is no number; they are left out.",) if gaps else ()
    )
    return (*notes, "One step has a KL: whether it grew cannot be said.") if len(kl) == 1 else notes


def _limit(log: RunLog) -> float:
    control = log.record["config"].get("kl")
    target = control.get("target") if isinstance(control, Mapping) and control.get("kind") == "adaptive" else None
    return 2 * float(target) if isinstance(target, int | float) else KL_LIMIT


def _probes(run: Path) -> dict[int, list[dict[str, Any]]]:
    """Step -> the answers to the fixed prompts, as they were logged."""
    steps: dict[int, list[dict[str, Any]]] = {}
    for row in probe_lines(run):
        if row["score"] is not None:  # a reward may have dropped an answer: it has no score
            steps.setdefault(int(row["step"]), []).append({**row, "quality": None})
    return dict(sorted(steps.items()))


def _outputs(rows: Sequence[Mapping[str, Any]], probes: Mapping[int, Sequence[Mapping[str, Any]]]) -> dict[str, Any]:
    """Series of the outputs, by the names of ``evaluation.hacking.SYMPTOMS``."""
    outputs: dict[str, Any] = {}
    for name in _FROM_METRICS:
        if len(logged := _series(rows, name)) > 1:
            outputs[name] = logged
    texts = [[str(row["completion"]) for row in answers] for answers in probes.values()]
    measured: dict[str, list[float | None]] = {
        "repetition": [mean_repetition(answers) for answers in texts],
        "same_opening": [same_opening(answers) for answers in texts],
        "refusals": [sum(refusal(a) is not Refusal.NONE for a in answers) / len(answers) for answers in texts],
    }
    for name, values in measured.items():
        numbers = [value for value in values if value is not None]
        if len(numbers) > 1:
            outputs[name] = numbers
    return outputs


Judged = list[tuple[int, float, float]]
"""(step, reward, quality)."""


def _quality(
    probes: Mapping[int, list[dict[str, Any]]],
    judge: str | Callable[[str, str], float] | None,
    quality: str | Path | None,
    rows: Sequence[Mapping[str, Any]],
) -> tuple[Judged, str | None, tuple[str, ...]]:
    """Quality along the run, who judged it, and what is to be said of that."""
    if quality is not None:
        return _rated(Path(quality), rows), str(quality), (f"Quality is that of {quality}.",)
    if len(probes) < 2:
        if judge is not None:
            raise UsageError(
                f"{len(probes)} steps with probe answers",
                where="judge",
                expected="a run with probes",
                fix="--set probes=32",
            )
        return [], None, ()
    answers = [row for rows_of_step in probes.values() for row in rows_of_step]
    if judge is None:
        if not all(knows(str(row["question"])) for row in answers):
            return [], None, ("For quality, name a judge: --judge reward:PATH, or --quality FILE.",)
        judge = "gold"
    score, name = _scorer(judge, answers)
    prompts = [_prompt(row) for row in answers]
    completions = [Completion(str(row["completion"]), (), StopReason(row.get("stop", "eos"))) for row in answers]
    for row, value in zip(answers, score(prompts, completions), strict=True):
        row["quality"] = float(value)
    judged = [
        (step, sum(float(r["score"]) for r in of) / len(of), sum(r["quality"] for r in of) / len(of))
        for step, of in probes.items()
    ]
    note = f"Quality is what {name} says of {len(next(iter(probes.values())))} probe answers at {len(probes)} steps."
    return judged, name, (note,)


def _scorer(judge: str | Callable[[str, str], float], answers: Sequence[Mapping[str, Any]]) -> tuple[Any, str]:
    if callable(judge):
        named = register(judge)
        return python_scorer(judge, f"judge {named}"), named
    (parsed,) = parse_judges([judge])
    if parsed == NamedJudge("gold", "gold"):
        strange = next((str(row["question"]) for row in answers if not knows(str(row["question"]))), None)
        if strange is not None:
            raise UsageError(f"the probe {strange[:60]!r} is not of the sandbox", where="--judge gold")
    opened = open_judge(parsed, {}, {})
    if opened.scorer is None:
        raise UsageError(
            "cannot score single answers", where=f"--judge {judge}", expected="gold, reward:, implicit: or python:"
        )
    return opened.scorer, parsed.text


def _prompt(row: Mapping[str, Any]) -> Prompt:
    """The prompt of a probe: a chat of one turn, or a text; longer chats are logged as their text."""
    prompt, question = str(row.get("prompt", row["question"])), str(row["question"])
    return (Message("user", question),) if prompt == f"user: {question}" else prompt


def _rated(file: Path, rows: Sequence[Mapping[str, Any]]) -> Judged:
    """Mean quality by step, with the reward of those steps.

    Raises:
        DataError: A line has no step or no quality, or the run has no such step.
    """
    if not file.is_file():
        raise UsageError(
            "no such file", where=str(file), expected="JSON lines with step and quality", fix=near_file(file)
        )
    reward = {int(row["step"]): float(row["score"]) for row in rows}
    steps: dict[int, list[float]] = {}
    for place, line in enumerate(file.read_text(encoding="utf-8").splitlines(), 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
            step, value = int(row["step"]), float(row["quality"])
            if not math.isfinite(value):
                raise ValueError(f"the quality is {value}")
        except (ValueError, KeyError, TypeError) as error:
            expected = '{"step": 10, "quality": 0.7}'
            raise DataError(
                f"has no step and quality: {error!r}", where=f"{file}:{place}", expected=expected
            ) from error
        if step not in reward:
            raise DataError(f"the run has no step {step}", where=f"{file}:{place}", expected="a step of metrics.jsonl")
        steps.setdefault(step, []).append(value)
    if len(steps) < 2:
        raise DataError(f"quality at {len(steps)} steps", where=str(file), expected="at least two")
    return [(step, reward[step], sum(steps[step]) / len(steps[step])) for step in sorted(steps)]


def _examples(probes: Mapping[int, Sequence[Mapping[str, Any]]]) -> tuple[Mapping[str, Any], ...]:
    """Of the last step: of the better rewarded half the worst, or the best rewarded where nobody judged."""
    if not probes:
        return ()
    last = sorted(probes[max(probes)], key=lambda row: -float(row["score"]))
    if last[0]["quality"] is not None:
        last = sorted(last[: max(1, len(last) // 2)], key=lambda row: float(row["quality"]))
    keys = ("step", "question", "completion", "score", "quality")
    return tuple({key: row[key] for key in keys} for row in last[:_EXAMPLES])
