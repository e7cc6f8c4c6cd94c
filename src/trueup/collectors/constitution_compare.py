"""Several answers to one prompt, compared with each other by a constitution: the best of them, and the worst.

This is what RLAIF (Lee et al. 2023, arXiv 2309.00267), self-rewarding iterations (Yuan et al. 2024, arXiv 2401.10020)
and rejection sampling have in common; who judges and what is trained on the result is what tells them apart.

Every answer meets every other one in both orders under every principle. Its worth is the mean probability that it wins.
A best answer that the judge does not prefer to the worst in both orders is a tie: it makes no pair, and is counted.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

from trueup.collectors.constitution import Constitution
from trueup.collectors.constitution_labels import Label, label_json, label_pairs
from trueup.collectors.constitution_revise import Judging, Row, broken_at_the_end
from trueup.feedback.store.reading import stored_prompt
from trueup.types import Prompt, content_id, prompt_json

OUTCOMES: Mapping[str, str] = {
    "pair": "the best is preferred to the worst in both orders",
    "alike": "all answers are one text",
    "tie": "the judge does not prefer the best to the worst, or only in one order",
    "unended": "no answer ended by itself, so none is to be imitated",
    "unjudged": "the judge gave no verdict",
}
"""What became of the answers to a prompt."""
Clamp = tuple[float, float] | None
EQUAL = 1e-9
"""How far from one half a probability may be and still be one half: sums over principles round."""


@dataclass(frozen=True, slots=True)
class Asked:
    """A prompt with the answers that were drawn: each text once, with whether it ended by itself."""

    prompt: Prompt
    category: str
    number: int
    answers: Mapping[str, bool]


def compare(
    asked: Sequence[Asked], constitution: Constitution, judge: Judging, clamp: Clamp = None
) -> list[dict[str, Any]]:
    """Compare the answers to each prompt: rows of ``comparisons.jsonl``.

    Args:
        asked: Prompts with their answers.
        constitution: Every principle of it is asked about every two answers.
        judge: Who is asked.
        clamp: Bounds of a label.
    """
    pairs = [(one.prompt, a, b) for one in asked for a, b in combinations(one.answers, 2)]
    labels = label_pairs(pairs, constitution, judge, clamp=clamp)
    rows, at = [], 0
    for one in asked:
        count = len(one.answers) * (len(one.answers) - 1) // 2
        rows.append(_row(one, labels[at : at + count], constitution, judge))
        at += count
    chosen = [(row, one) for row, one in zip(rows, asked, strict=True) if row["best"] is not None]
    work = [Row(one.prompt, one.category, row["best"], True, one.number) for row, one in chosen]
    for (row, _), ends in zip(chosen, broken_at_the_end(work, constitution, judge), strict=True):
        row["p_breaks"] = ends
    return rows


def _row(one: Asked, labels: Sequence[Label], constitution: Constitution, judge: Judging) -> dict[str, Any]:
    worth = _worth(one.answers, labels)
    ended = [text for text, by_itself in one.answers.items() if by_itself and text.strip()]
    best: str | None = None
    label: Label | None = None
    if not ended:
        state = "unended"
    elif any(value is None for value in worth.values()):
        state = "unjudged"
    else:
        known = {text: value for text, value in worth.items() if value is not None}
        best = max(ended, key=lambda text: known[text])
        others = [text for text in known if text != best]
        label = _from_side(best, min(others, key=lambda text: known[text]), labels) if others else None
        state = "alike" if label is None else "pair" if is_preferred(label, constitution) else "tie"
    return {
        "prompt": prompt_json(one.prompt),
        "prompt_id": content_id(prompt_json(one.prompt)),
        "category": one.category,
        "number": one.number,
        "state": state,
        "answers": [{"text": text, "ended": ended, "worth": worth[text]} for text, ended in one.answers.items()],
        "best": best,
        "worst": None if label is None else label.pair[2],
        "label": None if label is None else label_json(label, constitution, judge.name),
        "p_breaks": None,
        "annotator": constitution.annotator,
        "judge": judge.name,
    }


def _worth(answers: Mapping[str, bool], labels: Sequence[Label]) -> dict[str, float | None]:
    """Mean P(it wins) of each answer; None where a verdict is missing, one half for an answer without a rival."""
    wins: dict[str, list[float | None]] = {text: [] for text in answers}
    for label in labels:
        _, first, second = label.pair
        wins[first].append(label.p_first)
        wins[second].append(None if label.p_first is None else 1 - label.p_first)
    worth: dict[str, float | None] = {}
    for text, values in wins.items():
        known = [value for value in values if value is not None]
        worth[text] = None if len(known) < len(values) else sum(known) / len(known) if known else 0.5
    return worth


def _from_side(best: str, worst: str, labels: Sequence[Label]) -> Label:
    """The label of the two answers with the best one first."""
    label = next(one for one in labels if {one.pair[1], one.pair[2]} == {best, worst})
    if label.pair[1] == best:
        return label
    turned = {name: None if both is None else (1 - both[1], 1 - both[0]) for name, both in label.orders.items()}
    p = None if label.p_first is None else 1 - label.p_first
    return Label((label.pair[0], best, worst), p, turned)


def is_preferred(label: Label, constitution: Constitution) -> bool:
    """Whether the first answer is preferred, and in both orders: the mean over principles of neither says otherwise."""
    known = [(constitution.weights[name], both) for name, both in label.orders.items() if both is not None]
    if label.p_first is None or not known or label.p_first <= 0.5 + EQUAL:
        return False
    return all(sum(weight * (both[order] - 0.5) for weight, both in known) > EQUAL for order in (0, 1))


def labels_of(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Rows of ``labels.jsonl``: the best answer of each prompt beside its worst, ties too; asks nobody."""
    return [row["label"] | {"preferred": row["state"] == "pair"} for row in rows if row["state"] in ("pair", "tie")]


