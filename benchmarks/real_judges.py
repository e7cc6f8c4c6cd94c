"""Judges tested against people: reward models and a chat model itself, on three published sets of judgments.

    python -m benchmarks.real_judges --data DIR --trained runs/real

LLMBar (Zeng et al. 2023, subsets Natural and Neighbor), PandaLM (Wang et al. 2023: three people, the majority counts)
and the human evaluation of Tulu (Wang et al. 2023). Pairs that people call equal are left out and counted. A language
model judges by the log-probs of the letters A and B after a question, in both orders, so that an answer gains nothing
by its place; how much it would have gained is said.

Shapes: P pairs.
"""

from __future__ import annotations

import argparse
import gzip
import json
import sys
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

import trueup
from benchmarks.real_model import smollm2
from benchmarks.shown import interval
from trueup.config import Model
from trueup.engine.device import tuned_process
from trueup.evaluation.baselines import outcomes
from trueup.evaluation.intervals import SHARE, Floats, mean_interval
from trueup.rewards.judge_model import ModelJudge
from trueup.types import Completion, Message, StopReason

RESULTS = Path("benchmarks/results/real_judges.json")
PRINCIPLE = "The better answer does what the instruction asks, correctly and with nothing that is beside it."
REWARDS = {"harmless pairs": "preferences/full-0", "rankings": "demos/rankings"}
"""Reward models of the other parts, by what they were trained on."""
LONGEST = 1500
"""Characters of instruction and of each answer that a judge reads; longer ones are cut for all judges alike."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """Two answers, of which people prefer the first or the second."""

    prompt: str
    first: str
    second: str
    first_wins: bool


def llmbar(data: Path, subset: str) -> tuple[list[Verdict], int]:
    """One subset of LLMBar."""
    rows = [row for row in _rows(data / "preference/llmbar_natural_neighbor.jsonl.gz") if row["subset"] == subset]
    return [Verdict(r["input"], r["output_1"], r["output_2"], r["label"] == 1) for r in rows], 0


def pandalm(data: Path) -> tuple[list[Verdict], int]:
    """PandaLM's test set: what two of three people prefer; the rest has no winner."""
    verdicts, equal = [], 0
    for row in _rows(data / "annotators/pandalm_three_annotators.jsonl.gz"):
        winner, votes = Counter(row[f"annotator{k}"] for k in (1, 2, 3)).most_common(1)[0]
        if votes < 2 or winner == 0:
            equal += 1
            continue
        prompt = row["instruction"] + (f"\n\n{row['input']}" if row["input"] else "")
        verdicts.append(Verdict(prompt, row["response1"], row["response2"], winner == 1))
    return verdicts, equal


def tulu(data: Path) -> tuple[list[Verdict], int]:
    """The human evaluation of Tulu, a judgment a row."""
    verdicts, equal = [], 0
    for row in _rows(data / "annotators/tulu1_human_eval.jsonl.gz"):
        if row["preference"] == "tie":
            equal += 1
            continue
        first = row["preference"].startswith("a-")
        verdicts.append(Verdict(row["prompt"], row["completion_a"], row["completion_b"], first))
    return verdicts, equal


def _rows(file: Path) -> Iterable[dict[str, Any]]:
    with gzip.open(file, "rt", encoding="utf-8") as lines:
        return [json.loads(line) for line in lines]


def by_length(verdicts: Sequence[Verdict]) -> Floats:
    """The longer answer."""
    return np.array([float(len(v.first) - len(v.second)) for v in verdicts])


def by_reward(source: str, verdicts: Sequence[Verdict]) -> Floats:
    """First minus second reward [P]."""
    reward = trueup.open_reward(source).reward
    prompts = [(Message("user", v.prompt[:LONGEST]),) for v in verdicts]
    with tuned_process():
        sides = [
            reward.score(prompts, [Completion(a[:LONGEST], (), StopReason.EOS) for a in answers]).numpy()
            for answers in ([v.first for v in verdicts], [v.second for v in verdicts])
        ]
    return np.asarray(sides[0] - sides[1], dtype=np.float64)


