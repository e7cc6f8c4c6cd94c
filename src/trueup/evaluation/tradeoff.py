"""What a method gives for its KL: paths along training, points of evaluations, best-of-n, and the fits through them.

Gold is what was wanted and proxy what was optimised; where gold is not known, the proxy is all that there is, and says
nothing of quality. KL is the sequence KL to the reference in nats; that of best-of-n is the bound log n - (n - 1) / n
and not comparable with that of training (Gao et al. 2022, arXiv 2210.10760).

Shapes: S seeds, K points along training, P prompts, N samples of a prompt.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from trueup.errors import ShapeError
from trueup.evaluation.bestofn import best_of_n, kl_bound
from trueup.evaluation.frontier import area, at_kl, pareto
from trueup.evaluation.intervals import Floats, Interval
from trueup.evaluation.overoptimization import Form, GaoFit, fit_gao
from trueup.evaluation.rows import Row, by_prompt, column, models, of_model

LEVELS = (0.5, 1.0, 2.0, 5.0, 10.0, 20.0)
"""KL in nats at which paths are compared."""
FEWEST_POINTS = 4
"""Of a fit."""
AT_REFERENCE = 1e-6
"""KL in nats below which a model is the reference itself."""
NEAR_START = 0.5
"""KL in nats up to which the first answers of a run count as those before it."""


@dataclass(frozen=True, slots=True)
class Path:
    """One variant along training: the same prompts, asked at the same steps, by each seed."""

    name: str
    steps: tuple[int, ...]
    kl_SK: Floats
    proxy_SKP: Floats
    gold_SKP: Floats | None

    def points(self) -> list[Point]:
        """Means over seeds and prompts, point by point, with the lowest and the highest seed."""
        gold_SK = None if self.gold_SKP is None else self.gold_SKP.mean(2)
        proxy_SK = self.proxy_SKP.mean(2)
        return [
            Point(
                self.name,
                float(self.kl_SK[:, k].mean()),
                _band(proxy_SK[:, k]),
                None if gold_SK is None else _band(gold_SK[:, k]),
                step,
            )
            for k, step in enumerate(self.steps)
        ]


def _band(values_S: Floats) -> tuple[float, float, float]:
    return float(values_S.mean()), float(values_S.min()), float(values_S.max())


@dataclass(frozen=True, slots=True)
class Point:
    """A place in the picture: KL, proxy and gold as (mean, low, high)."""

    name: str
    kl: float
    proxy: tuple[float, float, float]
    gold: tuple[float, float, float] | None
    step: int | None = None

    @property
    def quality(self) -> float:
        """Gold where it is known, else the proxy."""
        return self.proxy[0] if self.gold is None else self.gold[0]

    def to_dict(self) -> dict[str, Any]:
        """JSON form."""
        return {"name": self.name, "kl": self.kl, "proxy": self.proxy, "gold": self.gold, "step": self.step}


def front(points: Sequence[Point]) -> list[Point]:
    """The points that no other one of no more KL beats, by rising KL.

    A KL below 0 is noise of sampling and counts as 0: else the model at the reference would be beaten by its twin.
    """
    if not points:
        return []
    spent = [max(point.kl, 0.0) for point in points]
    envelope = pareto(spent, [point.quality for point in points])
    kept = set(zip(envelope.kl, envelope.quality, strict=True))
    best = (point for point, kl in zip(points, spent, strict=True) if (kl, point.quality) in kept)
    return sorted(best, key=lambda point: point.kl)


def at_equal_kl(paths: Sequence[Path]) -> tuple[list[float], dict[str, list[float | None]], dict[str, float | None]]:
    """Paths compared where they spent the same: levels of KL, the quality of each at them (None outside its range), and
    its mean height over the range that all have (None where there is none). Envelopes are taken, so that KL which
    comes back does not count twice."""
    envelopes = {path.name: pareto([p.kl for p in path.points()], [p.quality for p in path.points()]) for path in paths}
    levels = [level for level in LEVELS if any(at_kl(line, level) is not None for line in envelopes.values())]
    heights: dict[str, float | None] = dict.fromkeys(envelopes)
    if envelopes:
        low = max(line.kl[0] for line in envelopes.values())
        high = min(line.kl[-1] for line in envelopes.values())
        if low < high:
            heights = {name: area(line, low, high) for name, line in envelopes.items()}
    return levels, {name: [at_kl(line, level) for level in levels] for name, line in envelopes.items()}, heights


def fit_points(kl: npt.ArrayLike, gain: npt.ArrayLike, form: Form) -> GaoFit | None:
    """The law of Gao et al. through gains of gold over the start; None with fewer than 4 points or 3 distances.

    Sampled KL can be slightly below 0 near the start; such points count as KL 0.
    """
    d_N = np.sqrt(np.maximum(np.asarray(kl, dtype=np.float64), 0.0))
    if len(d_N) < FEWEST_POINTS or len(np.unique(d_N[d_N > 0])) < 3:
        return None
    return fit_gao(d_N, gain, form)


def path_gains(path: Path) -> tuple[Floats, Floats] | None:
    """KL [S K] and gain of gold [S K] over each seed's first answers, flattened; None where they are not near the start
    or gold is not known."""
    if path.gold_SKP is None or float(path.kl_SK[:, 0].max()) > NEAR_START:
        return None
    gold_SK = path.gold_SKP.mean(2)
    return path.kl_SK.ravel(), (gold_SK - gold_SK[:, :1]).ravel()


@dataclass(frozen=True, slots=True)
class BestOfN:
    """Best of n by the proxy, at the bound of its KL."""

    n: int
    kl: float
    proxy: Interval
    gold: Interval | None

    def to_dict(self) -> dict[str, Any]:
        """JSON form."""
        gold = self.gold.to_dict() if self.gold else None
        return {"n": self.n, "kl": self.kl, "proxy": self.proxy.to_dict(), "gold": gold}


def best_of_n_curve(rows: Sequence[Row]) -> list[BestOfN]:
    """The curve of one model that answered each prompt several times: n = 1, 2, 4, ... and N. Empty with one answer.

    Raises:
        ShapeError: Prompts have different numbers of answers.
    """
    groups = list(by_prompt(rows).values())
    counts = {len(group) for group in groups}
    if not groups or max(counts) < 2:
        return []
    if len(counts) > 1:
        raise ShapeError(
            f"prompts have {min(counts)} to {max(counts)} answers", where="best-of-n", expected="as many of each"
        )
    samples = counts.pop()
    proxy_PN = np.stack([column(group, "reward")[0] for group in groups])
    golds = [column(group, "gold")[0] for group in groups]
    gold_PN = np.stack(golds) if all(len(values) for values in golds) else None
    sizes = sorted({min(2**power, samples) for power in range(samples.bit_length() + 1)})
    return [
        BestOfN(
            n,
            kl_bound(n),
            best_of_n(proxy_PN, proxy_PN, n),
            None if gold_PN is None else best_of_n(proxy_PN, gold_PN, n),
        )
        for n in sizes
    ]


def reference_of(rows: Sequence[Row]) -> str | None:
    """The model of an evaluation from which KL was measured: the one whose own KL is 0. None where KL was not."""
    for name in models(rows):
        values, _ = column(of_model(rows, name), "kl")
        if len(values) and float(np.abs(values).max()) < AT_REFERENCE:
            return name
    return None


def best_of(rows: Sequence[Row]) -> list[BestOfN]:
    """Best-of-n from the reference's answers, where each prompt was answered several times."""
    start = reference_of(rows)
    own = of_model(rows, start) if start is not None else []
    return best_of_n_curve(own) if own and len(column(own, "reward")[0]) else []
