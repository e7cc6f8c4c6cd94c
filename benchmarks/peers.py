"""Speed and memory against TRL, in one session: alternating runs, same weights, same batches, same losses.

    python -m benchmarks.peers [--data DIR] [--jobs dpo-bf16,reward-bf16] [--rounds 3] --out runs/peers

Needs the ``bench`` extra (TRL). Each run is a process of its own; its first step is warm-up and left out. The
throughput of trueup's DPO includes its reference pass when it is compared with TRL's default (which scores the
reference in every step), and excludes it when compared with ``trl-best`` (whose precomputation is not counted).
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path
from statistics import median
from string import ascii_uppercase
from typing import Any

from benchmarks.jobs import SAMPLED_ROWS, SAMPLED_TOKENS
from benchmarks.workload import BATCH, prepare
from trueup.commands.machine import inspect_machine

RESULTS = Path("benchmarks/results/peers.json")
TRAINING = ("trueup", "trueup-lean", "trl", "trl-best")
JOBS = {
    "dpo-bf16": TRAINING,
    "dpo-fp32": TRAINING,
    "reward-bf16": TRAINING,
    "sft-bf16": TRAINING,
    "sample-gpt2": ("trueup", "trl"),
    "sample-tiny": ("trueup", "trl"),
    "rlhf-gpt2": ("trueup", "trl", "trl-best"),
    "rlhf-tiny": ("trueup", "trl", "trl-best"),
}
UNITS = {"sample": ("tokens/s", SAMPLED_ROWS * SAMPLED_TOKENS), "sft": ("examples/s", BATCH), "rlhf": ("steps/s", 1)}
TOLERANCE = {"bf16": 2e-2, "fp32": 1e-3}
ALIKE = 1.6
"""Most by which the measured rates of two machines of one kind differ."""


def main() -> None:
    """Prepare, alternate, check the losses, write JSON and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--jobs", default=",".join(JOBS))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=4)
    parser.add_argument("--out", type=Path, default=Path("runs/peers"))
    parser.add_argument("--ppo-python", default=sys.executable, help="interpreter with TRL 1.12, the last with PPO")
    args = parser.parse_args()
    commit = revision()  # the results are a file of the repository: writing them makes the copy differ
    work = args.out / "work"
    facts = prepare(work, args.data, steps=args.steps)
    print("workload:", facts, flush=True)
    health = inspect_machine()
    workload = facts | {"source": "hh-rlhf harmless-base test" if args.data else "sandbox"}
    machine = {
        "processor": health.processor,
        "cores": health.cores,
        **{name: version(name) for name in ("torch", "transformers", "trl")},
        "gflops_fp32": health.float32_gflops,
        "gflops_bf16": health.bfloat16_gflops,
        "copy_gb_per_s": health.copy_gb_per_s,
    }
    found = _earlier(workload) | {"workload": workload}
    for job in args.jobs.split(","):
        runs: dict[str, list[dict[str, Any]]] = {side: [] for side in JOBS[job]}
        for turn in range(args.rounds):
            for side in JOBS[job]:
                python = args.ppo_python if job.startswith("rlhf") and side.startswith("trl") else sys.executable
                runs[side].append(run_job(python, side, job, work))
                print(job, side, turn, _summary(job, runs[side][-1:]), flush=True)
        _same_work(job, runs)
        row = {
            "job": job,
            "revision": commit,
            "machine": machine,
            "sides": {side: _summary(job, these) for side, these in runs.items()},
        }
        found["rows"] = with_row(found["rows"], row)
        RESULTS.parent.mkdir(parents=True, exist_ok=True)
        RESULTS.write_text(json.dumps(found, indent=1) + "\n")
    print(table(found))


def _earlier(workload: dict[str, Any]) -> dict[str, Any]:
    """Results of the same pairs, which may stand in one table with what is measured now."""
    if RESULTS.exists():
        found: dict[str, Any] = json.loads(RESULTS.read_text())
        if found["workload"] == workload:
            return found
    return {"rows": []}


def revision() -> str | None:
    """The commit that is measured, marked if files differ from it; None outside a working copy of the repository."""
    if shutil.which("git") is None:
        return None
    command = ["git", "describe", "--always", "--dirty", "--exclude=*"]
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip() or None


def with_row(rows: list[dict[str, Any]], row: dict[str, Any]) -> list[dict[str, Any]]:
    """``rows`` with this one, in place of what was measured of its job on such a machine before; in the jobs' order."""
    others = [r for r in rows if r["job"] != row["job"] or not _alike(r["machine"], row["machine"])]
    return sorted([*others, row], key=lambda r: (list(JOBS).index(r["job"]), r["machine"]["gflops_bf16"]))


