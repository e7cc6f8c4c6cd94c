"""Speed and memory against TRL, in one session: alternating runs, same weights, same batches, same losses.

    python -m benchmarks.peers [--data DIR] [--jobs dpo-bf16,reward-bf16] [--rounds 3] --out runs/peers

Needs the ``bench`` extra (TRL, llama.cpp). Jobs of ``smollm2`` train and sample SmolLM2-135M-Instruct; in sampling the
peers are ``generate`` of transformers, llama.cpp, and with ``--vllm-python`` vLLM's CPU build. Each run is a process of
its own; its first step is warm-up and left out. The throughput of trueup's DPO includes its reference pass when it is
compared with TRL's default (which scores the reference in every step), and excludes it when compared with ``trl-best``
(whose precomputation is not counted).
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

from benchmarks import sampling
from benchmarks.jobs import REAL_SAMPLING, REAL_TRAINING, SAMPLED_ROWS, SAMPLED_TOKENS
from benchmarks.workload import BATCH, prepare, prepare_smollm2
from trueup.commands.machine import inspect_machine, installed_version

RESULTS = Path("benchmarks/results/peers.json")
REAL_RESULTS = Path("benchmarks/results/peers_smollm2.json")
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
REAL_JOBS = (
    dict.fromkeys(REAL_TRAINING, TRAINING)
    | dict.fromkeys(REAL_SAMPLING, sampling.SIDES)
    | {"dpo-smollm2-fp32": ("trueup", "trl")}
    | {"sample-smollm2-greedy": tuple(side for side in sampling.SIDES if side != "llama.cpp-f16")}
)
TOLERANCE = {"bf16": 2e-2, "fp32": 1e-3, "smollm2": 5e-2}
"""Of losses, as a share. That of smollm2 is wide since the first DPO step of two pairs had 0.675 in the place of ln 2;
``dpo-smollm2-fp32``, which must agree to a thousandth, tells rounding from a mistake."""
AGREEMENT = 0.5
"""Greedy tokens in float32 that agree before an answer's first difference: fewer, and the sides have other weights."""
ALIKE = 1.6
"""Most by which the measured rates of two machines of one kind differ."""


def main() -> None:
    """Prepare, alternate, check the losses, write JSON and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--jobs", default=",".join([*JOBS, *REAL_JOBS]))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=4)
    parser.add_argument("--batch", type=int, default=BATCH, help="pairs of a step of smollm2's training")
    parser.add_argument("--new", type=int, default=sampling.NEW, help="new tokens of smollm2's answers")
    parser.add_argument("--out", type=Path, default=Path("runs/peers"))
    parser.add_argument("--results", type=Path, help="another file for the figures of smollm2")
    parser.add_argument("--ppo-python", default=sys.executable, help="interpreter with TRL 1.12, the last with PPO")
    parser.add_argument("--vllm-python", help="interpreter with vLLM's CPU build; without it vLLM is left out")
    args = parser.parse_args()
    asked = args.jobs.split(",")
    if unknown := [job for job in asked if job not in JOBS and job not in REAL_JOBS]:
        parser.error(f"--jobs: {unknown[0]!r} is none of {', '.join([*JOBS, *REAL_JOBS])}")
    commit = revision()  # the results are a file of the repository: writing them makes the copy differ
    source = {"source": "hh-rlhf harmless-base test" if args.data else "sandbox"}
    work = args.out / "work"
    if usual := [job for job in asked if job in JOBS]:
        workload = prepare(work, args.data, steps=args.steps) | source
        found = compare(usual, workload, args, RESULTS, commit)
        print(table(found))
    if real := [job for job in asked if job in REAL_JOBS]:
        workload = prepare_smollm2(work / "smollm2", args.data, steps=args.steps, batch=args.batch) | source
        workload["new"] = args.new
        found = compare(real, workload, args, args.results or REAL_RESULTS, commit)
        print(table({"rows": [row for row in found["rows"] if row["job"] in REAL_TRAINING]}))
        print(sampling_table(found))


def compare(
    jobs: list[str], workload: dict[str, Any], args: argparse.Namespace, results: Path, commit: str | None
) -> dict[str, Any]:
    """Run the jobs, each side in turn, and write what was found after each; returns all that the file has then."""
    print("workload:", workload, flush=True)
    machine = _machine()
    found = _earlier(workload, results) | {"workload": workload}
    for job in jobs:
        sides = [side for side in (JOBS | REAL_JOBS)[job] if side != "vllm" or args.vllm_python]
        runs: dict[str, list[dict[str, Any]]] = {side: [] for side in sides}
        rates = []
        for turn in range(args.rounds):
            if job in REAL_SAMPLING:
                rates.append(sampling.bandwidth(2 * workload["weights"]))
            for side in list(runs):
                sizes = (f"--batch={args.batch}", f"--new={args.new}") if job in REAL_JOBS else ()
                try:
                    result = run_job(_python(job, side, args), side, job, args.out / "work", *sizes)
                except SystemExit as error:
                    if side != "vllm":
                        raise
                    print(f"vllm is left out: {error}", flush=True)  # the others' figures need not be lost for it
                    del runs[side]
                    continue
                runs[side].append(result)
                print(job, side, turn, _summary(job, runs[side][-1:], args.batch, args.new), flush=True)
        _same_work(job, runs)
        row = {
            "job": job,
            "revision": commit,
            "machine": machine | {name: max(rate[name] for rate in rates) for name in (rates or [{}])[0]},
            "sides": {side: _summary(job, these, args.batch, args.new) for side, these in runs.items()},
        }
        found["rows"] = with_row(found["rows"], row)
        results.parent.mkdir(parents=True, exist_ok=True)
        results.write_text(json.dumps(found, indent=1) + "\n")
    return found


def _python(job: str, side: str, args: argparse.Namespace) -> str:
    """The interpreter of a side."""
    if side == "vllm":
        return str(args.vllm_python)
    return str(args.ppo_python) if job.startswith("rlhf") and side.startswith("trl") else sys.executable


def _machine() -> dict[str, Any]:
    health = inspect_machine()
    return {
        "processor": health.processor,
        "cores": health.cores,
        **{name: version(name) for name in ("torch", "transformers", "trl")},
        "xllamacpp": installed_version("xllamacpp"),
        "gflops_fp32": health.float32_gflops,
        "gflops_bf16": health.bfloat16_gflops,
        "copy_gb_per_s": health.copy_gb_per_s,
    }


def _earlier(workload: dict[str, Any], results: Path) -> dict[str, Any]:
    """Results of the same pairs, which may stand in one table with what is measured now."""
    if results.exists():
        found: dict[str, Any] = json.loads(results.read_text())
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
    order = [*JOBS, *REAL_JOBS]
    return sorted([*others, row], key=lambda r: (order.index(r["job"]), r["machine"]["gflops_bf16"]))


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


def unit_of(job: str, batch: int = BATCH, new: int = sampling.NEW) -> tuple[str, int]:
    """What a job's rate counts, and how many of it a step brings."""
    method, _, detail = job.partition("-")
    if job in REAL_SAMPLING:
        rows = job.rpartition("-")[2]
        return "tokens/s", new * (sampling.GREEDY_ROWS if rows == "greedy" else int(rows))
    if method == "sample":
        return "tokens/s", SAMPLED_ROWS * SAMPLED_TOKENS
    if method == "rlhf":
        return "steps/s", 1
    return "examples/s" if method == "sft" else "pairs/s", batch if detail.startswith("smollm2") else BATCH


