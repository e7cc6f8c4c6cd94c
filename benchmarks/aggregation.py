"""What aggregation is worth: reward models trained on the same judgments, made into labels in different ways.

    python -m benchmarks.aggregation --base runs/quickstart/data/base --out runs/aggregation [--data DIR]

A crowd of ten sandbox annotators, four of whom do not read, gives three votes a pair. Labels are the majority (hard),
the share of votes, Dawid and Skene's posterior, or that of the model with a gap for each pair and an ability for each
annotator (``ability``); nobody is left out by hand. Each trains the same reward model from the same base. Judged on
pairs that nobody voted on, by gold, without noise: how often the better answer gets the higher reward.

With ``--data``, also how honest the labels are on real votes: the mean surprise (negative log-probability, nats) of
what is true. Of 1,000 items with five labels each the truth is known; of 595 pairs judged by three people each,
one person's verdict is predicted from the other two's, ties left out.
"""

from __future__ import annotations

import argparse
import gzip
import json
import math
import shutil
from pathlib import Path
from statistics import mean, stdev
from typing import Any

from trueup.collectors.sandbox_panel import Collected, JudgingBatch, chat, collect_judgments
from trueup.config import Batch as Rendering
from trueup.config import Model
from trueup.data.render import Renderer
from trueup.data.write import write_jsonl
from trueup.engine.score import rewards
from trueup.feedback.quality.comparisons import PairVote
from trueup.feedback.quality.consensus import aggregate, estimates
from trueup.models.heads import open_reward_model
from trueup.recipes.registry import execute
from trueup.recipes.table import RECIPES
from trueup.sandbox import World, gold_score, panel
from trueup.types import prompt_json

RESULTS = Path("benchmarks/results/aggregation.json")
METHODS = ("majority", "share", "dawid_skene", "ability")
HONEST = ("majority", "dawid_skene", "ability")
BUDGETS = (1_500, 3_000, 6_000, 12_000)
VOTES, SPAMMERS, ANNOTATORS, TEST = 3, 4, 10, 1_500


def main() -> None:
    """Run every budget, method and seed; write JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--base", type=Path, required=True)
    parser.add_argument("--out", type=Path, default=Path("runs/aggregation"))
    parser.add_argument("--data", type=Path)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4])
    args = parser.parse_args()
    found: list[dict[str, Any]] = []
    real = honesty(args.data / "annotators") if args.data else None
    for seed in args.seeds:
        world = World(seed)
        test = [
            (p.text, left, right, gold_score(p.text, left).total - gold_score(p.text, right).total)
            for p, left, right in world.candidate_pairs("test", TEST)
        ]
        for budget in BUDGETS:
            folder = args.out / f"seed-{seed}" / str(budget)
            shutil.rmtree(folder, ignore_errors=True)
            pairs = world.candidate_pairs("train", budget // VOTES)
            crowd = panel(seed, ANNOTATORS, spammers=SPAMMERS)
            judged = collect_judgments(
                folder / "feedback.db", crowd, [JudgingBatch(pairs, "train", VOTES, seed)], seed=seed
            )
            for method in METHODS:
                rows, told = labels(judged, method)
                file = write_jsonl(folder / f"{method}.jsonl", rows)
                row = {"seed": seed, "budget": budget, "method": method, "pairs": len(rows), **told}
                row["accuracy"] = trained(file, args.base, folder / method, seed, test)
                found.append(row)
                print(row, flush=True)
        RESULTS.write_text(json.dumps({"trained": found, "real": real}, indent=1) + "\n")
    print(table(found))


def labels(collected: Collected, method: str) -> tuple[list[dict[str, Any]], dict[str, float]]:
    """Training rows; the share whose chosen side is the worse one by gold, and the surprise of gold's verdicts."""
    rows, wrong, surprise = [], [], []
    how = "majority" if method == "share" else method
    for name, label in aggregate(collected.judged, how).items():
        item = collected.judged.items[name]
        texts = {r.id: r.text for r in item.responses}
        p = label.p_first
        if abs(p - 0.5) < 1e-9:
            continue
        chosen, rejected = (label.first, label.second) if p > 0.5 else (label.second, label.first)
        strength = 1.0 if method == "majority" else max(p, 1 - p)
        question = item.prompt if isinstance(item.prompt, str) else item.prompt[-1].content
        gap = gold_score(question, texts[chosen]).total - gold_score(question, texts[rejected]).total
        wrong.append(0.5 if gap == 0 else float(gap < 0))
        if gap:
            surprise.append(_surprise(strength if gap > 0 else 1 - strength))
        sides = {"chosen": texts[chosen], "rejected": texts[rejected]}
        rows.append({"prompt": prompt_json(chat(question)), **sides, "strength": strength})
    return rows, {"labels_wrong": mean(wrong), "surprise": mean(surprise)}


