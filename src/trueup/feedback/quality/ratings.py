"""From ratings to differences: which of two rated responses is better, by how much, and is that more than noise?

People use a scale in their own ways: one gives 4 and 5 only, another 1 to 3. So each annotator's points on each axis
are centred on that annotator's mean and divided by that annotator's standard deviation, drawn towards the crowd's as if
by ``PRIOR`` more ratings (empirical Bayes, so that few ratings make no wild scale). Axes are then averaged by their
weights. Two responses are compared

- by the annotators who rated both, each against themselves, where there are any; a habit cancels exactly;
- else by everybody's place on their own scale, of those with at least ``KNOWN`` ratings, with what is unknown of a
  habit in the error.

The noise of one rating is the spread among annotators of the same response, and at least what rounding to whole points
makes of it (1/12 of a squared point). A lead that is not above its own standard error is within the noise.
The probability that the lead is real takes differences of quality as normal around 0 with their own spread.
Where no response was rated by two people the noise is unknown: only rounding is left to tell a tie, and the strength
is 1 because nothing says how sure to be.

Legend: u is a standardised rating; all leads are in standard deviations of an annotator's ratings.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import NormalDist

from trueup.errors import ConfigError, UsageError, nearest
from trueup.feedback.quality.comparisons import answer_of
from trueup.feedback.store.answers import Rating
from trueup.feedback.store.records import TRAINABLE, ItemRow, Judged

PRIOR = 4.0
"""Ratings that the crowd's spread counts as, beside an annotator's own."""
KNOWN = 5
"""Ratings of an annotator from which on their habit is known well enough to compare them with others."""
ROUNDING = 1.0 / 12.0
"""Variance that rounding to whole points adds, in squared points."""


@dataclass(frozen=True, slots=True)
class Rated:
    """One annotator's points for one response."""

    judgment: str
    item: ItemRow
    annotator: str
    points: Mapping[str, int]

    @property
    def text(self) -> str:
        """The response's text: responses of one prompt are told apart by it."""
        return self.item.responses[0].text


@dataclass(frozen=True, slots=True)
class Lead:
    """By how much one response is ahead of another, or of what is usual."""

    value: float
    """Standard deviations of an annotator's ratings; negative if it is behind."""
    error: float
    strength: float
    """Probability that the side that is ahead is the better one, in [0.5, 1]."""
    votes: int
    """Annotators it rests on."""

    @property
    def beyond_noise(self) -> bool:
        """Whether it is larger than its own standard error."""
        return abs(self.value) > self.error


def rated(judged: Judged, finals: Mapping[str, tuple[Sequence[str], Rating]] | None = None) -> list[Rated]:
    """All ratings of main and hold-out items, the newest last; what settles an item stands instead of its ratings.

    Args:
        judged: The project.
        finals: Item -> (judgments that settle it, the final rating).
    """
    settled = finals or {}
    ratings = []
    for row in judged.judgments:
        item = judged.items.get(row.item)
        if item is None or item.kind != "rating" or item.stream not in TRAINABLE:
            continue
        if item.id in settled:
            continue
        answer = answer_of(item, row)
        if isinstance(answer, Rating):
            ratings.append(Rated(row.id, item, row.annotator, answer.scores))
    for name, (origin, answer) in settled.items():
        ratings.append(Rated(origin[0], judged.items[name], "adjudication", answer.scores))
    return ratings


def weights_of_axes(rows: Sequence[Rated], axes: Mapping[str, float]) -> dict[str, float]:
    """Axis -> weight: those asked for, or all that were rated, alike.

    Raises:
        UsageError: Nobody rated such an axis.
        ConfigError: A weight is 0 or not finite.
    """
    known = sorted({axis for row in rows for axis in row.points})
    for name, weight in axes.items():
        if name not in known:
            raise UsageError(f"nobody rated {name!r}", where="axes", expected=nearest(name, known))
        if weight == 0 or not math.isfinite(weight):
            raise ConfigError(
                f"{weight}", where=f"axes.{name}", expected="a weight other than 0; below 0 if less is better"
            )
    return dict(axes) or dict.fromkeys(known, 1.0)