def against_start(
    rows: Sequence[Mapping[str, Any]],
    start: Mapping[str, str],
    constitution: Constitution,
    judge: Judging,
    clamp: Clamp = None,
) -> list[dict[str, Any]]:
    """Rows of ``labels.jsonl``: the best answers beside the worst that the model of the start gave.

    Args:
        rows: Rows of ``comparisons.jsonl``.
        start: The worst answer of the start by the id of its prompt; prompts without one make no row.
        constitution: Whose principles.
        judge: Who is asked.
        clamp: Bounds of a label.
    """
    pairs = [
        (stored_prompt(row["prompt"]), row["best"], start[row["prompt_id"]])
        for row in rows
        if row["best"] is not None and start.get(row["prompt_id"], row["best"]) != row["best"]
    ]
    labels = label_pairs(pairs, constitution, judge, clamp=clamp)
    return [
        label_json(label, constitution, judge.name) | {"preferred": is_preferred(label, constitution)}
        for label in labels
    ]


def best_answers(rows: Sequence[Mapping[str, Any]]) -> tuple[list[dict[str, Any]], Counter[str]]:
    """Rows for ``trueup sft``: best answers that break no principle; and how many were left out, by reason."""
    kept: list[dict[str, Any]] = []
    left_out = Counter[str]()
    for row in rows:
        if row["best"] is None:
            left_out[f"{row['state']}: {OUTCOMES[row['state']]}"] += 1
        elif any(p is None for p in row["p_breaks"].values()):
            left_out["unjudged: the judge gave no verdict on a principle"] += 1
        elif any(p > 0.5 for p in row["p_breaks"].values()):
            left_out["breaks a principle"] += 1
        else:
            origin = [row["annotator"], f"best of {len(row['answers'])}"]
            kept.append({"prompt": row["prompt"], "completion": row["best"], "origin": origin})
    return kept, left_out