def _surprise(p: float) -> float:
    """Nats, for a probability held within 0.1 and 99.9 %: no single vote may be infinitely wrong."""
    return -math.log(min(0.999, max(0.001, p)))


def honesty(folder: Path) -> dict[str, dict[str, dict[str, float]]]:
    """Real votes: file -> method -> how often right, how sure, how surprised by what was true."""

    def rows(name: str) -> list[dict[str, Any]]:
        with gzip.open(folder / f"{name}.jsonl.gz", "rt", encoding="utf-8") as lines:
            return [json.loads(line) for line in lines]

    def vote(item: Any, who: Any, sign: int, at: int) -> PairVote:
        return PairVote(f"{item}/{at}", str(item), str(who), f"{item}/1", f"{item}/2", sign, 1.0, True, "")

    crowd = rows("crowd_labels_1000")  # "yes" stands first for everybody, so that a habit of saying it is a side
    truth = {str(row["item"]): bool(row["truth"]) for row in crowd}
    cases = [([vote(r["item"], r["worker"], 1 if r["label"] else -1, n) for n, r in enumerate(crowd)], truth)]
    found = {"crowd_labels_1000": cases}
    pandas = rows("pandalm_three_annotators")
    sign = {0: 0, 1: 1, 2: -1}
    found["pandalm_three_annotators"] = [
        (
            [vote(r["idx"], j, sign[r[f"annotator{j}"]], j) for r in pandas for j in (1, 2, 3) if j != aside],
            {str(r["idx"]): r[f"annotator{aside}"] == 1 for r in pandas if r[f"annotator{aside}"]},
        )
        for aside in (1, 2, 3)
    ]
    return {name: {how: _honest(these, how) for how in HONEST} for name, these in found.items()}


def _honest(cases: list[tuple[list[PairVote], dict[str, bool]]], method: str) -> dict[str, float]:
    told = [
        (one.p_first if truth[one.item] else 1 - one.p_first)
        for cast, truth in cases
        for one in estimates(cast, method)
        if one.item in truth
    ]
    return {
        "right": mean(0.5 + 0.5 * ((p > 0.5) - (p < 0.5)) for p in told),
        "sure": mean(max(p, 1 - p) for p in told),
        "surprise": mean(_surprise(p) for p in told),
    }


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
    """Markdown: accuracy by budget and method, the paired gain over the majority, and the labels themselves."""
    lines = [
        "| judgments | majority | share of votes | Dawid-Skene | ability | ability over majority, paired by seed "
        "| labels wrong: majority, ability | surprise: share, Dawid-Skene, ability |",
        "|---:|---:|---:|---:|---:|---:|---|---|",
    ]
    for budget in sorted({r["budget"] for r in found}):
        by = {m: {r["seed"]: r for r in found if r["budget"] == budget and r["method"] == m} for m in METHODS}
        gains = [by["ability"][s]["accuracy"] - by["majority"][s]["accuracy"] for s in by["majority"]]
        error = stdev(gains) / len(gains) ** 0.5 if len(gains) > 1 else float("nan")
        means = " | ".join(f"{mean(r['accuracy'] for r in by[m].values()):.3f}" for m in METHODS)
        wrong = ", ".join(f"{mean(r['labels_wrong'] for r in by[m].values()):.3f}" for m in ("majority", "ability"))
        surprise = ", ".join(f"{mean(r['surprise'] for r in by[m].values()):.3f}" for m in METHODS[1:])
        lines.append(f"| {budget:,} | {means} | {mean(gains):+.3f} (s.e. {error:.3f}) | {wrong} | {surprise} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
