"""Detectors that run on a run's own numbers: each opens after it held for some steps, and closes after it did not.

The thresholds are rules of thumb, stated in each message beside what was measured, so that a reader can disagree.

N  values of one metric
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from trueup.ledger.columns import Columns

HELD, CLEAR = 3, 5
"""Steps in a row until an alert opens, and until it closes again."""
WINDOW, START, RECENT = 5, 5, 30
"""Steps of a running mean, of the run's beginning, and of a correlation."""
RUNAWAY, COLLAPSE, HALVED, LONGER, TIED = 2.0, 0.3, 0.5, 1.5, 0.6
LOOPS, REFUSES, DEAD, APART = 0.25, 0.25, 0.8, 2.0
"""Shares that repetition and refusals must gain, share of groups that teach nothing, growth of a disagreement."""
WORSE, GOOD = -0.25, 0.3
"""Explained variance of a critic that does harm, and of one that was good once; near 0 it is only useless."""
LOST, SURE = 0.3, 6.0
"""Share of its whole range, and how many times its noise, that a watched quality must have lost since its best."""
BAND = 0.2
"""Half the width of the target band, as a share of the target; the reports draw the same."""
DISPLACED = -0.5
"""Nats that the log-ratio of chosen answers must have lost."""

Floats = npt.NDArray[np.float64]
Steps = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Alert:
    """One detector that opened."""

    rule: str
    step: int
    """Where it opened."""
    until: int | None
    """Where it closed; None while it is open."""
    metric: str
    """On whose curve it is shown."""
    message: str

    def to_dict(self) -> dict[str, Any]:
        """JSON form."""
        return {name: getattr(self, name) for name in ("rule", "step", "until", "metric", "message")}


def alerts(columns: Columns, config: Mapping[str, Any]) -> list[Alert]:
    """Every time a detector opened, oldest first."""
    raised: list[Alert] = []
    for detect in DETECTORS:
        raised += detect(columns, config)
    return sorted(raised, key=lambda alert: (alert.step, alert.rule))


def target_band(config: Mapping[str, Any]) -> dict[str, float] | None:
    """Target, low and high end of the KL's band; None for a run without an adaptive target."""
    control = config.get("kl")
    target = control.get("target") if isinstance(control, Mapping) and control.get("kind") == "adaptive" else None
    if not isinstance(target, int | float) or isinstance(target, bool):
        return None
    return {"target": float(target), "low": (1 - BAND) * float(target), "high": (1 + BAND) * float(target)}


def running_mean(values_N: Floats, width: int = WINDOW) -> Floats:
    """Mean of the last ``width`` values at each place, of fewer at the beginning."""
    sums = np.concatenate([[0.0], np.cumsum(values_N)])
    ends = np.arange(1, len(values_N) + 1)
    starts = np.maximum(ends - width, 0)
    means: Floats = (sums[ends] - sums[starts]) / (ends - starts)
    return means


def running_correlation(left_N: Floats, right_N: Floats, width: int = RECENT) -> Floats:
    """Pearson's correlation of the last ``width`` pairs; 0 where there are fewer, or one does not vary."""
    a, b = left_N - left_N.mean(), right_N - right_N.mean()  # cumulative sums of large means would cancel
    mean_a, mean_b = running_mean(a, width), running_mean(b, width)
    covariance = running_mean(a * b, width) - mean_a * mean_b
    spread_a = running_mean(a * a, width) - mean_a * mean_a
    spread_b = running_mean(b * b, width) - mean_b * mean_b
    least = 1e-12 * np.maximum((a * a).mean() * (b * b).mean(), np.finfo(np.float64).tiny)
    product = spread_a * spread_b
    varies = (product > least) & (spread_a > 0) & (spread_b > 0) & (np.arange(len(a)) >= width - 1)
    tied: Floats = np.where(varies, covariance / np.sqrt(np.where(varies, product, 1.0)), 0.0)
    return tied


def spans(holds: npt.NDArray[np.bool_], clear: npt.NDArray[np.bool_]) -> list[tuple[int, int | None]]:
    """(place where it opens, where it closes or None): ``HELD`` times ``holds``, then ``CLEAR`` times ``clear``."""
    opened: int | None = None
    listed: list[tuple[int, int | None]] = []
    count = 0
    if not holds.any():  # most runs, at every step of a training: nothing to walk through
        return []
    for place in range(int(holds.argmax()), len(holds)):
        count = count + 1 if (holds[place] if opened is None else clear[place]) else 0
        if opened is None and count == HELD:
            opened, count = place, 0
        elif opened is not None and count == CLEAR:
            listed.append((opened, place))
            opened, count = None, 0
    return listed if opened is None else [*listed, (opened, None)]


