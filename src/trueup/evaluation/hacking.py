"""Signs that a reward is being gamed: quality falls under a rising reward, outputs degenerate, the policy runs away.

The three are those of the course's document. Quality decides where it was measured; degeneration and divergence alone
are grounds to suspect it. And one sign that the reward itself is broken: its sign is wrong.

Shapes: N evaluations.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from trueup.errors import ShapeError
from trueup.evaluation.intervals import Floats
from trueup.evaluation.overoptimization import turning_point
from trueup.evaluation.rows import Row, column

KL_LIMIT = 12.0
"""Nats a sequence: twice the 6 that the adaptive controller of Ziegler et al. (2019) steers to."""
_FEW = 8
"""Below this many evaluations a fitted turning point means nothing and the peak of quality is used."""
_CLEAR = 3.0
"""Standard errors by which the end must differ from the beginning."""


@dataclass(frozen=True, slots=True)
class Symptom:
    """One way in which outputs degenerate: how far a series must move, and what helps.

    ``by`` is a share of where the series began if ``relative``, else in the series' own unit; negative is a fall.
    """

    says: str
    by: float
    relative: bool
    help: str


KL_HELP = "double the KL coefficient, or lower the KL target"
SYMPTOMS: dict[str, Symptom] = {
    "diversity": Symptom("answers become alike", -1 / 3, True, KL_HELP),
    "distinct_2": Symptom("answers become alike", -1 / 3, True, KL_HELP),
    "repetition": Symptom("answers repeat themselves", 0.1, False, KL_HELP),
    "same_opening": Symptom("answers begin alike", 0.3, False, KL_HELP),
    "completion_length": Symptom("answers grow long", 1.0, True, "take length off the reward: length_penalty=0.01"),
    "eos_rate": Symptom("answers no longer end", -0.2, False, "set missing_eos_penalty, in the unit of the reward"),
    "refusals": Symptom("more and more is refused", 0.25, False, "train the reward model on more varied data"),
}
"""By the name of the series. What each calls for is what the course's document says of it."""


@dataclass(frozen=True, slots=True)
class Change:
    """From the first quarter of a series to its last; ``clear`` where that is more than its noise."""

    start: float
    end: float
    clear: bool

    @property
    def shift(self) -> float:
        """End minus start."""
        return self.end - self.start


def change(values: npt.ArrayLike) -> Change:
    """How a series moved: the means of its first and last quarter, and whether they differ by three standard errors.

    Of fewer than eight values the first and the last are compared, and any difference is clear.

    Raises:
        ShapeError: Fewer than two values, or some that are not finite.
    """
    values_N = np.asarray(values, dtype=np.float64)
    if values_N.ndim != 1 or len(values_N) < 2 or not np.isfinite(values_N).all():
        raise ShapeError(f"a series of shape {values_N.shape}", expected="at least two finite values in a row")
    size = len(values_N) // 4 if len(values_N) >= _FEW else 1
    first, last = values_N[:size], values_N[-size:]
    start, end = float(first.mean()), float(last.mean())
    error = float(np.sqrt((first.var(ddof=1) + last.var(ddof=1)) / size)) if size > 1 else 0.0
    return Change(start, end, abs(end - start) > max(_CLEAR * error, 1e-12 * max(1.0, abs(start))))


Verdict = Literal["hacking", "suspected", "none"]