def _alike(one: dict[str, Any], other: dict[str, Any]) -> bool:
    """Whether two machines are of one kind: called the same, and as fast but for the neighbours' noise."""
    rates = sorted((one["gflops_bf16"], other["gflops_bf16"]))
    return one["processor"] == other["processor"] and rates[1] < ALIKE * rates[0]


def kinds(found: dict[str, Any]) -> list[list[dict[str, Any]]]:
    """The rows' machines by kind, in the order in which kinds first occur; a row's runs are all of one machine."""
    seen: list[list[dict[str, Any]]] = []
    for row in found["rows"]:
        same = next((kind for kind in seen if _alike(kind[0], row["machine"])), None)
        if same is None:
            seen.append([row["machine"]])
        elif row["machine"] not in same:
            same.append(row["machine"])
    return seen


def letter(found: dict[str, Any], row: dict[str, Any]) -> str:
    """What the tables call a row's kind of machine."""
    return next(name for name, kind in zip(ascii_uppercase, kinds(found), strict=False) if row["machine"] in kind)


def run_job(python: str, side: str, job: str, work: Path, *more: str) -> dict[str, Any]:
    """One job of ``benchmarks.jobs`` in a process of its own."""
    command = [python, "-W", "ignore", "-m", "benchmarks.jobs", side, job, "--work", str(work), *more]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    lines = [line for line in done.stdout.splitlines() if line.startswith("RESULT ")]
    if done.returncode or not lines:
        raise SystemExit(f"{side} {job} failed:\n{done.stderr[-3000:]}")
    result: dict[str, Any] = json.loads(lines[-1].removeprefix("RESULT "))
    return result


def _summary(job: str, runs: list[dict[str, Any]]) -> dict[str, Any]:
    """Medians over runs; ``rate`` is without what is done once, ``rate_whole`` with it."""
    unit, amount = UNITS.get(job.partition("-")[0], ("pairs/s", BATCH))
    rates, whole = [], []
    for run in runs:
        steps = run["seconds"][1:]
        rates.append(amount * len(steps) / sum(steps))
        whole.append(amount / (sum(steps) / len(steps) + run["once_seconds"] / len(run["seconds"])))
    return {
        "unit": unit,
        "rate": median(rates),
        "rate_whole": median(whole),
        "rate_low": min(rates),
        "rate_high": max(rates),
        "seconds_a_step": amount / median(whole),
        "peak_gb": median(run["peak_gb"] for run in runs),
        "losses": runs[0]["losses"],
        "lengths": runs[0].get("lengths", []),
    }


def _same_work(job: str, runs: dict[str, list[dict[str, Any]]]) -> None:
    lengths = {side: these[0].get("lengths", []) for side, these in runs.items()}
    if any(found != lengths["trueup"] for found in lengths.values()):
        raise SystemExit(f"{job}: completions differ in length, {lengths}; this compares two things")
    same_losses(job, runs)


def same_losses(job: str, runs: dict[str, list[dict[str, Any]]]) -> None:
    """Stop where the sides' losses differ by more than the precision explains."""
    ours = runs["trueup"][0]["losses"]
    for side, these in runs.items():
        theirs = these[0]["losses"]
        gaps = [abs(a - b) / max(1e-6, abs(b)) for a, b in zip(ours, theirs, strict=True)]
        limit = TOLERANCE[job.rpartition("-")[2]] if ours else 0.0
        if gaps and max(gaps) > limit:
            raise SystemExit(
                f"{job}: losses differ between trueup {ours} and {side} {theirs}; this compares two things"
            )


def table(found: dict[str, Any]) -> str:
    """Markdown: one row a job and kind of machine; machines by letter, in the order of ``kinds``."""
    lines = [
        "| job | on | trueup | TRL default | ratio | TRL best | ratio | memory: trueup, TRL | ratio | commit |",
        "|---|---|---:|---:|---:|---:|---:|---|---:|---|",
    ]
    for row in found["rows"]:
        sides = row["sides"]
        ours, default, best = sides["trueup"], sides["trl"], sides.get("trl-best")
        fast = f"{best['rate']:.2f} | {ours['rate'] / best['rate']:.1f}" if best else "|"
        lines.append(
            f"| {row['job']} | {letter(found, row)} | {ours['rate_whole']:.2f} {ours['unit']} | {default['rate']:.2f} "
            f"| {ours['rate_whole'] / default['rate']:.1f} | {fast} "
            f"| {ours['peak_gb']:.1f}, {default['peak_gb']:.1f} GB | {ours['peak_gb'] / default['peak_gb']:.2f} "
            f"| {row['revision'] or ''} |"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    main()
