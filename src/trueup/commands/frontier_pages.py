"""The page of a frontier: the picture, its points, and what follows in words."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from trueup.commands.frontier_data import Tradeoff
from trueup.evaluation.frontier import reward_vs_root_kl
from trueup.evaluation.overoptimization import MIN_SEGMENT, Form, GaoFit, TurningInterval, turning_interval
from trueup.evaluation.tradeoff import Path, Point, at_equal_kl, fit_points, front, path_gains
from trueup.reports.figures import Figure, Series, over_root_kl
from trueup.reports.page import Page, Section, ShowsPage, Table, number

REFERENCE = "best of n, reference"
NO_GOLD = (
    "Gold is not known here: what is drawn is the reward that was optimised. A path that rises says that it was "
    "optimised, not that answers became better"
)
JUDGE = "; judge with --gold, or with another reward by trueup evaluate."
NO_ANSWERS = "; --gold has no answers here to judge: runs need probes, or trueup evaluate answers held-out prompts."
EXPLAINED = (
    "KL is that to the reference, nats per sequence. Along training: means over the run's fixed prompts, the band from "
    "the lowest to the highest seed. Dots are evaluations on held-out prompts with 95 % intervals over seeds and "
    "prompts. KL of best-of-n is its bound log n - (n - 1) / n, and not comparable with that of training.",
)


ENDS = "Where they end"
"""Heading of the table that the terminal shows."""


@dataclass(frozen=True, slots=True, repr=False)
class Frontier(ShowsPage):
    """What is gained for how much KL; in a notebook it shows its page."""

    tradeoff: Tradeoff
    """What was measured: paths along training, evaluations, best-of-n."""
    front: tuple[Point, ...]
    """The points that no other one of no more KL beats, by rising KL."""
    turns: Mapping[str, TurningInterval]
    """By path: where gold begins to fall while the reward rises."""
    fits: Mapping[str, GaoFit]
    """By what they go through: the laws of Gao et al."""
    page: Page

    def to_dict(self) -> dict[str, Any]:
        """As in ``summary.json``."""
        return dict(self.page.data)


def frontier_of(tradeoff: Tradeoff, again: str, *, judged: bool = False) -> Frontier:
    """What follows from what was measured, and its page, with the command that makes it; empty where none can.
    ``judged`` says whether a truth was given."""
    points = [*(point for path in tradeoff.paths for point in path.points()), *tradeoff.ends]
    turns = {path.name: turn for path in tradeoff.paths if (turn := turn_of(path)) is not None}
    fits = {**fits_of(tradeoff)}
    best_front = front(tradeoff.ends or points)
    verdict = (*sentences(tradeoff, best_front, turns, fits, judged=judged), *tradeoff.notes)
    figure = frontier_figure(tradeoff, turns)
    table = points_table([*(path.points()[-1] for path in tradeoff.paths), *tradeoff.ends], best_front)
    sections = [Section("Quality and reward over KL", EXPLAINED, None, figure), Section(ENDS, (), table)]
    if len(tradeoff.paths) > 1:
        sections.append(Section("At equal KL", (EQUAL,), equal_table(tradeoff)))
    if tradeoff.best:
        sections.append(
            Section("Best of n", ("The reference's own answers, the best of n by the reward.",), _best(tradeoff))
        )
    if fits:
        sections.append(Section("Fits of Gao et al.", (LAWS,), _fits(fits)))
    sections.append(Section("Along training", (), points_table([p for p in points if p.step is not None], [])))
    sections += [Section("Do it again", (), commands=(again,))] if again else []
    data = {
        "points": [point.to_dict() for point in points],
        "front": [point.to_dict() for point in best_front],
        "turning_points": {name: turn.to_dict() for name, turn in turns.items()},
        "fits": {name: fit.to_dict() for name, fit in fits.items()},
        "best_of_n": [one.to_dict() for one in tradeoff.best],
    }
    page = Page("Reward over KL", verdict, tuple(sections), data)
    return Frontier(tradeoff, tuple(best_front), turns, fits, page)


EQUAL = (
    "The best that was had for no more KL, along training, between points in a line. A dash is where nothing was "
    "measured, or where more KL bought nothing. The mean height is over the range of KL that all have."
)
LAWS = (
    "d = sqrt(KL), gain of gold over the reference (or over a run's first answers). Training: d (alpha - beta ln d); "
    "best-of-n: d (alpha - beta d). 95 % intervals resample points, which are not independent along a run."
)


def turn_of(path: Path) -> TurningInterval | None:
    """Where gold turns over along a path; the points are steps, since KL may fall back. None without gold."""
    if path.gold_SKP is None or len(path.steps) < MIN_SEGMENT:
        return None
    return turning_interval(path.proxy_SKP, path.gold_SKP, path.steps)


def fits_of(tradeoff: Tradeoff) -> dict[str, GaoFit]:
    """The laws through everything whose gain of gold is known, by what they go through."""
    fits: dict[str, GaoFit] = {}
    gains = [pair for pairs in tradeoff.gains.values() for pair in pairs]
    tracks = [track for path in tradeoff.paths if (track := path_gains(path)) is not None]
    gold = [one for one in tradeoff.best if one.gold is not None]
    sources: list[tuple[str, Form, Any, Any]] = [
        ("evaluations", "rl", [kl for kl, _ in gains], [gained for _, gained in gains]),
        (
            "along training",
            "rl",
            np.concatenate([kl for kl, _ in tracks]) if tracks else [],
            np.concatenate([gained for _, gained in tracks]) if tracks else [],
        ),
        (
            "best-of-n",
            "bon",
            [one.kl for one in gold],
            [one.gold.estimate - gold[0].gold.estimate for one in gold if one.gold and gold[0].gold],
        ),
    ]
    for name, form, kl, gained in sources:
        if (fit := fit_points(kl, gained, form)) is not None:
            fits[name] = fit
    return fits


def sentences(
    tradeoff: Tradeoff,
    best_front: Sequence[Point],
    turns: dict[str, TurningInterval],
    fits: dict[str, GaoFit],
    *,
    judged: bool,
) -> Iterator[str]:
    """What the picture says."""
    known = any(point.gold is not None for point in best_front)
    if not known:
        yield NO_GOLD + (NO_ANSWERS if judged else JUDGE)
    if best_front:
        named = ", ".join(f"{p.name} ({_at(p)}{p.quality:.3f} at {p.kl:.2f} nats)" for p in best_front)
        yield f"On the front by {'gold' if known else 'the reward'}: {named}."
        if left := [p.name for p in tradeoff.ends if p not in best_front]:
            yield f"Beaten at no more KL: {', '.join(left)}. Their intervals may overlap; the front goes by means."
    for path in tradeoff.paths:
        yield from _turn(path, turns.get(path.name))
        line = reward_vs_root_kl(path.kl_SK.mean(0), path.proxy_SKP.mean((0, 2)))
        if line is not None and line.r2 is not None:
            yield f"{path.name}: the reward goes in a line with sqrt(KL) to {line.r2:.0%} of its variance."
    reach = max((p.kl for path in tradeoff.paths for p in path.points()), default=0.0)
    reach = max([reach, *(point.kl for point in tradeoff.ends), *(one.kl for one in tradeoff.best)])
    for name, fit in fits.items():
        yield _peak(name, fit, reach)


def _peak(name: str, fit: GaoFit, reach: float) -> str:
    if not fit.beta.above(0) or fit.peak_d is None or fit.peak_gain is None:
        return f"The law through {name} does not say that gold turns over: beta may be 0."
    if fit.peak_d**2 > reach:
        return f"The law through {name} bends, but not within the {reach:.2f} nats that were measured."
    return f"The law through {name} has its peak at {fit.peak_d**2:.2f} nats, {fit.peak_gain:+.3f} gold over the start."


def _at(point: Point) -> str:
    return "" if point.step is None else f"step {point.step}, "


def _turn(path: Path, turn: TurningInterval | None) -> Iterator[str]:
    if turn is None:
        if path.gold_SKP is not None:
            yield f"{path.name}: too few points to say whether gold turns over."
        return
    if turn.point.index is None or turn.at is None:
        yield f"{path.name}: no over-optimisation found: gold does not fall while the reward rises."
        return
    kl = float(path.kl_SK.mean(0)[turn.point.index])
    bounds = (
        f"95 % interval step {turn.at.low:.0f} to {turn.at.high:.0f}"
        if turn.at.known
        else turn.at.method.removeprefix("none: ")
    )
    start = "from the first answers on" if turn.point.index == 0 else f"from step {turn.at.estimate:.0f} on"
    yield (
        f"{path.name}: over-optimisation {start} ({bounds}), at {kl:.2f} nats: the reward rises while gold falls, "
        f"by {turn.point.gold_lost or 0.0:.3f} until the end."
    )


def frontier_figure(tradeoff: Tradeoff, turns: dict[str, TurningInterval]) -> Figure:
    """Gold and reward over KL, one panel each; only the reward where gold is not known."""
    golden = any(p.gold is not None for p in tradeoff.ends) or any(p.gold_SKP is not None for p in tradeoff.paths)
    panels = [("gold", _series(tradeoff, "gold"))] if golden else []
    panels.append(("reward (proxy)", _series(tradeoff, "proxy")))
    marks = [
        float(path.kl_SK.mean(0)[turns[path.name].point.index])
        for path in tradeoff.paths
        if path.name in turns and turns[path.name].point.index is not None
    ]
    caption = "Lines are training, dots evaluations, the dashed line is best-of-n; dotted: where gold turns over."
    return over_root_kl("frontier", "What is gained for how much KL", caption, panels, marks)


def _series(tradeoff: Tradeoff, field: str) -> list[Series]:
    drawn = []
    for path in tradeoff.paths:
        points = [point for point in path.points() if getattr(point, field) is not None]
        drawn.append(_line(path.name, points, field)) if points else None
    for point in tradeoff.ends:
        if (bounds := getattr(point, field)) is not None:
            middle, low, high = bounds
            drawn.append(Series(point.name, (point.kl,), (middle,), (low,), (high,), line=False))
    best = [(one.kl, getattr(one, field)) for one in tradeoff.best if getattr(one, field) is not None]
    if best:
        x, y = tuple(kl for kl, _ in best), tuple(interval.estimate for _, interval in best)
        drawn.append(Series(REFERENCE, x, y, dashed=True))
    return drawn


def _line(name: str, unordered: Sequence[Point], field: str) -> Series:
    """By KL, not by step: where KL comes back, the picture is of what was had for it."""
    points = sorted(unordered, key=lambda point: point.kl)
    bands = [getattr(point, field) for point in points]
    x = tuple(point.kl for point in points)
    middle, low, high = (tuple(float(band[i]) for band in bands) for i in range(3))
    return Series(name, x, middle, low, high)


def points_table(points: Sequence[Point], best_front: Sequence[Point]) -> Table:
    """One line a point."""
    rows = tuple(
        (
            point.name,
            "evaluation" if point.step is None else f"step {point.step}",
            number(point.kl, 2),
            *(_cell(point.gold)),
            *(_cell(point.proxy)),
            "yes" if point in best_front else "",
        )
        for point in points
    )
    return Table(("variant", "measured", "KL", "gold", "from - to", "reward", "from - to ", "on the front"), rows)


def equal_table(tradeoff: Tradeoff) -> Table:
    """One line a path: its quality at levels of KL, and its mean height over the range that all have."""
    levels, qualities, heights = at_equal_kl(tradeoff.paths)
    rows = tuple((name, *map(number, values), number(heights[name])) for name, values in qualities.items())
    return Table(("variant", *(f"{level:g} nats" for level in levels), "mean height"), rows)


def _cell(bounds: tuple[float, float, float] | None) -> tuple[str, str]:
    if bounds is None:
        return "–", "–"
    middle, low, high = bounds
    return number(middle), f"{number(low)} to {number(high)}" if low < high else "–"


def _best(tradeoff: Tradeoff) -> Table:
    rows = tuple(
        (str(one.n), number(one.kl, 2), number(one.gold.estimate if one.gold else None), number(one.proxy.estimate))
        for one in tradeoff.best
    )
    return Table(("n", "KL at most", "gold", "reward"), rows)


def _fits(fits: dict[str, GaoFit]) -> Table:
    rows = tuple(
        (
            name,
            fit.form,
            *(f"{number(i.estimate)} ({number(i.low)} to {number(i.high)})" for i in (fit.alpha, fit.beta)),
            number(fit.r2),
            number(fit.peak_d**2 if fit.peak_d is not None and fit.peak_d < 1e3 else None, 2),
            number(fit.peak_gain if fit.peak_d is not None and fit.peak_d < 1e3 else None),
        )
        for name, fit in fits.items()
    )
    return Table(("through", "law", "alpha", "beta", "R2", "peak at KL", "gain there"), rows)
