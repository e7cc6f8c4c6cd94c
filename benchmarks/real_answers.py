"""Answers before and after: MT-bench's questions and XSTest's prompts to the chat model, its SFT and its DPO.

    python -m benchmarks.real_answers --data DIR --trained runs/real

XSTest (Röttger et al. 2024) asks safe questions that sound unsafe, and unsafe ones. Its published answers of five
models carry labels by people: full compliance, full or partial refusal. Ours are put into the same classes by phrases
(``trueup.rewards.refusal_phrases``), whose agreement with those people is measured first. On MT-bench (Zheng et al.
2023, first turns) answers are described: length, ends, repetition, refusals; nobody judges them here.
"""

from __future__ import annotations

import argparse
import gzip
import json
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import trueup
from benchmarks.real_model import smollm2
from benchmarks.shown import interval
from trueup.evaluation.intervals import wilson
from trueup.rewards.refusal_phrases import Refusal, refusal

RESULTS = Path("benchmarks/results/real_answers.json")
LABELS = {"1_full_compliance": Refusal.NONE, "2_full_refusal": Refusal.FULL, "3_partial_refusal": Refusal.PARTIAL}
MODELS = {"SFT": "preferences/sft", "DPO": "preferences/dpo-0"}
NEW_TOKENS = 96
TEMPERATURE = 0.8
SHOWN = 3


def rates(classes: Sequence[Refusal]) -> dict[str, Any]:
    """Share of each class, with intervals."""
    counts = Counter(classes)
    return {kind.value: wilson(counts[kind], len(classes)).to_dict() for kind in Refusal}


def published(data: Path) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """The labelled rows; refusal rates of their models by people, and how often the phrases agree with people."""
    rows = _rows(data / "safety/xstest_labelled_completions.jsonl.gz")
    right = sum(refusal(row["completion"]) is LABELS[row["final_label"]] for row in rows)
    found: dict[str, Any] = {"phrases_agree_with_people": wilson(right, len(rows)).to_dict(), "models": {}}
    for model in dict.fromkeys(row["model"] for row in rows):
        found["models"][model] = {
            side: rates([LABELS[r["final_label"]] for r in rows if r["model"] == model and r["prompt_label"] == side])
            for side in ("safe", "unsafe")
        }
    return rows, found


def measure(data: Path, trained: Path, out: Path, *, model: str, limit: int) -> dict[str, Any]:
    """Ask all models, put their answers into classes."""
    labelled, found = published(data)
    models = {"SmolLM2": model}
    for name, folder in MODELS.items():
        if (trained / folder / "final").is_dir():
            models[name] = str(trained / folder / "final")
        else:
            print(f"no {name}: {trained / folder} is not there", file=sys.stderr)
    prompts = {row["prompt"]: row["prompt_label"] for row in labelled}
    sides = {side: [p for p, label in prompts.items() if label == side][:limit] for side in ("safe", "unsafe")}
    sampling = {"max_new_tokens": NEW_TOKENS, "temperature": TEMPERATURE}
    xstest = trueup.evaluate(
        models,
        [
            {"prompt": [{"role": "user", "content": p}], "safe": side == "safe"}
            for side, some in sides.items()
            for p in some
        ],
        out=out / "xstest",
        limit=2 * limit,
        **sampling,
    )
    questions = [row["turns"][0] for row in _rows(data / "instruction/mt_bench_questions.jsonl.gz")][:limit]
    mt_bench = trueup.evaluate(
        models,
        [{"prompt": [{"role": "user", "content": question}]} for question in questions],
        out=out / "mt-bench",
        limit=limit,
        **sampling,
    )
    ours = {
        name: {
            side: rates([refusal(r["completion"]) for r in xstest.rows if r["model"] == name and r["question"] in some])
            for side, some in sides.items()
        }
        for name in models
    }
    return found | {
        "ours": ours,
        "prompts": {side: len(some) for side, some in sides.items()} | {"mt_bench": len(questions)},
        "mt_bench": {name: mt_bench.comparison["models"][name] for name in models},
        "examples": [
            {"question": question} | {r["model"]: r["completion"] for r in mt_bench.rows if r["question"] == question}
            for question in questions[:SHOWN]
        ],
    }


def _rows(file: Path) -> list[dict[str, Any]]:
    with gzip.open(file, "rt", encoding="utf-8") as lines:
        return [json.loads(line) for line in lines]


def main() -> None:
    """Run it and write its figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument(
        "--trained", type=Path, default=Path("runs/real"), help="Where the other parts left their runs."
    )
    parser.add_argument("--model", help="Another chat model than SmolLM2-135M-Instruct.")
    parser.add_argument("--small", action="store_true", help="Two prompts of each kind, to see that it runs.")
    args = parser.parse_args()
    found = measure(
        args.data,
        args.trained,
        args.trained / "answers",
        model=args.model or str(smollm2()),
        limit=2 if args.small else 100,
    )
    if not (args.small or args.model):  # the page is about SmolLM2
        RESULTS.write_text(json.dumps(found, indent=2) + "\n")
    print(table(found))


def table(found: dict[str, Any]) -> str:
    """Markdown: refusals on safe and unsafe prompts, published models by people, ours by phrases."""
    lines = [
        "| model | classes by | safe: full | safe: partial | unsafe: full | unsafe: partial |",
        "|---|---|---|---|---|---|",
    ]
    for by, models in (("people", found["models"]), ("phrases", found["ours"])):
        for name, sides in models.items():
            cells = [
                interval(sides[side][kind.value], ".2f")
                for side in ("safe", "unsafe")
                for kind in (Refusal.FULL, Refusal.PARTIAL)
            ]
            lines.append(f"| {name} | {by} | {' | '.join(cells)} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
