"""Where following a reward too far begins to hurt: one weak reward model against an ensemble, and a sweep over beta.

python -m benchmarks.bend --seeds 0 1 2 --out runs/bend

A hasty crowd that likes length and flattery gives one vote on each of a few hundred pairs. Each seed has its own votes,
and the reward models that they teach: one that learns from all pairs, and members of an ensemble that learn from the
same pairs in another order from another head. RLOO follows them with almost no KL penalty, and then the single one with
several; gold, which training never sees, judges 64 fixed prompts along the way.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks import real_stages
from benchmarks.methods import first
from benchmarks.mixed_reward import write_data
from benchmarks.shown import interval
from trueup.collectors.sandbox_panel import chat
from trueup.commands.frontier_data import path_of
from trueup.commands.frontier_pages import turn_of
from trueup.data.write import write_jsonl
from trueup.evaluation.tradeoff import Path as Track
from trueup.evaluation.tradeoff import at_equal_kl
from trueup.sandbox import World, biased_panel, label_pairs
from trueup.types import prompt_json

RESULTS = Path("benchmarks/results/bend.json")
MEMBERS = 4
LOW = 0.002
BETAS = (0.01, 0.05, 0.1, 0.2)
"""Of the third course document."""


def main() -> None:
    """Train each seed, then compare what all seeds did."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("runs/bend"))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--demonstrations", type=int, default=3000)
    parser.add_argument("--pairs", type=int, default=400)
    parser.add_argument("--steps", type=int, default=60)
    args = parser.parse_args()
    runs: dict[str, list[Path]] = {}
    for seed in args.seeds:
        files = write_data(args.out / f"data-{seed}", 0, args.demonstrations, 10, 10, votes=seed)
        files["pairs"] = str(hasty_pairs(args.out / f"data-{seed}" / "hasty.jsonl", args.pairs, seed))
        done = real_stages.run(args.out / f"seed-{seed}", stages(files, args.steps, seed))
        for name in followed():
            runs.setdefault(name, []).append(done[name])
    measurement = {"pairs": args.pairs, "steps": args.steps, "members": MEMBERS, "seeds": args.seeds, **compared(runs)}
    RESULTS.write_text(json.dumps(measurement, indent=1) + "\n", encoding="utf-8")
    print(table(measurement))
    print(sweep_table(measurement))


def hasty_pairs(file: Path, count: int, seed: int) -> Path:
    """Pairs of the training prompts, each with one vote of the crowd that ``seed`` draws."""
    votes = label_pairs(biased_panel(seed), World(0).candidate_pairs("train", count), 1, seed)
    rows = [{"prompt": prompt_json(chat(str(p.prompt))), "chosen": p.chosen, "rejected": p.rejected} for p in votes]
    return write_jsonl(file, rows)


def followed() -> dict[str, dict[str, Any]]:
    """What differs between the policies of a seed."""
    members = [f"@member-{number}" for number in range(MEMBERS)]
    ensembles = {name: [{"kind": "ensemble", "members": members, "combine": name}] for name in ("mean", "min")}
    return {
        "one": {"reward": "@member-0", "kl": {"kind": "fixed", "beta": LOW}},
        **{name: {"reward": part, "kl": {"kind": "fixed", "beta": LOW}} for name, part in ensembles.items()},
        **{f"beta-{beta:g}": {"reward": "@member-0", "kl": {"kind": "fixed", "beta": beta}} for beta in BETAS},
    }


def stages(files: Mapping[str, str], steps: int, seed: int) -> list[dict[str, Any]]:
    """SFT, the reward models, and the policies that follow them."""
    sft, _ = first({**files, "held_out_pairs": files["pairs"]}, seed)
    learn = {"batch": {"size": 32, "max_length": 160}, "epochs": 3, "optim": {"learning_rate": 5e-4}}
    members = [
        {"name": f"member-{number}", "kind": "reward", "data": files["pairs"], "model": {"name": "@sft"}}
        | {**learn, "seed": 100 * seed + number}
        for number in range(MEMBERS)
    ]
    return [sft, *members, *(_policy(name, how, files, steps, seed) for name, how in followed().items())]


def _policy(name: str, how: Mapping[str, Any], files: Mapping[str, str], steps: int, seed: int) -> dict[str, Any]:
    return {
        "name": name,
        "kind": "rloo",
        "data": files["prompts"],
        "model": {"name": "@sft"},
        "answers": 4,
        "batch": {"size": 128, "max_length": 160},
        "steps": steps,
        "sampling": {"max_new_tokens": 64},
        "probes": 64,
        "probe_every": max(1, steps // 12),
        "optim": {"learning_rate": 1e-3, "eps": 1e-5, "schedule": "constant", "warmup": 0.0},
        "seed": seed,
        **how,
    }


def compared(runs: Mapping[str, list[Path]]) -> dict[str, Any]:
    """The curves of each, where gold turned, and what each reached at equal KL."""
    tracks: dict[str, Track] = {}
    for name, folders in runs.items():
        track, notes = path_of(name, folders, "sandbox")
        if track is None:
            raise SystemExit(f"{name}: {' '.join(notes)}")
        tracks[name] = track
    levels, reached, heights = at_equal_kl([tracks[name] for name in ("one", "mean", "min")])
    turns = {name: turn_of(track) for name, track in tracks.items()}
    return {
        "curves": {name: [point.to_dict() for point in track.points()] for name, track in tracks.items()},
        "turns": {name: turn.to_dict() if turn else None for name, turn in turns.items()},
        "at_kl": {"levels": levels, "gold": reached, "mean_height": heights},
    }


def table(measurement: Mapping[str, Any]) -> str:
    """Markdown: where each turned, the best gold of its curve, and gold at its end."""
    heads = ("follows", "gold turns at step", "KL there", "best gold", "gold at the end", "proxy", "KL")
    lines = [f"| {' | '.join(heads)} |", "|---|---|---:|---:|---:|---:|---:|"]
    for name in ("one", "mean", "min"):
        curve, turn = measurement["curves"][name], measurement["turns"][name]
        best, end = max(point["gold"][0] for point in curve), curve[-1]
        cells = ["does not turn", "–"]
        if turn and turn["at"]:
            kl = next(point["kl"] for point in curve if point["step"] == turn["at"]["estimate"])
            cells = [interval(turn["at"], ".0f"), f"{kl:.1f}"]
        cells += [f"{best:.3f}", f"{end['gold'][0]:.3f}", f"{end['proxy'][0]:.2f}", f"{end['kl']:.1f}"]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def sweep_table(measurement: Mapping[str, Any]) -> str:
    """Markdown: proxy, gold and KL at the end for each beta, lowest beta first."""
    lines = ["| beta | KL at the end | proxy | gold (lowest to highest seed) |", "|---:|---:|---:|---|"]
    for beta, name in ((LOW, "one"), *((beta, f"beta-{beta:g}") for beta in BETAS)):
        end = measurement["curves"][name][-1]
        middle, low, high = end["gold"]
        lines.append(f"| {beta:g} | {end['kl']:.1f} | {end['proxy'][0]:.2f} | {middle:.3f} ({low:.3f} to {high:.3f}) |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
