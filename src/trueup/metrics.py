"""The one table of metric names: what each means, how it is estimated, its unit and which way is better.

``Run.log`` refuses a name that is not here; docs, reports and the explorer print from it.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal


@dataclass(frozen=True, slots=True)
class Metric:
    """One logged quantity."""

    meaning: str
    estimator: str
    unit: str
    better: Literal["up", "down", "none"]


def _m(meaning: str, estimator: str, unit: str, better: Literal["up", "down", "none"]) -> Metric:
    return Metric(meaning, estimator, unit, better)


METRICS: dict[str, Metric] = {
    # every method
    "loss": _m("Training objective of the step", "sum over the batch / global count, by weight", "nats", "down"),
    "learning_rate": _m("AdamW's learning rate at this step", "schedule", "1", "none"),
    "grad_norm": _m("Global L2 norm of the gradient before clipping", "exact", "1", "none"),
    "skipped_steps": _m("Updates skipped so far because loss or gradient was not finite", "count", "steps", "down"),
    "tokens": _m("Tokens that carried loss in this step", "count", "tokens", "none"),
    "epoch": _m("Passes over the training data at this step", "steps / steps per epoch", "epochs", "none"),
    # SFT
    "nll": _m("Negative log-likelihood of completion tokens", "token mean, by weight", "nats/token", "down"),
    "token_accuracy": _m("Share of completion tokens that are the arg-max", "token mean, by weight", "share", "up"),
    "heldout_nll": _m("Negative log-likelihood on held-out data", "token mean, by weight", "nats/token", "down"),
    # Constitutional AI
    "harmful": _m("Share of harmful requests that are complied with", "mean over audited answers", "share", "down"),
    # preferences (reward model and DPO family)
    "accuracy": _m("Share of pairs with chosen above rejected, ties half", "mean over pairs, by weight", "share", "up"),
    "strict_accuracy": _m(
        "Share of pairs with chosen strictly above rejected", "mean over pairs, by weight", "share", "up"
    ),
    "margin": _m(
        "Chosen minus rejected reward (implicit reward for DPO)", "mean over pairs, by weight", "reward", "up"
    ),
    "chosen_reward": _m("Reward of the chosen response", "mean over pairs, by weight", "reward", "up"),
    "rejected_reward": _m("Reward of the rejected response", "mean over pairs, by weight", "reward", "down"),
    "chosen_logratio": _m(
        "log policy - log reference of chosen; falling means displacement", "mean, by weight", "nats", "up"
    ),
    "rejected_logratio": _m("log policy - log reference of rejected", "mean, by weight", "nats", "down"),
    "reward_shift": _m(
        "Middle between good and bad rewards, from which BCO measures",
        "running means before the step",
        "reward",
        "none",
    ),
    "heldout_loss": _m("Objective on held-out data", "mean over pairs, by weight", "nats", "down"),
    "heldout_accuracy": _m("Held-out accuracy, ties half", "mean over pairs, by weight", "share", "up"),
    "heldout_margin": _m("Held-out margin", "mean over pairs, by weight", "reward", "up"),
    "calibration_error": _m("Expected calibration error of P(chosen wins)", "10 equal-width bins", "share", "down"),
    # PPO and the other online methods
    "score": _m("Score of sampled completions by the reward, before penalties", "mean over rollouts", "reward", "up"),
    "score_no_eos": _m(
        "The same of completions without an end, where there are any; above the score it pays not to end",
        "mean over those rollouts",
        "reward",
        "none",
    ),
    "score_cut": _m("Share of completions of which the reward could only read the beginning", "exact", "share", "down"),
    "reward": _m("Score minus all penalties minus beta * sequence KL", "mean over rollouts", "reward", "up"),
    "kl": _m("Sequence KL(policy || reference)", "k1, sum over tokens, mean over rollouts", "nats", "none"),
    "kl_k3": _m("The same KL with lower variance near zero", "k3, sum over tokens", "nats", "none"),
    "beta": _m("Coefficient of the KL penalty", "controller state", "reward/nat", "none"),
    "kl_target": _m("KL that the adaptive controller aims at", "setting", "nats", "none"),
    "entropy": _m("Entropy of the sampling distribution", "exact per token, token mean", "nats", "none"),
    "completion_length": _m("Tokens of a completion, EOS included", "mean over rollouts", "tokens", "none"),
    "eos_rate": _m("Share of completions that ended with EOS", "mean over rollouts", "share", "up"),
    "policy_loss": _m("Clipped surrogate loss", "token mean over all epochs", "1", "none"),
    "value_loss": _m("Clipped value loss", "token mean over all epochs", "reward^2", "down"),
    "clip_fraction": _m(
        "Share of tokens whose gradient clipping stopped (CISPO: whose weight it changed)",
        "token mean",
        "share",
        "none",
    ),
    "ratio_max": _m("Largest probability ratio new / old", "max over tokens", "1", "none"),
    "first_ratio_error": _m("|ratio - 1| before the first update; above rounding is a bug", "max", "1", "down"),
    "approx_kl": _m("KL(old policy || new policy) after the update", "k3, token mean", "nats", "none"),
    "explained_variance": _m("1 - Var(returns - values) / Var(returns)", "valid tokens", "share", "up"),
    "advantage_std": _m("Standard deviation of advantages before whitening", "valid tokens", "reward", "none"),
    "ptx_nll": _m(
        "Negative log-likelihood of the texts that are mixed in", "token mean, mean over updates", "nats/token", "down"
    ),
    "ratio_outside": _m("Share of tokens whose ratio new / old left [0.9, 1.1]", "over all updates", "share", "none"),
    "ratio_clamped": _m(
        "Share of tokens whose log-ratio was held at 20 nats; above 0 is a runaway", "exact", "share", "down"
    ),
    # rollouts that servers drew
    "mismatch": _m(
        "|log-prob by the trainer - log-prob by the server that drew the token|, before the update",
        "token mean",
        "nats",
        "down",
    ),
    "mismatch_p95": _m("The same difference that 95 % of the tokens stay below", "exact", "nats", "down"),
    "mismatch_kl": _m("KL(server's distribution || trainer's)", "k3, token mean", "nats", "down"),
    "mismatch_outside": _m(
        "Share of tokens whose ratio trainer / server is outside [0.9, 1.1]", "token mean", "share", "down"
    ),
    "importance_ess": _m(
        "Effective sample size of the ratios w = trainer / server, over their number; 1 when they are all equal",
        "(sum w)^2 / (n sum w^2) over tokens",
        "share",
        "up",
    ),
    "staleness": _m("Policy versions by which rollouts are older than the policy", "mean", "versions", "down"),
    "staleness_max": _m("The same of the oldest rollout", "max over rollouts", "versions", "down"),
    "regenerated": _m(
        "Rollouts that were too stale, or of unknown weights, and were drawn again", "count", "rollouts", "down"
    ),
    "servers": _m("Rollout servers that are not left out", "count", "servers", "none"),
    "dropped": _m("Answers left out because a part of the reward could not score them", "count", "answers", "down"),
    "distinct_2": _m("Distinct bigrams / bigrams over the batch of completions", "exact", "share", "up"),
    "repeated_3": _m(
        "Share of an answer's token trigrams that stood in it before; near 1 in a loop",
        "mean over rollouts",
        "share",
        "down",
    ),
    "refusals": _m(
        "Share of answers that refuse, wholly or in part, by English phrases", "mean over rollouts", "share", "none"
    ),
    "gold": _m(
        "Quality by whoever knows the truth; nothing trains on it", "mean over fixed prompts", "by its judge", "up"
    ),
    # several answers to a prompt
    "kept": _m("Share of answers that are imitated", "exact", "share", "none"),
    "kept_score": _m("Score of the answers that are imitated", "mean over them", "reward", "up"),
    "resampled": _m(
        "Answers drawn in the place of groups that teach nothing", "share of the first draw", "share", "none"
    ),
    "dead_groups": _m(
        "Share of prompts whose answers all have the same reward, and so teach nothing",
        "over the first draw",
        "share",
        "down",
    ),
}


PATTERNS: dict[str, Metric] = {
    "reward/<part>": _m("A part of the reward, as it was measured", "mean over rollouts", "part's own", "up"),
    "reward/<part>/sd": _m("Its standard deviation over the answers of the step", "exact", "part's own", "none"),
    "reward/<part>/weighted": _m("What the part adds to the score", "mean over rollouts", "reward", "none"),
    "reward/<part>/weighted_sd": _m(
        "Its standard deviation: which part tells answers apart, whatever its mean", "exact", "reward", "none"
    ),
    "reward/<part>/spread": _m(
        "Standard deviation of the members of an ensemble over one answer: how little they agree",
        "divided by their number, mean over rollouts",
        "part's own",
        "down",
    ),
    "heldout/<part>/rmse": _m(
        "Error of held-out ratings by this output", "root mean square, by weight", "column's own", "down"
    ),
    "heldout/<part>/mean_rmse": _m(
        "The same of the mean of the training ratings", "root mean square, by weight", "column's own", "none"
    ),
    "heldout/<part>/r2": _m(
        "1 - (rmse / mean_rmse)^2; below 0 is worse than that mean", "exact, by weight", "share", "up"
    ),
    "heldout/<part>/pearson": _m("Correlation of the output with held-out ratings", "exact, by weight", "1", "up"),
    "reward/<part>/dropped": _m("Answers that the part could not score", "count", "answers", "down"),
}
"""Metrics of which there is one for each part of a reward, or each output of a model of ratings, whose name stands for
``<part>``."""


@dataclass(frozen=True, slots=True)
class Comparable:
    """How a metric of one run can be held against those of runs of another model on other data (decision 37)."""

    form: Literal["value", "share of start"]
    """As it is logged, or divided by the mean of the run's first values."""
    lowest: float = -math.inf
    highest: float = math.inf
    """Between these it lies by its definition."""
    odd: Literal["both", "low", "high"] = "both"
    """On which side a run can leave the range; on the other one the range goes as far as the metric does."""
    depends: str = ""
    """What else moves it, for whoever reads the range."""


