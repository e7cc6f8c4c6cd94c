"""Does ``trueup why`` name the judgments that count? Leave them out, train again, and see.

python -m benchmarks.influence --seeds 0 --out runs/influence
python -m benchmarks.influence --seeds 0 1 2 --kind dpo --out runs/influence

In the sandbox with the shipped base model. A panel judges pairs; the labels of one topic are then flipped. A run learns
from them, and ``why`` is asked what pushed it towards the worse answers to other questions on that topic. Two figures:

- planted: of the first judgments that it names, as many as were flipped, how many are flipped ones;
- leave-out: the share of 2 % that it names first is left out, and the run trained again from the same start; so it is
  with random judgments, several times. By how much did the asked difference (worse answer over better) fall?

The second is asked of the planted topic and of another one that nobody tampered with.
"""

from __future__ import annotations

import argparse
import json
import random
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from trueup.collectors.sandbox_panel import chat
from trueup.commands.influences import Influences, Query, influences
from trueup.config import Model
from trueup.data.batch import Rows
from trueup.data.write import write_jsonl
from trueup.engine.rendering import renderer_of, whole_context
from trueup.engine.score import raw_rewards, score
from trueup.models.heads import open_reward_model
from trueup.models.policy import open_policy
from trueup.recipes.lessons import open_lessons
from trueup.recipes.registry import execute, resolve
from trueup.sandbox import World, gold_score, label_pairs, panel
from trueup.sandbox.shipped import copy_base
from trueup.types import prompt_json

RESULTS = Path("benchmarks/results/influence.json")
SHARE, ASKED, TWINS = 0.02, 12, 3
"""Left out; pairs of answers that are asked about; random sets that the named one is compared with."""


