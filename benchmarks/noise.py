"""What wrong labels cost, and what helps: more votes on fewer pairs, shares instead of majorities, robust losses.

python -m benchmarks.noise --out runs/noise

Labels of the sandbox flip at a known rate. The number of judgments is the same everywhere, so more votes a pair means
fewer pairs. Reward models are measured by gold on pairs that nobody judged; policies by gold's win-rate over the SFT
model that they start from. The exercise of the second course document, with the truth at hand.
"""

from __future__ import annotations

import argparse
import json
import random
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.aggregation import trained
from benchmarks.mixed_reward import write_data
from benchmarks.shown import interval, svg
from trueup.collectors.sandbox_panel import chat
from trueup.commands.pipeline import Stage, run_stages
from trueup.commands.walkthrough import evaluate_models
from trueup.config.seeds import derive
from trueup.data.write import write_jsonl
from trueup.evaluation.crossed import cells, crossed_mean
from trueup.evaluation.intervals import Interval, t_interval
from trueup.reports.figures import COLOURS
from trueup.sandbox import World, gold_score
from trueup.types import prompt_json

RESULTS = Path("benchmarks/results/noise.json")
FIGURE = Path("docs/images/noise.svg")
RATES = (0.0, 0.1, 0.2, 0.3, 0.4)
VOTES = {"1 vote": (1, "majority"), "3 votes, majority": (3, "majority"), "3 votes, share": (3, "share")}
VOTES |= {"5 votes, majority": (5, "majority"), "5 votes, share": (5, "share")}
"""Votes of a pair, and what is made of them."""
LOSSES = ("dpo", "smoothed", "robust")
TEST = 1_200

Judged = tuple[str, str, str, float]
"""A question, two answers, gold of the first less gold of the second."""


