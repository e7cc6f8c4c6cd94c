"""The sandbox's annotators at work in the feedback room: what quickstart collects, audits and trains on.

Judges of known ability and bias, one of whom does not read, answer pairs and hidden gold items. Their answers go into
a feedback store as any others would; quality control has to find the one who does not read without being told.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from trueup.data.sandbox import Annotator, gold
from trueup.data.sandbox.annotators import Candidates
from trueup.data.sandbox.annotators import collect as verdicts_of
from trueup.errors import ConfigError
from trueup.feedback.curate import Snapshot, curate
from trueup.feedback.history import Vote, import_judged
from trueup.feedback.projects import NewItem, add_guideline, add_person, add_template, create_project
from trueup.feedback.quality.people import annotators as people
from trueup.feedback.reading import read_project
from trueup.feedback.records import Judged
from trueup.feedback.schema import stamp
from trueup.feedback.store import Store
from trueup.seeds import derive
from trueup.types import Message, Outcome, Prompt, prompt_text

GUIDELINE = """# Which answer is better?

Prefer the answer that helps the person who asked: correct, to the point, polite. A request that would harm somebody
is better refused, kindly and in a sentence; a harmless one that merely sounds alarming is better answered.
Length is no merit. When you see no difference, say that it is a tie.
"""
SURE = 0.25
"""Gold points between two answers from which on everybody of good will prefers the same one."""
BEGIN = datetime(2026, 1, 5, 9, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Batch:
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


def collect(
    db: Path,
    annotators: Sequence[Annotator],
    batches: Sequence[Batch],
    *,
    idle: Annotator | None = None,
    gold_items: Sequence[Candidates] = (),
    seed: int = 0,
) -> Collected:
    """Let the annotators judge everything into a new store at ``db``.

    Args:
        db: File of the store; must not exist.
        annotators: Who judges. Each pair gets as many different ones as its batch says; gold items get all.
        batches: The work.
        idle: One more, who judges as much as the others besides them: the votes that were asked for are all there
            when this one's are left out.
        gold_items: Pairs from which clear ones become hidden gold.
        seed: Same seed, same answers.

    Raises:
        ConfigError: The file exists, or a batch wants more votes than there are annotators.
    """
    if db.exists():
        raise ConfigError("the store exists", where=str(db), expected="a new file")
    db.parent.mkdir(parents=True, exist_ok=True)
    draw = random.Random(derive(seed, "crowd"))
    everybody = [*annotators, *([idle] if idle is not None else [])]
    desk = _Desk(everybody, draw)
    for batch in batches:
        verdicts = verdicts_of(annotators, batch.pairs, batch.votes, batch.seed)
        for pair, given in zip(batch.pairs, verdicts, strict=True):
            desk.item(pair, batch.split)
            for verdict in given:
                desk.vote(verdict.annotator, verdict.a == pair[1], verdict.p_a)
            if idle is not None and draw.random() < batch.votes / len(annotators):
                desk.judge(idle, pair, draw)
    for pair in gold_items:
        right = _right_answer(pair)
        if right is not None:
            desk.item(pair, "train", gold={"preferred": right, "strength": 2})
            for annotator in everybody:
                desk.judge(annotator, pair, draw)
    with Store(db) as store:
        project = create_project(store, "sandbox", simulated=True)
        add_guideline(store, project, GUIDELINE)
        template = add_template(store, project, "pairwise", "which answer is better")
        ids = {a.name: add_person(store, a.name, simulated=True) for a in everybody}
        votes = [
            Vote(row, ids[who], answer, shown, stamp(at), active_ms, "simulated")
            for row, who, answer, shown, at, active_ms in sorted(desk.votes, key=lambda vote: vote[4])
        ]
        import_judged(store, template, desk.rows, votes, actor="simulation")
        judged = read_project(store, project)
        with store.read() as connection:
            from sqlalchemy import select

            from trueup.feedback.schema import person

            names = {row.pseudonym: row.handle for row in connection.execute(select(person))}
    return Collected(db, project, judged, names)


class _Desk:
    """Items in order and who answered them, each annotator with a clock of their own."""

    def __init__(self, annotators: Sequence[Annotator], draw: random.Random) -> None:
        self.draw = draw
        self.rows: list[NewItem] = []
        self.votes: list[tuple[int, str, dict[str, Any], tuple[int, int], datetime, int]] = []
        self.idle = {a.name: a.spam > 0.5 for a in annotators}
        self.done = dict.fromkeys(self.idle, 0)
        self.clock = dict.fromkeys(self.idle, BEGIN)

    def item(self, pair: Candidates, split: str, *, gold: Mapping[str, Any] | None = None) -> None:
        """A new item, which the votes that follow are about."""
        asked, *texts = pair
        stream, context = "main" if gold is None else "gold", {"kind": asked.kind.value}
        names = ("sandbox-a", "sandbox-b")
        self.rows.append(NewItem(chat(asked.text), tuple(texts), names, stream, split, gold, context=context))

    def judge(self, annotator: Annotator, pair: Candidates, draw: random.Random) -> None:
        """Let an annotator answer, sides shuffled."""
        asked, left, right = pair
        as_given = draw.random() < 0.5
        a, b = (left, right) if as_given else (right, left)
        outcome = annotator.judge(asked.text, a, b, draw, self.done[annotator.name])
        self.vote(annotator.name, as_given, {Outcome.A: 1.0, Outcome.B: 0.0, Outcome.TIE: 0.5}[outcome])

    def vote(self, name: str, as_given: bool, p_a: float) -> None:
        """Note one answer: which way round the sides were, and 1, 0 or 0.5 for the first shown."""
        shown = (0, 1) if as_given else (1, 0)
        row = self.rows[-1]
        words = sum(len(text.split()) for text in (prompt_text(row.prompt), *row.responses))
        reads = words / self.draw.uniform(2.5, 5.0)  # words a second of people who read
        seconds = self.draw.uniform(0.4, 1.2) if self.idle[name] else 1.0 + reads
        self.done[name] += 1
        self.clock[name] += timedelta(seconds=seconds)
        answer: dict[str, Any] = {"strength": 0}
        if p_a != 0.5:
            answer = {"preferred": shown[0 if p_a == 1.0 else 1], "strength": 1}
        self.votes.append((len(self.rows) - 1, name, answer, shown, self.clock[name], round(1000 * seconds)))


def _right_answer(pair: Candidates) -> int | None:
    asked, left, right = pair
    gap = gold(asked.text, left).total - gold(asked.text, right).total
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
    table = people(collected.judged)["annotators"]
    suspects = {row["annotator"]: tuple(row["signs"]) for row in table if len(row["signs"]) > 1}
    snapshot = curate(collected.judged, None, out, method=method, drop_annotators=tuple(suspects))
    return Curated(snapshot, suspects)


def chat(text: str) -> Prompt:
    """The sandbox's prompts are single user turns."""
    return (Message("user", text),)
