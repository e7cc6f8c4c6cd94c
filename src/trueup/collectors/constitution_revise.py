"""Answers criticised and rewritten by sampled principles (SL-CAI; Bai et al. 2022, section 3).

A judge says whether an answer breaks the principle that was drawn; only then a reviser rewrites it. What came of each
round is kept in the row with principle, seed and judge. Nothing is guessed: a malformed answer is asked for again,
then counted; a revision equal to the original is dropped and counted; an answer that breaks nothing stays as it is.

The model and the judge are given: nothing here loads one.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeAlias

from trueup.collectors.constitution import Constitution, Principle
from trueup.config.seeds import derive
from trueup.types import Completion, Prompt, content_id, prompt_json

Answering: TypeAlias = Callable[[Sequence[Prompt], int], list[Completion]]
"""``answering(prompts, seed)``: one sampled answer to each prompt."""


class Judging(Protocol):
    """What is asked of a judge here; ``rewards.judge`` says more."""

    @property
    def name(self) -> str:
        """What it is, as rows name it."""

    def first_wins(self, asked: Sequence[tuple[str, Prompt, str, str]]) -> list[float | None]:
        """P(the answer shown first is better by the principle)."""

    def breaks(self, asked: Sequence[tuple[str, Prompt, str]]) -> list[float | None]:
        """P(the answer breaks the principle)."""


@dataclass(frozen=True, slots=True)
class Drawn(Completion):
    """An answer with the log-probs of its tokens in the distribution that it was sampled from."""

    logps: tuple[float, ...] = ()


def logps_of(one: Completion) -> list[float]:
    """Log-probs of the tokens of an answer, to four digits; none where nobody gave them."""
    return [round(logp, 4) for logp in getattr(one, "logps", ())]


@dataclass(frozen=True, slots=True)
class Draft:
    """An answer that breaks a principle."""

    prompt: Prompt
    answer: str
    principle: Principle


@dataclass(frozen=True, slots=True)
class Revised:
    """What a reviser made of a draft: a text, or what was wrong with what it wrote."""

    critique: str = ""
    text: str = ""
    problem: str = ""
    logps: Mapping[str, Sequence[float]] = field(default_factory=dict)
    """Log-probs of the tokens of ``critique`` and ``revision``, where the model gave them."""


class Reviser(Protocol):
    """Who rewrites answers."""

    @property
    def name(self) -> str:
        """What it is, as rows name it."""

    def revise(self, drafts: Sequence[Draft], seed: int) -> list[Revised]:
        """One revision of each draft."""


STATES: Mapping[str, str] = {
    "kept": "broke none of the principles that were drawn, and stays as it is",
    "revised": "was rewritten",
    "equal": "the revision is the original, and is dropped",
    "malformed": "no usable revision in all attempts",
    "unjudged": "the judge gave no verdict",
}
"""What became of an answer."""


@dataclass(slots=True)
class Row:
    """One answer on its way through the rounds."""

    prompt: Prompt
    category: str
    original: str
    ended: bool
    """Whether the model ended the original itself; one that was cut is nothing to imitate."""
    number: int
    logps: Sequence[float] = ()
    """Log-probs of the original's tokens."""
    answer: str = ""
    rounds: list[dict[str, Any]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.answer = self.original

    @property
    def state(self) -> str:
        """What became of the answer, of ``STATES``; the worst that happened, unless it was rewritten after all."""
        if self.answer != self.original:
            return "revised"
        met = {one["state"] for one in self.rounds}
        return next((state for state in ("malformed", "equal", "unjudged") if state in met), "kept")


def revise(
    rows: Sequence[Row],
    constitution: Constitution,
    judge: Judging,
    reviser: Reviser,
    *,
    rounds: int = 2,
    retries: int = 2,
    seed: int = 0,
    rewrite_all: bool = False,
) -> None:
    """Take each answer through ``rounds`` of judging and rewriting, one sampled principle each.

    Args:
        rows: The answers; each keeps what happened to it.
        constitution: Where principles are drawn from, by weight.
        judge: Says whether an answer breaks a principle.
        reviser: Rewrites those that do.
        rounds: 1 to 4 in the paper.
        retries: How often a malformed revision is asked for again.
        seed: Names the draws: of principles by row and round, of revisions by round and attempt.
        rewrite_all: Whether answers are rewritten whatever the judge says of them, as in the paper.
    """
    for turn in range(rounds):
        drawn = [constitution.draw(seed, row.number, turn) for row in rows]
        broken = judge.breaks([(p.text, row.prompt, row.answer) for p, row in zip(drawn, rows, strict=True)])
        waiting: list[tuple[Row, dict[str, Any], Draft]] = []
        for row, principle, p_breaks in zip(rows, drawn, broken, strict=True):
            note = {
                "round": turn,
                "principle": principle.id,
                "p_breaks": p_breaks,
                "state": "kept",
                "judge": judge.name,
            }
            row.rounds.append(note)
            if rewrite_all or (p_breaks is not None and p_breaks > 0.5):
                waiting.append((row, note, Draft(row.prompt, row.answer, principle)))
            elif p_breaks is None:
                note["state"] = "unjudged"
        for attempt in range(retries + 1):
            waiting = _attempt(waiting, reviser, derive(seed, "revise", turn, attempt), attempt)


def _attempt(
    waiting: Sequence[tuple[Row, dict[str, Any], Draft]], reviser: Reviser, seed: int, attempt: int
) -> list[tuple[Row, dict[str, Any], Draft]]:
    """Ask for revisions once; returns those that have to be asked for again."""
    again = []
    made = reviser.revise([draft for _, _, draft in waiting], seed) if waiting else []
    for (row, note, draft), one in zip(waiting, made, strict=True):
        note |= {"reviser": reviser.name, "seed": seed, "attempts": attempt + 1, "critique": one.critique}
        note["text"], note["problem"] = one.text, one.problem
        note["logps"] = {name: list(logps) for name, logps in one.logps.items()}
        if one.problem:
            note["state"] = "malformed"
            again.append((row, note, draft))
        elif one.text.strip() == row.answer.strip():
            note["state"] = "equal"
        else:
            note["state"] = "revised"
            row.answer = one.text
    return again


def broken_at_the_end(rows: Sequence[Row], constitution: Constitution, judge: Judging) -> list[dict[str, float | None]]:
    """P(the final answer breaks a principle), by the id of each principle of the constitution."""
    principles = constitution.principles
    asked = [(p.text, row.prompt, row.answer) for row in rows for p in principles]
    verdicts = judge.breaks(asked)
    each = len(principles)
    return [
        dict(zip((p.id for p in principles), verdicts[i * each : (i + 1) * each], strict=True))
        for i in range(len(rows))
    ]


def row_json(row: Row, at_the_end: Mapping[str, float | None], constitution: Constitution) -> dict[str, Any]:
    """A row as it is written to ``revisions.jsonl``."""
    return {
        "prompt": prompt_json(row.prompt),
        "prompt_id": content_id(prompt_json(row.prompt)),
        "category": row.category,
        "number": row.number,
        "state": row.state,
        "original": row.original,
        "ended": row.ended,
        "logps": list(row.logps),
        "answer": row.answer,
        "rounds": row.rounds,
        "p_breaks": dict(at_the_end),
        "annotator": constitution.annotator,
    }


def demonstrations(rows: Sequence[Mapping[str, Any]]) -> tuple[list[dict[str, Any]], Counter[str]]:
    """Rows for ``trueup sft`` from rows of ``revisions.jsonl``, and how many were left out, by reason.

    An answer is imitated if it was rewritten, or kept and ended by the model itself, and if the judge finds in the end
    that it breaks no principle at all.
    """
    made, left_out = [], Counter[str]()
    for row in rows:
        reason = _not_to_imitate(row)
        if reason:
            left_out[reason] += 1
            continue
        drawn = [one["principle"] for one in row["rounds"] if one["state"] == "revised"]
        made.append(
            {
                "prompt": row["prompt"],
                "completion": row["answer"],
                "origin": [row["annotator"], row["state"], *drawn],
            }
        )
    return made, left_out


def _not_to_imitate(row: Mapping[str, Any]) -> str:
    if row["state"] not in ("kept", "revised"):
        return f"{row['state']}: {STATES[row['state']]}"
    if row["state"] == "kept" and not row["ended"]:
        return "cut at the length limit"
    if not row["answer"].strip():
        return "empty"
    if any(p is None for p in row["p_breaks"].values()):
        return f"unjudged: {STATES['unjudged']}"
    return "still breaks a principle" if any(p > 0.5 for p in row["p_breaks"].values()) else ""
