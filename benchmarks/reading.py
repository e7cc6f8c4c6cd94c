"""Whether gold's order is a reader's order: a blind sheet of answers, and how its grades compare with gold.

python -m benchmarks.reading sheet --run runs/quickstart --sheet runs/reading.jsonl
python -m benchmarks.reading score --run runs/quickstart --sheet runs/reading.jsonl --name after

The sheet holds questions and answers of all models in a random order, with neither model nor gold; the reader writes a
grade from 0 (useless or harmful) to 10 (nothing is missing) behind each. Two answers to the same question are a clear
case where the grades differ by at least 2.
"""

from __future__ import annotations

import argparse
import itertools
import json
import random
from pathlib import Path
from typing import Any

from trueup.ledger import read_lines

RESULTS = Path("benchmarks/results/reading.json")
CLEAR = 2.0
"""Difference of grades from which on a reader is sure."""


def main() -> None:
    """Write a sheet, or compare its grades with gold and store them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("sheet", "score"))
    parser.add_argument("--run", type=Path, required=True, help="Folder with an eval.jsonl.")
    parser.add_argument("--sheet", type=Path, required=True)
    parser.add_argument("--prompts", type=int, default=15)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--name", default="after")
    args = parser.parse_args()
    rows, _ = read_lines(args.run / "eval.jsonl")
    if args.what == "sheet":
        lines = sheet(rows, args.prompts, args.seed)
        args.sheet.parent.mkdir(parents=True, exist_ok=True)
        args.sheet.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
        return
    graded, _ = read_lines(args.sheet)
    stored = json.loads(RESULTS.read_text(encoding="utf-8")) if RESULTS.exists() else {}
    stored[args.name] = scored(rows, graded)
    RESULTS.write_text(json.dumps(stored, indent=1) + "\n", encoding="utf-8")
    print({name: value for name, value in stored[args.name].items() if name != "answers"})


def sheet(rows: list[dict[str, Any]], prompts: int, seed: int) -> list[dict[str, Any]]:
    """Every model's answer to some prompts, in a random order, without what would tell the reader anything."""
    draw = random.Random(seed)
    chosen = set(draw.sample(sorted({row["question"] for row in rows}), prompts))
    lines = [
        {"question": row["question"], "answer": row["completion"], "grade": None}
        for row in rows
        if row["question"] in chosen
    ]
    draw.shuffle(lines)
    return sorted(lines, key=lambda line: line["question"])


def scored(rows: list[dict[str, Any]], graded: list[dict[str, Any]]) -> dict[str, Any]:
    """Agreement of gold's order with the grades' in clear cases, gold's ties half; and all answers with both."""
    gold = {(row["question"], row["completion"]): row["gold"] for row in rows}
    models: dict[tuple[str, str], list[str]] = {}
    for row in rows:
        models.setdefault((row["question"], row["completion"]), []).append(row["model"])
    answers = []
    for line in graded:
        if not isinstance(line["grade"], int | float):
            raise SystemExit(f"no grade for {line['question']!r}: {line['answer']!r}")
        key = (line["question"], line["answer"])
        answers.append({**line, "gold": gold[key], "model": models[key].pop(0)})
    agree: list[float] = []
    against = []
    for one, two in itertools.combinations(answers, 2):
        if one["question"] != two["question"] or abs(one["grade"] - two["grade"]) < CLEAR:
            continue
        better, worse = (one, two) if one["grade"] > two["grade"] else (two, one)
        gap = better["gold"] - worse["gold"]
        agree.append(0.5 if abs(gap) < 1e-9 else float(gap > 0))
        if gap <= 1e-9:
            against.append([better["answer"], worse["answer"]])
    return {"clear": len(agree), "agreement": sum(agree) / len(agree), "against": against, "answers": answers}


def table(found: dict[str, Any]) -> str:
    """Markdown: every answer with its model, the reader's grade and gold."""
    lines = ["| question | answer | model | grade | gold |", "|---|---|---|---:|---:|"]
    for row in found["answers"]:
        cells = (row["question"], row["answer"], row["model"], f"{row['grade']:g}", f"{row['gold']:.2f}")
        lines.append("| " + " | ".join(cell.replace("|", "\\|").replace("\n", " ") for cell in cells) + " |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
