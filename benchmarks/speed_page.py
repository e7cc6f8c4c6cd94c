"""Write ``docs/speed.md`` and its plot from ``benchmarks/results/*.json``: no figure in it was typed by hand.

python -m benchmarks.speed_page
"""

from __future__ import annotations

import functools
import json
import math
from pathlib import Path
from string import ascii_uppercase
from typing import Any

from benchmarks.gpu import table as gpu_table
from benchmarks.jobs import PROMPT_TOKENS, SAMPLED_ROWS, SAMPLED_TOKENS
from benchmarks.peers import kinds, letter, table
from benchmarks.speed_smollm2 import section as smollm2_section

RESULTS = Path("benchmarks/results")
PLOT = Path("docs/images/scaling.png")
WANTED = {  # job: throughput over TRL's default, over its best settings, memory
    "dpo-bf16": (10, 8, 0.33),
    "dpo-fp32": (8, 6, 0.30),
    "reward-bf16": (3, 2.5, 0.5),
    "sft-bf16": (2, 1.5, 0.5),
    "sample-gpt2": (2, None, 1),
    "sample-tiny": (4, None, 1),
    "rlhf-gpt2": (5, None, 0.5),
    "rlhf-tiny": (5, None, 0.5),
}


def main() -> None:
    """Write the page and the plot."""
    Path("docs/speed.md").write_text(page(), encoding="utf-8")
    if scaling := _load("scaling"):
        _plot(scaling)


def page() -> str:
    """The page of the results that there are."""
    parts = [
        "# Speed",
        "Made by `python -m benchmarks.speed_page` from `benchmarks/results/*.json`. Nothing needs a flag: these are the "
        "defaults. How it is done: [packed streams](decisions/0007-packed-streams.md), "
        "[a decoder of our own](decisions/0008-a-decoder-of-our-own.md).",
        _peers(),
        smollm2_section(_load("peers_smollm2")),
        _gpu(),
        _scaling(),
        _plan(),
        _contention(),
    ]
    return "\n\n".join(p for p in parts if p) + "\n"


def _load(name: str) -> Any:
    file = RESULTS / f"{name}.json"
    return json.loads(file.read_text(encoding="utf-8")) if file.exists() else None


def _peers() -> str:
    found = _load("peers")
    if not found:
        return ""
    work = found["workload"]
    missing = [job for job in WANTED if job not in {row["job"] for row in found["rows"]}]
    where = [
        f"- {name}: {kind[0]['cores']} cores ({kind[0]['processor']}), measured ceilings {_span(kind, 'gflops_fp32')} GFLOP/s "
        f"in float32, {_span(kind, 'gflops_bf16')} in bfloat16, memory {_span(kind, 'copy_gb_per_s')} GB/s"
        for name, kind in zip(ascii_uppercase, kinds(found), strict=False)
    ]
    packages = ", ".join(f"{name} {_versions(found, name)}" for name in ("torch", "transformers", "trl"))
    return "\n\n".join(
        [
            "## Against TRL",
            "`make bench DATA=...`: GPT-2 124M (random weights) and a 4-layer Llama of width 256 with 16,384 tokens "
            f"(`tiny`), {work['source']} (mean prompt {work['mean_prompt_tokens']:.0f} tokens, chosen "
            f"{work['mean_chosen_tokens']:.0f}, rejected {work['mean_rejected_tokens']:.0f}), 8 pairs a step. "
            "Each side runs in processes of its own, in turn; medians of three or more. Training jobs must show the same losses step "
            "by step, RLHF jobs the same number of sampled tokens, or the benchmark stops. Ours start as the `trueup` command does: "
            "from commit c204264 on with a heap that can use its holes ([decision 14](decisions/0014-memory-of-a-training-process.md)), "
            "before it, like TRL's, as Python does.",
            f"Kinds of machines ({packages}; TRL 1.12 for PPO). All runs of a row are of one machine and one session; the latest "
            "row of each kind is kept, and its last column names the commit that was measured:\n\n" + "\n".join(where),
            table(found),
            "TRL *default* is what its trainer does unasked; *best* is without gradient checkpointing and, for DPO, "
            "with the reference precomputed and not counted (ours is then not counted either). In sampling the peer is "
            f"`generate` of transformers; {SAMPLED_ROWS} prompts, {SAMPLED_TOKENS} new tokens. RLHF is one whole step: 16 prompts (124M) or 32 "
            "(tiny), 32 new tokens, 4 passes over the batch.",
            _verdict(found),
            *(["Not measured yet: " + ", ".join(missing) + "."] if missing else []),
            "### How much of the machine",
            "Useful operations (`benchmarks/flops.py`: each distinct token once, no padding, no recomputation) a second, "
            "over the matrix rate measured just before. Element-wise work, attention and memory traffic take the rest.",
            _utilisation(found),
            "### How much of the memory",
            "What training the 124M model must hold: weights, gradients and both moments of Adam in float32, 16 bytes a "
            "parameter; RLHF also holds the reference's and the reward model's weights, in bfloat16 what only products read. "
            "Interpreter and libraries (about 0.4 GB) and everything that a batch needs come on top. The least ratio is that of "
            "a program which needs nothing on top. TRL's defaults recompute activations (gradient checkpointing), ours keep what is not "
            "cheaply made again, TRL's best settings keep all: the ratio to those is of programs that run no block twice. "
            "`model.gradient_checkpointing=true` recomputes here too (*lean*): its memory and its throughput over TRL's default are the last columns.",
            _memory(found),
            "Sampling from the 124M model holds its weights, those of layers in bfloat16 ({:.2f} GB), a bfloat16 copy as the products "
            "want it that is made once a call ({:.2f} GB) and keys and values ({:.2f} GB). `generate`, as a trainer calls it, holds "
            "the float32 weights and narrow copies of them.".format(*_sampling()),
        ]
    )


