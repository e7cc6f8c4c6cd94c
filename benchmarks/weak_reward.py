"""Over-optimisation of a weak reward model, seen: PPO against what a hasty crowd taught from few pairs.

python -m benchmarks.weak_reward --walk runs/quickstart --out runs/weak

Starts from the SFT model of a quickstart. Annotators who like long and flattering answers (``biased_panel``) give one
vote on each of a few hundred pairs; PPO follows the reward model that learns from them with a KL penalty of almost
nothing. The report shows the proxy and gold on fixed prompts along the run, and says where they part.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from trueup.collectors.sandbox_panel import chat
from trueup.commands.pipeline import Stage, run_stages
from trueup.commands.walkthrough import judged_probes
from trueup.data.write import write_jsonl
from trueup.reports.build import build_report
from trueup.sandbox import World, biased_panel, label_pairs
from trueup.types import prompt_json

RESULTS = Path("benchmarks/results/weak_reward.json")


def main() -> None:
    """Label, train, follow, report, and store the curve."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--walk", type=Path, default=Path("runs/quickstart"), help="Folder of a quickstart.")
    parser.add_argument("--out", type=Path, default=Path("runs/weak"))
    parser.add_argument("--pairs", type=int, default=400)
    parser.add_argument("--steps", type=int, default=90)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    labelled = label_pairs(biased_panel(args.seed), World(args.seed).candidate_pairs("train", args.pairs), 1, args.seed)
    rows = [{"prompt": prompt_json(chat(str(p.prompt))), "chosen": p.chosen, "rejected": p.rejected} for p in labelled]
    pairs = write_jsonl(args.out / "pairs.jsonl", rows)
    runs = run_stages(args.out, stages(args.walk, pairs, args.steps, args.seed), fresh=True, tell=print)
    report = build_report(
        runs,
        [],
        args.out,
        title="a weak reward model, followed too far",
        probes=judged_probes(runs["ppo"]),
        commands=[f"python -m benchmarks.weak_reward --walk {args.walk} --out {args.out}"],
    )
    curve = report.data["overoptimization"]
    RESULTS.write_text(json.dumps({"pairs": args.pairs, "kl": kl_at(runs["ppo"], curve["steps"]), **curve}) + "\n")
    print(table(json.loads(RESULTS.read_text(encoding="utf-8"))))
    for line in report.verdict:
        print(line)
    print(f"report: {report.html}")


def stages(walk: Path, pairs: Path, steps: int, seed: int) -> list[Stage]:
    """The reward model of few pairs, and PPO that nothing holds back."""
    start, batch = {"name": str(walk / "sft" / "final")}, {"size": 32, "max_length": 160}
    return [
        Stage(
            "reward",
            "reward",
            {"data": str(pairs), "model": start, "batch": batch, "epochs": 3, "optim": {"learning_rate": 5e-4}},
        ),
        Stage(
            "ppo",
            "ppo",
            {
                "data": str(walk / "data" / "prompts.jsonl"),
                "model": start,
                "reward": "@reward",
                "batch": {**batch, "size": 128},
                "steps": steps,
                "epochs": 2,
                "mini_batches": 2,
                "sampling": {"max_new_tokens": 64},
                "probes": 64,
                "probe_every": 6,
                "kl": {"kind": "fixed", "beta": 0.002},
                "optim": {"learning_rate": 4e-4, "eps": 1e-5, "schedule": "constant", "warmup": 0.0},
                "seed": seed,
            },
        ),
    ]


def kl_at(run: Path, steps: list[int]) -> list[float | None]:
    """KL to the reference at the steps of the probes."""
    by_step = {row["step"]: row["kl"] for row in map(json.loads, (run / "metrics.jsonl").read_text().splitlines())}
    return [by_step.get(step) for step in steps]


def table(found: dict[str, Any]) -> str:
    """Markdown: KL, proxy and gold along the run."""
    lines = ["| step | KL, nats | proxy | gold |", "|---:|---:|---:|---:|"]
    for step, kl, proxy, gold in zip(found["steps"], found["kl"], found["proxy"], found["gold"], strict=True):
        lines.append(f"| {step} | {'–' if kl is None else f'{kl:.1f}'} | {proxy:+.2f} | {gold:.3f} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
