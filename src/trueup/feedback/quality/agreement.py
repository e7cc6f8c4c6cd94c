"""Agreement between annotators, corrected for chance. What is undefined is None with a reason, never NaN and never 1.

A *unit* is the list of values that one item received; its length is the number of annotators who judged it. Values are
category codes 0..K-1 (ordered for the ordinal level) or numbers (interval level).

Shapes: U units, K categories.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import numpy as np
import numpy.typing as npt
from scipy import stats

from trueup.errors import ShapeError

Level: TypeAlias = Literal["nominal", "ordinal", "interval"]
Units: TypeAlias = Sequence[Sequence[float]]
Floats: TypeAlias = npt.NDArray[np.float64]

ONE_CATEGORY = "undefined: only one category used"
ONE_CATEGORY_SHARED = "undefined: only one category used on items that two or more judged"


@dataclass(frozen=True, slots=True)
class AgreementCoefficient:
    """One coefficient: its value and 95 % interval, or the reason why there is none."""

    name: str
    value: float | None
    low: float | None = None
    high: float | None = None
    reason: str = ""
    units: int = 0
    """Items with at least one value."""
    pairable: int = 0
    """Values on items that two or more annotators judged."""

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values: the coefficient without the counts, which belong to the units."""
        return {"name": self.name, "value": self.value, "low": self.low, "high": self.high, "reason": self.reason}


def raw_agreement(units: Units) -> AgreementCoefficient:
    """Share of annotator pairs that agree, averaged over items with two or more values."""
    shares = [_pair_share(unit) for unit in units if len(unit) > 1]
    return _coefficient("raw agreement", units, float(np.mean(shares)) if shares else None, _few(units))


def krippendorff_alpha(units: Units, level: Level = "nominal") -> AgreementCoefficient:
    """Krippendorff's alpha = 1 - observed / expected disagreement; any number of annotators, gaps allowed.

    Source: Krippendorff, Content Analysis (2004), chapter 11; ordinal and interval differences as given there.
    """
    shared = [np.asarray(unit, dtype=np.float64) for unit in units if len(unit) > 1]
    if not shared:
        return _coefficient("alpha", units, None, _few(units))
    values = np.unique(np.concatenate(shared))
    if len(values) == 1:
        return _coefficient("alpha", units, None, _one_category(units))
    place = {float(v): i for i, v in enumerate(values)}
    together_KK = np.zeros((len(values), len(values)))
    for unit in shared:
        counts_K = np.bincount([place[float(v)] for v in unit], minlength=len(values)).astype(np.float64)
        together_KK += (np.outer(counts_K, counts_K) - np.diag(counts_K)) / (len(unit) - 1)
    total_K = together_KK.sum(1)
    distance_KK = _distance(values, total_K, level)
    n = total_K.sum()
    expected = float((np.outer(total_K, total_K) * distance_KK).sum()) / (n - 1)
    observed = float((together_KK * distance_KK).sum())
    return _coefficient("alpha", units, 1.0 - observed / expected)


def gwet_ac1(units: Units, categories: int | None = None) -> AgreementCoefficient:
    """Gwet's AC1 for nominal values and any number of annotators; it does not collapse when one category is common.

    Source: Gwet 2008, "Computing inter-rater reliability and its variance in the presence of high agreement".
    """
    shared = [unit for unit in units if len(unit) > 1]
    if not shared:
        return _coefficient("AC1", units, None, _few(units))
    codes = sorted({v for unit in units for v in unit})
    count = max(categories or 0, len(codes))
    if count < 2:
        return _coefficient("AC1", units, None, ONE_CATEGORY)
    judged = [unit for unit in units if unit]
    prevalence_K = np.array([np.mean([sum(v == code for v in unit) / len(unit) for unit in judged]) for code in codes])
    chance = float((prevalence_K * (1 - prevalence_K)).sum()) / (count - 1)
    observed = float(np.mean([_pair_share(unit) for unit in shared]))
    return _coefficient("AC1", units, (observed - chance) / (1 - chance))