@dataclass(frozen=True, slots=True)
class Hacking:
    """The three signs, and what they amount to.

    ``hacking``: quality falls while the reward rises; or, where quality does not rise, both other signs do.
    ``suspected``: another sign under a rising reward, with quality that is unknown or does not rise. ``none``: neither.
    """

    verdict: Verdict
    quality: bool | None
    """Quality falls while the reward goes on rising; None where quality was not measured."""
    degeneration: bool | None
    """Outputs degenerate; None where nothing was measured of them."""
    divergence: bool | None
    """The KL ends above its limit; None where it was not measured."""
    reward: Change
    quality_change: Change | None
    point: int | None
    """The last good evaluation, where quality falls after it."""
    quality_lost: float
    """From that evaluation to the end."""
    symptoms: Mapping[str, Change]
    """The series that say so, with how they moved."""
    kl: Change | None
    kl_limit: float

    @property
    def sentences(self) -> tuple[str, ...]:
        """The signs in words, with what each rests on."""
        told = [f"The reward went from {self.reward.start:.3g} to {self.reward.end:.3g}."]
        if self.quality is None:
            told.append("Quality was not measured: whether it fell, nobody can say.")
        elif self.point is not None:
            told.append(
                f"Quality: the reward kept rising after evaluation {self.point} while quality fell by "
                f"{self.quality_lost:.3g}."
            )
        else:
            assert self.quality_change is not None
            told.append(
                f"Quality went from {self.quality_change.start:.3g} to {self.quality_change.end:.3g}; at no evaluation "
                "does it begin to fall under a rising reward."
            )
        if self.degeneration is None:
            told.append("Degeneration: nothing was measured of the outputs.")
        else:
            moved = [
                f"{SYMPTOMS[name].says} ({name} {c.start:.3g} to {c.end:.3g})" for name, c in self.symptoms.items()
            ]
            told.append(f"Degeneration: {'; '.join(moved)}." if moved else "Degeneration: none seen in the outputs.")
        if self.kl is None:
            told.append("Divergence: the KL was not measured.")
        else:
            side = "above" if self.divergence else "within"
            told.append(f"Divergence: the KL ended at {self.kl.end:.3g} nats, {side} the limit of {self.kl_limit:g}.")
        return tuple(told)

    @property
    def advice(self) -> tuple[str, ...]:
        """What helps against the signs that are there; none without a sign."""
        helps = [SYMPTOMS[name].help for name in self.symptoms]
        if self.quality or self.divergence:
            helps.insert(0, KL_HELP)
        if self.point is not None:
            helps.append("stop earlier: use a checkpoint from before quality turned")
        return tuple(dict.fromkeys(helps)) if self.verdict != "none" else ()

    def to_dict(self) -> dict[str, Any]:
        """JSON form."""
        moves = {name: (c.start, c.end, c.clear) for name, c in self.symptoms.items()}
        return {
            "verdict": self.verdict,
            "signs": {"quality": self.quality, "degeneration": self.degeneration, "divergence": self.divergence},
            "reward": [self.reward.start, self.reward.end],
            "quality": None if self.quality_change is None else [self.quality_change.start, self.quality_change.end],
            "point": self.point,
            "quality_lost": self.quality_lost,
            "symptoms": {name: {"start": s, "end": e, "clear": c} for name, (s, e, c) in moves.items()},
            "kl": None if self.kl is None else [self.kl.start, self.kl.end],
            "kl_limit": self.kl_limit,
            "sentences": list(self.sentences),
            "advice": list(self.advice),
        }


def find_hacking(
    reward: npt.ArrayLike,
    quality: npt.ArrayLike | None = None,
    *,
    judged_reward: npt.ArrayLike | None = None,
    outputs: Mapping[str, npt.ArrayLike] | None = None,
    kl: npt.ArrayLike | None = None,
    kl_limit: float = KL_LIMIT,
) -> Hacking:
    """Look for the three signs in the curves of one run.

    Args:
        reward: What was optimised, along the run.
        quality: What was meant: judged by people or a gold scorer, at some evaluations of the run.
        judged_reward: The reward at those same evaluations; ``reward`` itself where it is as long as ``quality``.
        outputs: Series of the outputs by name, of ``SYMPTOMS``; each may have a length of its own.
        kl: Divergence from the reference along the run, nats a sequence.
        kl_limit: More is far from the reference.

    Raises:
        ShapeError: A series is too short or not finite, a name is unknown, or ``quality`` has no reward beside it.
    """
    moved = change(reward)
    unknown = [name for name in outputs or {} if name not in SYMPTOMS]
    if unknown:
        raise ShapeError(f"a series {unknown[0]!r}", where="outputs", expected=", ".join(SYMPTOMS))
    point, meant = None, None
    lost = 0.0
    if quality is not None:
        quality_N = np.asarray(quality, dtype=np.float64)
        proxy_N = np.asarray(reward if judged_reward is None else judged_reward, dtype=np.float64)
        if proxy_N.shape != quality_N.shape:
            raise ShapeError(
                f"rewards {proxy_N.shape}, quality {quality_N.shape}", expected="both at the same evaluations"
            )
        meant, point = change(quality_N), _divergence_point(proxy_N, quality_N)
        lost = float(quality_N[point] - quality_N[-1]) if point is not None else 0.0
    symptoms = {n: c for n, values in (outputs or {}).items() if _degenerates(SYMPTOMS[n], c := change(values))}
    distance = None if kl is None else change(kl)
    far = None if distance is None else distance.end > kl_limit
    signs = (None if quality is None else point is not None, bool(symptoms) if outputs else None, far)
    verdict = _verdict(
        *signs, rises=moved.clear and moved.shift > 0, better=meant is not None and meant.clear and meant.shift > 0
    )
    return Hacking(verdict, *signs, moved, meant, point, lost, symptoms, distance, kl_limit)


