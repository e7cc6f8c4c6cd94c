"""What the curves of a run say, in one or two sentences; each follows from numbers that are named beside it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from trueup.evaluation.settling import Settling, settling
from trueup.ledger.alerts import target_band
from trueup.ledger.columns import Columns

SETTLES = 10
"""Steps from which on a trend is told."""
_MEAN = 5
_MOST = 2_000
"""Newest steps that are looked at."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """A headline, what it rests on, and how it looks."""

    headline: str
    reasons: tuple[str, ...]
    tone: str
    """``good``, ``watch``, ``bad`` or ``wait``."""

    def to_dict(self) -> dict[str, Any]:
        """JSON form."""
        return {"headline": self.headline, "reasons": list(self.reasons), "tone": self.tone}


def alarmed(verdict: Verdict, messages: Sequence[str]) -> Verdict:
    """The verdict of a run with open alerts: it is not healthy, whatever its curves say."""
    if not messages:
        return verdict
    return Verdict(
        f"{verdict.headline}; {'an alert is' if len(messages) == 1 else 'alerts are'} open", verdict.reasons, "bad"
    )


def penalty(config: Mapping[str, Any], columns: Columns) -> dict[str, str] | None:
    """Which of the logged KLs is penalised and where, or that none is; None for a run that logs no KL."""
    if "kl" not in columns.names:
        return None
    control, place = config.get("kl"), config.get("kl_place", "reward")
    if isinstance(control, Mapping) and control.get("kind", "fixed") == "fixed" and control.get("beta") == 0:
        return {"metric": "kl", "where": "measured, not penalised"}
    if place == "reward":
        return {"metric": "kl", "where": "penalised in the reward"}
    metric = f"kl_{place}" if f"kl_{place}" in columns.names else "kl"
    return {"metric": metric, "where": f"penalised in the loss, by {place}"}


def tell(columns: Columns, config: Mapping[str, Any]) -> Verdict:
    """The verdict on a run so far."""
    if columns.rows < SETTLES:
        return Verdict("Too early to tell", (f"{columns.rows} of the {SETTLES} steps that a trend needs.",), "wait")
    if "kl" in columns.names:
        return _online(columns, config)
    if "chosen_logratio" in columns.names:
        return _preferences(columns)
    return _supervised(columns)


@dataclass(frozen=True, slots=True)
class _Trend:
    """Where a series came from and whether it moved, by the difference of its first and last fifth."""

    start: float
    end: float
    way: int
    """1 up, -1 down, 0 within two standard errors."""


def _finite(columns: Columns, name: str) -> list[tuple[int, float]]:
    steps, values = columns.curve(name)
    return list(zip(steps[-_MOST:].tolist(), values[-_MOST:].tolist(), strict=True))


def _trend(columns: Columns, name: str) -> _Trend | None:
    values = np.array([value for _, value in _finite(columns, name)])
    if len(values) < SETTLES:
        return None
    width = max(len(values) // 5, 3)
    first, last = values[:width], values[-width:]
    error = float(np.sqrt(first.var(ddof=1) / width + last.var(ddof=1) / width))
    change = float(last.mean() - first.mean())
    way = 0 if abs(change) <= 2 * error else (1 if change > 0 else -1)
    return _Trend(float(first.mean()), float(last.mean()), way)


_VERB = {1: "rises", 0: "is flat", -1: "falls"}


def _told(name: str, trend: _Trend) -> str:
    return f"{name} {_VERB[trend.way]}: {trend.start:.3g} in the first fifth of the steps, {trend.end:.3g} in the last."


def _online(columns: Columns, config: Mapping[str, Any]) -> Verdict:
    name = "score" if "score" in columns.names else "reward"
    reward, kl = _trend(columns, name), _finite(columns, "kl")
    if reward is None or len(kl) < SETTLES:
        return Verdict("Too early to tell", ("Reward or KL has too few values.",), "wait")
    verb, reasons = _VERB[reward.way], [_told("Score before penalties" if name == "score" else "Reward", reward)]
    band = target_band(config)
    if band is None:
        moves = settling([value for _, value in kl], -np.inf, np.inf)
        pace = _pace(moves)
        reasons.append(f"KL is {moves.end:.2f} nats and {pace}; this run has no target to compare it with.")
        return Verdict(f"Reward {verb}; KL {pace}", tuple(reasons), _without_target(reward.way, moves))
    state = settling([value for _, value in kl], band["low"], band["high"])
    span = f"{band['low']:.2g} to {band['high']:.2g} nats"
    reasons.append(f"KL ended at {state.end:.2f} nats; its band is {span}, around the target {band['target']:.2g}.")
    if state.end < band["low"]:
        tail = "KL is still below its band" if (state.slope and state.slope.estimate > 0) else "KL is below its band"
        return Verdict(f"Reward {verb}, {tail}", tuple(reasons), "good" if reward.way > 0 else "watch")
    if state.end <= band["high"]:
        return Verdict(f"Reward {verb}, KL is inside its band", tuple(reasons), "good" if reward.way > 0 else "watch")
    since = _left(kl, band["high"])
    reasons.append(f"It counts as outside when its mean of {_MEAN} steps is.")
    gained = _gain_after(columns, name, since)
    if gained is None:
        return Verdict(f"KL left its band at step {since}, too recently to say what for", tuple(reasons), "watch")
    joined = "while reward still rises" if gained > 0 else "while reward gained nothing"
    return Verdict(f"KL left its band at step {since} {joined}", tuple(reasons), "watch" if gained > 0 else "bad")


def _pace(state: Settling) -> str:
    if not state.moving or state.slope is None:
        return "holds still"
    return "rises" if state.slope.estimate > 0 else "falls"


def _without_target(way: int, state: Settling) -> str:
    rising = bool(state.moving and state.slope is not None and state.slope.estimate > 0)
    if way > 0:
        return "watch" if rising else "good"
    return "bad" if rising else "watch"


def _left(kl: list[tuple[int, float]], high: float) -> int:
    """First step of the last stretch whose running mean is over the band."""
    values = np.array([value for _, value in kl])
    means = np.convolve(values, np.ones(_MEAN) / _MEAN, mode="full")[: len(values)]
    inside = np.flatnonzero(means <= high)
    return kl[min(int(inside[-1]) + 1 if len(inside) else 0, len(kl) - 1)][0]


def _gain_after(columns: Columns, name: str, step: int) -> int | None:
    """Which way a metric moved from a step on, as in ``_Trend``; None with too few steps to tell."""
    after = np.array([value for at, value in _finite(columns, name) if at >= step])
    half = len(after) // 2
    if half < 3:
        return None
    first, last = after[:half], after[-half:]
    error = float(np.sqrt(first.var(ddof=1) / half + last.var(ddof=1) / half))
    change = float(last.mean() - first.mean())
    return 0 if abs(change) <= 2 * error else (1 if change > 0 else -1)


def _preferences(columns: Columns) -> Verdict:
    margin = _trend(columns, "margin")
    chosen, rejected = _trend(columns, "chosen_logratio"), _trend(columns, "rejected_logratio")
    if margin is None or chosen is None or rejected is None:
        return Verdict("Too early to tell", ("Margins have too few values.",), "wait")
    reasons = [_told("Margin", margin), _told("Log-ratio of chosen", chosen), _told("Log-ratio of rejected", rejected)]
    if chosen.way < 0 and rejected.way < 0 and chosen.end < 0:
        reasons.append(
            "The loss only asks that chosen lies above rejected, so it can be met by making both less likely: "
            "the probability goes to answers that nobody judged. Compare samples, raise beta, or add an NLL term."
        )
        return Verdict("Both fall: chosen answers become less likely too", tuple(reasons), "bad")
    tone = "good" if margin.way > 0 else "watch"
    return Verdict(f"Margin {_VERB[margin.way]}, chosen {_VERB[chosen.way]}", tuple(reasons), tone)


def _supervised(columns: Columns) -> Verdict:
    name = next((n for n in ("nll", "loss") if n in columns.names), None)
    trend = None if name is None else _trend(columns, name)
    if trend is None:
        return Verdict("Nothing to tell", ("The run logs no loss.",), "wait")
    reasons = [_told("Loss", trend)]
    held = [v for n in ("heldout_nll", "heldout_loss") for _, v in _finite(columns, n)]
    if len(held) >= 2:
        best = min(held)
        reasons.append(f"Held-out: {held[0]:.3g} at first, {held[-1]:.3g} now, {best:.3g} at best.")
        if held[-1] > 1.05 * best:
            return Verdict("Held-out loss is past its best: over-fitting", tuple(reasons), "watch")
    return Verdict(f"Loss {_VERB[trend.way]}", tuple(reasons), "good" if trend.way < 0 else "watch")
