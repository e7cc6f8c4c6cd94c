"""What moves a crowd's judgments besides quality: side, length, markup, values; slices that stand out; fatigue."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from statistics import median
from typing import Any

import numpy as np

from trueup.errors import ShapeError
from trueup.feedback.quality.bias import Coefficient, SideShare, benjamini_hochberg, first_share, logistic, slice_gaps
from trueup.feedback.quality.comparisons import PairVote, agrees_with_others, by_annotator, session_positions, votes
from trueup.feedback.quality.drift import fatigue
from trueup.feedback.quality.opinion_groups import OpinionGroups, opinion_groups
from trueup.feedback.store.records import ItemRow, Judged
from trueup.types import prompt_text

_MARKUP = re.compile(r"^\s{0,3}(?:#{1,6}\s|[-*+]\s|\d+[.)]\s|```|>\s)|\*\*[^*\n]+\*\*|`[^`\n]+`", re.MULTILINE)

LENGTH_MATTERS = math.log(2)
"""The length coefficient is also told for a response twice as long."""

MEDIAN_COST = math.sqrt(math.pi / 2)
"""Standard error of a median, in those of the mean of as many normal values."""

OWN_VERDICTS = 40
"""Verdicts from which on an annotator's own pull of length is told."""

SLICE_KEYS = ("category", "topic", "language", "domain", "source", "harm")
"""Keys of an item's context that name a slice."""


def markup(text: str) -> int:
    """How many pieces of Markdown a text has: headings, list entries, quotes, fences, bold, code."""
    return len(_MARKUP.findall(text))


@dataclass(frozen=True, slots=True)
class AnnotatorShare:
    """How often one annotator chose the response shown first, with the Benjamini-Hochberg decision over all."""

    share: SideShare
    stands_out: bool

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return asdict(self.share) | {"stands_out": self.stands_out}


@dataclass(frozen=True, slots=True)
class StyleFit:
    """Logistic regression of "the response shown first won", or the reason why there is none."""

    coefficients: tuple[Coefficient, ...]
    verdicts: int
    annotators: int
    twice_as_long: float | None
    """Factor on the odds of a response twice as long."""
    reason: str

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return asdict(self) | {"coefficients": [asdict(row) for row in self.coefficients]}


@dataclass(frozen=True, slots=True)
class LengthPull:
    """One annotator's pull of length against that of the others."""

    name: str
    estimate: float
    low: float
    high: float
    others: float
    verdicts: int
    p: float
    stands_out: bool


@dataclass(frozen=True, slots=True)
class SliceRow:
    """How far people agree in one slice and outside it."""

    name: str
    share: float
    rest: float
    items: int
    p: float
    stands_out: bool


@dataclass(frozen=True, slots=True)
class SliceTable:
    """All slices, and what was measured in them."""

    measure: str
    items: int
    rows: tuple[SliceRow, ...]

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return asdict(self) | {"rows": [asdict(row) for row in self.rows]}


@dataclass(frozen=True, slots=True)
class FatigueFit:
    """Change of agreement along a session, or the reason why it is not known."""

    coefficient: Coefficient | None
    reason: str


