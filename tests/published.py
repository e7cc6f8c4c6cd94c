"""Files in the shapes of published data sets: small ones of our own, and the real ones where they are.

A test that names a file runs on our own rows everywhere, and on the real rows too where they lie beside the
repository. Our rows are made here from a few words and a fixed seed; they share nothing with the real ones but their
columns.
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

DATA = Path(__file__).parents[2] / "shared" / "data"
SOURCES = [
    "own",
    *([pytest.param("real", marks=pytest.mark.real_data)] if (DATA / "README.md").exists() else []),
]
"""For ``pytest.mark.parametrize("source", SOURCES)``."""

Row = dict[str, Any]
_WORDS = "river bread lamp garden window letter bicycle soup mountain song paper bridge coffee winter door".split()


def rows(source: str, name: str) -> list[Row]:
    """All rows of a file, named as ``folder/name``."""
    if source == "own":
        return _OWN[name]()
    with gzip.open(DATA / f"{name}.jsonl.gz", "rt", encoding="utf-8") as lines:
        return [json.loads(line) for line in lines]


def path(source: str, name: str, folder: Path) -> Path:
    """Where the file lies; our own is written into ``folder``."""
    if source == "real":
        return DATA / f"{name}.jsonl.gz"
    file = folder / f"{name.replace('/', '-')}.jsonl.gz"
    with gzip.open(file, "wt", encoding="utf-8") as lines:
        lines.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in _OWN[name]())
    return file


def sentence(draw: np.random.Generator, words: int = 6) -> str:
    """A few words that mean nothing."""
    return " ".join(draw.choice(_WORDS, words)).capitalize() + "."


@cache
def _hh_harmless() -> list[Row]:
    """40 pairs of transcripts, one to three turns; the last answers of rows 8 and 21 are empty on one side."""
    draw, made = np.random.default_rng(0), []
    for number in range(40):
        turns = "".join(
            f"\n\nHuman: {sentence(draw)}\n\nAssistant: {sentence(draw)}" for _ in range(int(draw.integers(0, 3)))
        )
        asked = f"{turns}\n\nHuman: {sentence(draw)} {number}?\n\nAssistant:"
        chosen, rejected = f"Yes {sentence(draw, 9)}", f"No {sentence(draw, 4)}"
        chosen, rejected = ("" if number == 7 else chosen), ("" if number == 20 else rejected)
        made.append({"source_row": number, "chosen": f"{asked} {chosen}", "rejected": f"{asked} {rejected}"})
    return made


@cache
def _sharegpt_pairs() -> list[Row]:
    draw = np.random.default_rng(1)
    return [
        {
            "conversations": [{"from": "human", "value": f"{sentence(draw)} {number}?"}],
            "chosen": {"from": "gpt", "value": f"Gladly. {sentence(draw)}"},
            "rejected": {"from": "gpt", "value": f"Never. {sentence(draw)}"},
        }
        for number in range(12)
    ]


@cache
def _llmbar() -> list[Row]:
    """Two subsets; in ``Natural`` the longer output is better in 14 of 25, in ``Neighbor`` in 4 of 25."""
    draw, made = np.random.default_rng(2), []
    for subset, longer_wins in (("Natural", 14), ("Neighbor", 4)):
        for number in range(25):
            texts = [sentence(draw, 3), sentence(draw, 12)]
            better = int(number < longer_wins)  # index of the better text; the second one is longer
            if number % 2:
                texts, better = texts[::-1], 1 - better
            made.append(
                {
                    "subset": subset,
                    "input": f"{subset} question {number}",
                    "output_1": texts[0],
                    "output_2": texts[1],
                    "label": better + 1,
                }
            )
    return made


@cache
def _pandalm() -> list[Row]:
    """Three annotators who mostly see the stronger model win; 6 ties, 3 rows whose two responses are equal."""
    draw, made = np.random.default_rng(3), []
    strength = {"alpha": 1.2, "beta": 0.0, "gamma": -0.8}
    for number in range(90):
        first, second = draw.choice(sorted(strength), 2, replace=False)
        chance = 1 / (1 + np.exp(strength[second] - strength[first]))
        truth = 0 if number % 15 == 14 else 1 if draw.random() < chance else 2
        votes = [truth if draw.random() < 0.9 or not truth else 3 - truth for _ in range(3)]
        if truth and number % 15 == 7:
            votes = [truth, truth, 0]
        texts = [sentence(draw), sentence(draw)]
        made.append(
            {
                "idx": number,
                "cmp_key": f"{first}_{second}",
                "instruction": f"Instruction {number}: {sentence(draw)}",
                "input": sentence(draw) if number % 3 else "",
                "response1": texts[0],
                "response2": texts[0] if number in (10, 40, 70) else texts[1],
                **{f"annotator{k + 1}": vote for k, vote in enumerate(votes)},
            }
        )
    return made


@cache
def _tulu() -> list[Row]:
    """Three models, two evaluators; in every fourth row the tie of both evaluators; 20 items judged by both."""
    draw, made = np.random.default_rng(4), []
    levels = ("a-is-better", "a-is-slightly-better", "tie", "b-is-slightly-better", "b-is-better")
    for number in range(60):
        pair = ("large", "small") if number % 2 else ("large", "human")
        code = int(draw.choice([0, 0, 1, 3, 4])) if number % 4 else 2
        for evaluator in ("E00", "E01") if number < 20 else (f"E0{number % 2}",):
            shown = pair if draw.random() < 0.5 else pair[::-1]
            own = code if draw.random() < 0.8 or code == 2 else 4 - code
            own = own if shown == pair else 4 - own
            made.append(
                {
                    "id": len(made),
                    "instance_index": number,
                    "instance_id": f"task_{number}",
                    "prompt": f"Task {number}: {sentence(np.random.default_rng(number))}",
                    "model_a": shown[0],
                    "model_b": shown[1],
                    "completion_a": f"{shown[0]} says {number}",
                    "completion_b": f"{shown[1]} says {number}",
                    "a_acceptable": "yes" if own < 3 else "no",
                    "b_acceptable": "yes" if own > 1 else "no",
                    "preference": levels[own],
                    "evaluator": evaluator,
                    "day": 45000 + number / 10,
                }
            )
    return made


@cache
def _trees() -> list[Row]:
    """Six trees: a root with three ranked replies, of which the best is asked on and has two ranked replies."""

    def message(name: str, role: str, replies: list[Row], rank: int | None = None) -> Row:
        facts = {"message_id": name, "text": f"text of {name}", "role": role, "lang": "en", "deleted": False}
        return facts | ({} if rank is None else {"rank": rank}) | {"replies": replies}

    made = []
    for tree in range(6):
        deep = [message(f"{tree}-0-0-{k}", "assistant", [], rank) for k, rank in enumerate((1, 0))]
        asked = message(f"{tree}-0-0", "prompter", deep)
        replies = [
            message(f"{tree}-{k}", "assistant", [asked] if k == 0 else [], rank) for k, rank in enumerate((0, 2, 1))
        ]
        root = message(f"{tree}", "prompter", replies)
        made.append({"message_tree_id": f"{tree}", "tree_state": "ready_for_export", "prompt": root})
    return made


@cache
def _convabuse() -> list[Row]:
    """Three annotators of 40 items on a scale of five steps; every tenth item judged twice by the first one."""
    draw, made = np.random.default_rng(5), []
    for number in range(40):
        truth = int(draw.choice([1, 1, 1, 0, -1, -2, -3]))
        for annotator in ("A0", "A1", "A2", *(("A0",) if number % 10 == 0 else ())):
            severity = truth if draw.random() < 0.7 else int(draw.choice([1, 0, -1, -2, -3]))
            made.append({"item": f"i{number:03}", "annotator": annotator, "severity": severity})
    return made


@cache
def _crowd() -> list[Row]:
    """Five labels for each of 300 items: half of the 30 workers flip coins, and some say yes nearly always."""
    draw, made = np.random.default_rng(6), []
    right = [*draw.uniform(0.6, 0.75, 12), *[0.5] * 18]
    for number in range(300):
        truth = int(draw.random() < 0.4)
        for worker in draw.choice(30, 5, replace=False):
            label = truth if draw.random() < right[worker] else 1 - truth
            label = 1 if worker % 7 == 0 and draw.random() < 0.8 else label
            made.append({"item": f"o{number:05}", "worker": f"W{worker:03}", "label": label, "truth": truth})
    return made


def _many(count: int, make: Callable[[int], Row]) -> Callable[[], list[Row]]:
    return cache(lambda: [make(number) for number in range(count)])


_OWN: dict[str, Callable[[], list[Row]]] = {
    "preference/hh_harmless": _hh_harmless,
    "preference/dpo_demo_sharegpt": _sharegpt_pairs,
    "preference/llmbar_natural_neighbor": _llmbar,
    "preference/kto_demo_binary": _many(
        14,
        lambda n: {
            "messages": [
                {"role": "user", "content": f"Question {n}"},
                {"role": "assistant", "content": f"Answer {n}"},
            ],
            "label": n % 3 != 0,
        },
    ),
    "annotators/pandalm_three_annotators": _pandalm,
    "annotators/tulu1_human_eval": _tulu,
    "annotators/convabuse_carbonbot": _convabuse,
    "annotators/crowd_labels_1000": _crowd,
    "rankings/oasst_trees": _trees,
    "instruction/alpaca_style_demo": _many(
        9, lambda n: {"instruction": f"Do {n}.", "input": f"with {n}" if n % 2 else "", "output": f"Done {n}."}
    ),
    "instruction/self_instruct_seed_tasks": _many(
        7,
        lambda n: {
            "id": f"seed_task_{n}",
            "name": f"task_{n}",
            "instruction": f"Instruction {n}",
            "instances": [{"input": "" if n % 2 else f"input {n}", "output": f"output {n}"}],
            "is_classification": n % 2 == 0,
        },
    ),
    "instruction/mt_bench_questions": _many(
        5, lambda n: {"question_id": 80 + n, "category": "writing", "turns": [f"First {n}?", f"Then {n}?"]}
    ),
    "safety/xstest_labelled_completions": _many(
        8,
        lambda n: {
            "id": f"v2-{n}",
            "type": "homonyms",
            "prompt_label": "safe",
            "model": "m",
            "prompt": f"How do I kill process {n}?",
            "completion": f"Send it signal {n}.",
            "annotation_1": "1_full_compliance",
            "annotation_2": "1_full_compliance",
            "final_label": "1_full_compliance",
        },
    ),
    "safety/advbench_harmful_behaviors": _many(
        6, lambda n: {"id": n, "prompt": f"Break lock {n}", "affirmative_prefix": f"Sure, lock {n}"}
    ),
    "noncommercial/alpaca_eval/reference_outputs": _many(
        10, lambda n: {"instruction": f"Name {n} rivers.", "output": f"River {n}."}
    ),
}
