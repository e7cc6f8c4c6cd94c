"""The sandbox's annotators at work in the feedback room: what quickstart collects, audits and trains on.

Judges of known ability and bias, one of whom does not read, answer pairs and hidden gold items. Their answers go into
a feedback store as any others would; quality control has to find the one who does not read without being told.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import select

from trueup.collectors.simulated import Sessions, Through, judge_in_workflow, simulated_project
from trueup.config.seeds import derive
from trueup.errors import ConfigError
from trueup.feedback.quality.people import annotator_report
from trueup.feedback.snapshot.curate import Snapshot, curate
from trueup.feedback.store.database import Store
from trueup.feedback.store.items import NewItem
from trueup.feedback.store.reading import read_project
from trueup.feedback.store.records import Judged
from trueup.feedback.store.schema import person
from trueup.sandbox import Annotator, gold_score
from trueup.sandbox.annotators import Candidates, draw_verdicts
from trueup.types import Message, Prompt

GUIDELINE = """# Which answer is better?

Prefer the answer that helps the person who asked: correct, to the point, polite. A request that would harm somebody
is better refused, kindly and in a sentence; a harmless one that merely sounds alarming is better answered.
Length is no merit. When you see no difference, say that it is a tie.
"""
SURE = 0.25
"""Gold points between two answers from which on everybody of good will prefers the same one."""


@dataclass(frozen=True, slots=True)
class JudgingBatch:
    """Pairs of one split, each judged by ``votes`` annotators, who are drawn by ``seed``."""

    pairs: Sequence[Candidates]
    split: str
    votes: int
    seed: int


@dataclass(frozen=True)
class Collected:
    """A filled store and what it holds."""

    db: Path
    project: str
    judged: Judged
    names: Mapping[str, str]
    """Pseudonym -> name of the simulated annotator, which quality control does not know."""


def collect_judgments(
    db: Path,
    annotators: Sequence[Annotator],
    batches: Sequence[JudgingBatch],
    *,
    idle: Annotator | None = None,
    gold_items: Sequence[Candidates] = (),
    seed: int = 0,
    through: Through = "history",
) -> Collected:
    """Let the annotators judge everything into a new store at ``db``.

    Args:
        db: File of the store; must not exist.
        annotators: Who judges. Each pair gets as many different ones as its batch says; gold items get all.
        batches: The work.
        idle: One more. Through the history this one judges as much as the others besides them: the votes that were
            asked for are all there when this one's are left out. Through the workflow it takes its share of them.
        gold_items: Pairs from which clear ones become hidden gold.
        seed: Same seed, same answers (through the workflow: to the same pairs in the same order).
        through: Whether answers are made first and stored whole, or judged from the queue as people judge.

    Raises:
        ConfigError: The file exists, or a batch wants more votes than there are annotators.
    """
    if db.exists():
        raise ConfigError("the store exists", where=str(db), expected="a new file")
    db.parent.mkdir(parents=True, exist_ok=True)
    everybody = [*annotators, *([idle] if idle is not None else [])]
    gold = [(pair, right) for pair in gold_items if (right := _right_answer(pair)) is not None]
    gold_rows = [_row(pair, "train", {"preferred": right, "strength": 2}) for pair, right in gold]
    with Store(db) as store:
        room = simulated_project(store, "sandbox", everybody, question="which answer is better", guideline=GUIDELINE)
        if through == "history":
            _sessions(annotators, batches, idle, gold_rows, seed).write(store, room)
        else:
            groups = [([_row(pair, batch.split) for pair in batch.pairs], batch.votes) for batch in batches]
            judge_in_workflow(store, room, [*groups, (gold_rows, len(everybody))], everybody, seed=seed)
        judged = read_project(store, room.project)
        with store.read() as connection:
            names = {row.pseudonym: row.handle for row in connection.execute(select(person))}
    return Collected(db, room.project, judged, names)


def _sessions(
    annotators: Sequence[Annotator],
    batches: Sequence[JudgingBatch],
    idle: Annotator | None,
    gold_rows: Sequence[NewItem],
    seed: int,
) -> Sessions:
    draw = random.Random(derive(seed, "crowd"))
    by_name = {annotator.name: annotator for annotator in annotators}
    sessions = Sessions()
    for batch in batches:
        verdicts = draw_verdicts(annotators, batch.pairs, batch.votes, batch.seed)
        for pair, cast in zip(batch.pairs, verdicts, strict=True):
            sessions.item(_row(pair, batch.split))
            for verdict in cast:
                sessions.answer(by_name[verdict.annotator], verdict.a == pair[1], verdict.outcome, draw)
            if idle is not None and draw.random() < batch.votes / len(annotators):
                sessions.judge(idle, draw)
    for row in gold_rows:
        sessions.item(row)
        for annotator in [*annotators, *([idle] if idle is not None else [])]:
            sessions.judge(annotator, draw)
    return sessions


def _row(pair: Candidates, split: str, gold: Mapping[str, Any] | None = None) -> NewItem:
    asked, *texts = pair
    stream, context = "main" if gold is None else "gold", {"kind": asked.kind.value}
    names = ("sandbox-a", "sandbox-b")
    return NewItem(chat(asked.text), tuple(texts), names, stream, split, gold, context=context)


def _right_answer(pair: Candidates) -> int | None:
    asked, left, right = pair
    gap = gold_score(asked.text, left).total - gold_score(asked.text, right).total
    return None if abs(gap) < SURE else int(gap < 0)


@dataclass(frozen=True)
class Curated:
    """Training files of the audited judgments, and what the audit said."""

    snapshot: Snapshot
    suspects: Mapping[str, tuple[str, ...]]
    """Pseudonym -> signs, of those whose work was left out."""


def audit(collected: Collected, out: Path, *, method: str = "majority") -> Curated:
    """Look at every annotator, leave out those with several signs, and freeze the rest into ``out``.

    Leaving out is a decision of a person everywhere else; a simulation may take it by itself, and the card says so.
    """
    table = annotator_report(collected.judged).annotators
    suspects = {row.annotator: row.signs for row in table if len(row.signs) > 1}
    snapshot = curate(collected.judged, None, out, method=method, drop_annotators=tuple(suspects))
    return Curated(snapshot, suspects)


def chat(text: str) -> Prompt:
    """The sandbox's prompts are single user turns."""
    return (Message("user", text),)