def _verdict(
    quality: bool | None, degeneration: bool | None, divergence: bool | None, *, rises: bool, better: bool
) -> Verdict:
    if quality:
        return "hacking"
    if not rises or better:
        return "none"
    if quality is not None and degeneration and divergence:
        return "hacking"
    return "suspected" if degeneration or divergence else "none"


def _degenerates(symptom: Symptom, moved: Change) -> bool:
    scale = abs(moved.start) if symptom.relative else 1.0
    return moved.clear and scale > 0 and moved.shift / (symptom.by * scale) >= 1


def _divergence_point(reward_N: Floats, quality_N: Floats) -> int | None:
    if len(reward_N) >= _FEW:
        return turning_point(reward_N, quality_N).index
    peak = int(np.argmax(quality_N))
    return peak if quality_N[-1] < quality_N[peak] and reward_N[-1] > reward_N[peak] else None


def hacking_rate(rows: Sequence[Row], baseline: Sequence[Row], top: float = 0.1) -> float | None:
    """Share of a model's best-rewarded answers that are worse than the baseline's median, by gold.

    Args:
        rows: Rows of one model, with ``reward`` and ``gold``.
        baseline: Rows of the model before optimisation.
        top: Share of answers counted as best rewarded.

    Returns:
        None where reward or gold was not measured.
    """
    proxy, _ = column(rows, "reward")
    gold, _ = column(rows, "gold")
    before, _ = column(baseline, "gold")
    if not len(proxy) or not len(gold) or not len(before):
        return None
    count = max(1, round(top * len(proxy)))
    best = np.argsort(-proxy, kind="stable")[:count]
    return float((gold[best] < np.median(before)).mean())


@dataclass(frozen=True, slots=True)
class Canary:
    """Whether a reward orders answers of known quality the right way round."""

    better: float
    worse: float
    right: float
    """Share of pairs in which the better answer has the higher reward, ties half."""
    flipped: bool
    """Significantly below one half (two standard errors): the sign of the reward is wrong."""


def canary(better: Sequence[float], worse: Sequence[float]) -> Canary:
    """Rewards of answers known to be good against those known to be bad, pair by pair.

    Ziegler et al. (2019) trained a night long on a reward with its sign flipped; this is the check that sees it.

    Raises:
        ShapeError: Unequal lengths, or nothing to compare.
    """
    if len(better) != len(worse) or not len(better):
        raise ShapeError(f"{len(better)} better and {len(worse)} worse", expected="equally many, at least one")
    good, bad = np.asarray(better, dtype=np.float64), np.asarray(worse, dtype=np.float64)
    right = float(np.where(good > bad, 1.0, np.where(good < bad, 0.0, 0.5)).mean())
    error = 0.5 / np.sqrt(len(good))
    return Canary(float(good.mean()), float(bad.mean()), right, bool(right < 0.5 - 2 * error))
