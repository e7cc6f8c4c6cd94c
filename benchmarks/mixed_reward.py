"""Helpful and concise at once: PPO on r = a * helpful + (1 - a) * concise for several a, judged by gold.

python -m benchmarks.mixed_reward --out runs/mixed

Helpful is a reward model of the sandbox's annotators, concise is the rule ``length``; both are brought to one scale, so
that a says how much each counts. The table has what neither of them sees: gold's helpfulness, and words of an answer.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from benchmarks.shown import svg, without_frame
from trueup.collectors.sandbox_panel import chat
from trueup.commands.pipeline import Stage, run_stages
from trueup.commands.walkthrough import evaluate_models
from trueup.data.write import write_jsonl
from trueup.evaluation.intervals import mean_interval
from trueup.reports.figures import COLOURS, GREY
from trueup.rewards.registry import open_reward
from trueup.sandbox import World, label_pairs, panel
from trueup.sandbox.shipped import copy_base
from trueup.types import prompt_json

RESULTS = Path("benchmarks/results/mixed_reward.json")
FIGURE = Path("docs/images/mixed-reward.svg")
SHARES = (0.0, 0.25, 0.5, 0.75, 1.0)


def main() -> None:
    """Train, measure, store and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("runs/mixed"))
    parser.add_argument("--demonstrations", type=int, default=2000)
    parser.add_argument("--pairs", type=int, default=3000)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--prompts", type=int, default=200, help="Held-out prompts.")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    files = write_data(args.out / "data", args.seed, args.demonstrations, args.pairs, args.prompts)
    runs = run_stages(args.out, stages(files, args.steps, args.seed), fresh=True, tell=print)
    models = {name: path / "final" for name, path in runs.items() if name != "helpful"}
    rows = evaluate_models(files, models, open_reward(str(runs["helpful"] / "final")), args.seed)
    measured = {"seed": args.seed, "steps": args.steps, "models": summary(rows)}
    RESULTS.write_text(json.dumps(measured) + "\n")
    FIGURE.write_text(pareto(measured), encoding="utf-8")
    print(table(measured))


def write_data(
    folder: Path, seed: int, demonstrations: int, pairs: int, prompts: int, *, votes: int | None = None
) -> dict[str, str]:
    """Demonstrations, judged pairs and prompts of the sandbox, and its base model; paths by name.

    ``votes`` names the draws of the judges where they are not those of the world's seed.
    """
    world, drawn = World(seed), seed if votes is None else votes
    folder.mkdir(parents=True, exist_ok=True)
    labelled = label_pairs(panel(drawn), world.candidate_pairs("train", pairs), 3, drawn)
    held_out = label_pairs(panel(drawn), world.candidate_pairs("test", pairs // 5), 3, drawn)
    rows: dict[str, list[dict[str, Any]]] = {
        "demonstrations": [
            {"prompt": prompt_json(chat(str(d.prompt))), "completion": d.completion}
            for d in world.demonstrations("train", demonstrations)
        ],
        "prompts": [{"prompt": prompt_json(chat(p.text))} for p in world.prompts("train", 2000)],
        "test_prompts": [{"text": p.text, "kind": p.kind} for p in world.prompts("test", prompts)],
    }
    for name, group in (("pairs", labelled), ("held_out_pairs", held_out)):
        rows[name] = [
            {"prompt": prompt_json(chat(str(p.prompt))), "chosen": p.chosen, "rejected": p.rejected} for p in group
        ]
    files = {name: str(write_jsonl(folder / f"{name}.jsonl", lines)) for name, lines in rows.items()}
    return {**files, "base": str(copy_base(folder / "base"))}


def stages(files: dict[str, str], steps: int, seed: int) -> list[Stage]:
    """The SFT model, the reward model, and PPO for each share."""
    batch, base = {"size": 32, "max_length": 160}, {"name": files["base"]}
    learn = {"learning_rate": 1e-3, "weight_decay": 0.01}
    first = [
        Stage("sft", "sft", {"data": files["demonstrations"], "model": base, "batch": batch, "optim": learn}),
        Stage(
            "helpful",
            "reward",
            {"data": files["pairs"], "validation": files["held_out_pairs"], "model": base, "batch": batch, "epochs": 2}
            | {"optim": learn},
        ),
    ]
    return [*first, *(_ppo(share, files, steps, seed) for share in SHARES)]


def _ppo(share: float, files: dict[str, str], steps: int, seed: int) -> Stage:
    reward = [
        {"source": "@helpful", "weight": share, "normalise": "running"},
        {"kind": "length", "name": "concise", "weight": 1 - share, "normalise": "running"},
    ]
    settings = {
        "data": files["prompts"],
        "model": {"name": "@sft"},
        "reward": reward,
        "batch": {"size": 96, "max_length": 160},
        "steps": steps,
        "epochs": 2,
        "mini_batches": 2,
        "sampling": {"max_new_tokens": 64},
        "kl": {"kind": "fixed", "beta": 0.05},
        "optim": {"learning_rate": 5e-4, "eps": 1e-5, "schedule": "constant", "warmup": 0.0},
        "probes": 16,
        "seed": seed,
    }
    return Stage(f"a-{share:g}", "ppo", settings)


def summary(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Gold's helpfulness, gold in all, the reward model's score, words and KL of each model, with intervals."""
    models: dict[str, Any] = {}
    for name in dict.fromkeys(row["model"] for row in rows):
        own = [row for row in rows if row["model"] == name]
        columns = {
            "helpful": [row["gold_parts"]["helpful"] for row in own],
            "gold": [row["gold"] for row in own],
            "reward": [row["reward"] for row in own],
            "words": [float(len(row["completion"].split())) for row in own],
            "kl": [row["kl"] for row in own],
        }
        prompts = [row["prompt_id"] for row in own]
        models[name] = {key: mean_interval(values, prompts).to_dict() for key, values in columns.items()}
    return models


def table(measured: dict[str, Any]) -> str:
    """Markdown: a row for each model."""
    lines = ["| model | words | gold: helpful | gold | reward model | KL, nats |", "|---|---:|---:|---:|---:|---:|"]
    for name, cells in measured["models"].items():
        shown = [
            f"{cells[key]['estimate']:.2f} ± {_half(cells[key]):.2f}"
            for key in ("words", "helpful", "gold", "reward", "kl")
        ]
        lines.append(f"| {name} | {' | '.join(shown)} |")
    return "\n".join(lines)


def _half(cell: dict[str, Any]) -> float:
    return (cell["high"] - cell["low"]) / 2 if cell["low"] is not None else 0.0


def pareto(measured: dict[str, Any]) -> str:
    """Words against gold's helpfulness with intervals, as SVG; up and to the left is better."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7.2, 3.6), layout="constrained")
    axis = figure.subplots()
    for name, cells in measured["models"].items():
        words, helpful = cells["words"], cells["helpful"]
        colour = GREY if name == "sft" else COLOURS[0]
        axis.errorbar(
            words["estimate"], helpful["estimate"], xerr=_half(words), yerr=_half(helpful), fmt="o", color=colour
        )
        label = name if name == "sft" else f"a = {name.removeprefix('a-')}"
        axis.annotate(label, (words["estimate"], helpful["estimate"]), xytext=(6, 6), textcoords="offset points")
    axis.set_xlabel("words of an answer")
    axis.set_ylabel("gold: helpful")
    without_frame(axis)
    return svg(figure)


if __name__ == "__main__":
    main()
