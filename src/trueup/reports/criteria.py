"""A run against what a course asks of it, in words: did it converge, does the reward model hold, did the reward rise.

The criteria are those of the RLHF activity (fourth seed document): loss convergence, validation accuracy above 65 %,
reward increases, KL stays in range, RLHF > SFT. Each is met, not met, or cannot be told from what was measured.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from trueup.evaluation.intervals import Interval, paired_difference
from trueup.evaluation.rows import Row, models, of_model
from trueup.evaluation.settling import settling
from trueup.evaluation.stability import rise, series_mean, tail
from trueup.evaluation.winrate import win_rate
from trueup.ledger.record import rated_columns
from trueup.reports.logs import RunLog

Outcome = Literal["met", "not met", "cannot be told", "not measured"]
ACCURACY = 0.65
"""Of the reward model on held-out pairs, as the activity asks."""
FEW_STEPS = 20
"""A run of fewer steps is a trial that it runs."""
STILL = 0.02
"""Share of a loss that may still be gained at the present pace by a run that counts as converged."""


@dataclass(frozen=True, slots=True)
class Criterion:
    """One demand and what the numbers say of it."""

    name: str
    outcome: Outcome
    words: str

    def to_dict(self) -> dict[str, str]:
        """JSON form."""
        return {"name": self.name, "outcome": self.outcome, "words": self.words}


def is_trial(log: RunLog) -> str | None:
    """Why the run is only a trial that everything runs; None where it is not."""
    steps = log.record.get("facts", {}).get("steps")
    if log.record["status"] == "done" and isinstance(steps, int) and len(log.metrics) < steps and not _stopped(log):
        return f"it took {len(log.metrics)} of its {steps} steps, as a probe does"
    if log.record["status"] == "done" and len(log.metrics) < FEW_STEPS:
        return f"it took {len(log.metrics)} steps"
    return None


def _stopped(log: RunLog) -> bool:
    """Whether the run ended before its last step as it was set to: by ``kl_stop``, or by an alert."""
    if log.record.get("facts", {}).get("stopped"):
        return True
    limit, last = log.record["config"].get("kl_stop"), values(log, "kl")[-1:]
    return limit is not None and bool(last) and last[0] > limit


def values(log: RunLog, name: str) -> list[float]:
    """A metric step by step; what is no number is left out."""
    return [float(row[name]) for row in log.metrics if isinstance(row.get(name), int | float)]


def criteria(
    log: RunLog, probes: Sequence[Mapping[str, Any]], rows: Sequence[Row] = (), model: str | None = None
) -> Iterator[Criterion]:
    """The criteria that apply to a run.

    Args:
        log: What it logged.
        probes: Rows of its ``samples.jsonl``.
        rows: Of an evaluation in which its model took part.
        model: Name of its model there.
    """
    kind = log.record["kind"]
    if kind == "sft":
        yield _converged(log, "nll", "heldout_nll")
    elif columns := rated_columns(log.record):
        yield from (_beats_the_mean(log, column) for column in columns)
    elif kind == "reward":
        yield _accuracy(log, f"accuracy on held-out pairs above {ACCURACY:.0%}", ACCURACY)
    elif values(log, "score"):
        yield _reward_rose(log, probes)
        yield _kl_in_range(log)
    elif values(log, "margin"):
        yield _accuracy(log, "the policy prefers the chosen answers of held-out pairs", 0.5)
        yield _displaced(log)
    else:
        yield _converged(log, "loss", "heldout_loss")
    if kind not in ("sft", "reward"):
        yield _better(rows, model)


def _converged(log: RunLog, name: str, held_out: str) -> Criterion:
    demand, series = "the loss converged", values(log, name)
    fall = rise(series)
    if fall is None:
        return Criterion(demand, "cannot be told", f"{len(series)} steps are too few to say how the loss moves.")
    first, last = series_mean(series[: len(tail(series))]).estimate, series_mean(tail(series)).estimate
    words = f"The training loss went from {first:.3f} to {last:.3f} nats ({_span(fall)}"
    if not fall.below(0):
        return Criterion(demand, "not met", f"{words}): that is no fall beyond its noise.{_held_out(log, held_out)}")
    end = settling(series, float("-inf"), float("inf"))
    gain = -end.slope.estimate * end.steps if end.slope is not None and end.moving else 0.0
    if gain > STILL * abs(last):
        more = f") and still falls: as many steps again would gain about {gain:.3f}."
        return Criterion(demand, "not met", words + more + _held_out(log, held_out))
    return Criterion(demand, "met", f"{words}) and no longer moves beyond its noise.{_held_out(log, held_out)}")


def _held_out(log: RunLog, name: str) -> str:
    measured = [float(row[name]) for row in log.evaluation if isinstance(row.get(name), int | float)]
    if not measured:
        return " Nothing was held out, so over-fitting would not be seen."
    best = min(measured)
    if len(measured) > 1 and measured[-1] > 1.02 * best:
        return f" Held-out loss was {best:.3f} at best and ended at {measured[-1]:.3f}: the run over-fits."
    return f" Held-out loss ended at {measured[-1]:.3f}."


def _unmeasured(log: RunLog, what: str) -> str:
    """Why there is no held-out measurement, with a hint only where no data was given for it."""
    if log.record["config"].get("validation") is None:
        return f"{what}: give --validation."
    return f"{what} and measured: see the validation data, and whether the run reached an evaluation."


def _accuracy(log: RunLog, demand: str, bar: float) -> Criterion:
    measured = [row for row in log.evaluation if isinstance(row.get("heldout_accuracy"), int | float)]
    if not measured:
        return Criterion(demand, "not measured", _unmeasured(log, "No pairs were held out"))
    last = measured[-1]
    bounds = last.get("intervals", {}).get("heldout_accuracy")
    accuracy = float(last["heldout_accuracy"])
    pairs = f" of {int(last['pairs'])} pairs" if isinstance(last.get("pairs"), int | float) else ""
    words = f"It orders {accuracy:.1%}{pairs} right, ties half"
    if bounds is None:
        return Criterion(demand, "cannot be told", f"{words}, without an interval.")
    words += f" (95 % interval {bounds[0]:.1%} to {bounds[1]:.1%})"
    if bounds[0] > bar:
        return Criterion(demand, "met", f"{words}.")
    if bounds[1] < bar:
        return Criterion(demand, "not met", f"{words}.")
    return Criterion(demand, "cannot be told", f"{words}: {bar:.0%} is within the interval; more held-out pairs tell.")


def _beats_the_mean(log: RunLog, column: str) -> Criterion:
    """Of a model of ratings, whether an output says more of held-out ratings than the mean of the training data."""
    demand, place = f"{column} is rated better than by its mean", f"heldout/{column}"
    measured = [row for row in log.evaluation if isinstance(row.get(f"{place}/r2"), int | float)]
    if not measured:
        return Criterion(demand, "not measured", _unmeasured(log, "No ratings that differ were held out"))
    last = measured[-1]
    words = f"RMSE {last[f'{place}/rmse']:.3g} beside {last[f'{place}/mean_rmse']:.3g} of the mean; R^2 "
    words += f"{last[f'{place}/r2']:.3f}"
    bounds = last.get("intervals", {}).get(f"{place}/r2")
    if bounds is None:
        return Criterion(demand, "cannot be told", f"{words}, without an interval.")
    words += f" (95 % interval {bounds[0]:.3f} to {bounds[1]:.3f}) of {int(last[f'{place}/ratings'])} ratings."
    return Criterion(demand, "met" if bounds[0] > 0 else "not met" if bounds[1] < 0 else "cannot be told", words)


def _reward_rose(log: RunLog, probes: Sequence[Mapping[str, Any]]) -> Criterion:
    demand = "the reward rose"
    change, source = probe_change(probes), "on its fixed prompts, from the first answers to the last"
    if change is None or not change.known:
        change, source = rise(values(log, "score")), "over its rollouts, from the first third to the last"
    if change is None:
        return Criterion(demand, "cannot be told", f"{len(log.metrics)} steps are too few to say.")
    words = f"The score changed by {_span(change)} {source}."
    if change.above(0):
        return Criterion(demand, "met", words)
    return Criterion(demand, "not met" if change.below(0) else "cannot be told", words)


def probe_change(probes: Sequence[Mapping[str, Any]]) -> Interval | None:
    """Score of the last answers to the fixed prompts minus that of the first, prompt by prompt; None without two."""
    steps = sorted({int(line["step"]) for line in probes if "score" in line})
    if len(steps) < 2:
        return None
    first, last = ([line["score"] for line in probes if line["step"] == step] for step in (steps[0], steps[-1]))
    if len(first) != len(last):
        return None
    # An answer that the reward could not score has none, and its prompt is compared with nothing.
    both = [(before, after) for before, after in zip(first, last, strict=True) if None not in (before, after)]
    if not both:
        return None
    prompts = list(range(len(both)))
    return paired_difference([after for _, after in both], prompts, [before for before, _ in both], prompts)


def _kl_in_range(log: RunLog) -> Criterion:
    demand, measured, control = "the KL stayed in range", values(log, "kl"), log.record["config"].get("kl")
    if not measured:
        return Criterion(demand, "not measured", "No KL was logged.")
    target = control.get("target") if isinstance(control, Mapping) and control.get("kind") == "adaptive" else None
    if not isinstance(target, int | float):
        end = settling(measured, float("-inf"), float("inf"))
        moves = {None: "; too few steps to say whether it moves", True: " and still moves", False: " and has settled"}
        words = f"The KL ended at {end.end:.2f} nats{moves[end.moving]}. A fixed coefficient aims at no value, so there"
        return Criterion(demand, "met" if end.moving is False else "cannot be told", f"{words} is no range to be in.")
    end = settling(measured, 0.8 * target, 1.2 * target)
    words = f"The KL ended at {end.end:.2f} nats; the range is {end.low:.1f} to {end.high:.1f}."
    return Criterion(demand, "met" if end.inside else "not met", words)


def _displaced(log: RunLog) -> Criterion:
    demand, series = "chosen answers did not become less likely", values(log, "chosen_logratio")
    if not series:
        return Criterion(demand, "not measured", "The method logs no log-ratio of chosen answers.")
    end = series_mean(tail(series))
    words = f"Their log-ratio to the reference ended at {_span(end)} nats."
    if end.below(0):
        return Criterion(demand, "not met", f"{words} That is displacement: both sides lose, the rejected one more.")
    return Criterion(demand, "met" if end.above(0) else "cannot be told", words)


def _better(rows: Sequence[Row], model: str | None) -> Criterion:
    demand = "better than the model before"
    if not rows:
        return Criterion(
            demand, "not measured", "Not known here: `trueup evaluate`, then `trueup report --evaluation`."
        )
    if model is None:
        return Criterion(demand, "not measured", "The evaluation did not measure this run's final model.")
    base = next(name for name in models(rows) if name != model)
    score = "gold" if of_model(rows, model)[0].get("gold") is not None else "reward"
    rate = win_rate(rows, model, base, score=score, tie=1e-9).rate
    words = f"By {score}, {model} wins {rate.estimate:.1%} of {rate.n} held-out prompts over {base}"
    if not rate.known:
        return Criterion(demand, "cannot be told", f"{words}: too few to tell.")
    words += f" (95 % interval {rate.low:.1%} to {rate.high:.1%}, ties half)."
    outcome: Outcome = "met" if rate.low > 0.5 else "not met" if rate.high < 0.5 else "cannot be told"
    return Criterion(demand, outcome, words)


def _span(interval: Interval) -> str:
    if not interval.known:
        return f"{interval.estimate:+.3f}"
    return f"{interval.estimate:+.3f}, 95 % interval {interval.low:+.3f} to {interval.high:+.3f}"
