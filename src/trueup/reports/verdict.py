"""What the numbers say, in sentences; each sentence follows from a number and a stated threshold."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any


def verdict(data: Mapping[str, Any]) -> Iterator[str]:
    """Sentences on quality, reward model, KL and signs of hacking, from the data of a report."""
    comparison = data.get("comparison")
    if comparison:
        yield from _quality(comparison)
    card = data.get("reward_model")
    if card and card.get("share_of_ceiling"):
        yield (
            f"The reward model agrees with {card['heldout_accuracy']:.1%} of held-out judgments; the judges' own noise "
            f"allows {card['noise_ceiling']:.1%}, so it reaches {card['share_of_ceiling']:.1%} of what can be learned."
        )
    yield from _kl(data.get("runs", {}))
    curve = data.get("overoptimization")
    if curve and curve["found"]:
        yield (
            f"Over-optimisation: from step {curve['at']:.0f} on the proxy rises while gold falls "
            f"(by {curve['gold_lost']:.3f} until the end)."
        )
    for name, run in data.get("runs", {}).items():
        if run["status"] != "done":
            yield f"Run {name} is not finished: its status is {run['status']}."


def _quality(comparison: Mapping[str, Any]) -> Iterator[str]:
    base = comparison["baseline"]
    for name, entry in comparison["models"].items():
        wins = entry.get("win_rate")
        if not wins:
            continue
        rate = wins["rate"]
        if rate["low"] is None:
            continue
        if rate["low"] > 0.5:
            said = "better than"
        elif rate["high"] < 0.5:
            said = "worse than"
        else:
            said = "not distinguishable from"
        yield (
            f"{name} is {said} {base}: it wins {rate['estimate']:.1%} of held-out prompts "
            f"(95 % interval {rate['low']:.1%} to {rate['high']:.1%}, ties half)."
        )


def _kl(runs: Mapping[str, Any]) -> Iterator[str]:
    for name, run in runs.items():
        band = run.get("kl_band")
        if band:
            inside = "inside" if band["inside"] else "outside"
            yield (
                f"{name}: over the last {band['steps']} steps the KL was {band['mean']:.2f} nats, {inside} the target "
                f"band of {band['low']:.1f} to {band['high']:.1f}."
            )