def main() -> None:
    """Run every seed, write JSON and figure, and print both tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("runs/noise"))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--judgments", type=int, default=3_000)
    parser.add_argument("--prompts", type=int, default=200, help="Held-out prompts that the policies answer.")
    parser.add_argument("--rates", type=float, nargs="+", default=list(RATES))
    args = parser.parse_args()
    rewards: list[dict[str, Any]] = []
    policies: list[dict[str, Any]] = []
    for seed in args.seeds:
        world = World(seed)
        train, test = (list(_judged(world, split, n)) for split, n in (("train", args.judgments), ("test", TEST)))
        files = write_data(args.out / f"data-{seed}", seed, 2_000, 10, args.prompts)
        for rate in args.rates:
            rewards += _rewards(train, test, rate, seed, args.out / f"seed-{seed}", Path(files["base"]))
        policies += _policies(train, args.rates, seed, args.out / f"seed-{seed}", files)
        measurement = {"judgments": args.judgments, "seeds": args.seeds, **summary(rewards, policies)}
        RESULTS.write_text(json.dumps(measurement, indent=1) + "\n", encoding="utf-8")
    draw_figure(measurement)
    print(reward_table(measurement), policy_table(measurement), *conclusions(measurement), sep="\n\n")


def _judged(world: World, split: Any, count: int) -> Iterator[Judged]:
    """Pairs whose two answers differ in gold."""
    for prompt, left, right in world.candidate_pairs(split, count + count // 3, per_prompt=2):
        gap = gold_score(prompt.text, left).total - gold_score(prompt.text, right).total
        if gap and count:
            count -= 1
            yield prompt.text, left, right, gap


def labels(pairs: Sequence[Judged], rate: float, votes: int, how: str, seed: int) -> list[dict[str, Any]]:
    """Pair rows whose votes are wrong at ``rate``; a majority is hard, a share is the strength."""
    draw, rows = random.Random(derive(seed, "noise", str(rate), votes)), []
    for question, left, right, gap in pairs:
        first = sum((gap > 0) is (draw.random() >= rate) for _ in range(votes))
        chosen, rejected = (left, right) if 2 * first > votes else (right, left)
        strength = max(first, votes - first) / votes if how == "share" else 1.0
        row = {"prompt": prompt_json(chat(question)), "chosen": chosen, "rejected": rejected, "strength": strength}
        rows.append(row)
    return rows


def _rewards(
    train: Sequence[Judged], test: list[Judged], rate: float, seed: int, out: Path, base: Path
) -> Iterator[dict[str, Any]]:
    for name, (votes, how) in VOTES.items():
        file = write_jsonl(out / "labels.jsonl", labels(train[: len(train) // votes], rate, votes, how, seed))
        right = trained(file, base, out / "reward", seed, test)
        print(f"seed {seed}, {rate:.0%} wrong, {name}: {right:.3f}", flush=True)
        yield {"seed": seed, "rate": rate, "labels": name, "accuracy": right}


def _policies(
    train: Sequence[Judged], rates: Sequence[float], seed: int, out: Path, files: Mapping[str, str]
) -> Iterator[dict[str, Any]]:
    batch, first = {"size": 32, "max_length": 160}, {"learning_rate": 1e-3, "weight_decay": 0.01}
    sft = {"data": files["demonstrations"], "model": {"name": files["base"]}, "batch": batch, "optim": first}
    stages = [Stage("sft", "sft", sft | {"seed": seed})]
    for rate in rates:
        pairs = write_jsonl(out / f"pairs-{rate:g}.jsonl", labels(train, rate, 1, "majority", seed))
        for loss in LOSSES:
            settings = {
                "data": str(pairs),
                "model": {"name": "@sft"},
                "batch": batch,
                "objective": objective(loss, rate),
            }
            learn = {"optim": {"learning_rate": 3e-4, "warmup": 0.1}, "epochs": 1, "seed": seed}
            stages.append(Stage(f"{loss}-{rate:g}", "dpo", settings | learn))
    runs = run_stages(out / "runs", stages, fresh=True, tell=print)
    models = {name: path / "final" for name, path in runs.items()}
    rows = evaluate_models(files, models, None, seed)
    gold = {name: [row["gold"] for row in rows if row["model"] == name] for name in models}
    shutil.rmtree(out / "runs")
    for name in models:
        if name != "sft":
            wins = [1.0 if a > b else 0.5 if a == b else 0.0 for a, b in zip(gold[name], gold["sft"], strict=True)]
            loss, _, rate_text = name.rpartition("-")
            yield {"seed": seed, "rate": float(rate_text), "loss": loss, "wins": wins}


def objective(loss: str, rate: float) -> dict[str, Any]:
    """DPO; DPO that assumes a tenth of wrong labels; robust DPO that knows the rate."""
    if loss == "robust":
        return {"kind": "robust-dpo", "beta": 0.1, "flip_rate": rate}
    return {"kind": "dpo", "beta": 0.1, "label_smoothing": 0.1 if loss == "smoothed" else 0.0}


def summary(rewards: Sequence[Mapping[str, Any]], policies: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Means with intervals: of accuracies over seeds, of wins over seeds and prompts; differences are paired."""
    by_rate: dict[str, Any] = {}
    for rate in dict.fromkeys(row["rate"] for row in rewards):
        own = {name: [r["accuracy"] for r in rewards if (r["rate"], r["labels"]) == (rate, name)] for name in VOTES}
        plain = own["1 vote"]
        by_rate[f"{rate:g}"] = {
            name: {
                "accuracy": t_interval(values).to_dict(),
                "over_one_vote": t_interval([a - b for a, b in zip(values, plain, strict=True)]).to_dict(),
            }
            for name, values in own.items()
        }
    wins: dict[str, Any] = {}
    for rate in dict.fromkeys(row["rate"] for row in policies):
        own_rows = {loss: [r for r in policies if (r["rate"], r["loss"]) == (rate, loss)] for loss in LOSSES}
        wins[f"{rate:g}"] = {
            loss: {
                "wins": _crossed(rows, None).to_dict(),
                "over_dpo": _crossed(rows, own_rows["dpo"]).to_dict(),
            }
            for loss, rows in own_rows.items()
        }
    return {"rewards": by_rate, "policies": wins}


def _crossed(rows: Sequence[Mapping[str, Any]], base: Sequence[Mapping[str, Any]] | None) -> Interval:
    """Seeds have worlds of their own, and so prompts of their own: the unit is the seed where there are several."""
    means = []
    for number, row in enumerate(rows):
        other = base[number]["wins"] if base is not None else [0.0] * len(row["wins"])
        means.append([a - b for a, b in zip(row["wins"], other, strict=True)])
    if len(means) > 1:
        return t_interval([sum(values) / len(values) for values in means])
    return crossed_mean(cells(means[0], [0] * len(means[0]), range(len(means[0]))))


