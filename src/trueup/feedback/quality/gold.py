"""Hidden gold items: an annotator's accuracy with an interval, and a test that may be looked at after every answer.

A fixed rule such as "five failures and out" fails good people in the end, because everybody fails five times. The
test here is an e-value: the likelihood of the record under some accuracy below the bar, mixed over accuracies, divided
by its likelihood at the bar. By Ville's inequality the chance that it *ever* exceeds 1 / alpha for somebody at or above
the bar is at most alpha (Shafer et al. 2011; Ramdas et al. 2023).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache
from typing import Any

from scipy import special, stats

from trueup.errors import ShapeError


@dataclass(frozen=True, slots=True)
class GoldRecord:
    """What the gold items say of one annotator."""

    answered: int
    correct: int
    low: float | None
    high: float | None
    evidence: float
    """E-value against "accuracy is at least the bar": above 1 / alpha the bar is refuted."""
    verdict: str
    """``below the bar``, ``no evidence against`` or ``too few``."""

    @property
    def accuracy(self) -> float | None:
        """Share of right answers; None where nothing was answered."""
        return self.correct / self.answered if self.answered else None

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values: the fields and the accuracy."""
        return asdict(self) | {"accuracy": self.accuracy}


def wilson_interval(successes: int, total: int, cover: float = 0.95) -> tuple[float, float]:
    """Wilson score interval of a proportion (Wilson 1927).

    Raises:
        ShapeError: There are no trials, or more successes than trials.
    """
    if total <= 0 or not 0 <= successes <= total:
        raise ShapeError(
            f"{successes} of {total}", where="wilson_interval", expected="0 <= successes <= total, total > 0"
        )
    z = _deviate(cover)
    share = successes / total
    centre = (share + z * z / (2 * total)) / (1 + z * z / total)
    half = z / (1 + z * z / total) * math.sqrt(share * (1 - share) / total + z * z / (4 * total * total))
    return max(0.0, centre - half), min(1.0, centre + half)


@lru_cache(maxsize=16)
def _deviate(cover: float) -> float:
    return float(stats.norm.ppf((1 + cover) / 2))


def evidence_below(outcomes: Sequence[bool], bar: float) -> float:
    """E-value against an accuracy of ``bar`` or more after these answers, in order; valid at any stopping time.

    The alternative is uniform on (0, bar): its marginal likelihood of s successes in n is an incomplete beta function.
    Where the true accuracy is above the bar, the e-value is smaller still in expectation.
    """
    if not 0.0 < bar < 1.0:
        raise ShapeError(f"{bar}", where="bar", expected="an accuracy strictly between 0 and 1")
    right, wrong = sum(outcomes), len(outcomes) - sum(outcomes)
    inside = float(special.betainc(right + 1, wrong + 1, bar))
    if inside == 0.0:
        return 0.0
    log_marginal = float(special.betaln(right + 1, wrong + 1)) + math.log(inside) - math.log(bar)
    return math.exp(min(700.0, log_marginal - right * math.log(bar) - wrong * math.log1p(-bar)))


def gold_record(outcomes: Sequence[bool], *, bar: float = 0.6, alpha: float = 0.01, least: int = 4) -> GoldRecord:
    """The record of one annotator.

    Args:
        outcomes: Right or wrong on each gold item, in order of time.
        bar: Accuracy that people of good will reach; low, because gold on real texts is disputed too.
        alpha: Chance to ever call somebody at the bar below it.
        least: Fewer answers than this are never judged.
    """
    answered, correct = len(outcomes), sum(outcomes)
    evidence = evidence_below(outcomes, bar) if outcomes else 1.0
    low, high = wilson_interval(correct, answered) if answered else (None, None)
    verdict = "too few" if answered < least else "below the bar" if evidence > 1 / alpha else "no evidence against"
    return GoldRecord(answered, correct, low, high, evidence, verdict)
