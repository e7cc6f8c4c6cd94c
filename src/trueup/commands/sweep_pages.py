"""The page of a sweep, and the table that the terminal shows."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from typing import Any

from trueup.commands.measurements import Results
from trueup.evaluation.crossed import cells, crossed_mean
from trueup.evaluation.intervals import Interval, t_interval
from trueup.evaluation.variants import Comparison
from trueup.ledger.progress import duration
from trueup.reports import figures
from trueup.reports.figures import Figure, Series
from trueup.reports.page import Page, Section, Table, number, span

BESIDE = ("gold", "reward", "kl", "tokens", "score", "completion_length", "heldout_accuracy", "heldout_nll")
"""Measurements that are shown beside the one that decides."""
OF_TRAINING = ("score", "completion_length")
"""Those of them that an evaluation says better."""


def sweep_page(name: str, results: Sequence[Results], comparison: Comparison | None, again: Sequence[str]) -> Page:
    """The page of a sweep.

    Args:
        name: Of the sweep.
        results: Of every variant and seed.
        comparison: The variants, where any was finished.
        again: The command that runs it, in words; empty where none can.
    """
    failed = [result for result in results if result.error is not None]
    verdict = list(comparison.conclusion) if comparison else ["No variant was finished: there is nothing to compare."]
    verdict += [f"{result.name}, seed {result.seed}, has no results." for result in failed]
    sections = []
    if comparison is not None:
        sections.append(Section("Variants", explained(comparison), variants_table(results, comparison)))
        sections += [Section(figure.title, (), None, figure) for figure in sweep_figures(results, comparison)]
    sections.append(
        Section(
            "Hyper-parameter log",
            ("One line a variant and seed; sweep.jsonl holds the same with every metric.",),
            log_table(results),
        )
    )
    if failed:
        rows = tuple((result.name, result.seed, str(result.error)) for result in failed)
        sections.append(Section("What failed", (), Table(("variant", "seed", "error"), rows, texts=True)))
    if again:
        sections.append(Section("Do it again", (), commands=(shlex.join(again),)))
    data = {
        "comparison": comparison.to_dict() if comparison else None,
        "variants": [result.to_dict() for result in results],
    }
    return Page(f"Sweep: {name}", tuple(verdict), tuple(sections), data)


def explained(comparison: Comparison) -> tuple[str, ...]:
    """What the table's numbers are."""
    way = "more" if comparison.better == "up" else "less"
    return (
        f"{comparison.quality}: {way} is better. Means over seeds and prompts with 95 % intervals in which both vary; "
        f"differences from {comparison.baseline} are paired, on the same seeds and prompts. A dash is where nothing "
        "can be said, because there is one value or all are alike.",
    )


def variants_table(results: Sequence[Results], comparison: Comparison) -> Table:
    """One line a variant: the measurement that decides, the difference, and what it cost."""
    contrasts = {contrast.name: contrast for contrast in comparison.contrasts}
    names = list(comparison.means)
    beside = [name for name in beside_of(results) if name != comparison.quality]
    columns = ("variant", "seeds", comparison.quality, "95 %", "difference", "95 % ", *beside, "time", "memory")
    rows = []
    for name in names:
        own = [result for result in results if result.name == name and result.error is None]
        mean = comparison.means[name].to_dict()
        contrast = contrasts.get(name)
        difference = contrast.difference.to_dict() if contrast else None
        rows.append(
            (
                name,
                str(len(own)),
                number(mean["estimate"]),
                span(mean),
                f"{difference['estimate']:+.3f}" if difference else "baseline",
                span(difference),
                *(number(interval.estimate) for interval in (measured(own, field) for field in beside)),
                spent(own),
                memory(own),
            )
        )
    return Table(columns, tuple(rows))


def log_table(results: Sequence[Results]) -> Table:
    """The hyper-parameter log for people: settings that differ, measurements, time, memory, steadiness."""
    keys = list(dict.fromkeys(key for result in results for key in result.settings))
    fields = beside_of(results)
    columns = (*keys, "status", *fields, "steps", "spikes", "skipped", "cut off", "time", "memory")
    rows = []
    for result in results:
        steady: Mapping[str, Any] = result.steadiness
        values = [measured([result], name).estimate if result.error is None else None for name in fields]
        cut = steady.get("failed", 0) + steady.get("interrupted", 0) if steady else None
        rows.append(
            (
                *(str(result.settings.get(key, "–")) for key in keys),
                "failed" if result.error else "done",
                *(number(value) for value in values),
                *(number(steady.get(name)) for name in ("steps", "spikes", "skipped_steps")),
                number(cut),
                spent([result]) if result.error is None else "–",
                memory([result]),
            )
        )
    return Table(tuple(columns), tuple(rows))


def beside_of(results: Sequence[Results]) -> list[str]:
    """Measurements of ``BESIDE`` that every finished variant has."""
    whole = [result for result in results if result.error is None]
    names = [name for name in BESIDE if whole and all(name in r.values or name in r.metrics for r in whole)]
    evaluated = bool(whole) and all("reward" in result.values for result in whole)
    return [name for name in names if not (evaluated and name in OF_TRAINING)]


def measured(results: Sequence[Results], name: str) -> Interval:
    """One measurement of one variant, over its seeds and prompts."""
    if all(name in result.values for result in results):
        values = [value for result in results for value in result.values[name][0]]
        seeds = [result.seed for result in results for _ in result.values[name][0]]
        prompts = [prompt for result in results for prompt in result.values[name][1]]
        return crossed_mean(cells(values, seeds, prompts))
    return t_interval([result.metrics[name] for result in results])


def mean_seconds(results: Sequence[Results]) -> float | None:
    """The mean time over seeds; None where that of one is not known."""
    known = [result.seconds for result in results if result.seconds is not None]
    return sum(known) / len(known) if known and len(known) == len(results) else None


def spent(results: Sequence[Results]) -> str:
    """The mean time over seeds; a dash where that of one is not known."""
    seconds = mean_seconds(results)
    return "–" if seconds is None else duration(seconds)


def memory(results: Sequence[Results]) -> str:
    """The highest peak; a dash where none was written down."""
    peaks = [result.peak_gb for result in results if result.peak_gb is not None]
    return f"{max(peaks):.2f} GB" if peaks else "–"


def sweep_figures(results: Sequence[Results], comparison: Comparison) -> list[Figure]:
    """The measurement that decides, by variant; and over KL where KL was measured."""
    entries = []
    for name, interval in comparison.means.items():
        bounds = (interval.low, interval.high) if interval.known else (interval.estimate, interval.estimate)
        entries.append((name, interval.estimate, *bounds))
    caption = "Means with 95 % intervals over seeds and prompts."
    drawn = [figures.intervals("variants", f"{comparison.quality} by variant", caption, entries)]
    whole = [result for result in results if result.error is None]
    if len(whole) > 1 and all("kl" in r.values or "kl" in r.metrics for r in whole):
        drawn.append(_over_kl(whole, comparison))
    return drawn


def _over_kl(whole: Sequence[Results], comparison: Comparison) -> Figure:
    series = []
    for name, interval in comparison.means.items():
        own = [result for result in whole if result.name == name]
        kl = measured(own, "kl").estimate
        low, high = (interval.low, interval.high) if interval.known else (None, None)
        series.append(Series(name, (kl,), (interval.estimate,), (low,), (high,), line=False))
    caption = "Each variant at the KL that it ended with; bars are 95 % intervals over seeds and prompts."
    return figures.over_root_kl("frontier", f"{comparison.quality} over KL", caption, [(comparison.quality, series)])
