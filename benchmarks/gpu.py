"""The comparison with TRL on one CUDA GPU: DPO and SFT in bfloat16 on a Llama of 1.2 billion parameters.

    python -m benchmarks.gpu [--data DIR] [--rounds 3] --out runs/gpu

Both sides read the same random weights and the same batches and must show the same losses. TRL runs with its defaults
and with the best of its settings that the machine has installed (Liger kernels; padding-free with FlashAttention 2;
no gradient checkpointing; the reference precomputed). ``--size tiny --device cpu`` goes through the same steps on a
model that any machine can hold; it says nothing about speed.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path
from statistics import median
from typing import Any

import torch
from transformers import AutoConfig

from benchmarks.peers import run_job, same_losses
from benchmarks.workload import prepare_large
from trueup.commands.machine import installed_version

RESULTS = Path("benchmarks/results/gpu.json")
SIDES = ("trueup", "trl", "trl-best")
JOBS = ("dpo-bf16", "sft-bf16")
SIZES: dict[str, dict[str, Any]] = {
    "1b": {  # the shape of Llama 3.2 1B
        "vocab_size": 128_256,
        "hidden_size": 2048,
        "num_hidden_layers": 16,
        "num_attention_heads": 32,
        "num_key_value_heads": 8,
        "intermediate_size": 8192,
        "max_position_embeddings": 2048,
        "tie_word_embeddings": True,
    },
    "tiny": {
        "vocab_size": 8192,
        "hidden_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "intermediate_size": 128,
        "max_position_embeddings": 1024,
        "tie_word_embeddings": True,
    },
}


def main() -> None:
    """Prepare, alternate, check the losses, write JSON and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--size", choices=list(SIZES), default="1b")
    parser.add_argument("--device", choices=["cuda", "cpu"], default="cuda")
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--steps", type=int, default=6)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--sides", default=",".join(SIDES))
    parser.add_argument("--out", type=Path, default=Path("runs/gpu"))
    parser.add_argument("--results", type=Path, default=RESULTS)
    args = parser.parse_args()
    if args.device == "cuda" and not torch.cuda.is_available():
        raise SystemExit("no CUDA GPU is here; --size tiny --device cpu goes through the same steps without one")
    config = AutoConfig.for_model("llama", bos_token_id=None, **SIZES[args.size])
    facts = prepare_large(args.out / "work", args.data, config, batch=args.batch, steps=args.steps)
    found: dict[str, Any] = {"machine": _machine(args.device), "workload": facts | {"batch": args.batch}, "jobs": {}}
    more = ("--model", "large", "--device", args.device, "--batch", str(args.batch))
    for job in JOBS:
        runs: dict[str, list[dict[str, Any]]] = {side: [] for side in args.sides.split(",")}
        for _ in range(args.rounds):
            for side, these in runs.items():
                these.append(run_job(sys.executable, side, job, args.out / "work", *more))
                print(job, side, _summary(these[-1:]), flush=True)
        same_losses(job, runs)
        found["jobs"][job] = {side: _summary(these) for side, these in runs.items()}
        args.results.parent.mkdir(parents=True, exist_ok=True)
        args.results.write_text(json.dumps(found, indent=1) + "\n")
    print(table(found))


def _machine(device: str) -> dict[str, Any]:
    """What it ran on; the ceiling is the best bfloat16 product seen."""
    side = 8192 if device == "cuda" else 1024
    left, right = (torch.randn(side, side, dtype=torch.bfloat16, device=device) for _ in range(2))
    best = float("inf")
    for _ in range(10):
        _wait(device)
        began = time.perf_counter()
        torch.mm(left, right)
        _wait(device)
        best = min(best, time.perf_counter() - began)
    packages = {
        name: installed_version(name) for name in ("torch", "transformers", "trl", "liger-kernel", "flash-attn")
    }
    name = torch.cuda.get_device_name() if device == "cuda" else "CPU"
    return {"name": name, "tflops_bf16": 2 * side**3 / best / 1e12, "packages": packages}


def _wait(device: str) -> None:
    if device == "cuda":
        torch.cuda.synchronize()


def _summary(runs: list[dict[str, Any]]) -> dict[str, Any]:
    """Medians over runs, the first step of each left out; with what is done once (``whole``) and without."""
    seconds = [sum(run["seconds"][1:]) / len(run["seconds"][1:]) for run in runs]
    whole = [s + run["once_seconds"] / len(run["seconds"]) for s, run in zip(seconds, runs, strict=True)]
    return {
        "seconds": median(seconds),
        "seconds_whole": median(whole),
        "peak_gb": median(run["peak_gb"] for run in runs),
        "losses": runs[0]["losses"],
    }


def table(found: dict[str, Any]) -> str:
    """Markdown: one row a job and side; MFU is useful operations over the measured ceiling."""
    lines = ["| job | side | examples/s | MFU | peak memory | trueup is |", "|---|---|---:|---:|---:|---:|"]
    ceiling = found["machine"]["tflops_bf16"] * 1e12
    for job, sides in found["jobs"].items():
        flop = found["workload"]["flop"][job.partition("-")[0]]
        for side, one in sides.items():
            ours = sides["trueup"]["seconds" if side == "trl-best" else "seconds_whole"]
            seconds = one["seconds_whole" if side == "trueup" else "seconds"]
            ratio = "" if side == "trueup" else f"{one['seconds'] / ours:.1f}x as fast"
            lines.append(
                f"| {job} | {side} | {found['workload']['batch'] / seconds:.1f} | {flop / seconds / ceiling:.0%} "
                f"| {one['peak_gb']:.1f} GB | {ratio} |"
            )
    return "\n".join(lines)


if __name__ == "__main__":
    main()
