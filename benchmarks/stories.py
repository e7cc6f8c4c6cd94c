"""The whole road from a genuine pretrained model: stories with happier continuations.

    python -m benchmarks.stories --model PATH_TO/stories260K/hf --out runs/stories

Story openings are sampled from the model itself, two continuations of each are drawn, and a programmatic taste
(glad words minus sad words) says which is better. Then the ordinary commands: a reward model, PPO with adaptive
KL to 6 nats (Ziegler et al. 2019), and DPO, each measured by the taste on openings that none of them saw.
"""

from __future__ import annotations

import argparse
import json
import re
from pathlib import Path
from typing import Any

from trueup.commands.pipeline import Stage, run_stages
from trueup.config import Batch, Model, Sampling
from trueup.config.seeds import derive
from trueup.data.render import Renderer
from trueup.data.write import write_jsonl
from trueup.engine.generate import generate
from trueup.engine.score import sequence_logps
from trueup.ledger import metric_rows
from trueup.models.policy import Policy, open_policy, open_reference

GLAD = frozenset(
    "happy happily happier glad smile smiled smiling laugh laughed laughing love loved loves hug hugged fun "
    "friend friends thank thanked proud play played excited joy kind nice best beautiful safe".split()
)
SAD = frozenset(
    "sad sadly cry cried crying scared scary afraid angry mad hurt bad lost broke broken alone mean worried "
    "sorry dark fell sick upset hate died yelled shouted fight".split()
)
NEW_TOKENS = 48
EXAMPLES = 4
RESULTS = Path("benchmarks/results/stories.json")


def taste(text: str) -> float:
    """Glad words minus sad words, distinct ones only, so that repeating a word gains nothing."""
    words = set(re.findall(r"[a-z']+", text.lower()))
    return float(len(words & GLAD) - len(words & SAD))


def openings(policy: Policy, count: int, seed: int) -> list[str]:
    """Distinct beginnings of stories, sampled from the model."""
    begin = policy.tokenizer.bos_token_id
    found: dict[str, None] = {}
    for attempt in range(20):
        drawn = generate(
            policy, [(begin,)] * count, Sampling(max_new_tokens=24), stop_ids=(), seed=derive(seed, "openings", attempt)
        )
        for completion in drawn:
            text = policy.tokenizer.decode(completion.ids, skip_special_tokens=True).strip()
            words = text.split(" ")[:12]
            if len(words) == 12:
                found[" ".join(words)] = None
        if len(found) >= count:
            return list(found)[:count]
    raise RuntimeError(f"only {len(found)} distinct openings of {count}")


def continuations(policy: Policy, prompts: list[str], seed: int) -> list[tuple[str, tuple[int, ...], tuple[int, ...]]]:
    """Text, prompt ids and completion ids of one continuation each."""
    renderer = Renderer.of(policy.tokenizer, Batch(max_length=256), context=policy.context)
    heads = [renderer.render_prompt(p) for p in prompts]
    drawn = generate(policy, heads, Sampling(max_new_tokens=NEW_TOKENS), stop_ids=renderer.stop_ids, seed=seed)
    return [
        (policy.tokenizer.decode(c.ids, skip_special_tokens=True), h, c.ids) for h, c in zip(heads, drawn, strict=True)
    ]


