"""Where people and a constitution part on the same revisions: by principle, and the cases themselves."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trueup.collectors.constitution_store import Review
from trueup.commands.constitution_parts import read_whole
from trueup.evaluation.intervals import SHARE, mean_interval
from trueup.reports.page import Section, Table, write_page
from trueup.rewards.judge import asked_for
from trueup.types import content_id, prompt_json

MOST = 25
"""Cases that a page shows."""


@dataclass(frozen=True, slots=True)
class Case:
    """One revision with what people and the constitution say of it."""

    principle: str
    prompt: str
    original: str
    revision: str
    people: int
    better: float
    """Share of people who prefer the revision, ties half."""
    follows: float
    """Share of people for whom it follows the principle."""
    p_better: float | None
    """P(the revision is better) by the constitution; None where it gave no label."""
    p_breaks: float | None
    """P(the revision breaks the principle) by the constitution."""

    @property
    def parts_on_better(self) -> bool:
        """Whether most people and the constitution prefer different texts."""
        return self.p_better is not None and (self.better - 0.5) * (self.p_better - 0.5) < 0

    @property
    def parts_on_rule(self) -> bool:
        """Whether most people and the constitution differ in whether it keeps the principle."""
        return self.p_breaks is not None and (self.follows - 0.5) * (0.5 - self.p_breaks) < 0

    @property
    def distance(self) -> float:
        """How far apart the two are, for the order of the cases."""
        better = 0.0 if self.p_better is None else abs(self.better - self.p_better)
        rule = 0.0 if self.p_breaks is None else abs(self.follows - 1 + self.p_breaks)
        return max(better * self.parts_on_better, rule * self.parts_on_rule)


def cases_of(reviews: Sequence[Review], rows: Sequence[Mapping[str, Any]], labels: Path) -> list[Case]:
    """The reviewed revisions of a round.

    Args:
        reviews: What people said.
        rows: Rows of ``revisions.jsonl`` that were rewritten.
        labels: ``labels.jsonl`` of the round; without it only the rule can be compared.
    """
    said = {_key(row["prompt"], row["original"], row["answer"]): row for row in rows}
    known = read_whole(labels) if labels.is_file() else []
    p_better = {_key(row["prompt"], row["second"], row["first"]): row["p_first"] for row in known}
    by_item: dict[str, list[Review]] = {}
    for review in reviews:
        by_item.setdefault(review.item, []).append(review)
    cases = []
    for given in by_item.values():
        one = given[0]
        key = _key(prompt_json(one.prompt), one.original, one.revision)
        if key in said:  # else of another round that was queued into the same project
            cases.append(
                Case(
                    one.principle,
                    asked_for(one.prompt),
                    one.original,
                    one.revision,
                    len(given),
                    sum(review.better for review in given) / len(given),
                    sum(review.follows for review in given) / len(given),
                    p_better.get(key),
                    said[key]["p_breaks"].get(one.principle),
                )
            )
    return cases


def _key(prompt: Any, original: str, revision: str) -> str:
    return content_id(prompt, original, revision)


def disagreement_page(
    reviews: Sequence[Review], rows: Sequence[Mapping[str, Any]], labels: Path, out: Path
) -> Iterator[str]:
    """Write the page into ``out``; yields what it says on top and where it is."""
    cases = cases_of(reviews, rows, labels)
    apart = sorted((case for case in cases if case.distance > 0), key=lambda case: -case.distance)
    top = [
        f"People reviewed {len(cases)} of {len(rows)} revisions. Most of them prefer another text than the "
        f"constitution in {sum(case.parts_on_better for case in cases)}, and differ in whether the principle is "
        f"followed in {sum(case.parts_on_rule for case in cases)}."
    ]
    sections = [Section("By principle", (_INTRO,), _by_principle(cases))] if cases else []
    if apart:
        shown = f"{len(apart)} cases, the furthest apart first" + (f"; {MOST} are shown." if len(apart) > MOST else ".")
        sections.append(Section("Where they part", (shown,), _cases(apart[:MOST])))
    data = {"cases": [_json(case) for case in cases], "revisions": len(rows)}
    written = write_page(out, "A constitution and people", top, sections, data)
    yield from top
    yield f"page: {written.html}"


_INTRO = (
    "Agrees: share of reviewed revisions on which most people and the constitution say the same, an even split of "
    "people half. Intervals are 95 %, over revisions."
)


def _by_principle(cases: Sequence[Case]) -> Table:
    lines = []
    for name in sorted({case.principle for case in cases}):
        own = [case for case in cases if case.principle == name]
        better = [_same(case.better - 0.5, case.p_better - 0.5) for case in own if case.p_better is not None]
        rule = [_same(case.follows - 0.5, 0.5 - case.p_breaks) for case in own if case.p_breaks is not None]
        reviews = str(sum(case.people for case in own))
        lines.append((name, str(len(own)), reviews, _interval(better), _interval(rule)))
    return Table(("principle", "revisions", "reviews", "agrees on better", "agrees on the rule"), tuple(lines))


def _same(people: float, constitution: float) -> float:
    product = people * constitution
    return 0.5 if product == 0 else float(product > 0)


def _interval(values: Sequence[float]) -> str:
    if not values:
        return "-"
    interval = mean_interval(values, bounds=SHARE)
    if interval.low != interval.low:
        return f"{100 * interval.estimate:.0f} %"
    return f"{100 * interval.estimate:.0f} % [{100 * interval.low:.0f}, {100 * interval.high:.0f}]"


def _cases(cases: Sequence[Case]) -> Table:
    return Table(
        ("principle", "request", "original", "revision", "who says what"),
        tuple((case.principle, case.prompt, case.original, case.revision, _said(case)) for case in cases),
        texts=True,
    )


def _said(case: Case) -> str:
    people = f"People: better {100 * case.better:.0f} %, follows {100 * case.follows:.0f} % (of {case.people})"
    better = "no label" if case.p_better is None else f"better {100 * case.p_better:.0f} %"
    rule = "no verdict" if case.p_breaks is None else f"follows {100 * (1 - case.p_breaks):.0f} %"
    return f"{people}. Constitution: {better}, {rule}."


def _json(case: Case) -> dict[str, Any]:
    return {name: getattr(case, name) for name in Case.__dataclass_fields__} | {
        "parts_on_better": case.parts_on_better,
        "parts_on_rule": case.parts_on_rule,
    }