def _span(kind: list[dict[str, Any]], field: str) -> str:
    """The least and the most of a figure of some machines."""
    values = sorted({round(machine[field]) for machine in kind})
    return str(values[0]) if len(values) == 1 else f"{values[0]} to {values[-1]}"


def _versions(found: dict[str, Any], package: str) -> str:
    return " and ".join(sorted({row["machine"][package] for row in found["rows"]}))


def _verdict(found: dict[str, Any]) -> str:
    lines = ["| job | on | sought | reached | |", "|---|---|---|---|---|"]
    for row in found["rows"]:
        job, sides = row["job"], row["sides"]
        fast, best, memory = WANTED[job]
        ours, default = sides["trueup"], sides["trl"]
        speed, held = ours["rate_whole"] / default["rate"], ours["peak_gb"] / default["peak_gb"]
        sought, reached = [f">= {fast}x"], [f"{speed:.1f}x"]
        slow = speed < fast
        if best is not None:
            over_best = ours["rate"] / sides["trl-best"]["rate"]
            sought.append(f">= {best}x over best")
            reached.append(f"{over_best:.1f}x over best")
            slow = slow or over_best < best
        sought.append(f"memory <= {memory}x")
        reached.append(f"memory {held:.2f}x")
        missed = [f"speed, at {_useful(found, row)[2]:.0%} of the matrix rate"] if slow else []
        if round(held, 2) > memory:
            states = _states(job)
            more = f", by {1000 * (ours['peak_gb'] - default['peak_gb']):.0f} MB"
            words = f", of which {states / ours['peak_gb']:.0%} must be held" if states else more
            if best is not None:
                words += f"; {ours['peak_gb'] / sides['trl-best']['peak_gb']:.2f}x of the best settings'"
            missed.append("memory" + words)
        verdict = "**no**: " + "; ".join(missed) if missed else "yes"
        lines.append(f"| {job} | {letter(found, row)} | {', '.join(sought)} | {', '.join(reached)} | {verdict} |")
    return "\n".join(lines)


def _useful(found: dict[str, Any], row: dict[str, Any]) -> tuple[float, float, float]:
    """FLOP of a step, its seconds, and the share of the measured matrix rate that this comes to."""
    job, ours = row["job"], row["sides"]["trueup"]
    flop = found["workload"]["flop"][job if job in found["workload"]["flop"] else job.partition("-")[0]]
    seconds = SAMPLED_ROWS * SAMPLED_TOKENS / ours["rate"] if job.startswith("sample") else ours["seconds_a_step"]
    ceiling = row["machine"]["gflops_fp32" if job.endswith("fp32") else "gflops_bf16"]
    return flop, seconds, flop / seconds / 1e9 / ceiling