def fleiss_kappa(units: Units) -> AgreementCoefficient:
    """Fleiss' kappa (Fleiss 1971). It is defined for equally many values on every item; alpha takes the rest.

    Raises:
        ShapeError: Items have different numbers of values.
    """
    sizes = {len(unit) for unit in units}
    if len(sizes) > 1:
        raise ShapeError(
            f"items have {min(sizes)} to {max(sizes)} values",
            where="fleiss_kappa",
            expected="the same number on each item",
            fix="use krippendorff_alpha, which allows gaps",
        )
    if not units or sizes <= {0, 1}:
        return _coefficient("Fleiss kappa", units, None, _few(units))
    codes = sorted({v for unit in units for v in unit})
    share_K = np.array([sum(v == code for unit in units for v in unit) for code in codes], dtype=np.float64)
    share_K /= share_K.sum()
    chance = float((share_K**2).sum())
    if chance == 1.0:
        return _coefficient("Fleiss kappa", units, None, ONE_CATEGORY)
    observed = float(np.mean([_pair_share(unit) for unit in units]))
    return _coefficient("Fleiss kappa", units, (observed - chance) / (1 - chance))


def cohen_kappa(
    first: Sequence[float], second: Sequence[float], weights: Literal["none", "linear", "quadratic"] = "none"
) -> AgreementCoefficient:
    """Cohen's kappa of two annotators on the same items (Cohen 1960; weighted: Cohen 1968).

    Args:
        first: Category codes; their order matters only with weights.
        second: The other annotator's, item by item.
        weights: How a disagreement grows with the distance of the codes.
    """
    if len(first) != len(second):
        raise ShapeError(f"{len(first)} and {len(second)} values", where="cohen_kappa", expected="one each per item")
    units = list(zip(first, second, strict=True))
    if not units:
        return _coefficient("Cohen kappa", units, None, "no item was judged by both")
    codes = sorted(set(first) | set(second))
    place = {code: i for i, code in enumerate(codes)}
    joint_KK = np.zeros((len(codes), len(codes)))
    for a, b in units:
        joint_KK[place[a], place[b]] += 1 / len(units)
    step_KK = np.abs(np.subtract.outer(np.arange(len(codes)), np.arange(len(codes)))).astype(np.float64)
    cost_KK = {"none": (step_KK > 0).astype(np.float64), "linear": step_KK, "quadratic": step_KK**2}[weights]
    expected = float((np.outer(joint_KK.sum(1), joint_KK.sum(0)) * cost_KK).sum())
    if expected == 0:
        return _coefficient("Cohen kappa", units, None, ONE_CATEGORY)
    return _coefficient("Cohen kappa", units, 1.0 - float((joint_KK * cost_KK).sum()) / expected)


def kendall_w(ranks_RK: Sequence[Sequence[float]]) -> AgreementCoefficient:
    """Kendall's W of R complete rankings of the same K things, corrected for ties (Kendall and Smith 1939)."""
    table_RK = np.asarray([stats.rankdata(row) for row in ranks_RK], dtype=np.float64)
    if table_RK.ndim != 2 or min(table_RK.shape, default=0) < 2:
        return _coefficient("Kendall W", ranks_RK, None, "needs two rankings of two things")
    raters, things = table_RK.shape
    spread = float(((table_RK.sum(0) - table_RK.sum(0).mean()) ** 2).sum())
    ties = sum(float((c**3 - c).sum()) for c in (np.unique(row, return_counts=True)[1] for row in table_RK))
    most = raters**2 * (things**3 - things) / 12 - raters * ties / 12
    if most == 0:
        return _coefficient("Kendall W", ranks_RK, None, "every ranking is one big tie")
    return _coefficient("Kendall W", ranks_RK, spread / most)


def with_interval(
    measure: Callable[[Units], AgreementCoefficient],
    units: Units,
    *,
    resamples: int = 1000,
    seed: int = 0,
    cover: float = 0.95,
) -> AgreementCoefficient:
    """``measure`` with a percentile interval from resampling *items*, never single values.

    Resamples in which the coefficient is undefined are left out; if that is more than a tenth, there is no interval.
    """
    point = measure(units)
    if point.value is None:
        return point
    draw = np.random.default_rng(seed)
    resampled = []
    for _ in range(resamples):
        value = measure([units[i] for i in draw.integers(0, len(units), len(units))]).value
        if value is not None:
            resampled.append(value)
    if len(resampled) < 0.9 * resamples:
        reason = "too few items for an interval"
        return AgreementCoefficient(point.name, point.value, None, None, reason, point.units, point.pairable)
    low, high = np.quantile(resampled, [(1 - cover) / 2, (1 + cover) / 2])
    return AgreementCoefficient(point.name, point.value, float(low), float(high), "", point.units, point.pairable)