@dataclass(frozen=True, slots=True)
class BiasReport:
    """What moves verdicts besides quality.

    Rates have Wilson intervals; ``by_annotator`` and ``lengths`` have a Benjamini-Hochberg decision. ``style`` has
    standard errors robust to annotators; ``lengths`` compares each annotator's pull of length with the others'.
    """

    overall: SideShare
    by_annotator: tuple[AnnotatorShare, ...]
    style: StyleFit
    lengths: tuple[LengthPull, ...]
    slices: SliceTable
    fatigue: FatigueFit
    groups: OpinionGroups
    simulated: bool

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values: ``left_wins, style, lengths, slices, fatigue, camps, simulated, verdicts``."""
        return {
            "left_wins": {
                "overall": asdict(self.overall),
                "by_annotator": [row.to_dict() for row in self.by_annotator],
            },
            "style": self.style.to_dict(),
            "lengths": [asdict(row) for row in self.lengths],
            "slices": self.slices.to_dict(),
            "fatigue": asdict(self.fatigue),
            "camps": self.groups.to_dict(),
            "simulated": self.simulated,
            "verdicts": self.verdicts(),
        }

    def verdicts(self) -> list[str]:
        """What stands out, in sentences; nothing where nothing does."""
        sentences = []
        first = self.overall
        if first.p is not None and first.p < 0.01 and first.share is not None:
            sentences.append(f"The response shown first wins {first.share:.0%} of {first.total} verdicts: a side bias.")
        for row in self.by_annotator:
            own = row.share
            if row.stands_out:
                sentences.append(
                    f"{own.name} chose the response shown first in {own.share:.0%} of {own.total} verdicts."
                )
        for pull in self.style.coefficients:
            if pull.name != "shown first" and pull.p < 0.01:
                wins = "more" if pull.estimate > 0 else "less"
                what = "longer" if pull.name == "log length" else "more marked-up"
                sentences.append(
                    f"The {what} response wins {wins} often than its side explains; it may also be better."
                )
        for taste in self.lengths:
            if taste.stands_out:
                what = "longer" if taste.estimate > taste.others else "shorter"
                sentences.append(f"{taste.name} prefers {what} responses than the others do.")
        sentences += self.groups.verdicts()
        slope = self.fatigue.coefficient
        if slope is not None and slope.p < 0.01 and slope.estimate < 0:
            sentences.append("Agreement with others falls along a session: people tire.")
        sentences += [
            f"People agree less on {row.name!r}: {row.share:.0%} against {row.rest:.0%}."
            for row in self.slices.rows
            if row.stands_out and row.share < row.rest
        ]
        return sentences


def bias_report(judged: Judged) -> BiasReport:
    """Left-win rates, the pull of length and markup, slices where people agree less, fatigue, groups of values."""
    rows = votes(judged)
    wins = [w for v in rows if (w := v.left_win) is not None]
    people = [
        first_share(name, [w for v in cast if (w := v.left_win) is not None])
        for name, cast in by_annotator(rows).items()
    ]
    tested = [share for share in people if share.p is not None]
    decisions = benjamini_hochberg([share.p or 0.0 for share in tested], 0.01)
    marked = dict(zip((share.name for share in tested), decisions, strict=True))
    return BiasReport(
        overall=first_share("all", wins),
        by_annotator=tuple(AnnotatorShare(share, marked.get(share.name, False)) for share in people),
        style=_style(judged, rows),
        lengths=_lengths(judged, rows),
        slices=_slices(judged, rows),
        fatigue=_fatigue(judged, rows),
        groups=opinion_groups(judged),
        simulated=judged.simulated,
    )


def _style(judged: Judged, rows: Sequence[PairVote]) -> StyleFit:
    names = ["shown first", "log length", "markup"]
    texts = {r.id: r.text for item in judged.items.values() for r in item.responses}
    sizes = {name: (math.log(max(1, len(text.split()))), math.log1p(markup(text))) for name, text in texts.items()}
    features, outcome, clusters = [], [], []
    for vote, win, left, right in _decided(rows):
        features.append([1.0, sizes[left][0] - sizes[right][0], sizes[left][1] - sizes[right][1]])
        outcome.append(win)
        clusters.append(vote.annotator)
    if not features:
        return _no_style("no verdict has a known order")
    table = np.array(features)
    # A feature that never varies has no coefficient; the others still do.
    kept = [0, *(k for k in (1, 2) if float(np.ptp(table[:, k])) > 0)]
    if len(outcome) < 30:
        return _no_style(f"{len(outcome)} verdicts are too few for a regression; it needs 30")
    try:
        fitted = logistic(table[:, kept], np.array(outcome), clusters, [names[k] for k in kept])
    except ShapeError as error:
        return _no_style(error.what)
    length = next((c for c in fitted if c.name == "log length"), None)
    twice = math.exp(length.estimate * LENGTH_MATTERS) if length else None
    return StyleFit(tuple(fitted), len(outcome), len(set(clusters)), twice, "")


def _decided(rows: Sequence[PairVote]) -> Iterator[tuple[PairVote, float, str, str]]:
    """Votes of known order that are no ties: the vote, 1 where the response shown first won, and both in that order."""
    for vote in rows:
        win = vote.left_win
        if win is not None and win != 0.5:
            yield vote, win, *((vote.first, vote.second) if vote.shown_first else (vote.second, vote.first))


def _lengths(judged: Judged, rows: Sequence[PairVote]) -> tuple[LengthPull, ...]:
    """Each annotator's log-odds for a response longer by a factor e, against the typical annotator's.

    Better answers may be longer, for everybody alike; what an annotator has beyond the median of the others is a taste
    of their own. Standard errors are robust to several verdicts on one item.
    """
    words = {r.id: max(1, len(r.text.split())) for item in judged.items.values() for r in item.responses}
    fitted: list[tuple[str, Coefficient, int]] = []
    for name, cast in by_annotator(rows).items():
        features, outcome, items = [], [], []
        for vote, win, left, right in _decided(cast):
            features.append([1.0, math.log(words[left] / words[right])])
            outcome.append(win)
            items.append(vote.item)
        if len(outcome) < OWN_VERDICTS or float(np.ptp(np.array(features)[:, 1])) == 0.0:
            continue
        try:
            own = logistic(np.array(features), np.array(outcome), items, ["shown first", "log length"])[1]
        except ShapeError:  # so few of one side that there is no estimate; the side bias says so
            continue
        if own.error > 0:
            fitted.append((name, own, len(outcome)))
    if len(fitted) < 3:
        return ()
    pulls = []
    for at, (name, own, verdicts) in enumerate(fitted):
        others = [c for k, (_, c, _) in enumerate(fitted) if k != at]
        middle = median(c.estimate for c in others)
        spread = MEDIAN_COST / math.sqrt(sum(c.error**-2 for c in others))
        z = (own.estimate - middle) / math.sqrt(own.error**2 + spread**2)
        p = math.erfc(abs(z) / math.sqrt(2))
        pulls.append(LengthPull(name, own.estimate, own.low, own.high, middle, verdicts, p, stands_out=False))
    decisions = benjamini_hochberg([pull.p for pull in pulls], 0.01)
    return tuple(replace(pull, stands_out=decision) for pull, decision in zip(pulls, decisions, strict=True))


def _no_style(reason: str) -> StyleFit:
    return StyleFit((), 0, 0, None, reason)


def slice_names(item: ItemRow) -> list[str]:
    """The slices an item stands in: its kind, its split, its prompt's length, and what its context says."""
    words = len(prompt_text(item.prompt).split())
    length = "short" if words <= 12 else "medium" if words <= 60 else "long"
    names = [f"kind: {item.kind}", f"prompt: {length}"]
    context: Mapping[str, Any] = item.context
    names += [f"{key}: {context[key]}" for key in SLICE_KEYS if isinstance(context.get(key), str)]
    return names


