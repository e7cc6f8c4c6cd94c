"""How far annotators agree, by kind of task and by axis: the agreement page and that part of the card."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import combinations
from typing import Any

import numpy as np

from trueup.feedback.quality.agreement import (
    AgreementCoefficient,
    Level,
    alpha_with_interval,
    cohen_kappa,
    fleiss_kappa,
    gwet_ac1,
    kendall_w,
    raw_agreement,
)
from trueup.feedback.quality.comparisons import COMPARED, answer_of, by_pair, scores_by_axis, votes
from trueup.feedback.store.records import Judged

LEAST_SHARED = 5
"""Items that two annotators must share before their kappa counts."""

Labelled = Mapping[str, Sequence[tuple[str, float]]]
"""Unit -> (annotator, value)."""


@dataclass(frozen=True, slots=True)
class MeanKendall:
    """Kendall's W, averaged over the items that have two complete rankings."""

    value: float | None
    items: int
    reason: str


@dataclass(frozen=True, slots=True)
class AgreementRow:
    """Agreement on one axis of one kind of task."""

    kind: str
    axis: str
    level: Level
    items: int
    raters: int
    pairable: int
    raw: AgreementCoefficient
    alpha: AgreementCoefficient
    ac1: AgreementCoefficient
    kappa: AgreementCoefficient
    kendall_w: MeanKendall | None = None
    """Of rankings."""

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values; each coefficient is ``{name, value, low, high, reason}``."""
        row = {
            "kind": self.kind,
            "axis": self.axis,
            "level": self.level,
            "items": self.items,
            "raters": self.raters,
            "pairable": self.pairable,
            "raw": self.raw.to_dict(),
            "alpha": self.alpha.to_dict(),
            "ac1": self.ac1.to_dict(),
            "kappa": self.kappa.to_dict(),
        }
        return row if self.kendall_w is None else row | {"kendall_w": asdict(self.kendall_w)}


@dataclass(frozen=True, slots=True)
class AgreementReport:
    """Agreement by task kind, and by axis for ratings."""

    rows: tuple[AgreementRow, ...]
    simulated: bool

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {"rows": [row.to_dict() for row in self.rows], "simulated": self.simulated}


def agreement_report(judged: Judged, *, resamples: int = 1000) -> AgreementReport:
    """Agreement by task kind, and by axis for ratings, with intervals from so many resamples of items."""
    rows = []
    for kind in COMPARED:
        cast = votes(judged, kinds=(kind,))
        if not cast:
            continue
        winner = {"/".join(p): [(v.annotator, float(v.sign)) for v in g] for p, g in by_pair(cast).items()}
        row = _agreement_row(kind, "winner", "nominal", winner, resamples)
        rows.append(replace(row, kendall_w=_kendall(judged)) if kind == "ranking" else row)
        if kind == "pairwise":
            graded = {"/".join(p): [(v.annotator, float(v.outcome)) for v in g] for p, g in by_pair(cast).items()}
            rows.append(_agreement_row(kind, "strength", "ordinal", graded, resamples))
    accepted = votes(judged, kinds=("binary",))
    if accepted:
        units = {"/".join(p): [(v.annotator, float(v.sign)) for v in g] for p, g in by_pair(accepted).items()}
        rows.append(_agreement_row("binary", "acceptable", "nominal", units, resamples))
    for axis, items in sorted(scores_by_axis(judged).items()):
        points = {item: [(who, float(point)) for who, point in scores] for item, scores in items.items()}
        rows.append(_agreement_row("rating", axis, "ordinal", points, resamples))
    return AgreementReport(tuple(rows), judged.simulated)


def _agreement_row(kind: str, axis: str, level: Level, units: Labelled, resamples: int) -> AgreementRow:
    values = [[value for _, value in unit] for unit in units.values()]
    alpha = alpha_with_interval(values, level, resamples=resamples)
    return AgreementRow(
        kind,
        axis,
        level,
        items=alpha.units,
        raters=len({name for unit in units.values() for name, _ in unit}),
        pairable=alpha.pairable,
        raw=raw_agreement(values),
        alpha=alpha,
        ac1=gwet_ac1(values),
        kappa=_kappa(units),
    )


def _kappa(units: Labelled) -> AgreementCoefficient:
    """Fleiss' kappa where every item has equally many verdicts; else the mean of Cohen's over pairs of annotators."""
    values = [[value for _, value in unit] for unit in units.values()]
    if len({len(unit) for unit in values}) == 1:
        return fleiss_kappa(values)
    shared: dict[tuple[str, str], list[tuple[float, float]]] = {}
    for unit in units.values():
        for (first, a), (second, b) in combinations(sorted(unit), 2):
            shared.setdefault((first, second), []).append((a, b))
    name = "mean Cohen kappa"
    most = max((len(rows) for rows in shared.values()), default=0)
    if most < LEAST_SHARED:
        return AgreementCoefficient(
            name, None, reason=f"fewer than five shared items: two annotators share {most} at most"
        )
    kappas = [
        (cohen_kappa([a for a, _ in rows], [b for _, b in rows]), len(rows))
        for rows in shared.values()
        if len(rows) >= LEAST_SHARED
    ]
    defined = [(k.value, n) for k, n in kappas if k.value is not None]
    if not defined:
        reason = "undefined: only one category used by any two who share five items"
        return AgreementCoefficient(name, None, reason=reason)
    return AgreementCoefficient(name, sum(k * n for k, n in defined) / sum(n for _, n in defined))


def _kendall(judged: Judged) -> MeanKendall:
    """Mean Kendall's W over items whose every ranking is complete."""
    tables: dict[str, list[list[float]]] = {}
    for row in judged.judgments:
        item = judged.items.get(row.item)
        if item is None or item.kind != "ranking" or item.stream not in ("main", "holdout"):
            continue
        answer = answer_of(item, row)
        place = {name: n for n, tier in enumerate(answer.tiers) for name in tier} if answer is not None else {}
        if len(place) == len(item.responses):
            tables.setdefault(item.id, []).append([float(place[r.id]) for r in item.responses])
    values = [w.value for table in tables.values() if (w := kendall_w(table)).value is not None]
    if not values:
        return MeanKendall(None, 0, "no item has two complete rankings")
    return MeanKendall(float(np.mean(values)), len(values), "")
