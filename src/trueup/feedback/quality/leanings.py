"""What moves a crowd's judgments besides quality: side, length, markup, values; slices that stand out; fatigue."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from statistics import median
from typing import Any

import numpy as np

from trueup.errors import ShapeError
from trueup.feedback.quality.bias import Coefficient, Share, benjamini_hochberg, first_share, logistic, slice_gaps
from trueup.feedback.quality.camps import Camps, camps
from trueup.feedback.quality.comparisons import Vote, agrees_with_others, by_annotator, session_positions, votes
from trueup.feedback.quality.drift import fatigue
from trueup.feedback.records import ItemRow, Judged
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


def bias(judged: Judged) -> dict[str, Any]:
    """Left-win rates, the pull of length and markup, slices where people agree less, fatigue, groups of values.

    Returns:
        ``{"left_wins": {"overall", "by_annotator"}, "style", "lengths", "slices", "fatigue", "camps", "verdicts",
        "simulated"}``. Rates have Wilson intervals; ``by_annotator`` and ``lengths`` have a Benjamini-Hochberg
        decision. ``style`` is a logistic regression of "the response shown first won" with standard errors robust to
        annotators, or a reason why there is none; ``lengths`` compares each annotator's pull of length with the
        others'.
    """
    rows = votes(judged)
    wins = [w for v in rows if (w := v.left_win) is not None]
    overall = first_share("all", wins)
    people = [
        first_share(name, [w for v in cast if (w := v.left_win) is not None])
        for name, cast in by_annotator(rows).items()
    ]
    tested = [one for one in people if one.p is not None]
    marked = dict(
        zip((one.name for one in tested), benjamini_hochberg([one.p or 0.0 for one in tested], 0.01), strict=True)
    )
    found: dict[str, Any] = {
        "left_wins": {
            "overall": asdict(overall),
            "by_annotator": [asdict(one) | {"stands_out": marked.get(one.name, False)} for one in people],
        },
        "style": _style(judged, rows),
        "lengths": _lengths(judged, rows),
        "slices": _slices(judged, rows),
        "fatigue": _fatigue(judged, rows),
        "camps": _camps(camps(judged)),
        "simulated": judged.simulated,
    }
    found["verdicts"] = _verdicts(found, overall)
    return found


def _style(judged: Judged, rows: Sequence[Vote]) -> dict[str, Any]:
    names = ["shown first", "log length", "markup"]
    texts = {r.id: r.text for item in judged.items.values() for r in item.responses}
    sizes = {name: (math.log(max(1, len(text.split()))), math.log1p(markup(text))) for name, text in texts.items()}
    features, outcome, clusters = [], [], []
    for vote, win, left, right in _decided(rows):
        features.append([1.0, sizes[left][0] - sizes[right][0], sizes[left][1] - sizes[right][1]])
        outcome.append(win)
        clusters.append(vote.annotator)
    if not features:
        return _none("no verdict has a known order")
    table = np.array(features)
    # A feature that never varies has no coefficient; the others still do.
    kept = [0, *(k for k in (1, 2) if float(np.ptp(table[:, k])) > 0)]
    if len(outcome) < 30:
        return _none(f"{len(outcome)} verdicts are too few for a regression; it needs 30")
    try:
        fitted = logistic(table[:, kept], np.array(outcome), clusters, [names[k] for k in kept])
    except ShapeError as error:
        return _none(error.what)
    length = next((c for c in fitted if c.name == "log length"), None)
    return {
        "coefficients": [asdict(c) for c in fitted],
        "verdicts": len(outcome),
        "annotators": len(set(clusters)),
        "twice_as_long": math.exp(length.estimate * LENGTH_MATTERS) if length else None,
        "reason": "",
    }


def _decided(rows: Sequence[Vote]) -> Iterator[tuple[Vote, float, str, str]]:
    """Votes of known order that are no ties: the vote, 1 where the response shown first won, and both in that order."""
    for vote in rows:
        win = vote.left_win
        if win is not None and win != 0.5:
            yield vote, win, *((vote.first, vote.second) if vote.shown_first else (vote.second, vote.first))


def _lengths(judged: Judged, rows: Sequence[Vote]) -> list[dict[str, Any]]:
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
        return []
    found: list[dict[str, Any]] = []
    for at, (name, own, verdicts) in enumerate(fitted):
        others = [c for k, (_, c, _) in enumerate(fitted) if k != at]
        middle = median(c.estimate for c in others)
        spread = MEDIAN_COST / math.sqrt(sum(c.error**-2 for c in others))
        z = (own.estimate - middle) / math.sqrt(own.error**2 + spread**2)
        p = math.erfc(abs(z) / math.sqrt(2))
        found.append(
            {"name": name, "estimate": own.estimate, "low": own.low, "high": own.high, "others": middle}
            | {"verdicts": verdicts, "p": p}
        )
    decisions = benjamini_hochberg([row["p"] for row in found], 0.01)
    return [row | {"stands_out": decision} for row, decision in zip(found, decisions, strict=True)]


def _camps(found: Camps) -> dict[str, Any]:
    """Groups of annotators whose values differ, as plain values."""
    if not found.groups[0]:
        return {"found": False, "between": None, "groups": [], "reason": found.reason}
    groups = [
        {"annotators": list(names), "inside": inside, "low": span[0], "high": span[1]}
        for names, inside, span in zip(found.groups, found.inside, found.excess, strict=True)
        if span is not None
    ]
    reason = "" if found.found else "no two groups that both agree more inside than with each other"
    return {
        "found": found.found,
        "between": found.between,
        "groups": groups if found.found else [],
        "reason": reason,
    }


def _none(reason: str) -> dict[str, Any]:
    return {"coefficients": [], "verdicts": 0, "annotators": 0, "twice_as_long": None, "reason": reason}


def slice_names(item: ItemRow) -> list[str]:
    """The slices an item stands in: its kind, its split, its prompt's length, and what its context says."""
    words = len(prompt_text(item.prompt).split())
    length = "short" if words <= 12 else "medium" if words <= 60 else "long"
    found = [f"kind: {item.kind}", f"prompt: {length}"]
    context: Mapping[str, Any] = item.context
    found += [f"{key}: {context[key]}" for key in SLICE_KEYS if isinstance(context.get(key), str)]
    return found


