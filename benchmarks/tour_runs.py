"""The two recorded runs of the guided tour: trains them in the sandbox and packs what the explorer reads of them.

python -m benchmarks.tour_runs --out runs/tour

Both are PPO from the same SFT model and differ in three settings. *healthy* follows a reward model that learned from
careful judgments, with a KL penalty that settles. *drifting* follows one that learned from a few judgments of people
who like long and flattering answers, with a penalty of almost nothing that hardly rises. Gold, the sandbox's truth, is
measured on the fixed prompts afterwards; neither run saw it.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import shutil
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from trueup.collectors.sandbox_panel import chat
from trueup.commands.live.tour import RUNS, TOUR
from trueup.commands.pipeline import Stage, run_stages
from trueup.commands.sandbox_recipe import ANSWER, CONTEXT
from trueup.commands.walkthrough import judged_probes
from trueup.data.write import write_jsonl
from trueup.ledger import read_lines, read_run, write_atomic, write_json
from trueup.sandbox import World, biased_panel, copy_base, label_pairs, panel
from trueup.sandbox.annotators import Annotator
from trueup.types import prompt_json

DEMONSTRATIONS, CAREFUL, HASTY, PROMPTS = 3_000, 4_000, 400, 1_500
ROLLOUTS, STEPS = 64, 70
TARGET = 5.0
PROBES, SHOWN = 64, 16
"""Fixed prompts on which gold is measured, and those whose answers are packed."""
MOST_BYTES = 300_000
DIGITS = 5
"""Significant digits of a packed number."""
KEPT = ("score", "reward", "kl", "kl_k3", "beta", "kl_target", "entropy", "completion_length", "eos_rate", "distinct_2",
        "loss", "approx_kl", "clip_fraction", "explained_variance", "grad_norm")  # fmt: skip
"""Metrics of a step that are packed; the rest says nothing that the tour needs."""


def main() -> None:
    """Train, then pack into ``src/trueup/commands/live/tour_runs``."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("runs/tour"))
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    with contextlib.chdir(args.out):  # so that run.json holds no path of this machine
        runs = run_stages(Path(), stages(write_data(args.seed), args.seed), fresh=True, tell=print)
        pack({name: runs[name].resolve() for name in RUNS}, TOUR, seed=args.seed)
    size = sum(file.stat().st_size for file in TOUR.rglob("*") if file.is_file())
    print(f"packed into {TOUR}: {size / 1e3:.0f} kB")
    if size > MOST_BYTES:
        raise SystemExit(f"that is over {MOST_BYTES / 1e3:.0f} kB: fewer probes or steps")


def write_data(seed: int) -> dict[str, str]:
    """Base model, demonstrations, prompts, and the pairs of two panels."""
    world = World(seed)
    demonstrations = (
        {"prompt": prompt_json(chat(str(d.prompt))), "completion": d.completion}
        for d in world.demonstrations("train", DEMONSTRATIONS)
    )
    prompts = ({"prompt": prompt_json(chat(p.text))} for p in world.prompts("train", PROMPTS))
    return {
        "base": str(copy_base(Path("base"))),
        "demonstrations": str(write_jsonl(Path("demonstrations.jsonl"), demonstrations)),
        "prompts": str(write_jsonl(Path("prompts.jsonl"), prompts)),
        "careful": _judged(panel(seed), world, CAREFUL, 3, seed, Path("careful-pairs.jsonl")),
        "hasty": _judged(biased_panel(seed), world, HASTY, 1, seed, Path("hasty-pairs.jsonl")),
    }


def _judged(people: Sequence[Annotator], world: World, count: int, votes: int, seed: int, path: Path) -> str:
    pairs = label_pairs(people, world.candidate_pairs("train", count), votes, seed)
    rows = [{"prompt": prompt_json(chat(str(p.prompt))), "chosen": p.chosen, "rejected": p.rejected} for p in pairs]
    return str(write_jsonl(path, rows))