def _raise(
    rule: str,
    metric: str,
    steps: Steps,
    holds: npt.NDArray[np.bool_],
    clear: npt.NDArray[np.bool_],
    message: Callable[[int], str],
) -> list[Alert]:
    return [
        Alert(rule, int(steps[at]), None if end is None else int(steps[end]), metric, message(at))
        for at, end in spans(holds, clear)
    ]


def _not_finite(columns: Columns, config: Mapping[str, Any]) -> list[Alert]:
    for name in ("loss", "grad_norm", "reward", "kl"):
        gap = columns.first_gap(name)
        if gap is not None:
            step, value = gap
            return [Alert("not_finite", step, None, name, f"{name} is {value}: the numbers broke down here.")]
    return []


def _runaway(columns: Columns, config: Mapping[str, Any]) -> list[Alert]:
    band = target_band(config)
    steps, kl = columns.curve("kl")
    if band is None or not len(kl):
        return []
    means, most = running_mean(kl), RUNAWAY * band["target"]

    def message(at: int) -> str:
        steps_averaged = min(WINDOW, at + 1)
        return (
            f"KL runs away: its mean of {steps_averaged} steps is {means[at]:.2f} nats, over {RUNAWAY:g} times the "
            f"target of {band['target']:.2g}. Lower the learning rate or raise kl.beta, and look at the samples from "
            "here on."
        )

    return _raise("kl_runaway", "kl", steps, means > most, means < 0.8 * most, message)


def _falls_to(columns: Columns, rule: str, name: str, share: float, tell: str) -> list[Alert]:
    steps, values = columns.curve(name)
    if len(values) < START + HELD or values[:START].mean() <= 0:
        return []
    start, means = float(values[:START].mean()), running_mean(values)

    def message(at: int) -> str:
        return f"{tell}: {name} is {means[at]:.3g}, under {share:.0%} of the {start:.3g} that it began with."

    return _raise(rule, name, steps, means < share * start, means > 1.25 * share * start, message)


def _entropy(columns: Columns, config: Mapping[str, Any]) -> list[Alert]:
    return _falls_to(columns, "entropy_collapse", "entropy", COLLAPSE, "The policy hardly varies any more")


def _repetition(columns: Columns, config: Mapping[str, Any]) -> list[Alert]:
    return _falls_to(columns, "repetition", "distinct_2", HALVED, "Answers repeat each other")


def _length(columns: Columns, config: Mapping[str, Any]) -> list[Alert]:
    steps, length = columns.curve("completion_length")
    scored, score = columns.curve("score")
    if len(length) < RECENT or not np.array_equal(steps, scored):
        return []
    start, means, tied = float(length[:START].mean()), running_mean(length), running_correlation(length, score)

    def message(at: int) -> str:
        return (
            f"Answers grow with the score: {means[at]:.0f} tokens where they had {start:.0f}, and the two go together "
            f"(correlation {tied[at]:.2f} over {RECENT} steps): the reward may like length."
        )

    return _raise(
        "length", "completion_length", steps, (means > LONGER * start) & (tied > TIED), means < 1.3 * start, message
    )


def _both_fall(columns: Columns, config: Mapping[str, Any]) -> list[Alert]:
    steps, chosen = columns.curve("chosen_logratio")
    _, rejected = columns.curve("rejected_logratio")
    if not len(chosen) or len(chosen) != len(rejected):
        return []
    up, down = running_mean(chosen), running_mean(rejected)

    def message(at: int) -> str:
        return (
            f"Both log-probabilities fall: chosen by {-up[at]:.2f} nats, rejected by {-down[at]:.2f}. The margin grows "
            "because rejected falls faster, and probability goes to answers that nobody judged."
        )

    low = (up < DISPLACED) & (down < DISPLACED)
    return _raise("both_fall", "chosen_logratio", steps, low, up > 0.5 * DISPLACED, message)


def _gains(columns: Columns, rule: str, name: str, gain: float, tell: Callable[[float, float], str]) -> list[Alert]:
    """A share that has risen by ``gain`` since the first steps; ``tell`` is given where it is and where it was."""
    steps, values = columns.curve(name)
    if len(values) < START + HELD:
        return []
    start, means = float(values[:START].mean()), running_mean(values)
    return _raise(
        rule,
        name,
        steps,
        means > start + gain,
        means < start + 0.6 * gain,
        lambda at: tell(float(means[at]), start),
    )


def _loops(columns: Columns, config: Mapping[str, Any]) -> list[Alert]:
    def tell(now: float, start: float) -> str:
        return (
            f"Answers go in circles: {now:.0%} of their trigrams stood in the same answer before, {start:.0%} at first."
        )

    return _gains(columns, "loops", "repeated_3", LOOPS, tell)


