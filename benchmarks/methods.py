"""Every online method on three seeds: quality against gold, KL, words, seconds of a step, memory.

python -m benchmarks.methods --seeds 0 1 2 --out runs/methods

Each seed has its own judgments, SFT model and reward model; all methods of a seed start from the same SFT model, follow
the same reward model and draw the same number of answers a step. The prompts of the test are the same for all seeds, so
seeds and prompts are crossed. Each run has a process of its own, so its memory is its own; what is done is skipped.
"""

from __future__ import annotations

import argparse
import json
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from benchmarks import real_stages
from benchmarks.mixed_reward import write_data
from benchmarks.shown import interval
from trueup.commands.walkthrough import evaluate_models
from trueup.evaluation.crossed import cells, crossed_mean
from trueup.evaluation.intervals import Interval
from trueup.ledger import read_lines
from trueup.rewards.registry import open_reward

RESULTS = Path("benchmarks/results/methods.json")
ANSWERS, LENGTH = 128, 64
"""A step draws so many answers of at most so many tokens, whatever the method."""
FIXED = {"kind": "fixed", "beta": 0.05}
GROUPED: dict[str, Any] = {"answers": 4, "kl": FIXED, "kl_place": "reward"}
METHODS: dict[str, tuple[str, dict[str, Any]]] = {
    "ppo": ("ppo", {"epochs": 2, "mini_batches": 2, "kl": FIXED}),
    "rloo": ("rloo", GROUPED),
    "grpo": ("grpo", {"answers": 4}),
    "dr-grpo": ("grpo", {"preset": "dr-grpo", "answers": 4}),
    "dapo": ("grpo", {"preset": "dapo", "answers": 4}),
    "reinforce-pp": ("reinforce-pp", GROUPED),
    "cispo": ("cispo", {"answers": 4}),
    "gspo": ("gspo", {"answers": 4}),
    "online-dpo": ("online-dpo", {"answers": 4}),
    "best-of-n": ("best-of-n", {"answers": 4}),
}
"""Name -> command and what is set, all else by default. PPO, RLOO and REINFORCE++ share one beta in the reward."""
COLUMNS = ("gold", "reward", "kl", "words")


def main() -> None:
    """Train and measure each seed, store after each, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("runs/methods"))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--methods", choices=METHODS, nargs="+", default=list(METHODS))
    parser.add_argument("--demonstrations", type=int, default=3000)
    parser.add_argument("--pairs", type=int, default=5000)
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--prompts", type=int, default=300, help="Held-out prompts.")
    parser.add_argument("--learning-rate", type=float, default=5e-4)
    args = parser.parse_args()
    seeds = {}
    for seed in args.seeds:
        files = write_data(args.out / f"data-{seed}", 0, args.demonstrations, args.pairs, args.prompts, votes=seed)
        recipe = [
            *first(files, seed),
            *(online(name, files, args.steps, args.learning_rate, seed) for name in args.methods),
        ]
        seeds[seed] = measured(args.out / f"seed-{seed}", recipe, files, seed)
        measurement = {
            "steps": args.steps,
            "learning_rate": args.learning_rate,
            "threads": torch.get_num_threads(),
            **compared(seeds),
        }
        RESULTS.write_text(json.dumps(measurement, indent=1) + "\n", encoding="utf-8")
    print(table(measurement))


def first(files: Mapping[str, str], seed: int) -> list[dict[str, Any]]:
    """The SFT model and the reward model."""
    shared = {"model": {"name": files["base"]}, "batch": {"size": 32, "max_length": 160}, "seed": seed}
    learn = {"learning_rate": 1e-3, "weight_decay": 0.01}
    sft = {"name": "sft", "kind": "sft", "data": files["demonstrations"], "optim": learn}
    reward = {"name": "reward", "kind": "reward", "data": files["pairs"], "validation": files["held_out_pairs"]}
    return [sft | shared, reward | shared | {"epochs": 2, "optim": learn | {"weight_decay": 0.1}}]


def followed(files: Mapping[str, str], steps: int, rate: float, answers: int) -> dict[str, Any]:
    """What any method takes that starts from the SFT model and follows the reward model."""
    return {
        "data": files["prompts"],
        "model": {"name": "@sft"},
        "reward": "@reward",
        "batch": {"size": answers, "max_length": 160},
        "steps": steps,
        "sampling": {"max_new_tokens": LENGTH},
        "optim": {"learning_rate": rate, "eps": 1e-5, "schedule": "constant", "warmup": 0.0},
    }


def online(name: str, files: Mapping[str, str], steps: int, rate: float, seed: int) -> dict[str, Any]:
    """The stage of one method."""
    kind, settings = METHODS[name]
    return {
        "name": name,
        "kind": kind,
        **followed(files, steps, rate, ANSWERS),
        "probes": 32,
        "probe_every": max(1, steps // 5),
        "seed": seed,
        **settings,
    }


def measured(out: Path, recipe: Sequence[dict[str, Any]], files: Mapping[str, str], seed: int) -> dict[str, Any]:
    """One seed: each model's values by prompt, seconds of a step, minutes, memory and reward of the last steps."""
    runs = real_stages.run(out, recipe)
    models = {name: path / "final" for name, path in runs.items() if name != "reward"}
    rows = evaluate_models(files, models, open_reward(str(runs["reward"] / "final")), seed=0)
    values: dict[str, dict[str, list[float]]] = {}
    for row in rows:
        own = values.setdefault(row["model"], {name: [] for name in COLUMNS})
        for name in COLUMNS:
            own[name].append(float(len(row["completion"].split()) if name == "words" else row[name]))
    costs = real_stages.read_costs(out)
    return {name: {"values": values[name], "seconds": step_seconds(runs[name]), **costs[name]} for name in models}