def _utilisation(found: dict[str, Any]) -> str:
    lines = ["| job | on | useful TFLOP a step | seconds | GFLOP/s | of the ceiling |", "|---|---|---:|---:|---:|---:|"]
    for row in found["rows"]:
        flop, seconds, share = _useful(found, row)
        lines.append(
            f"| {row['job']} | {letter(found, row)} | {flop / 1e12:.3f} | {seconds:.2f} | {flop / seconds / 1e9:.0f} | {share:.0%} |"
        )
    return "\n".join(lines)


def _states(job: str) -> float:
    """GB that a job on the 124M model must hold; 0 for other jobs."""
    if job.endswith("tiny"):
        return 0.0
    if job.startswith("sample"):
        return sum(_sampling())
    states = sum(p.numel() for p in _gpt2().parameters()) * 16 / 1e9
    return states + (2 * _frozen() if job.startswith("rlhf") else 0)


def _sampling() -> tuple[float, float, float]:
    """GB of the 124M model's weights where it only answers, of their copy, and of the keys and values of 32 rows."""
    model = _gpt2()
    matrices = sum(p.numel() for name, p in model.named_parameters() if p.ndim == 2 and "wpe" not in name)
    cache = 2 * model.config.n_layer * model.config.n_embd * SAMPLED_ROWS * (PROMPT_TOKENS + SAMPLED_TOKENS)
    return _frozen(), matrices * 2 / 1e9, cache * 2 / 1e9


def _frozen() -> float:
    """GB of the 124M model's weights where it learns nothing: in bfloat16 what only products read, which no embedding is."""
    narrow = sum(
        p.numel()
        for name, p in _gpt2().named_parameters()
        if p.ndim == 2 and not name.endswith(("wte.weight", "wpe.weight"))
    )
    return float((sum(p.numel() for p in _gpt2().parameters()) * 4 - narrow * 2) / 1e9)


@functools.cache
def _gpt2() -> Any:
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    with torch.device("meta"):
        return AutoModelForCausalLM.from_config(AutoConfig.for_model("gpt2"))


