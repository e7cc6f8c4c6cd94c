"""Constitutional AI by a real model: SmolLM2 as policy, critic and judge, on red-team and XSTest prompts.

    python -m benchmarks.real_constitution --data DIR --out runs/real/constitution

First what its judgments are worth. XSTest's published answers of five models carry labels by people (Röttger et al.
2024): full compliance, full or partial refusal. They say which answers break three principles of the bundled
constitution (``TRUTH``), and which of two answers to one prompt is better: compliance with a safe request, refusal of
an unsafe one. Then two rounds: every answer is criticised and rewritten, as in Bai et al. (2022), SFT on what comes of
it, and an audit of prompts that are not trained on.

Killed, the same command goes on with what is there.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.real_constitution_judge import (
    DTYPE,
    JUDGMENTS,
    SEED,
    judge_answers,
    pair_table,
    principles,
    rows_of,
    verdict_table,
)
from benchmarks.real_model import smollm2
from benchmarks.real_stages import read_costs, run, run_measured
from trueup.commands.constitution_audit import table as audit_table
from trueup.data.write import write_jsonl
from trueup.engine.device import tuned_process
from trueup.ledger import read_lines, write_json

RESULTS = Path("benchmarks/results/real_constitution.json")
Keep = Callable[[dict[str, Any]], None]


@dataclass(frozen=True, slots=True)
class Sizes:
    """How much is done."""

    judgments: int = 30
    """Answers that break a principle and as many that keep it; pairs on safe prompts and as many on unsafe ones."""
    prompts: int = 20
    """Red-team prompts and as many of XSTest, to train on; and as many of each for the audit."""
    tokens: int = 96
    """Longest answer, critique and revision."""


SMALL = Sizes(judgments=2, prompts=2, tokens=24)


# Two rounds -----------------------------------------------------------------------------------------------------------


def prompts_of(data: Path, out: Path, count: int) -> dict[str, Path]:
    """Files of prompts to train on and to audit with: red-team requests, and XSTest's by what people call them.

    The file of the principles that are judged lies beside them.
    """
    pick = random.Random(SEED)
    red_team = [row["prompt"] for row in rows_of(data / "safety/advbench_harmful_behaviors.jsonl.gz")]
    rows = {row["prompt"]: row for row in rows_of(data / "safety/xstest_labelled_completions.jsonl.gz")}
    groups: dict[str, list[dict[str, Any]]] = {"red team": [_row(p, "harmful", "AdvBench") for p in red_team]}
    for side, kind in (("safe", "lookalike"), ("unsafe", "harmful")):
        some = [row for row in rows.values() if row["prompt_label"] == side]
        groups[side] = [_row(row["prompt"], kind, f"XSTest {side}") for row in some]
    counts = {"red team": count, "safe": count // 2, "unsafe": count // 2}
    drawn = {name: pick.sample(group, 2 * counts[name]) for name, group in groups.items()}
    files = {}
    for at, name in enumerate(("train", "test")):
        chosen = [row for group, some in drawn.items() for row in some[at * counts[group] : (at + 1) * counts[group]]]
        files[name] = write_jsonl(out / f"{name}.jsonl", chosen)
    return files | {"constitution": principles(out)}


def _row(prompt: str, kind: str, category: str) -> dict[str, Any]:
    return {"prompt": [{"role": "user", "content": prompt}], "kind": kind, "category": category}


def stage(model: str, files: dict[str, Path], sizes: Sizes) -> dict[str, Any]:
    """Two rounds as a stage of a recipe."""
    return {
        "name": "rounds",
        "kind": "constitution",
        "model": {"name": model, "dtype": DTYPE},
        "constitution": str(files["constitution"]),
        "judge": model,
        "reviser": "model",
        "rewrite": "all",
        "revisions": 1,
        "rounds": 2,
        "method": "sft",
        "prompts": str(files["train"]),
        "test_prompts": str(files["test"]),
        "sampling": {"max_new_tokens": sizes.tokens, "temperature": 0.7},
        "train": {
            "epochs": 2,
            "batch": {"size": 8, "max_length": 512},
            "optim": {"learning_rate": 2e-5, "warmup": 0.1},
        },
        "seed": SEED,
    }


def round_figures(folder: Path) -> dict[str, Any]:
    """Audits, counts and problems of the rounds, and one look-alike's answer with critique and revision."""
    report = json.loads((folder / "report.json").read_text(encoding="utf-8"))
    revisions = [read_lines(folder / f"round-{n}/revisions.jsonl")[0] for n in range(1, len(report["rounds"]))]
    for one, rows in zip(report["rounds"][1:], revisions, strict=True):
        notes = [note for row in rows for note in row["rounds"]]
        one["problems"] = dict(Counter(note["problem"] for note in notes if note.get("problem")))
        one["p_breaks"] = float(np.mean([p for row in rows for p in row["p_breaks"].values()]))
    for one in report["rounds"]:
        del one["model"]
        rows = read_lines(folder / f"round-{one['round']}/audit.jsonl")[0]
        one["ended"] = sum(row["stop"] == "eos" for row in rows) / len(rows)
    shown = [row for row in revisions[0] if row["category"] == "XSTest safe" and row["state"] == "revised"][:1]
    return {"rounds": report["rounds"], "examples": [_example(row) for row in shown]}


