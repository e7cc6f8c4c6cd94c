"""Single responses marked good or bad, and rankings, on a pretrained chat model.

    python -m benchmarks.real_demos --data DIR

KTO on a demo file of 194 marked responses, and a reward model on the ranked replies of 60 OpenAssistant trees, as whole
rankings (Plackett-Luce). A quarter of the prompts of each is held out.
"""

from __future__ import annotations

import argparse
import gzip
import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.real_model import smollm2
from benchmarks.real_stages import evaluations, read_costs, run
from benchmarks.shown import interval

RESULTS = Path("benchmarks/results/real_demos.json")
HELD_SHARE = 0.25


def split(source: Path, place: Path, name_of: Callable[[dict[str, Any]], str]) -> tuple[Path, Path]:
    """Rows by the hash of a name: three quarters to train on, a quarter held out."""
    place.mkdir(parents=True, exist_ok=True)
    with gzip.open(source, "rt", encoding="utf-8") as lines:
        rows = [json.loads(line) for line in lines]
    files = []
    for side, held in (("train", False), ("held", True)):
        file = place / f"{source.name.partition('.')[0]}-{side}.jsonl"
        some = [row for row in rows if (_share(name_of(row)) < HELD_SHARE) is held]
        file.write_text("".join(json.dumps(row) + "\n" for row in some), encoding="utf-8")
        files.append(file)
    return files[0], files[1]


def _share(text: str) -> float:
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "big") / 2**32


def measure(data: Path, out: Path, model: dict[str, Any], epochs: float, seed: int) -> dict[str, Any]:
    """Both trainings and what they reach on what they did not see."""
    marked = split(data / "preference/kto_demo_binary.jsonl.gz", out / "data", lambda r: r["messages"][0]["content"])
    ranked = split(data / "rankings/oasst_trees.jsonl.gz", out / "data", lambda r: r["message_tree_id"])
    batch = {"size": 16, "max_length": 512, "max_prompt_length": 320, "max_truncated": 0.5}
    common = {"model": model, "batch": batch, "seed": seed, "read": {"skip_bad_rows": True}}
    stages = [
        {
            "name": "kto",
            "kind": "kto",
            "data": str(marked[0]),
            "validation": str(marked[1]),
            **common,
            "epochs": epochs,
            "optim": {"learning_rate": 1e-5, "warmup": 0.1},
        },
        {
            "name": "rankings",
            "kind": "reward",
            "data": str(ranked[0]),
            "validation": str(ranked[1]),
            **common,
            "objective": {"kind": "plackett-luce"},
            "head_start": "fit",
            "epochs": epochs,
            "optim": {"learning_rate": 1e-5, "warmup": 0.1},
        },
    ]
    runs = run(out, stages)
    return {name: evaluations(folder) for name, folder in runs.items()} | {"costs": read_costs(out)}


def main() -> None:
    """Run it and write its figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--model", help="Another chat model than SmolLM2-135M-Instruct.")
    parser.add_argument("--out", type=Path, default=Path("runs/real/demos"))
    parser.add_argument("--dtype", default="bfloat16")
    parser.add_argument("--small", action="store_true", help="One step of each, to see that it runs.")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    found = measure(
        args.data,
        args.out,
        {"name": args.model or str(smollm2()), "dtype": args.dtype},
        0.1 if args.small else 2.0,
        args.seed,
    )
    if not (args.small or args.model):  # the page is about SmolLM2
        RESULTS.write_text(json.dumps(found, indent=2) + "\n")
    print(table(found))


def table(found: dict[str, Any]) -> str:
    """Markdown."""
    kto, rankings = found["kto"], found["rankings"]
    accuracy = {"estimate": rankings["heldout_accuracy"]} | dict(
        zip(("low", "high"), (rankings.get("intervals") or {}).get("heldout_accuracy", (None, None)), strict=True)
    )
    return "\n".join(
        [
            "| training | held out | measured |",
            "|---|---:|---|",
            f"| KTO | {kto['rows']} responses | reward of good minus bad ones {kto['heldout_margin']:+.3f} |",
            f"| reward model on rankings | {rankings['pairs']} pairs | accuracy {interval(accuracy)} |",
        ]
    )


if __name__ == "__main__":
    main()
