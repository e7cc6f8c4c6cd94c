"""The quickstart on several seeds: the figures of ``docs/results.md``.

python -m benchmarks.sandbox --seeds 0 1 2 --out runs/sandbox
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from trueup.quickstart import quickstart

RESULTS = Path("benchmarks/results/sandbox.json")


def main() -> None:
    """Run each seed, write ``benchmarks/results/sandbox.json`` and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--out", type=Path, default=Path("runs/sandbox"))
    args = parser.parse_args()
    rows = []
    for seed in args.seeds:
        rows.append(measured(seed, args.out / f"seed-{seed}"))
        RESULTS.parent.mkdir(parents=True, exist_ok=True)
        RESULTS.write_text(json.dumps(rows, indent=2) + "\n")
    print(table(rows))


def measured(seed: int, out: Path) -> dict[str, Any]:
    """One seed's figures, from the summary that its report wrote."""
    data = quickstart(out, seed=seed).data
    models = data["comparison"]["models"]
    band = data["runs"]["ppo"]["kl_band"]
    card = data["reward_model"]
    row = {
        "seed": seed,
        "reward_accuracy": card["heldout_accuracy"],
        "noise_ceiling": card["noise_ceiling"],
        "share_of_ceiling": card["share_of_ceiling"],
        "length_baseline": card["length_baseline"],
        "words_baseline": card["words_baseline"],
        "gold": {name: m["gold"] for name, m in models.items()},
        "win_rate": {name: models[name]["win_rate"]["rate"] for name in ("ppo", "dpo")},
        "ppo_kl": band["mean"],
        "ppo_kl_inside": band["inside"],
        "seconds": data["facts"]["seconds"],
        "peak_memory_gb": data["facts"]["peak_memory_gb"],
    }
    wins = [row["win_rate"][name] for name in ("ppo", "dpo")]
    row["reached"] = {
        "reward_model": row["share_of_ceiling"] >= 0.95 and row["reward_accuracy"] > 0.65,
        "win_rates": all(w["estimate"] >= 0.70 and w["low"] > 0.5 for w in wins),
        "kl": row["ppo_kl_inside"],
    }
    return row


def table(rows: list[dict[str, Any]]) -> str:
    """Markdown."""
    lines = [
        "| seed | reward model | ceiling | share | gold: base, SFT, PPO, DPO | PPO wins | DPO wins | KL | s | GB |",
        "|---:|---:|---:|---:|---|---|---|---:|---:|---:|",
    ]
    for r in rows:
        gold = ", ".join(f"{r['gold'][n]['estimate']:.3f}" for n in ("base", "sft", "ppo", "dpo"))
        ppo, dpo = (
            f"{w['estimate']:.3f} ({w['low']:.3f} to {w['high']:.3f})"
            for w in (r["win_rate"][n] for n in ("ppo", "dpo"))
        )
        lines.append(
            f"| {r['seed']} | {r['reward_accuracy']:.3f} | {r['noise_ceiling']:.3f} | {r['share_of_ceiling']:.3f} "
            f"| {gold} | {ppo} | {dpo} | {r['ppo_kl']:.2f} | {r['seconds']:.0f} | {r['peak_memory_gb']:.2f} |"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    main()
