"""What the numbers say, in sentences; each sentence follows from a number, its interval and a stated threshold."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from trueup.evaluation.sentences import quality

SMOKE = (
    "This is a smoke run: it shows that every stage runs, nothing else. Its models were trained for moments and "
    "measured on a handful of prompts; no number on this page says anything about quality."
)


def verdict(data: Mapping[str, Any]) -> Iterator[str]:
    """Sentences on quality, reward model, KL and signs of hacking, from the data of a report."""
    if data.get("smoke"):
        yield SMOKE
    else:
        comparison = data.get("comparison")
        if comparison:
            yield from quality(comparison)
        if data.get("skill"):
            yield from _skill(data["skill"])
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


def _skill(skill: Mapping[str, Any]) -> Iterator[str]:
    accuracy, ceiling, learned = skill["accuracy"], skill.get("ceiling"), skill.get("learned")
    opening = f"The reward model agrees with {_with_interval(accuracy)} of held-out judgments; a coin would with 50 %"
    if ceiling is None:
        yield opening + "."
    elif learned is None:
        yield opening + (
            f", and the judges' own noise allows {_with_interval(ceiling)}, which may be no more than a coin: "
            "what there is to learn cannot be told from these pairs."
        )
    else:
        yield opening + (
            f", and the judges' own noise allows {ceiling['estimate']:.1%}. "
            f"Of what can be learned between the two it has {_with_interval(learned)}."
        )
    for name, lead in skill.get("leads", {}).items():
        points = f"{100 * lead['estimate']:+.1f} points"
        if lead["low"] is None or lead["high"] is None:
            yield f"The reward model against {name}: {points}, and too little to say whether that is more than chance."
            continue
        if lead["low"] > 0:
            order = "beats"
        elif lead["high"] < 0:
            order = "is beaten by"
        else:
            order = "does not beat"
        yield (
            f"The reward model {order} {name} ({skill['baselines'][name]['estimate']:.1%}): {points} on the same pairs "
            f"(95 % interval {100 * lead['low']:+.1f} to {100 * lead['high']:+.1f})."
        )


def _with_interval(share: Mapping[str, Any]) -> str:
    if share["low"] is None or share["high"] is None:
        return f"{share['estimate']:.1%}"
    return f"{share['estimate']:.1%} (95 % interval {share['low']:.1%} to {share['high']:.1%})"


def _kl(runs: Mapping[str, Any]) -> Iterator[str]:
    for name, run in runs.items():
        band = run.get("kl_band")
        if not band:
            continue
        moves = _motion(band)
        inside = "inside" if band["inside"] else "not inside"
        if band["inside"] and band["moving"]:
            reason = ", and it stays there at this pace"
        elif band["inside"] or not band["low"] <= band["end"] <= band["high"]:
            reason = ""
        elif not band["low"] <= band["mean"] <= band["high"]:
            reason = ": its mean was not"
        else:
            reason = ": at this pace it does not stay there"
        yield (
            f"{name}: the KL ended at {band['end']:.2f} nats{moves}; over the last {band['steps']} steps its mean was "
            f"{band['mean']:.2f}. That is {inside} the target band of {band['low']:.1f} to {band['high']:.1f}{reason}."
        )


def _motion(band: Mapping[str, Any]) -> str:
    slope = band["slope"]
    if slope is None:
        return " (too few steps to say whether it still moves)"
    if not band["moving"]:
        return " and no longer moves beyond its noise"
    way = "rises" if slope["estimate"] > 0 else "falls"
    span = "" if slope["low"] is None else f", 95 % interval {10 * slope['low']:+.2f} to {10 * slope['high']:+.2f}"
    return f" and still {way} ({10 * slope['estimate']:+.2f} nats in ten steps{span})"