def _summary(job: str, runs: list[dict[str, Any]], batch: int = BATCH, new: int = sampling.NEW) -> dict[str, Any]:
    """Medians over runs; ``rate`` is without what is done once, ``rate_whole`` with it.

    Of sampling from SmolLM2 also the seconds of the first tokens, of the first tokens of one prompt for all rows, and
    tokens a second between the first and the last.
    """
    unit, amount = unit_of(job, batch, new)
    rates, whole, later = [], [], []
    for run in runs:
        steps = run["seconds"][1:]
        rates.append(amount * len(steps) / sum(steps))
        whole.append(amount / (sum(steps) / len(steps) + run["once_seconds"] / len(run["seconds"])))
        if "first_seconds" in run:
            later.append(amount * (1 - 1 / new) / max(1e-9, median(steps) - run["first_seconds"]))
    more: dict[str, Any] = {}
    if later:
        more = {"decode_rate": median(later), "decode_rate_low": min(later), "decode_rate_high": max(later)}
        more |= {name: median(run[name] for run in runs) for name in ("first_seconds", "shared_seconds")}
        more["tokens"] = runs[0]["tokens"]
    return more | {
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
    ours = runs["trueup"][0].get("tokens")
    for side, these in runs.items():
        if ours and (share := sampling.agreement(ours, these[0]["tokens"])) < AGREEMENT:
            raise SystemExit(f"{job}: {share:.0%} of {side}'s greedy tokens agree; this compares two things")


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


def sampling_table(found: dict[str, Any]) -> str:
    """Markdown: one row a sampling job of SmolLM2, kind of machine and side; greedy tokens beside trueup's."""
    lines = [
        "| job | on | side | tokens/s | after the first | first tokens | one prompt | greedy alike | memory | commit |",
        "|---|---|---|---:|---:|---:|---:|---:|---:|---|",
    ]
    for row in found["rows"]:
        if row["job"] not in REAL_SAMPLING:
            continue
        ours = row["sides"]["trueup"]["tokens"]
        for side, one in row["sides"].items():
            alike = f"{sampling.agreement(ours, one['tokens']):.0%}" if ours and side != "trueup" else ""
            cells = [row["job"], letter(found, row), side, f"{one['rate']:.0f}", f"{one['decode_rate']:.0f}"]
            cells += [f"{one['first_seconds']:.3f} s", f"{one['shared_seconds']:.3f} s", alike]
            lines.append("| " + " | ".join([*cells, f"{one['peak_gb']:.1f} GB", row["revision"] or ""]) + " |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