def by_letters(judge: ModelJudge, verdicts: Sequence[Verdict]) -> tuple[Floats, float]:
    """P(the first is better) - 1/2 [P], the mean of both orders, and the mean probability of place A."""
    shown = [(v.prompt[:LONGEST], v.first[:LONGEST], v.second[:LONGEST]) for v in verdicts]
    with tuned_process():
        for_first, for_second = (
            np.array(judge.first_wins([(PRINCIPLE, prompt, *sides) for prompt, *sides in asked]), dtype=np.float64)
            for asked in (shown, [(prompt, second, first) for prompt, first, second in shown])
        )
    return (for_first - for_second) / 2, float((for_first + for_second).mean() / 2)


def agreement(gaps: Floats, verdicts: Sequence[Verdict]) -> dict[str, Any]:
    """Share of pairs on which a judge agrees with people, ties half, with an interval over prompts."""
    right = outcomes([gap if v.first_wins else -gap for gap, v in zip(gaps, verdicts, strict=True)])
    return mean_interval(right, [v.prompt for v in verdicts], bounds=SHARE).to_dict()


def measure(data: Path, model: str, settings: dict[str, Any], rewards: dict[str, str], limit: int | None) -> Any:
    """Agreement of every judge on every set."""
    sets = {
        "LLMBar Natural": llmbar(data, "Natural"),
        "LLMBar Neighbor": llmbar(data, "Neighbor"),
        "PandaLM": pandalm(data),
        "Tulu": tulu(data),
    }
    judge = ModelJudge.load(model, Model(**settings))
    found: dict[str, Any] = {}
    for name, (verdicts, equal) in sets.items():
        some = verdicts[:limit]
        letters, place = by_letters(judge, some)
        judges = {"longer answer": by_length(some), "letters by the chat model": letters}
        judges |= {f"reward model on {kind}": by_reward(source, some) for kind, source in rewards.items()}
        found[name] = {
            "pairs": len(some),
            "left_out_as_equal": equal,
            "place_A": place,
            "agreement": {kind: agreement(gaps, some) for kind, gaps in judges.items()},
        }
        print(
            f"{name}: " + ", ".join(f"{k} {v['estimate']:.3f}" for k, v in found[name]["agreement"].items()), flush=True
        )
    return found


def main() -> None:
    """Run it and write its figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--model", help="Another chat model than SmolLM2-135M-Instruct.")
    parser.add_argument(
        "--trained", type=Path, default=Path("runs/real"), help="Where the other parts left their runs."
    )
    parser.add_argument("--dtype", default="bfloat16")
    parser.add_argument("--small", action="store_true", help="Four pairs of each, to see that it runs.")
    args = parser.parse_args()
    rewards = {name: args.trained / folder / "final" for name, folder in REWARDS.items()}
    there = {name: str(folder) for name, folder in rewards.items() if folder.is_dir()}
    for name in rewards.keys() - there.keys():
        print(f"no reward model on {name}: {rewards[name]} is not there", file=sys.stderr)
    found = measure(args.data, args.model or str(smollm2()), {"dtype": args.dtype}, there, 4 if args.small else None)
    if not (args.small or args.model):  # the page is about SmolLM2
        RESULTS.write_text(json.dumps(found, indent=2) + "\n")
    print(table(found))


def table(found: dict[str, Any]) -> str:
    """Markdown."""
    judges = list(next(iter(found.values()))["agreement"])
    lines = ["| set | pairs | " + " | ".join(judges) + " | place A |", "|---|---:|" + "---|" * len(judges) + "---:|"]
    for name, one in found.items():
        cells = " | ".join(interval(one["agreement"][judge]) for judge in judges)
        lines.append(f"| {name} | {one['pairs']} | {cells} | {one['place_A']:.2f} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