def reward_table(measurement: Mapping[str, Any]) -> str:
    """Markdown: accuracy by rate and labels, and the difference from one vote a pair."""
    lines = [f"| wrong votes | {' | '.join(VOTES)} |", f"|---:|{'---|' * len(VOTES)}"]
    for rate, row in measurement["rewards"].items():
        shown = []
        for name in VOTES:
            gap = "" if name == "1 vote" else f"; {interval(row[name]['over_one_vote'], '+.3f')}"
            shown.append(f"{row[name]['accuracy']['estimate']:.3f}{gap}")
        lines.append(f"| {float(rate):.0%} | {' | '.join(shown)} |")
    return "\n".join(lines)


def policy_table(measurement: Mapping[str, Any]) -> str:
    """Markdown: win-rate over SFT by rate and loss, and the difference from plain DPO."""
    lines = ["| wrong labels | DPO | smoothed by .1 | robust, rate known |", "|---:|---|---|---|"]
    for rate, row in measurement["policies"].items():
        shown = [interval(row["dpo"]["wins"])]
        shown += [
            f"{row[loss]['wins']['estimate']:.3f}; {interval(row[loss]['over_dpo'], '+.3f')}" for loss in LOSSES[1:]
        ]
        lines.append(f"| {float(rate):.0%} | {' | '.join(shown)} |")
    return "\n".join(lines)


def conclusions(measurement: Mapping[str, Any]) -> list[str]:
    """What the intervals say."""
    rates = list(measurement["rewards"])
    first, last = (measurement["rewards"][rate]["1 vote"]["accuracy"]["estimate"] for rate in (rates[0], rates[-1]))
    said = [
        f"With one vote a pair the reward model falls from {first:.3f} to {last:.3f} as wrong votes go from "
        f"{float(rates[0]):.0%} to {float(rates[-1]):.0%}."
    ]
    for word, sign in (("help", 1), ("hurt", -1)):
        names = [
            f"{name} at {float(rate):.0%}"
            for rate, row in measurement["rewards"].items()
            for name in VOTES
            if name != "1 vote" and _clear(row[name]["over_one_vote"], sign)
        ]
        said.append(f"More votes on fewer pairs {word}: {', '.join(names) or 'nowhere with the whole interval'}.")
        losses = [
            f"{loss} at {float(rate):.0%}"
            for rate, row in measurement["policies"].items()
            for loss in LOSSES[1:]
            if _clear(row[loss]["over_dpo"], sign)
        ]
        said.append(f"Another loss than DPO's {word}s: {', '.join(losses) or 'nowhere with the whole interval'}.")
    return said


def _clear(value: Mapping[str, Any], sign: int) -> bool:
    """Whether the whole interval lies on one side of 0."""
    low, high = value["low"], value["high"]
    return low is not None and (low > 0 if sign > 0 else high < 0)


def draw_figure(measurement: Mapping[str, Any]) -> None:
    """Accuracy and win-rate over the share of wrong labels, with intervals, as SVG."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9.0, 3.6), layout="constrained")
    left, right = figure.subplots(1, 2)
    rates = [float(rate) for rate in measurement["rewards"]]
    for axes, rows, names, key in (
        (left, measurement["rewards"], list(VOTES), "accuracy"),
        (right, measurement["policies"], list(LOSSES), "wins"),
    ):
        for name, colour in zip(names, COLOURS, strict=False):
            points = [rows[f"{rate:g}"][name][key] for rate in rates]
            middle = [point["estimate"] for point in points]
            low = [p["estimate"] if p["low"] is None else p["low"] for p in points]
            high = [p["estimate"] if p["high"] is None else p["high"] for p in points]
            axes.plot(rates, middle, color=colour, marker="o", label=name)
            axes.fill_between(rates, low, high, color=colour, alpha=0.12)
        axes.set_xlabel("share of wrong votes")
        axes.legend(frameon=False, fontsize=8)
    left.set_ylabel("reward model: accuracy by gold")
    right.set_ylabel("DPO: gold win-rate over SFT")
    right.axhline(0.5, color="0.7", linewidth=0.8)
    FIGURE.write_text(svg(figure), encoding="utf-8")


if __name__ == "__main__":
    main()