class Ratings:
    """The ratings of a project on one scale.

    Args:
        rows: Ratings; of several by one annotator of one text under one prompt the last counts.
        axes: Axis -> weight; a negative weight says that fewer points are better.
    """

    def __init__(self, rows: Sequence[Rated], axes: Mapping[str, float]) -> None:
        self.axes = dict(axes)
        self.counts: dict[str, int] = {}
        for row in rows:
            self.counts[row.annotator] = self.counts.get(row.annotator, 0) + 1
        self._scale = _scales(rows, axes)
        groups: dict[tuple[str, str], list[float]] = {}
        for row in rows:
            if (u := self._standard(row)) is not None:
                groups.setdefault((row.item.prompt_id, row.text), []).append(u)
        self.noise = _within(list(groups.values()))
        everything = [u for group in groups.values() for u in group]
        spread = _variance(everything)
        self.quality = max(spread - (self.noise or 0.0), 0.1 * spread)
        """Variance of the responses' quality."""

    def lead(self, first: Mapping[str, Rated], second: Mapping[str, Rated]) -> Lead | None:
        """By how much the first response is ahead of the second; None where they cannot be compared.

        Args:
            first: Ratings of the first response, by annotator.
            second: Ratings of the second response of the same prompt, by annotator.
        """
        both = [self._between(first[name], second[name]) for name in sorted(set(first) & set(second))]
        gaps = [gap for gap in both if gap is not None]
        if gaps:
            value = sum(gap for gap, _ in gaps) / len(gaps)
            rounding = sum(error for _, error in gaps) / len(gaps) ** 2
            return self._lead(value, max(2 * (self.noise or 0.0) / len(gaps), rounding), 2 * self.quality, len(gaps))
        ahead, behind = self._place(first), self._place(second)
        if self.noise is None or ahead is None or behind is None:
            return None
        return self._lead(ahead[0] - behind[0], ahead[1] + behind[1], 2 * self.quality, min(ahead[2], behind[2]))

    def over_usual(self, ratings: Mapping[str, Rated]) -> Lead | None:
        """By how much a response is ahead of what its annotators usually give; None where that is not known."""
        place = self._place(ratings)
        return None if place is None else self._lead(place[0], place[1], self.quality, place[2])

    def _lead(self, value: float, variance: float, prior: float, votes: int) -> Lead:
        error = math.sqrt(variance)
        if self.noise is None or variance == 0:
            return Lead(value, error, 1.0 if value else 0.5, votes)
        kept = prior / (prior + variance)
        return Lead(value, error, NormalDist().cdf(math.sqrt(kept) * abs(value) / error), votes)

    def _between(self, first: Rated, second: Rated) -> tuple[float, float] | None:
        """One annotator's difference of two responses on the axes that both have, and what rounding adds to it."""
        shared = [axis for axis in self.axes if axis in first.points and axis in second.points]
        if not shared:
            return None
        total = sum(abs(self.axes[axis]) for axis in shared)
        gap, rounding = 0.0, 0.0
        for axis in shared:
            _, spread = self._scale[first.annotator, axis]
            gap += self.axes[axis] * (first.points[axis] - second.points[axis]) / spread / total
            rounding += 2 * ROUNDING * (self.axes[axis] / spread / total) ** 2
        return gap, rounding

    def _place(self, ratings: Mapping[str, Rated]) -> tuple[float, float, int] | None:
        """Mean place on the annotators' own scales, its variance, and how many annotators it rests on."""
        places = [
            (u, self.counts[name])
            for name, row in sorted(ratings.items())
            if self.counts[name] >= KNOWN and (u := self._standard(row)) is not None
        ]
        if not places:
            return None
        habits = sum(1.0 / count for _, count in places) / len(places) ** 2
        rounding = (
            sum(self._rounding(ratings[name]) for name in ratings if self.counts[name] >= KNOWN) / len(places) ** 2
        )
        variance = max((self.noise or 0.0) / len(places), rounding) + habits
        return sum(u for u, _ in places) / len(places), variance, len(places)

    def _standard(self, row: Rated) -> float | None:
        scored = [axis for axis in self.axes if axis in row.points]
        total = sum(abs(self.axes[axis]) for axis in scored)
        if not scored:
            return None
        scales = {axis: self._scale[row.annotator, axis] for axis in scored}
        return sum(self.axes[a] * (row.points[a] - mean) / spread for a, (mean, spread) in scales.items()) / total

    def _rounding(self, row: Rated) -> float:
        scored = [axis for axis in self.axes if axis in row.points]
        total = sum(abs(self.axes[axis]) for axis in scored)
        return sum(ROUNDING * (self.axes[a] / self._scale[row.annotator, a][1] / total) ** 2 for a in scored)


def _scales(rows: Sequence[Rated], axes: Mapping[str, float]) -> dict[tuple[str, str], tuple[float, float]]:
    """(annotator, axis) -> (mean, standard deviation drawn towards the crowd's)."""
    points: dict[tuple[str, str], list[int]] = {}
    for row in rows:
        for axis in row.points:
            if axis in axes:
                points.setdefault((row.annotator, axis), []).append(row.points[axis])
    scales = {}
    for axis in axes:
        own = {name: values for (name, of), values in points.items() if of == axis}
        squares = {name: _variance(values) * len(values) for name, values in own.items()}
        free = sum(len(values) - 1 for values in own.values())
        pooled = sum(squares.values()) / free if free else 0.0
        crowd = pooled or _variance([v for values in own.values() for v in values]) or 1.0
        for name, values in own.items():
            spread = math.sqrt((PRIOR * crowd + squares[name]) / (PRIOR + len(values) - 1))
            scales[name, axis] = sum(values) / len(values), spread
    return scales


def _variance(values: Sequence[float]) -> float:
    """Mean squared deviation from the mean; 0 for none."""
    if not values:
        return 0.0
    mean = sum(values) / len(values)
    return sum((value - mean) ** 2 for value in values) / len(values)


def _within(groups: Sequence[Sequence[float]]) -> float | None:
    """Variance inside groups, pooled without bias; None where no group has two."""
    free = sum(len(group) - 1 for group in groups)
    return sum(_variance(group) * len(group) for group in groups) / free if free else None