def _refusals(columns: Columns, config: Mapping[str, Any]) -> list[Alert]:
    def tell(now: float, start: float) -> str:
        return (
            f"More and more is refused: {now:.0%} of the answers, {start:.0%} at first. The reward may like a refusal "
            "better than help; look at harmless prompts among the samples."
        )

    return _gains(columns, "refusals", "refusals", REFUSES, tell)


def _dead_groups(columns: Columns, config: Mapping[str, Any]) -> list[Alert]:
    steps, dead = columns.curve("dead_groups")
    means = running_mean(dead)

    def message(at: int) -> str:
        return (
            f"Groups teach nothing: all answers of {means[at]:.0%} of the prompts have the same reward, so their "
            "advantage is 0. Draw more answers to a prompt, warmer, or take prompts that are neither too easy nor too "
            "hard."
        )

    return _raise("dead_groups", "dead_groups", steps, means > DEAD, means < 0.75 * DEAD, message)


def _value_collapse(columns: Columns, config: Mapping[str, Any]) -> list[Alert]:
    steps, explained = columns.curve("explained_variance")
    means = running_mean(explained)
    best = np.maximum.accumulate(means)

    def message(at: int) -> str:
        return (
            f"The critic knows less than a constant: explained variance is {means[at]:.2f} over {min(WINDOW, at + 1)} "
            f"steps, {best[at]:.2f} at its best. It adds noise to the advantages; warm the critic up, clip less of its "
            "loss, or lower the learning rate."
        )

    holds = (means < WORSE) | ((best > GOOD) & (means < 0))
    return _raise("value_collapse", "explained_variance", steps, holds, means > 0.1, message)


def _members_part(columns: Columns, config: Mapping[str, Any]) -> list[Alert]:
    """The members of an ensemble agree less and less while the score rises: it rises where they do not know."""
    spreads = [name for name in columns.names if name.startswith("reward/") and name.endswith("/spread")]
    return [alert for name in spreads for alert in _drift_apart(columns, name)]


def _drift_apart(columns: Columns, name: str) -> list[Alert]:
    scored, score = columns.curve("score")
    steps, spread = columns.curve(name)
    if len(spread) < START + HELD or not np.array_equal(steps, scored):
        return []
    start, means, level = float(spread[:START].mean()), running_mean(spread), running_mean(score)

    def message(at: int) -> str:
        return (
            f"The members of the ensemble part: they differ by {means[at]:.3g} on an answer, {start:.3g} at first, "
            "while the score rises. The policy has come to answers that no member was taught about."
        )

    holds = (level > float(score[:START].mean())) & (means > APART * start)
    return _raise("ensemble_divergence", name, steps, holds, means < 0.8 * APART * start, message)


def _watched(columns: Columns, config: Mapping[str, Any]) -> list[Alert]:
    """The score rises and a quality that is only watched falls: ``gold``, or a part of the reward with weight 0."""
    weighted = [name for name in columns.names if name.startswith("reward/") and name.endswith("/weighted")]
    parts = [name.removesuffix("/weighted") for name in weighted if not columns.curve(name)[1].any()]
    return [alert for name in ("gold", *parts) for alert in _falls_behind(columns, name)]


def _falls_behind(columns: Columns, name: str) -> list[Alert]:
    scored, score = columns.curve("score")
    steps, values = columns.curve(name)
    shared = np.isin(steps, scored)
    steps, values = steps[shared], values[shared]
    if len(values) < 2 * HELD:
        return []
    quality, level = running_mean(values, HELD), running_mean(score)[np.searchsorted(scored, steps)]
    best = np.maximum.accumulate(quality)
    at_best = np.maximum.accumulate(np.where(quality == best, np.arange(len(quality)), 0))
    lost, most = best - quality, best - np.minimum.accumulate(quality)

    def message(at: int) -> str:
        since = int(at_best[at])
        return (
            f"Score and {name} part: since step {steps[since]} the score went from {level[since]:.3g} to "
            f"{level[at]:.3g}, and {name}, on which nothing trains, from {quality[since]:.3g} to {quality[at]:.3g}. "
            "What the reward likes is no longer what is good."
        )

    holds = (lost > np.maximum(LOST * most, SURE * _noise(values))) & (level > level[at_best])
    return _raise("proxy_gold", name, steps, holds, lost < 0.5 * LOST * most, message)


def _noise(values_N: Floats) -> Floats:
    """Standard deviation of a running mean of ``HELD`` values, by the differences of neighbours up to each place."""
    squares = np.concatenate([[0.0], np.cumsum(np.diff(values_N) ** 2)])
    known: Floats = np.sqrt(squares / np.maximum(np.arange(len(values_N)), 1) / 2 / HELD)
    return known


DETECTORS = (
    _not_finite,
    _runaway,
    _entropy,
    _repetition,
    _loops,
    _length,
    _refusals,
    _dead_groups,
    _value_collapse,
    _members_part,
    _watched,
    _both_fall,
)