def _slices(judged: Judged, rows: Sequence[Vote]) -> dict[str, Any]:
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
    return {
        "measure": "share of items where a verdict agrees with the majority of the others",
        "items": len(once),
        "rows": [
            {"name": name, "share": gap.share, "rest": gap.rest, "items": gap.total, "p": gap.p, "stands_out": found}
            for (name, gap), found in zip(gaps, decisions, strict=True)
        ],
    }


def _fatigue(judged: Judged, rows: Sequence[Vote]) -> dict[str, Any]:
    positions = session_positions(judged.judgments)
    right = agrees_with_others(rows)
    held = [(agrees, positions[rows[place].judgment], rows[place].annotator) for place, agrees in right.items()]
    if len(held) < 30:
        return {"coefficient": None, "reason": f"{len(held)} verdicts shared with others are too few; it needs 30"}
    try:
        found = fatigue([h[0] for h in held], [h[1] for h in held], [h[2] for h in held])
    except ShapeError as error:
        return {"coefficient": None, "reason": error.what}
    return {"coefficient": asdict(found), "reason": ""}


def _verdicts(found: Mapping[str, Any], overall: Share) -> list[str]:
    """What stands out, in sentences; nothing where nothing does."""
    said = []
    if overall.p is not None and overall.p < 0.01 and overall.share is not None:
        said.append(f"The response shown first wins {overall.share:.0%} of {overall.total} verdicts: a side bias.")
    for one in found["left_wins"]["by_annotator"]:
        if one["stands_out"]:
            said.append(
                f"{one['name']} chose the response shown first in {one['share']:.0%} of {one['total']} verdicts."
            )
    for one in found["style"]["coefficients"]:
        if one["name"] != "shown first" and one["p"] < 0.01:
            wins = "more" if one["estimate"] > 0 else "less"
            what = "longer" if one["name"] == "log length" else "more marked-up"
            said.append(f"The {what} response wins {wins} often than its side explains; it may also be better.")
    for one in found["lengths"]:
        if one["stands_out"]:
            what = "longer" if one["estimate"] > one["others"] else "shorter"
            said.append(f"{one['name']} prefers {what} responses than the others do.")
    if found["camps"]["found"]:
        large, small = found["camps"]["groups"]
        said.append(
            f"Two groups of {len(large['annotators'])} and {len(small['annotators'])} annotators agree in "
            f"{large['inside']:.0%} and {small['inside']:.0%} inside and in {found['camps']['between']:.0%} with each "
            "other: their values differ. One label cannot serve both; look at the guideline before at the people."
        )
    slope = found["fatigue"]["coefficient"]
    if slope is not None and slope["p"] < 0.01 and slope["estimate"] < 0:
        said.append("Agreement with others falls along a session: people tire.")
    for row in found["slices"]["rows"]:
        if row["stands_out"] and row["share"] < row["rest"]:
            said.append(f"People agree less on {row['name']!r}: {row['share']:.0%} against {row['rest']:.0%}.")
    return said