def step_seconds(run: Path) -> float:
    """The median time of a step, in seconds, without probes and checkpoints that only some steps have."""
    rows, _ = read_lines(run / "timing.jsonl")
    return statistics.median(float(row["seconds"]) for row in rows if "step" in row)


def compared(seeds: Mapping[int, Mapping[str, Any]]) -> dict[str, Any]:
    """Means over seeds and prompts, and gold's difference from SFT and from PPO on the same seeds and prompts."""
    models: dict[str, Any] = {}
    for name in next(iter(seeds.values())):
        models[name] = {column: _crossed(seeds, name, column).to_dict() for column in COLUMNS}
        for other in ("sft", "ppo"):
            if other != name and other in next(iter(seeds.values())):
                models[name][f"over_{other}"] = _crossed(seeds, name, "gold", other).to_dict()
        for cost in ("seconds", "minutes", "gb"):
            models[name][cost] = statistics.mean(own[name][cost] for own in seeds.values())
    return {"seeds": list(seeds), "models": models}


def _crossed(seeds: Mapping[int, Mapping[str, Any]], name: str, column: str, other: str | None = None) -> Interval:
    values: list[float] = []
    of_seed: list[int] = []
    of_prompt: list[int] = []
    for seed, models in seeds.items():
        own = models[name]["values"][column]
        base = models[other]["values"][column] if other else [0.0] * len(own)
        values += [a - b for a, b in zip(own, base, strict=True)]
        of_seed += [seed] * len(own)
        of_prompt += range(len(own))
    return crossed_mean(cells(values, of_seed, of_prompt))


def table(measurement: Mapping[str, Any]) -> str:
    """Markdown: a row for each model."""
    lines = [
        "| model | gold | over SFT | over PPO | reward | KL, nats | words | s a step | minutes | GB |",
        "|---|---|---|---|---:|---:|---:|---:|---:|---:|",
    ]
    for name, row in measurement["models"].items():
        gaps = " | ".join(interval(row[key], "+.3f") if key in row else "–" for key in ("over_sft", "over_ppo"))
        means = " | ".join(
            f"{row[key]['estimate']:.{digits}f}" for key, digits in (("reward", 2), ("kl", 2), ("words", 1))
        )
        costs = f"{row['seconds']:.2f} | {row['minutes']:.1f} | {row['gb']:.2f}"
        lines.append(f"| {name} | {interval(row['gold'])} | {gaps} | {means} | {costs} |")
    return "\n".join(lines)


def conclusions(measurement: Mapping[str, Any]) -> list[str]:
    """What the intervals say, one sentence each; losers by name."""
    models = {name: row for name, row in measurement["models"].items() if name != "sft"}
    better = [name for name, row in models.items() if row["over_sft"]["low"] > 0]
    worse = [name for name in models if name not in better]
    said = [f"Better than SFT with the whole interval: {', '.join(better) or 'none'}."]
    if worse:
        said.append(f"Not shown to be better than SFT: {', '.join(worse)}.")
    for name in ("rloo", "grpo"):
        if "over_ppo" in models.get(name, {}):
            gap, pace = models[name]["over_ppo"], models[name]["seconds"] / models["ppo"]["seconds"]
            verdict = (
                "better than PPO" if gap["low"] > 0 else "worse than PPO" if gap["high"] < 0 else "no difference shown"
            )
            said.append(f"{name} less PPO: {interval(gap, '+.3f')}, {verdict}; a step takes {pace:.2f} of PPO's time.")
    return said


if __name__ == "__main__":
    main()