def stages(files: dict[str, str], seed: int) -> list[Stage]:
    """SFT, two reward models, and PPO on each of them."""
    batch = {"size": 64, "max_length": CONTEXT}
    sft = {
        "data": files["demonstrations"],
        "model": {"name": files["base"]},
        "batch": batch,
        "epochs": 1,
        "optim": {"learning_rate": 1e-3, "weight_decay": 0.01},
        "seed": seed,
    }
    reward = {
        "model": {"name": "@sft"},
        "batch": {**batch, "size": 32},
        "optim": {"learning_rate": 1e-3, "weight_decay": 0.1},
        "seed": seed,
    }
    ppo = {
        "data": files["prompts"],
        "model": {"name": "@sft"},
        "batch": {**batch, "size": ROLLOUTS},
        "steps": STEPS,
        "epochs": 2,
        "mini_batches": 2,
        "sampling": {"max_new_tokens": ANSWER},
        "probes": PROBES,
        "probe_every": 6,
        "optim": {"learning_rate": 4e-4, "eps": 1e-5, "schedule": "constant", "warmup": 0.0},
        "seed": seed,
    }
    settles = {"kind": "adaptive", "beta": 0.1, "target": TARGET, "horizon": 1_000}
    hardly = {"kind": "adaptive", "beta": 0.002, "target": TARGET, "horizon": 100_000}
    return [
        Stage("sft", "sft", sft),
        Stage("careful", "reward", {**reward, "data": files["careful"], "epochs": 1}),
        Stage("hasty", "reward", {**reward, "data": files["hasty"], "epochs": 3}),
        Stage("healthy", "ppo", {**ppo, "reward": "@careful", "kl": settles}),
        Stage("drifting", "ppo", {**ppo, "reward": "@hasty", "kl": hardly}),
    ]


def pack(runs: dict[str, Path], target: Path, *, seed: int) -> None:
    """Write of each run what the explorer shows, and what the tour says of both."""
    shutil.rmtree(target, ignore_errors=True)
    for name, run in runs.items():
        _pack_run(run, target / name)
    made = {"command": f"python -m benchmarks.tour_runs --seed {seed}", "simulated": True}
    write_json(target / "made.json", made)


def _pack_run(run: Path, target: Path) -> None:
    target.mkdir(parents=True)
    record = read_run(run)
    write_json(target / "run.json", {**record, "facts": {"steps": record["facts"]["steps"]}})
    gold: dict[int, list[float]] = defaultdict(list)
    for probe in judged_probes(run):
        gold[probe["step"]].append(probe["gold"])
    metrics, _ = read_lines(run / "metrics.jsonl")
    rows = [
        {"step": row["step"], **{name: _short(row[name]) for name in KEPT if name in row}}
        | ({"gold": _short(sum(gold[row["step"]]) / len(gold[row["step"]]))} if row["step"] in gold else {})
        for row in metrics
    ]
    _write_lines(target / "metrics.jsonl", rows)
    timing, _ = read_lines(run / "timing.jsonl")
    _write_lines(target / "timing.jsonl", [{name: _short(value) for name, value in row.items()} for row in timing])
    samples, _ = read_lines(run / "samples.jsonl")
    shown = list(dict.fromkeys(row["prompt"] for row in samples))[:SHOWN]
    kept = [{**row, "score": _short(row["score"])} for row in samples if row["prompt"] in shown]
    _write_lines(target / "samples.jsonl", kept)
    events, _ = read_lines(run / "events.jsonl")
    _write_lines(target / "events.jsonl", [event for event in events if event["event"] in ("start", "done", "alert")])


def _short(value: Any) -> Any:
    return float(f"{value:.{DIGITS}g}") if isinstance(value, float) else value


def _write_lines(path: Path, rows: Sequence[dict[str, Any]]) -> None:
    text = "".join(json.dumps(row, ensure_ascii=False, separators=(",", ":")) + "\n" for row in rows)
    write_atomic(path, text.encode())


if __name__ == "__main__":
    main()