_UPDATES = "the learning rate, and how often each batch is used"
_AGREE = "how far those who judged the pairs agree"

COMPARABLE: dict[str, Comparable] = {
    "grad_norm": Comparable("share of start", 0.0, depends="the schedule of the learning rate"),
    "accuracy": Comparable("value", 0.0, 1.0, depends=f"{_AGREE}, and how many pairs a step has"),
    "heldout_accuracy": Comparable("value", 0.0, 1.0, depends=_AGREE),
    "calibration_error": Comparable("value", 0.0, 1.0, "high", depends="how many pairs are held out"),
    "entropy": Comparable("share of start", 0.0, depends="the coefficient of the KL, and how long it trains"),
    "eos_rate": Comparable("value", 0.0, 1.0, "low", depends="the room for an answer"),
    "distinct_2": Comparable("share of start", 0.0, depends="how long it trains"),
    "clip_fraction": Comparable("value", 0.0, 1.0, "high", depends=_UPDATES),
    "ratio_outside": Comparable("value", 0.0, 1.0, "high", depends=_UPDATES),
    "approx_kl": Comparable("value", 0.0, odd="high", depends=_UPDATES),
    "explained_variance": Comparable("value", highest=1.0, odd="low", depends="how early an answer shows its reward"),
}
"""Metrics of which ``bands.json`` has ranges. Of the others a range of the sandbox says nothing about another run."""