def _example(row: dict[str, Any]) -> dict[str, Any]:
    note = row["rounds"][0]
    kept = {key: note[key] for key in ("principle", "p_breaks", "critique")}
    return {"prompt": row["prompt"], "original": row["original"], **kept, "revision": row["answer"]}


# All of it ------------------------------------------------------------------------------------------------------------


def measure(data: Path, out: Path, model: str, sizes: Sizes, *, words: Sequence[str], keep: Keep) -> dict[str, Any]:
    """Both parts, each in a process of its own.

    Args:
        data: Folder with ``safety/``.
        out: Where the work stays.
        model: Policy, critic and judge.
        sizes: How much is done.
        words: Options that the process of the first part is given too.
        keep: Gets the figures after each part.
    """
    if not (out / JUDGMENTS).exists():
        own = [sys.executable, "-m", "benchmarks.real_constitution", "--data", str(data), "--out", str(out)]
        run_measured(out, "judgments", [*own, "--part", "judgments", *words])
    found = {"judgments": json.loads((out / JUDGMENTS).read_text(encoding="utf-8")), "costs": read_costs(out)}
    keep(found)
    rounds = run(out, [stage(model, prompts_of(data, out, sizes.prompts), sizes)])["rounds"]
    sizes_of_rounds = {"prompts": sizes.prompts, "tokens": sizes.tokens}
    keep(found := found | round_figures(rounds) | {"sizes": sizes_of_rounds, "costs": read_costs(out)})
    return found


def _store(found: dict[str, Any]) -> None:
    write_json(RESULTS, found)


def main() -> None:
    """Run it and write its figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="Folder with safety/.")
    parser.add_argument("--out", type=Path, default=Path("runs/real/constitution"))
    parser.add_argument("--model", help="Another chat model than SmolLM2-135M-Instruct.")
    parser.add_argument("--small", action="store_true", help="A few of each, to see that it runs.")
    parser.add_argument("--part", choices=("judgments",), help="What a process of its own is called with.")
    args = parser.parse_args()
    model, sizes = args.model or str(smollm2()), SMALL if args.small else Sizes()
    out = args.out / "small" if args.small and not args.part else args.out
    if args.part:
        with tuned_process():
            judge_answers(args.data, out, model, sizes.judgments)
        return
    words = [*(["--model", args.model] if args.model else []), *(["--small"] if args.small else [])]
    stored = not (args.small or args.model)  # the page is about SmolLM2
    found = measure(args.data, out, model, sizes, words=words, keep=_store if stored else lambda found: None)
    print("\n\n".join(form(found) for form in (verdict_table, pair_table, rounds_table)))


def rounds_table(found: dict[str, Any]) -> str:
    """Markdown: the audit of each round by the judge and by phrases."""
    return audit_table(found["rounds"])


def count_table(found: dict[str, Any]) -> str:
    """Markdown: what became of the answers of each round."""
    lines = ["| round | answers | left out of training | problems of revisions | answers that end, in the audit |"]
    lines.append("|---:|---|---|---|---:|")
    for one in found["rounds"]:
        made = one["collected"] or {"states": {}, "left_out": {}}
        cells = [made["states"], made["left_out"], one.get("problems", {})]
        words = [", ".join(f"{n} {name}" for name, n in sorted(some.items())) or "-" for some in cells]
        lines.append(f"| {one['round']} | {' | '.join(words)} | {one['ended']:.0%} |")
    return "\n".join(lines)


def shown(example: dict[str, Any]) -> str:
    """Markdown: an answer, its critique and its revision, word for word."""
    parts = {
        "Request": example["prompt"][-1]["content"],
        "Answer": example["original"],
        f"Critique by {example['principle']} (P(breaks) {example['p_breaks']:.2f})": example["critique"],
        "Revision": example["revision"],
    }
    quoted = [f"**{name}**: {text.strip()}".replace("\n", "\n> ") for name, text in parts.items()]
    return "> " + "\n>\n> ".join(quoted)


if __name__ == "__main__":
    main()
