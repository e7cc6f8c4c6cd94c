"""Real human preferences: the harmlessness pairs of Bai et al. (2022), beside honest baselines.

    python -m benchmarks.human --data DIR --out runs/human

``DIR`` holds ``preference/hh_harmless.jsonl.gz`` and ``instruction/alpaca_style_demo.jsonl.gz``. A small model is first
trained on the instructions (the authors of the pairs ask that they train preference models, not dialogue agents by
imitation), then ``trueup reward`` and ``trueup dpo`` run on the pairs. Pairs are split by their prompt.
"""

from __future__ import annotations

import argparse
import hashlib
import json
from pathlib import Path

from trueup.commands.pipeline import Stage, run_stages
from trueup.data.read import read_pairs
from trueup.data.write import write_pairs
from trueup.evaluation.baselines import bag_of_words, length_only
from trueup.evaluation.intervals import wilson
from trueup.ledger import read_lines
from trueup.types import prompt_text

RESULTS = Path("benchmarks/results/human.json")


def main() -> None:
    """Split, train, compare with the baselines, print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, default=Path("runs/human"))
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    loaded = read_pairs(args.data / "preference/hh_harmless.jsonl.gz", on_bad="skip")
    held = [p for p in loaded.items if _share(prompt_text(p.prompt)) >= 0.75]
    train = [p for p in loaded.items if _share(prompt_text(p.prompt)) < 0.75]
    files = write_pairs(args.out / "pairs.jsonl", train), write_pairs(args.out / "held-out.jsonl", held)
    batch = {"size": 32, "max_length": 512, "max_prompt_length": 320, "max_truncated": 0.25}
    tiny = {"hidden": 128, "layers": 3, "heads": 4, "vocabulary": 4096, "context": 512}
    common = {
        "data": str(files[0]),
        "validation": str(files[1]),
        "model": {"name": "@sft"},
        "batch": batch,
        "seed": args.seed,
    }
    runs = run_stages(
        args.out,
        [
            Stage(
                "sft",
                "sft",
                {
                    "data": str(args.data / "instruction/alpaca_style_demo.jsonl.gz"),
                    "model": {"name": "tiny", "tiny": tiny},
                    "loss_on_prompt": True,
                    "batch": {**batch, "size": 16},
                    "epochs": 2,
                    "optim": {"learning_rate": 2e-3},
                    "seed": args.seed,
                },
            ),
            Stage("reward", "reward", {**common, "epochs": 2, "optim": {"learning_rate": 3e-4}}),
            Stage("dpo", "dpo", {**common, "epochs": 2, "optim": {"learning_rate": 1e-4, "warmup": 0.1}}),
        ],
        fresh=True,
        tell=print,
    )
    found = {}
    for name in ("reward", "dpo"):
        last = read_lines(runs[name] / "eval.jsonl")[0][-1]
        right = wilson(round(last["heldout_accuracy"] * last["pairs"]), last["pairs"])
        found["reward model" if name == "reward" else "DPO, implicit reward"] = right
    for baseline in (length_only(train, held), bag_of_words(train, held, l2=10.0)):
        found[baseline.name] = baseline.accuracy
    print(f"\n{len(train)} training pairs, {len(held)} held out, {loaded.report.to_dict()['skipped']} skipped\n")
    print("| preference by | held-out accuracy | 95 % |\n|---|---:|---|")
    for name, interval in found.items():
        print(f"| {name} | {interval.estimate:.3f} | {interval.low:.3f} to {interval.high:.3f} |")
    RESULTS.parent.mkdir(parents=True, exist_ok=True)
    RESULTS.write_text(json.dumps({n: i.to_dict() for n, i in found.items()}, indent=2) + "\n")


def _share(text: str) -> float:
    """A number in [0, 1) from the prompt, so that a prompt is on one side only."""
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "big") / 2**32


if __name__ == "__main__":
    main()
