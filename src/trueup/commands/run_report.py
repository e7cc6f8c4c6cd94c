"""The report of one run with what needs more than its logs: signs of reward hacking, and how to trace a pair."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trueup.errors import TrueupError
from trueup.ledger import Damage, iterate_lines, parse_line
from trueup.reports.build import Report, report_run
from trueup.reports.logs import RunLog, read_log
from trueup.reports.page import Page, Section, Table, number

_SHOWN = 5
"""Pairs in the table."""


def write_run_report(
    run: str | Path,
    out: str | Path | None = None,
    *,
    evaluation: str | Path | None = None,
    model: str | None = None,
) -> Report:
    """Write the report of a run. Arguments and errors as ``reports.build.report_run``."""
    return report_run(run, out, evaluation=evaluation, model=model, more=more_of(run))


def more_of(run: str | Path) -> Page:
    """What the report of a run says beyond its logs: sections, a line for the top if the reward is gamed, data."""
    log = read_log(run)
    parts = [part for part in (_hacking(log, run), _pairs(run)) if part is not None]
    return Page(
        "",
        tuple(line for part in parts for line in part.verdict),
        tuple(section for part in parts for section in part.sections),
        {key: value for part in parts for key, value in part.data.items()},
    )


def _hacking(log: RunLog, run: str | Path) -> Page | None:
    """What ``trueup hacking`` says of a run that optimised a reward; None of another."""
    heading, command = "Reward hacking", f"trueup hacking {shlex.quote(str(run))}"
    steps = sum(isinstance(row.get("score"), int | float) for row in log.metrics)
    if steps == 0:
        return None
    if steps == 1:
        return Page("", (), (Section(heading, ("One step has a score; signs show from two on.",)),), {})
    from trueup.commands.api.hacking import OPENINGS, hacking  # its judges load torch; other runs need none

    try:
        result = hacking(run)
    except TrueupError as error:
        reason = f"Not looked for: {error.where}: {error.what}" if error.where else f"Not looked for: {error.what}"
        return Page("", (), (Section(heading, (f"{reason}.",), commands=(command,)),), {})
    page = result.page
    figure = next((section.figure for section in page.sections if section.figure is not None), None)
    sections = [Section(heading, page.verdict, figure=figure, commands=(command,))]
    sections += [section for section in page.sections if section.table is not None]
    gamed = result.hacking.verdict
    line = () if gamed == "none" else (f"{OPENINGS[gamed]} More below, under {heading.lower()}.",)
    return Page("", line, tuple(sections), {"hacking": result.to_dict()})


@dataclass
class _Seen:
    """One pair or labelled response along a run: its margin at the first and the last step that trained on it."""

    name: str
    steps: int
    first: float
    last: float


def _pairs(run: str | Path) -> Page | None:
    """How to follow a pair of a run that notes its pairs, and which are worth it; None of another run."""
    heading, file = "Trace a pair", Path(run) / "pairs.jsonl"
    if not file.exists():
        return None
    damaged: list[Damage] = []
    seen, odd = _seen(_rows(file, damaged))
    notes = tuple(f"{damage}; the line is left out." for damage in damaged)
    notes += (f"{odd} lines whose margin is no number are left out.",) if odd else ()
    if not seen:
        return Page("", (), (Section(heading, ("No step noted a pair.", *notes)),), {})
    worst = sorted(seen.values(), key=lambda one: (one.last, one.name))[:_SHOWN]
    agreed = sum(one.last > 0 for one in seen.values())
    intro = (
        f"The run trained on {len(seen):,} pairs or labelled responses. When it last saw them, before that step's "
        f"update, the model agreed with {agreed:,} of the labels. Below are those that it contradicts most: labels to "
        "look at first, or pairs that were not learned. The margin of a bad response is minus its reward.",
        "trueup trace shows the life of one: its judgments, each step, what came of it. Add --db FEEDBACK.db for who "
        "judged it, --models for likelihoods and gradients. trueup why shows what moved an answer.",
        *notes,
    )
    columns = ("pair or response", "steps", "margin at first", "at last")
    rows = tuple((one.name, str(one.steps), number(one.first), number(one.last)) for one in worst)
    command = f"trueup trace {shlex.quote(worst[0].name)} {shlex.quote(str(run))}"
    section = Section(heading, intro, Table(columns, rows), commands=(command,))
    data = {"pairs": len(seen), "contradicted_most": [vars(one) for one in worst]}
    return Page("", (), (section,), {"trained_on": data})


def _rows(file: Path, damaged: list[Damage]) -> Iterable[Mapping[str, Any]]:
    for line_number, line in iterate_lines(file):
        if not line.strip():
            continue
        try:
            yield parse_line(line)
        except ValueError as error:
            damaged.append(Damage(file, line_number, str(error)))


def _seen(rows: Iterable[Mapping[str, Any]]) -> tuple[dict[str, _Seen], int]:
    """By key, each pair's margin, or each response's reward, minus it if it is bad, and how many lines have none."""
    seen: dict[str, _Seen] = {}
    odd = 0
    for row in rows:
        margin = row.get("reward") if "desirable" in row else row.get("margin")
        name = row.get("key") or row.get("pair_id")
        if not isinstance(margin, int | float) or not isinstance(name, str):
            odd += 1  # a margin that was no number is written as a word
            continue
        kept = -float(margin) if row.get("desirable") is False else float(margin)
        one = seen.setdefault(name, _Seen(name, 0, kept, kept))
        one.steps, one.last = one.steps + 1, kept
    return seen, odd