def _memory(found: dict[str, Any]) -> str:
    lines = [
        "| job | on | must hold | TRL | least ratio | trueup | ratio | TRL best | ratio | lean | ratio | throughput |",
        "|---|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for row in found["rows"]:
        job, least = row["job"], _states(row["job"])
        if not least or job.startswith("sample"):
            continue
        sides = row["sides"]
        ours, theirs, best = (sides[side]["peak_gb"] for side in ("trueup", "trl", "trl-best"))
        lean = " | | |"
        if "trueup-lean" in sides:
            held = sides["trueup-lean"]["peak_gb"]
            over = sides["trueup-lean"]["rate_whole"] / sides["trl"]["rate"]
            lean = f" {held:.1f} GB | {held / theirs:.2f} | {over:.1f}x |"
        lines.append(
            f"| {job} | {letter(found, row)} | {least:.2f} GB | {theirs:.1f} GB | {least / theirs:.2f} | {ours:.1f} GB | {ours / theirs:.2f} "
            f"| {best:.1f} GB | {ours / best:.2f} |{lean}"
        )
    return "\n".join(lines)


def _gpu() -> str:
    found = _load("gpu")
    if not found:
        return (
            "## On a GPU\n\nNot measured yet: no GPU was at hand. `python -m benchmarks.gpu` makes the table on a machine "
            "with one (a Llama of 1.2 billion parameters, DPO and SFT in bfloat16, against TRL's defaults and its best "
            "settings there). The same code runs in the tests on the CPU."
        )
    machine, work = found["machine"], found["workload"]
    packages = ", ".join(f"{name} {number}" for name, number in machine["packages"].items())
    return "\n\n".join(
        [
            "## On a GPU",
            f"`python -m benchmarks.gpu`: {machine['name']}, {machine['tflops_bf16']:.0f} TFLOP/s measured in bfloat16; "
            f"{packages}. A Llama of {work['parameters'] / 1e9:.2f} billion parameters, {work['batch']} pairs a step (mean "
            f"prompt {work['mean_prompt_tokens']:.0f} tokens, chosen {work['mean_chosen_tokens']:.0f}, rejected "
            f"{work['mean_rejected_tokens']:.0f}). MFU: useful operations over the measured ceiling.",
            gpu_table(found),
        ]
    )


def _contention() -> str:
    found = _load("contention")
    if not found:
        return ""
    machine, rows = found["machine"], found["rows"]
    alone = {row["side"]: row["milliseconds"] for row in rows if row["neighbours"] == 0}
    lines = [
        f"| alone, and beside {machine['cores']} busy programs on {machine['cores']} cores | alone | beside | times |",
        "|---|---:|---:|---:|",
    ]
    for row in rows:
        if row["neighbours"]:
            quiet, crowded = alone[row["side"]], row["milliseconds"]
            lines.append(f"| {row['side']} | {quiet:.0f} ms | {crowded:.0f} ms | {crowded / quiet:.1f} |")
    return "\n\n".join(
        [
            "## Beside busy programs",
            f"`python -m benchmarks.contention` ({machine['processor']}): a step of SFT of a two-layer Llama, 24 rows; the mean step "
            "of ten seconds, the median of three rounds in turn. Threads sleep while other programs want the cores and spin while "
            "they are free ([decision 25](decisions/0025-threads-that-sleep-beside-busy-programs.md)); the second line is what "
            "OpenMP does by itself.",
            "\n".join(lines),
        ]
    )


def _scaling() -> str:
    found = _load("scaling")
    if not found:
        return ""
    base = ", ".join(f"{name} {value}" for name, value in found["base"].items())
    rows = ["| axis | from | to | work grows | time grows | memory grows |", "|---|---:|---:|---:|---:|---:|"]
    for axis, points in found["axes"].items():
        first, last = points[0], points[-1]
        rows.append(
            f"| {axis} | {first[axis]} | {last[axis]} | {last['flop'] / first['flop']:.1f}x "
            f"| {last['seconds'] / first['seconds']:.1f}x | {last['peak_gb'] / first['peak_gb']:.1f}x |"
        )
    return "\n\n".join(
        [
            "## How cost grows",
            f"`python -m benchmarks.scaling`: DPO steps in {found['dtype']} of a Llama of {found['layers']} layers on random pairs, one "
            f"axis at a time from {base} (width of the model in units, pairs per step, tokens). Work is useful operations.",
            "![seconds and gigabytes of a DPO step along five axes](images/scaling.png)",
            "\n".join(rows),
        ]
    )


def _plot(found: dict[str, Any]) -> None:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(1, len(found["axes"]), figsize=(15, 3.2), sharey=True, layout="constrained")
    for axis, (name, points) in zip(axes, found["axes"].items(), strict=True):
        x = [p[name] for p in points]
        scale = points[-1]["seconds"] / points[-1]["flop"]
        axis.plot(x, [p["seconds"] for p in points], "o-", color="#1f6f8b", label="seconds a step")
        axis.plot(x, [p["peak_gb"] for p in points], "s--", color="#c05621", label="peak memory, GB")
        axis.plot(x, [p["flop"] * scale for p in points], ":", color="#888888", label="useful work, scaled")
        axis.set_xscale("log", base=2)
        axis.set_yscale("log")
        axis.set_xticks(x, [f"{v // 1024}k" if v >= 4096 else str(v) for v in x])
        axis.minorticks_off()
        slope = math.log(points[-1]["seconds"] / points[-2]["seconds"]) / math.log(x[-1] / x[-2])
        axis.set_title(f"{name} (time ~ n^{slope:.1f} at the end)", fontsize=10)
        axis.grid(alpha=0.3)
    axes[0].legend(fontsize=8)
    PLOT.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(PLOT, dpi=110, metadata={"Software": None})
    pyplot.close(figure)


def _plan() -> str:
    rows = _load("plan")
    if not rows:
        return ""
    lines = [
        "| stage | steps | planned | took | off by | memory planned | measured | off by |",
        "|---|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for row in rows:
        time_gap = row["planned_seconds"] / row["seconds"] - 1
        memory_gap = row["planned_gb"] / row["gb"] - 1
        lines.append(
            f"| {row['stage']} | {row['steps']} | {row['planned_seconds']:.0f} s | {row['seconds']:.0f} s | {time_gap:+.0%} "
            f"| {row['planned_gb']:.2f} GB | {row['gb']:.2f} GB | {memory_gap:+.0%} |"
        )
    planned, took = sum(r["planned_seconds"] for r in rows), sum(r["seconds"] for r in rows)
    return "\n\n".join(
        [
            "## What `trueup plan` is worth",
            "`python -m benchmarks.plan_check`: a third of the quickstart, planned and then run.",
            "\n".join(lines),
            f"All together: planned {planned:.0f} s, took {took:.0f} s ({planned / took - 1:+.0%}).",
        ]
    )


if __name__ == "__main__":
    main()