def _slices(judged: Judged, rows: Sequence[PairVote]) -> SliceTable:
    """Agreement with the others' majority in each slice against the rest.

    One verdict an item is counted (the first that others share), because verdicts on one item stand or fall together.
    """
    right = agrees_with_others(rows)
    once: dict[str, bool] = {}
    for place, agrees in right.items():
        once.setdefault(rows[place].item, agrees)
    names = {name for item in once for name in slice_names(judged.items[item])}
    gaps = []
    for name in sorted(names):
        label = ["in" if name in slice_names(judged.items[item]) else "out" for item in once]
        gaps += [(name, gap) for gap in slice_gaps(list(once.values()), label) if gap.name == "in"]
    decisions = benjamini_hochberg([gap.p for _, gap in gaps])
    return SliceTable(
        "share of items where a verdict agrees with the majority of the others",
        len(once),
        tuple(
            SliceRow(name, gap.share, gap.rest, gap.total, gap.p, stands_out)
            for (name, gap), stands_out in zip(gaps, decisions, strict=True)
        ),
    )


def _fatigue(judged: Judged, rows: Sequence[PairVote]) -> FatigueFit:
    positions = session_positions(judged.judgments)
    right = agrees_with_others(rows)
    if len(right) < 30:
        return FatigueFit(None, f"{len(right)} verdicts shared with others are too few; it needs 30")
    shared = [rows[place] for place in right]
    try:
        slope = fatigue(
            list(right.values()), [positions[vote.judgment] for vote in shared], [vote.annotator for vote in shared]
        )
    except ShapeError as error:
        return FatigueFit(None, error.what)
    return FatigueFit(slope, "")
