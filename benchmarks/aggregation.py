"""What aggregation is worth: reward models trained on the same judgments, made into labels in different ways.

    python -m benchmarks.aggregation --base runs/quickstart/base/final --out runs/aggregation

A crowd of ten sandbox annotators, four of whom do not read, gives three votes a pair. Labels are the majority (hard),
the share of votes, or the posterior of Dawid and Skene's model; nobody is left out by hand. Each trains the same
reward model from the same base. Judged on pairs that nobody voted on, by gold, without noise: how often the better
answer gets the higher reward.
"""

from __future__ import annotations

import argparse
import json
import shutil
from pathlib import Path
from statistics import mean, stdev
from typing import Any

from trueup.config import Batch as Rendering
from trueup.config import Model
from trueup.crowd import Batch, Collected, chat, collect
from trueup.data.render import Renderer
from trueup.data.sandbox import World, gold, panel
from trueup.data.write import write_jsonl
from trueup.engine.score import rewards
from trueup.feedback.quality.consensus import aggregate
from trueup.models.heads import open_reward_model
from trueup.recipes.registry import RECIPES, execute
from trueup.types import prompt_json

RESULTS = Path("benchmarks/results/aggregation.json")
METHODS = ("majority", "share", "dawid_skene")
BUDGETS = (1_500, 3_000, 6_000, 12_000)
VOTES, SPAMMERS, ANNOTATORS, TEST = 3, 4, 10, 2_000


def main() -> None:
    """Run every budget, method and seed; write JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--base", type=Path, required=True)
    parser.add_argument("--out", type=Path, default=Path("runs/aggregation"))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4])
    args = parser.parse_args()
    found: list[dict[str, Any]] = []
    for seed in args.seeds:
        world = World(seed)
        test = [
            (p.text, left, right, gold(p.text, left).total - gold(p.text, right).total)
            for p, left, right in world.candidate_pairs("test", TEST)
        ]
        for budget in BUDGETS:
            folder = args.out / f"seed-{seed}" / str(budget)
            shutil.rmtree(folder, ignore_errors=True)
            pairs = world.candidate_pairs("train", budget // VOTES)
            crowd = panel(seed, ANNOTATORS, spammers=SPAMMERS)
            judged = collect(folder / "feedback.db", crowd, [Batch(pairs, "train", VOTES, seed)], seed=seed)
            for method in METHODS:
                rows, wrong = labels(judged, method)
                file = write_jsonl(folder / f"{method}.jsonl", rows)
                row = {"seed": seed, "budget": budget, "method": method, "pairs": len(rows), "labels_wrong": wrong}
                row["accuracy"] = trained(file, args.base, folder / method, seed, test)
                found.append(row)
                print(row, flush=True)
        RESULTS.write_text(json.dumps(found, indent=1) + "\n")
    print(table(found))


def labels(collected: Collected, method: str) -> tuple[list[dict[str, Any]], float]:
    """Training rows, and the share of them whose chosen side is the worse one by gold."""
    rows, wrong = [], []
    how = "dawid_skene" if method == "dawid_skene" else "majority"
    for name, label in aggregate(collected.judged, how).items():
        item = collected.judged.items[name]
        texts = {r.id: r.text for r in item.responses}
        p = label["p_first"]
        if abs(p - 0.5) < 1e-9:
            continue
        chosen, rejected = (label["first"], label["second"]) if p > 0.5 else (label["second"], label["first"])
        strength = 1.0 if method == "majority" else max(p, 1 - p)
        question = item.prompt if isinstance(item.prompt, str) else item.prompt[-1].content
        gap = gold(question, texts[chosen]).total - gold(question, texts[rejected]).total
        wrong.append(0.5 if gap == 0 else float(gap < 0))
        sides = {"chosen": texts[chosen], "rejected": texts[rejected]}
        rows.append({"prompt": prompt_json(chat(question)), **sides, "strength": strength})
    return rows, mean(wrong)


def trained(file: Path, base: Path, out: Path, seed: int, test: list[tuple[str, str, str, float]]) -> float:
    """Train a reward model on ``file`` and give its accuracy on ``test`` by gold, ties half."""
    settings = {
        "data": str(file),
        "model": {"name": str(base)},
        "optim": {"learning_rate": 1e-3, "weight_decay": 0.1, "warmup": 0.1},
        "batch": {"size": 32, "max_length": 160},
        "epochs": 2,
        "seed": seed,
        "save_every": 100_000,
    }
    shutil.rmtree(out, ignore_errors=True)
    execute("reward", RECIPES["reward"].settings()(**settings), out, quiet=True)
    model = open_reward_model(Model(name=str(out / "final")), new_head=False)
    renderer = Renderer.of(model.tokenizer, Rendering(max_length=160), context=model.context)
    sides = []
    for asked, left, right, _ in test:
        sides += [renderer.render(chat(asked), left), renderer.render(chat(asked), right)]
    scores = rewards(model, [(r.prompt_ids, r.completion_ids) for r in sides]).tolist()
    shutil.rmtree(out)
    right_ones = [
        0.5
        if gap == 0 or scores[2 * i] == scores[2 * i + 1]
        else float((scores[2 * i] > scores[2 * i + 1]) == (gap > 0))
        for i, (*_, gap) in enumerate(test)
    ]
    return mean(right_ones)


def table(found: list[dict[str, Any]]) -> str:
    """Markdown: accuracy by budget and method, and the paired gain over the majority."""
    lines = [
        "| judgments | majority | share of votes | Dawid-Skene | gain over majority, paired by seed "
        "| labels wrong: majority, Dawid-Skene |",
        "|---:|---:|---:|---:|---:|---|",
    ]
    for budget in sorted({r["budget"] for r in found}):
        by = {m: {r["seed"]: r for r in found if r["budget"] == budget and r["method"] == m} for m in METHODS}
        gains = [by["dawid_skene"][s]["accuracy"] - by["majority"][s]["accuracy"] for s in by["majority"]]
        error = stdev(gains) / len(gains) ** 0.5 if len(gains) > 1 else float("nan")
        means = [mean(r["accuracy"] for r in by[m].values()) for m in METHODS]
        wrong = [mean(r["labels_wrong"] for r in by[m].values()) for m in ("majority", "dawid_skene")]
        lines.append(
            f"| {budget:,} | {means[0]:.3f} | {means[1]:.3f} | {means[2]:.3f} | {mean(gains):+.3f} (s.e. {error:.3f}) "
            f"| {wrong[0]:.3f}, {wrong[1]:.3f} |"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    main()