def alpha_with_interval(
    units: Units, level: Level = "nominal", *, resamples: int = 1000, seed: int = 0, cover: float = 0.95
) -> AgreementCoefficient:
    """``with_interval`` of ``krippendorff_alpha``, the same numbers many times faster.

    Alpha depends on items only through the sum of their coincidence tables, so a resample is one row of counts times
    the table of tables.
    """
    point = krippendorff_alpha(units, level)
    if point.value is None:
        return point
    values = np.unique(np.concatenate([np.asarray(u, dtype=np.float64) for u in units if len(u) > 1]))
    place = {float(v): i for i, v in enumerate(values)}
    tables_UKK = np.zeros((len(units), len(values), len(values)))
    for u, unit in enumerate(units):
        if len(unit) > 1:
            counts_K = np.bincount([place[float(v)] for v in unit], minlength=len(values)).astype(np.float64)
            tables_UKK[u] = (np.outer(counts_K, counts_K) - np.diag(counts_K)) / (len(unit) - 1)
    draw = np.random.default_rng(seed)
    resampled = []
    for _ in range(resamples):
        times_U = np.bincount(draw.integers(0, len(units), len(units)), minlength=len(units))
        together_KK = np.tensordot(times_U, tables_UKK, axes=1)
        total_K = together_KK.sum(1)
        if (total_K > 0).sum() < 2:
            continue  # undefined, as in the point estimate
        distance_KK = _distance(values, total_K, level)
        expected = float((np.outer(total_K, total_K) * distance_KK).sum()) / (total_K.sum() - 1)
        resampled.append(1.0 - float((together_KK * distance_KK).sum()) / expected)
    if len(resampled) < 0.9 * resamples:
        reason = "too few items for an interval"
        return AgreementCoefficient(point.name, point.value, None, None, reason, point.units, point.pairable)
    low, high = np.quantile(resampled, [(1 - cover) / 2, (1 + cover) / 2])
    return AgreementCoefficient(point.name, point.value, float(low), float(high), "", point.units, point.pairable)


def _distance(values: Floats, total_K: Floats, level: Level) -> Floats:
    if level == "nominal":
        return np.asarray(values[:, None] != values[None, :], dtype=np.float64)
    if level == "interval":
        return np.asarray((values[:, None] - values[None, :]) ** 2, dtype=np.float64)
    # Ordinal: the number of values that lie between two ranks, counting each end half.
    upto_K = np.cumsum(total_K) - total_K / 2
    distance_KK: Floats = (upto_K[:, None] - upto_K[None, :]) ** 2
    return distance_KK


def _pair_share(unit: Sequence[float]) -> float:
    _, counts = np.unique(np.asarray(unit), return_counts=True)
    size = len(unit)
    return float((counts * (counts - 1)).sum()) / (size * (size - 1))


def _few(units: Sequence[Sequence[float]]) -> str:
    return "no item was judged by two annotators" if units else "nothing was judged"


def _one_category(units: Sequence[Sequence[float]]) -> str:
    """Why chance explains everything: what was judged once may have been judged otherwise."""
    return ONE_CATEGORY if len({v for unit in units for v in unit}) == 1 else ONE_CATEGORY_SHARED


def _coefficient(
    name: str, units: Sequence[Sequence[float]], value: float | None, reason: str = ""
) -> AgreementCoefficient:
    if value is not None and not math.isfinite(value):
        value, reason = None, "the values leave nothing to compare"
    return AgreementCoefficient(
        name,
        None if value is None else float(value),
        reason="" if value is not None else reason,
        units=sum(1 for unit in units if len(unit)),
        pairable=sum(len(unit) for unit in units if len(unit) > 1),
    )
