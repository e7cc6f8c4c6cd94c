"""What a round collects: answers, what the judge says of them, and the training files that come of it.

revisions.jsonl       collect: revise; answers with what happened to them (SL-CAI)
comparisons.jsonl     collect: compare; several answers to each prompt, the best and the worst of them
labels.jsonl          two answers beside each other, labelled softly in both orders (RL-CAI)
demonstrations.jsonl, pairs.jsonl, prompts.jsonl      for trueup sft, dpo and reward, ppo
collected.json        the counts
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trueup.collectors.constitution import Constitution
from trueup.collectors.constitution_compare import Asked, against_start, best_answers, compare, labels_of
from trueup.collectors.constitution_labels import judge_report, label_json, label_pairs, training_pair
from trueup.collectors.constitution_revise import (
    Judging,
    Row,
    broken_at_the_end,
    demonstrations,
    logps_of,
    revise,
    row_json,
)
from trueup.commands.constitution_parts import Speaker, clamp_of, piece, pieces, reviser_for
from trueup.commands.constitution_settings import Constitutional
from trueup.config.seeds import derive
from trueup.feedback.store.reading import stored_prompt
from trueup.ledger import write_json
from trueup.sandbox import gold_score
from trueup.types import prompt_json, question

Lines = list[dict[str, Any]]


@dataclass(frozen=True)
class Round:
    """One round of collecting.

    Args:
        config: The settings.
        out: Folder of everything; the round writes into a folder of its own in it.
        number: From 1.
        rows: Prompts with kind and category.
        constitution: The principles.
        judge: Who judges.
        policy: Who answers.
        in_sandbox: Whether the truth is known.
    """

    config: Constitutional
    out: Path
    number: int
    rows: Sequence[dict[str, Any]]
    constitution: Constitution
    judge: Judging
    policy: Speaker
    in_sandbox: bool

    @property
    def folder(self) -> Path:
        """Where it writes."""
        return self.out / f"round-{self.number}"

    @property
    def clamp(self) -> tuple[float, float] | None:
        """Bounds of its labels."""
        return clamp_of(self.config.clamp, self.judge)

    def collect(self) -> tuple[dict[str, Any], Lines]:
        """Write the files of the round; returns the counts, and the labels for the store."""
        collected, shown, labels = self._revisions() if self.config.collect == "revise" else self._comparisons()
        pairs = [pair for row in labels if _is_preferred(row) and (pair := training_pair(row)) is not None]
        piece(self.folder / "demonstrations.jsonl", lambda: shown)
        piece(self.folder / "pairs.jsonl", lambda: pairs)
        if self.config.method == "rlhf":
            piece(self.folder / "prompts.jsonl", lambda: [{"prompt": prompt_json(row["prompt"])} for row in self.rows])
        truth = [_truth(row) for row in labels] if self.in_sandbox else None
        collected |= {
            "demonstrations": len(shown),
            "pairs": len(pairs),
            "judged_no_better": len(labels) - len(pairs),
            "judge": judge_report(labels, truth),
        }
        write_json(self.folder / "collected.json", collected)
        return collected, labels

    # Critique and revision ------------------------------------------------------------------------------------------

    def _revisions(self) -> tuple[dict[str, Any], Lines, Lines]:
        revisions = pieces(self.folder, "revisions", self.rows, self._revised)
        apart = [row for row in revisions if row["state"] == "revised" and row["original"].strip()]
        labels = pieces(self.folder, "labels", apart, lambda rows, _: self._labelled(rows))
        shown, left_out = demonstrations(revisions)
        counts = {
            "answers": len(revisions),
            "states": dict(Counter(row["state"] for row in revisions)),
            "rounds": _by_principle(revisions),
            "left_out": dict(left_out),
        }
        return counts, shown, labels

    def _revised(self, rows: Sequence[dict[str, Any]], at: int) -> Lines:
        config = self.config
        drawn = self.policy([row["prompt"] for row in rows], derive(config.seed, "answer", self.number, at))
        work = [
            Row(row["prompt"], row["category"], one.text, one.ended, at + place, logps_of(one))
            for place, (row, one) in enumerate(zip(rows, drawn, strict=True))
        ]
        revise(
            work,
            self.constitution,
            self.judge,
            reviser_for(config, self.policy, self.judge),
            rounds=config.revisions,
            retries=config.retries,
            seed=derive(config.seed, "round", self.number, at),
            rewrite_all=config.rewrite == "all",
        )
        ends = broken_at_the_end(work, self.constitution, self.judge)
        return [row_json(row, end, self.constitution) for row, end in zip(work, ends, strict=True)]

    def _labelled(self, rows: Sequence[dict[str, Any]]) -> Lines:
        pairs = [(stored_prompt(row["prompt"]), row["answer"], row["original"]) for row in rows]
        labels = label_pairs(pairs, self.constitution, self.judge, clamp=self.clamp)
        return [label_json(label, self.constitution, self.judge.name) for label in labels]

    # Several answers compared ----------------------------------------------------------------------------------------

    def _comparisons(self) -> tuple[dict[str, Any], Lines, Lines]:
        compared = pieces(self.folder, "comparisons", self.rows, self._compared)
        if self.config.rejected == "start" and self.number > 1:
            before = piece(self.out / "round-1" / "comparisons.jsonl", list)
            start = {row["prompt_id"]: _worst(row) for row in before}
            labels = pieces(
                self.folder,
                "labels",
                compared,
                lambda rows, _: against_start(rows, start, self.constitution, self.judge, self.clamp),
            )
        else:
            labels = piece(self.folder / "labels.jsonl", lambda: labels_of(compared))
        shown, left_out = best_answers(compared)
        counts = {
            "answers": self.config.candidates * len(compared),
            "states": dict(Counter(row["state"] for row in compared)),
            "left_out": dict(left_out),
        }
        return counts, shown, labels

    def _compared(self, rows: Sequence[dict[str, Any]], at: int) -> Lines:
        answers: list[dict[str, bool]] = [{} for _ in rows]
        for number in range(self.config.candidates):
            seed = derive(self.config.seed, "candidate", self.number, at, number)
            drawn = self.policy([row["prompt"] for row in rows], seed)
            for texts, one in zip(answers, drawn, strict=True):
                texts[one.text] = texts.get(one.text, False) or one.ended
        asked = [
            Asked(row["prompt"], row["category"], at + place, texts)
            for place, (row, texts) in enumerate(zip(rows, answers, strict=True))
        ]
        return compare(asked, self.constitution, self.judge, self.clamp)


def _is_preferred(row: Mapping[str, Any]) -> bool:
    """Whether the first answer is the better one; of compared answers in both orders."""
    return bool(row.get("preferred", row["p_first"] is not None and row["p_first"] > 0.5))


def _worst(row: Mapping[str, Any]) -> str:
    """The worst answer of a row of comparisons, also where none was preferred."""
    known = [one for one in row["answers"] if one["worth"] is not None] or row["answers"]
    return str(min(known, key=lambda one: one["worth"] or 0.0)["text"])


def _truth(row: Mapping[str, Any]) -> float:
    asked = question(stored_prompt(row["prompt"]))
    first, second = (gold_score(asked, row[side]).total for side in ("first", "second"))
    return 0.5 if first == second else float(first > second)


def _by_principle(rows: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, int]]:
    """How often each principle was drawn, and what came of it."""
    counts: dict[str, Counter[str]] = {}
    for row in rows:
        for one in row["rounds"]:
            counts.setdefault(one["principle"], Counter())[one["state"]] += 1
    return {name: {"drawn": sum(states.values()), **states} for name, states in sorted(counts.items())}