@dataclass(frozen=True, slots=True)
class Band:
    """The range of a metric in measured clean runs, by fifths of a run."""

    low: tuple[float, ...]
    high: tuple[float, ...]
    runs: int
    steps: int
    """Steps of all those runs together."""


BANDS = Path(__file__).with_name("bands.json")
"""Written by ``python -m benchmarks.bands``."""


def bands(kind: str, config: Mapping[str, Any]) -> Mapping[str, Band]:
    """By metric, what clean runs of the sandbox showed that are of the same kind, and objective where it has one."""
    return measured_bands().get(kind_of_bands(kind, config), {})


def kind_of_bands(kind: str, config: Mapping[str, Any]) -> str:
    """The name under which runs of a kind are measured: ``ppo``, ``dpo/dpo-nll``."""
    objective = config.get("objective")
    named = objective.get("kind") if isinstance(objective, Mapping) else None
    return f"{kind}/{named}" if isinstance(named, str) else kind


@cache
def measured_bands() -> Mapping[str, Mapping[str, Band]]:
    """All measured ranges, by kind of run and metric."""
    return {
        kind: {
            name: Band(tuple(band["low"]), tuple(band["high"]), measured["runs"], sum(measured["steps"]))
            for name, band in measured["metrics"].items()
        }
        for kind, measured in json.loads(BANDS.read_text(encoding="utf-8"))["kinds"].items()
    }


def metric_of(name: str) -> Metric | None:
    """What a logged quantity means; None for a name that is not in the tables."""
    first, *rest = name.split("/")
    return METRICS.get(name) or (PATTERNS.get("/".join([first, "<part>", *rest[1:]])) if rest and rest[0] else None)


def define_metric(
    name: str, meaning: str, *, estimator: str, unit: str, better: Literal["up", "down", "none"] = "none"
) -> None:
    """Add a quantity that a recipe of your own logs; saying the same again changes nothing.

    Raises:
        ValueError: The name means something else already.
    """
    metric = Metric(meaning, estimator, unit, better)
    if METRICS.setdefault(name, metric) != metric:
        raise ValueError(f"metric {name!r} means something else: {METRICS[name].meaning}; take another name")
