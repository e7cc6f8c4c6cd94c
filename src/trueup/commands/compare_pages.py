"""The page that compares runs: quality, last metrics, cost, steadiness, settings that differ, answers side by side."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from trueup.commands.measurements import Results, answer_lines, better_way
from trueup.commands.run_groups import differing
from trueup.commands.sweep_pages import explained, mean_seconds, measured, memory, spent, sweep_figures, variants_table
from trueup.evaluation.intervals import Interval, t_interval
from trueup.evaluation.rows import read_rows
from trueup.evaluation.variants import Comparison
from trueup.ledger.progress import duration
from trueup.metrics import METRICS
from trueup.reports.build import evaluated_as
from trueup.reports.page import Page, Section, Table, number, span

LONGEST_ANSWER = 600
"""Characters of an answer that are shown."""


def compare_sections(
    results: Sequence[Results], comparison: Comparison | None, evaluations: Sequence[Path] = (), samples: int = 6
) -> list[Section]:
    """The parts of the page."""
    sections = []
    if comparison is not None:
        sections.append(Section("Quality", explained(comparison), variants_table(results, comparison)))
    sections.append(
        Section(
            "Cost and steadiness",
            (
                "Time is that of the steps of a run, or of all stages of a variant, shared ones too; the mean over "
                "seeds. Spread is the standard deviation of quality between seeds. Spikes are steps with a gradient "
                "norm above 4 medians of the 50 before. Cost is time for one point (0.01) gained over the baseline, "
                "with what the gain's interval allows; a dash where no gain was shown.",
            ),
            steadiness_table(results, comparison),
        )
    )
    sections += (
        [Section(figure.title, (), None, figure) for figure in sweep_figures(results, comparison)]
        if (comparison is not None)
        else []
    )
    if settings := differing(results):
        groups = tuple(dict.fromkeys(result.name for result in results))
        rows = tuple((key, *(str(values[name]) for name in groups)) for key, values in settings.items())
        sections.append(Section("Settings that differ", (), Table(("setting", *groups), rows)))
    note = (
        "Means over the last three tenths of the steps; with several seeds the interval is over seeds, else over steps."
    )
    sections.append(Section("Last metrics", (note,), metrics_table(results)))
    sections += answers(results, evaluations, samples)
    return sections


def steadiness_table(results: Sequence[Results], comparison: Comparison | None) -> Table:
    """One line a group."""
    contrasts = {contrast.name: contrast for contrast in comparison.contrasts} if comparison else {}
    columns = ("run", "seeds", "time", "memory", "steps", "spread", "spikes", "skipped", "cut off", "cost of a point")
    rows = []
    for name in dict.fromkeys(result.name for result in results):
        own = [result for result in results if result.name == name and result.error is None]
        if not own:
            continue
        seconds = mean_seconds(own)
        counts: list[Mapping[str, Any]] = [result.steadiness for result in own]
        sums = {
            key: sum(int(count.get(key, 0)) for count in counts)
            for key in ("steps", "spikes", "skipped_steps", "failed", "interrupted")
        }
        gain = contrasts[name].difference if name in contrasts else None
        better = comparison.better if comparison else "up"
        rows.append(
            (
                name,
                str(len(own)),
                spent(own),
                memory(own),
                number(sums["steps"] // len(own)),
                number(_spread(own, comparison)),
                number(sums["spikes"]),
                number(sums["skipped_steps"]),
                number(sums["failed"] + sums["interrupted"]),
                "baseline" if comparison and name == comparison.baseline else cost(seconds, gain, better),
            )
        )
    return Table(columns, tuple(rows))


def _spread(own: Sequence[Results], comparison: Comparison | None) -> float | None:
    if comparison is None or len(own) < 2:
        return None
    name = comparison.quality
    means = [measured([result], name).estimate for result in own]
    return float(np.std(means, ddof=1))


def cost(seconds: float | None, gain: Interval | None, better: str) -> str:
    """Time for 0.01 of quality: ``0:12 (0:08 to 0:25)``; a dash where the interval of the gain holds 0, or no time is
    known."""
    if seconds is None or gain is None or not gain.known:
        return "–"
    low, high = (gain.low, gain.high) if better == "up" else (-gain.high, -gain.low)
    if low <= 0:
        return "–"
    middle = abs(gain.estimate)
    best, typical, worst = (seconds / 100 / value for value in (high, middle, low))
    return f"{_short(typical)} ({_short(best)} to {_short(worst)})"


def _short(seconds: float) -> str:
    return f"{seconds:.2g} s" if seconds < 60 and math.isfinite(seconds) else duration(seconds)


def metrics_table(results: Sequence[Results]) -> Table:
    """Every metric that any group logged, with intervals."""
    groups = list(dict.fromkeys(result.name for result in results))
    names = list(dict.fromkeys(name for result in results for name in result.finals))
    rows = []
    for name in names:
        cells = [name]
        for group in groups:
            own = [r for r in results if r.name == group and name in r.finals]
            interval = _final(own, name)
            bounds = "" if interval is None or not interval.known else f" ({span(interval.to_dict())})"
            cells.append("–" if interval is None else number(interval.estimate) + bounds)
        rows.append((*cells, METRICS[name].unit))
    return Table(("metric", *groups, "unit"), tuple(rows))


def _final(own: Sequence[Results], name: str) -> Interval | None:
    if not own:
        return None
    final = own[0].finals[name] if len(own) == 1 else t_interval([result.finals[name].estimate for result in own])
    if METRICS[name].unit == "share" and final.known:
        return replace(final, low=max(0.0, final.low), high=min(1.0, final.high))
    return final


def answers(results: Sequence[Results], evaluations: Sequence[Path], count: int) -> list[Section]:
    """The same prompts answered by one run of each group: of an evaluation, else of the probes at their last step."""
    asked: dict[str, dict[str, str]] = {}
    groups: list[str] = []
    for result in results:
        if result.name in groups or result.error is not None or result.last is None:
            continue
        groups.append(result.name)
        for question, answer in _answers(result.folders[result.last], evaluations).items():
            asked.setdefault(question, {})[result.name] = answer
    shared = {question: given for question, given in asked.items() if len(given) == len(groups)}
    if not shared or len(groups) < 2:
        return []
    sections = []
    for index, (question, given) in enumerate(list(shared.items())[:count]):
        intro = ("Nothing here is picked: the first prompts that all of them answered, one run of each.",)
        rows = tuple((name, text[:LONGEST_ANSWER]) for name, text in given.items())
        table = Table(("run", "answer"), rows, texts=True)
        sections.append(Section(f"Answers: {' '.join(question.split())[:120]}", intro if index == 0 else (), table))
    return sections


def _answers(run: Path, evaluations: Sequence[Path]) -> dict[str, str]:
    for folder in evaluations:
        rows = read_rows(folder / "eval.jsonl")
        name = evaluated_as(run, folder, rows)
        own = [row for row in rows if row["model"] == name and row.get("sample", 0) == 0]
        if own:
            return {str(row.get("question", row["prompt"])): str(row["completion"]) for row in own}
    lines = answer_lines(run)
    last = max((int(line["step"]) for line in lines), default=None)
    return {str(line["question"]): str(line["completion"]) for line in lines if line["step"] == last}


def compare_page(
    results: Sequence[Results], comparison: Comparison | None, sections: Sequence[Section], again: str
) -> Page:
    """The page, with the command that makes it; empty where none can."""
    verdict = comparison.conclusion if comparison else ("Nothing that all runs measured says which is better.",)
    names = dict.fromkeys(result.name for result in results)
    last = [Section("Do it again", (), commands=(again,))] if again else []
    data = {
        "comparison": comparison.to_dict() if comparison else None,
        "runs": [result.to_dict() for result in results],
        "settings": differing(results),
        "better": better_way(comparison.quality) if comparison else None,
    }
    return Page(f"Comparison of {', '.join(names)}", verdict, (*sections, *last), data)