def main() -> None:
    """Run each seed, store its figures, print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--kind", choices=["reward", "dpo"], default="reward")
    parser.add_argument("--pairs", type=int, default=800)
    parser.add_argument("--out", type=Path, default=Path("runs/influence"))
    args = parser.parse_args()
    rows = json.loads(RESULTS.read_text(encoding="utf-8")) if RESULTS.exists() else []
    for seed in args.seeds:
        row = measured(seed, args.kind, args.pairs, args.out / f"{args.kind}-{seed}")
        rows = [r for r in rows if (r["seed"], r["kind"]) != (seed, args.kind)] + [row]
        RESULTS.write_text(json.dumps(sorted(rows, key=lambda r: (r["kind"], r["seed"])), indent=1) + "\n")
    print(table(rows))


def measured(seed: int, kind: str, count: int, out: Path) -> dict[str, Any]:
    """One seed."""
    began = time.perf_counter()
    out.mkdir(parents=True, exist_ok=True)
    base = copy_base(out / "base")
    world = World(seed)
    candidates = world.candidate_pairs("train", count)
    topics = [topic for topic, _ in Counter(prompt.topic for prompt, _, _ in candidates).most_common(2)]
    by_text = {prompt.text: prompt.topic for prompt, _, _ in candidates}
    judged = label_pairs(panel(seed), candidates, 3, seed)
    rows = [
        {"prompt": prompt_json(chat(str(p.prompt))), "chosen": p.chosen, "rejected": p.rejected, "strength": p.strength}
        for p in judged
    ]
    planted = [i for i, pair in enumerate(judged) if by_text[str(pair.prompt)] == topics[0]]
    for i in planted:
        rows[i] |= {"chosen": rows[i]["rejected"], "rejected": rows[i]["chosen"]}
    run = train(kind, base, rows, out / "all")
    print(f"seed {seed}: {len(rows)} pairs, {len(planted)} flipped on {topics[0]}; {seconds(began)}")
    facts: dict[str, Any] = {"seed": seed, "kind": kind, "pairs": len(rows), "flipped": len(planted), "topics": topics}
    for name, topic in zip(("planted", "other"), topics, strict=True):
        queries = asked(world, topic)
        lessons = open_lessons(run)
        started = time.perf_counter()
        why = influences(lessons, queries)
        took = time.perf_counter() - started
        order = named(why, rows)
        left_out = max(1, round(SHARE * len(rows)))
        draw = random.Random(seed)
        before = total(kind, run, queries)
        falls = []
        for number in range(TWINS + 1):
            gone = set(order[:left_out] if number == 0 else draw.sample(range(len(rows)), left_out))
            again = train(kind, base, [r for i, r in enumerate(rows) if i not in gone], out / f"{name}-{number}")
            falls.append((before - total(kind, again, queries)) / ASKED)
        facts[name] = {
            "difference": before / ASKED,
            "estimated_change": float(why.values_E.sum()) / ASKED,
            "change": why.change / ASKED,
            "named_fall": falls[0],
            "random_falls": falls[1:],
            "estimated_fall": sum(float(v) for v in sorted(why.values_E.tolist(), reverse=True)[:left_out]) / ASKED,
            "flipped_among_first": len(set(order[: len(planted)]) & set(planted)),
            "seconds": took,
        }
        print(json.dumps({name: facts[name]}), seconds(began))
    return facts | {"seconds": time.perf_counter() - began}


def seconds(began: float) -> str:
    """Since then."""
    return f"{time.perf_counter() - began:.0f} s"


def train(kind: str, base: Path, rows: Sequence[dict[str, Any]], out: Path) -> Path:
    """A run on these rows."""
    data = write_jsonl(out.with_suffix(".jsonl"), list(rows))
    steps = 2 * -(-len(rows) // 32)
    rate = {"reward": 5e-4, "dpo": 2e-4}[kind]
    settings = ["epochs=2", "batch.size=32", f"optim.learning_rate={rate}", f"save_every={steps // 2}"]
    config = resolve(kind, None, {"data": str(data), "model.name": str(base)}, settings)
    return execute(kind, config, out, quiet=True, fresh=out.exists())


def asked(world: World, topic: str) -> list[Query]:
    """Pairs of answers to other questions of a topic: the worse one over the better one, by gold."""
    queries: list[Query] = []
    for prompt, a, b in world.candidate_pairs("test", 4000, per_prompt=4):
        gap = gold_score(prompt.text, a).total - gold_score(prompt.text, b).total
        if prompt.topic == topic and abs(gap) > 0.1:
            worse, better = (b, a) if gap > 0 else (a, b)
            queries += [Query(chat(prompt.text), worse), Query(chat(prompt.text), better, -1.0)]
        if len(queries) == 2 * ASKED:
            return queries
    raise SystemExit(f"{topic}: only {len(queries) // 2} pairs of answers")


def named(why: Influences, rows: Sequence[dict[str, Any]]) -> list[int]:
    """Rows in the order in which ``why`` names those that pushed towards the answers."""
    keys = {(row["chosen"], row["rejected"], json.dumps(row["prompt"])): i for i, row in enumerate(rows)}
    order = torch.argsort(why.values_E, descending=True).tolist()
    items = [why.item(i) for i in order]
    return [keys[item.chosen, item.rejected, json.dumps(prompt_json(item.prompt))] for item in items if item]  # type: ignore[union-attr]


@torch.no_grad()
def total(kind: str, run: Path, queries: Sequence[Query]) -> float:
    """What is asked about, of a trained model: the sum of signed rewards or log-probs."""
    name = Model(name=str(run / "final"))
    model: Any = open_reward_model(name, new_head=False) if kind == "reward" else open_policy(name, frozen=True)
    renderer = renderer_of(model, name, whole_context(model.context))
    rendered = [renderer.render(query.prompt, query.answer) for query in queries]
    rows = Rows.of([(each.prompt_ids, each.completion_ids) for each in rendered])
    value_B = raw_rewards(model, rows) if kind == "reward" else score(model, rows).sum_B
    return float((value_B * torch.tensor([query.sign for query in queries])).sum())


def table(rows: Sequence[dict[str, Any]]) -> str:
    """Markdown."""
    lines = [
        "| run | seed | topic | flipped among the first | falls without the named 2 % | without random 2 % | s |",
        "|---|---:|---|---|---:|---|---:|",
    ]
    for row in rows:
        for name in ("planted", "other"):
            r = row[name]
            share = f"{r['flipped_among_first']} of {row['flipped']}" if name == "planted" else "–"
            twins = ", ".join(f"{fall:+.2f}" for fall in r["random_falls"])
            head = f"| {row['kind']} | {row['seed']} | {name} | {share} "
            lines.append(f"{head}| {r['named_fall']:+.2f} | {twins} | {r['seconds']:.0f} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