def main() -> None:
    """Sample, judge, train, measure, and print a Markdown summary."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True)
    parser.add_argument("--out", type=Path, default=Path("runs/stories"))
    parser.add_argument("--pairs", type=int, default=2000)
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    data = args.out / "data"
    data.mkdir(parents=True, exist_ok=True)
    base = open_policy(Model(name=args.model))
    prompts = openings(base, args.pairs + 700, args.seed)
    train, test = prompts[:-200], prompts[-200:]
    rows = []
    one, two = (continuations(base, train, derive(args.seed, side)) for side in ("one", "two"))
    for prompt, (a, *_), (b, *_) in zip(train, one, two, strict=True):
        gap = taste(a) - taste(b)
        if gap and a.strip() and b.strip():
            rows.append({"prompt": prompt, "chosen": a if gap > 0 else b, "rejected": b if gap > 0 else a})
    write_jsonl(data / "pairs.jsonl", rows[:-300])
    write_jsonl(data / "held-out.jsonl", rows[-300:])
    write_jsonl(data / "prompts.jsonl", ({"prompt": p} for p in train))
    batch = {"size": 64, "max_length": 160, "max_truncated": 0.02}
    stages = [
        Stage(
            "reward",
            "reward",
            {
                "data": str(data / "pairs.jsonl"),
                "validation": str(data / "held-out.jsonl"),
                "model": {"name": args.model},
                "batch": batch,
                "epochs": 3,
                "optim": {"learning_rate": 1e-3},
                "seed": args.seed,
            },
        ),
        Stage(
            "ppo",
            "ppo",
            {
                "data": str(data / "prompts.jsonl"),
                "reward": "@reward",
                "model": {"name": args.model},
                "batch": {**batch, "size": 128},
                "steps": args.steps,
                "epochs": 2,
                "sampling": {"max_new_tokens": NEW_TOKENS},
                "missing_eos_penalty": 0.0,
                "kl": {"kind": "adaptive", "beta": 0.4, "target": 6.0, "horizon": 600},
                "optim": {"learning_rate": 3e-4, "eps": 1e-5, "schedule": "constant", "warmup": 0.0},
                "seed": args.seed,
            },
        ),
        Stage(
            "dpo",
            "dpo",
            {
                "data": str(data / "pairs.jsonl"),
                "validation": str(data / "held-out.jsonl"),
                "model": {"name": args.model},
                "batch": batch,
                "epochs": 3,
                "optim": {"learning_rate": 5e-4},
                "seed": args.seed,
            },
        ),
    ]
    runs = run_stages(args.out, stages, fresh=True, tell=print)
    report(args, base, runs, test)


def report(args: argparse.Namespace, base: Policy, runs: dict[str, Path], test: list[str]) -> None:
    """Measure base, PPO and DPO on unseen openings and print what a person can see."""
    reference = open_reference(Model(name=args.model))
    policies = {"base": base} | {n: open_policy(Model(name=str(runs[n] / "final"))) for n in ("ppo", "dpo")}
    found = {n: continuations(p, test, derive(args.seed, "test")) for n, p in policies.items()}
    print("\n| model | taste (glad - sad words) | better than base | KL from base |\n|---|---|---|---|")
    summary: dict[str, Any] = {}
    for name, rows in found.items():
        scores = [taste(text) for text, *_ in rows]
        anchor = [taste(text) for text, *_ in found["base"]]
        wins = sum((s > a) + 0.5 * (s == a) for s, a in zip(scores, anchor, strict=True)) / len(scores)
        sequences = [(head, ids) for _, head, ids in rows]
        own, fixed = sequence_logps(policies[name], sequences), sequence_logps(reference, sequences)
        kl = sum(float((o - f).sum()) for o, f in zip(own, fixed, strict=True)) / len(rows)
        summary[name] = {"taste": sum(scores) / len(scores), "win_rate": wins, "kl": kl}
        print(f"| {name} | {summary[name]['taste']:+.2f} | {wins:.1%} | {kl:.1f} |")
    last = metric_rows(runs["reward"])[-1]
    steps = metric_rows(runs["ppo"])
    tail = [row["kl"] for row in steps[-max(1, round(0.3 * len(steps))) :]]
    examples = [{"opening": test[i]} | {name: found[name][i][0].strip() for name in policies} for i in range(EXAMPLES)]
    summary = {
        "models": summary,
        "reward_accuracy": last["heldout_accuracy"],
        "ppo_kl_last_30_percent": sum(tail) / len(tail),
        "examples": examples,
    }
    print(f"\nReward model: held-out accuracy {last['heldout_accuracy']:.3f} on 300 pairs.\n")
    for example in examples:
        print("\n".join(f"{name}: {text}" for name, text in example.items()), end="\n\n")
    RESULTS.parent.mkdir(parents=True, exist_ok=True)
    RESULTS.write_text(json.dumps(summary, indent=2) + "\n")


if __name__ == "__main__":
    main()
