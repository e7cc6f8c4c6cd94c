"""Simulated collection: annotators of known ability and bias answer pairs, and their answers go into a store.

Two ways lead there. Through the *workflow* annotators take assignments and submit answers as people do, and the queue
decides who judges what. Through the *history* the answers are made first and stored whole, in one transaction.
Either way annotators judge through a *client*, one callable that offers the next item and takes an answer, so the same
simulation also drives a server over HTTP. What they do is always marked as simulated.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Literal, TypeAlias

from sqlalchemy import select

from trueup.config.seeds import derive, split_by_hash
from trueup.errors import UsageError
from trueup.feedback.store.database import Store
from trueup.feedback.store.history import ImportedVote, import_judged
from trueup.feedback.store.item_rows import SPLIT_SHARES
from trueup.feedback.store.items import NewItem, by_id
from trueup.feedback.store.projects import add_guideline, add_person, add_template, create_project, import_items
from trueup.feedback.store.records import ItemRow, Judged, JudgmentRow, ResponseRow
from trueup.feedback.store.schema import item, prompt, response, stamp
from trueup.feedback.workflow.assignment import Nothing, acknowledge, next_seat
from trueup.feedback.workflow.judgments import submit
from trueup.sandbox.annotators import Annotator, Worth
from trueup.types import Outcome, content_id, prompt_json, prompt_text, question

Through: TypeAlias = Literal["history", "workflow"]
"""How answers reach the store."""

Client: TypeAlias = Callable[[str, str, Mapping[str, Any]], Mapping[str, Any] | None]
"""``client(annotator, "next", {})`` gives ``{"item", "kind", "prompt": [{"role", "content"}, ...], "responses":
[{"id", "text"}, ...]}`` with responses in the order shown, or None when there is nothing left. ``client(annotator,
"judge", {"item", "answer", "rationale", "active_ms", "shown", "key"})`` takes the answer. The fields are those of the
HTTP interface."""

BEGIN = datetime(2026, 1, 5, 9, tzinfo=UTC)
"""When the sessions of answers begin that are made before they are stored."""
RATIONALE = "simulated"


def collect_answers(
    people: Sequence[Annotator], client: Client, *, worth: Worth | None = None, seed: int = 0, most: int = 100_000
) -> int:
    """Let everybody judge in turn until nobody is offered anything; returns the number of judgments.

    Args:
        people: The annotators; the client knows them by ``name``.
        client: Where items come from and answers go.
        worth: How good a response is to an annotator; None for gold, of texts of the sandbox.
        seed: Same seed, same answers to the same items shown in the same order.
        most: Stop after so many judgments.

    Raises:
        UsageError: The client offers an item of another kind than pairwise.
    """
    total = 0
    position = dict.fromkeys((annotator.name for annotator in people), 0)
    waiting = list(people)
    while waiting and total < most:
        for annotator in list(waiting):
            offer = client(annotator.name, "next", {})
            if offer is None:
                waiting.remove(annotator)
                continue
            if offer["kind"] != "pairwise":
                raise UsageError(
                    f"an item of kind {offer['kind']!r}", where="simulate", expected="simulated annotators judge pairs"
                )
            answer, milliseconds = _answer(annotator, offer, position[annotator.name], worth, seed)
            body = {
                "item": offer["item"],
                "answer": answer,
                "rationale": RATIONALE,
                "active_ms": milliseconds,
                "shown": [shown["id"] for shown in offer["responses"]],
                "key": f"sim-{content_id(seed, annotator.name, offer['item'])}",
            }
            client(annotator.name, "judge", body)
            position[annotator.name] += 1
            total += 1
            if total >= most:
                break
    return total


def _answer(
    annotator: Annotator, offer: Mapping[str, Any], position: int, worth: Worth | None, seed: int
) -> tuple[dict[str, Any], int]:
    """One annotator's answer to a pairwise item, and the active milliseconds it took."""
    left, right = offer["responses"]
    asked = offer["prompt"][-1]["content"]
    texts = left["text"], right["text"]
    draw = random.Random(derive(seed, "judge", annotator.name, *sorted(texts), texts[0]))
    seconds = annotator.seconds(sum(len(text.split()) for text in (asked, *texts)), draw)
    impression = annotator.impression(asked, *texts, draw, position, worth)
    if impression.outcome is Outcome.TIE:
        return {"preferred": None, "strength": 0}, round(1000 * seconds)
    strength = 1 if impression.distance < 1 else 2 if impression.distance < 3 else 3
    preferred = (left if impression.outcome is Outcome.A else right)["id"]
    return {"preferred": preferred, "strength": strength}, round(1000 * seconds)


@dataclass(frozen=True)
class SimulatedProject:
    """A project that is marked as simulated, with one way of asking and a person for each annotator."""

    project: str
    template: str
    people: Mapping[str, str]
    """Annotator's name -> id of the person."""
    guideline: str | None
    """Id of the guideline's version, which everybody accepts before they take work."""


def simulated_project(
    store: Store,
    name: str,
    people: Sequence[Annotator],
    *,
    question: str = "which is better",
    guideline: str | None = None,
    prefix: str = "",
) -> SimulatedProject:
    """Make a project of pairs, empty, and an account marked as simulated for each annotator.

    Args:
        store: The store.
        name: Of the project.
        people: The annotators.
        question: Name of the template.
        guideline: Its text, if there is one.
        prefix: Of the accounts' handles, so that two projects of a store can have annotators of one name.
    """
    project = create_project(store, name, simulated=True)
    version = add_guideline(store, project, guideline) if guideline is not None else None
    template = add_template(store, project, "pairwise", question)
    ids = {annotator.name: add_person(store, f"{prefix}{annotator.name}", simulated=True) for annotator in people}
    return SimulatedProject(project, template, ids, version)


def judge_in_workflow(
    store: Store,
    made_for: SimulatedProject,
    groups: Sequence[tuple[Sequence[NewItem], int]],
    people: Sequence[Annotator],
    *,
    worth: Worth | None = None,
    seed: int = 0,
) -> int:
    """Put items into the queue and let everybody judge from it; returns the number of judgments.

    Args:
        store: The store.
        made_for: The project.
        groups: Items, and how many judgments each of them needs.
        people: The annotators.
        worth: See ``collect_answers``.
        seed: See ``collect_answers``.

    Raises:
        UsageError: The store refused some of the items.
    """
    if made_for.guideline is not None:
        for person_id in made_for.people.values():
            acknowledge(store, person_id, made_for.guideline)
    for rows, overlap in groups:
        imported = import_items(store, made_for.template, rows, overlap=overlap)
        if imported.rejected:
            raise UsageError(f"row {imported.rejected[0][0]}: {imported.rejected[0][1]}", where="simulate")
    return collect_answers(people, store_client(store, made_for.project, made_for.people), worth=worth, seed=seed)


def store_client(store: Store, project_id: str, people: Mapping[str, str]) -> Client:
    """A client that talks to the store; ``people`` maps annotator names to person ids."""

    def client(annotator: str, verb: str, body: Mapping[str, Any]) -> Mapping[str, Any] | None:
        if verb == "judge":
            submit(
                store,
                body["item"],
                people[annotator],
                body["key"],
                answer=body["answer"],
                rationale=body["rationale"],
                active_ms=body["active_ms"],
                shown=tuple(body["shown"]),
            )
            return None
        assignment = next_seat(store, project_id, people[annotator])
        if isinstance(assignment, Nothing):
            return None
        with store.read() as connection:
            query = select(response.c.id, response.c.text).where(response.c.id.in_(assignment.shown))
            texts = {row.id: row.text for row in connection.execute(query)}
            asked = select(prompt.c.turns).join(item, item.c.prompt == prompt.c.id).where(item.c.id == assignment.item)
            turns = connection.execute(asked).scalar_one()
        return {
            "item": assignment.item,
            "kind": assignment.kind,
            "prompt": [{"role": "user", "content": turns}] if isinstance(turns, str) else turns,
            "responses": [{"id": name, "text": texts[name]} for name in assignment.shown],
        }

    return client


@dataclass(frozen=True, slots=True)
class TimedAnswer:
    """One answer that was made before it is stored."""

    row: int
    """Place of the item among the rows."""
    annotator: str
    answer: Mapping[str, Any]
    """Names the preferred response by its place."""
    shown: tuple[int, int]
    at: datetime
    active_ms: int


class Sessions:
    """Answers in the order in which they are made, each annotator with a clock of their own."""

    def __init__(self) -> None:
        self.rows: list[NewItem] = []
        self.answers: list[TimedAnswer] = []
        self.position: dict[str, int] = {}
        self.clock: dict[str, datetime] = {}

    def item(self, row: NewItem) -> None:
        """A new item, which the answers that follow are about."""
        self.rows.append(row)

    def judge(self, annotator: Annotator, draw: random.Random) -> None:
        """Let an annotator answer the newest item, sides shuffled."""
        row = self.rows[-1]
        as_listed = draw.random() < 0.5
        a, b = row.responses if as_listed else row.responses[::-1]
        outcome = annotator.judge(question(row.prompt), a, b, draw, self.position.get(annotator.name, 0))
        self.answer(annotator, as_listed, outcome, draw)

    def answer(self, annotator: Annotator, as_listed: bool, outcome: Outcome, draw: random.Random) -> None:
        """Note one answer to the newest item: which way round the sides were, and what was said of them."""
        shown = (0, 1) if as_listed else (1, 0)
        row = self.rows[-1]
        words = sum(len(text.split()) for text in (prompt_text(row.prompt), *row.responses))
        seconds = annotator.seconds(words, draw)
        answer: dict[str, Any] = {"strength": 0}
        if outcome is not Outcome.TIE:
            answer = {"preferred": shown[0 if outcome is Outcome.A else 1], "strength": 1}
        self.position[annotator.name] = self.position.get(annotator.name, 0) + 1
        at = self.clock[annotator.name] = self.clock.get(annotator.name, BEGIN) + timedelta(seconds=seconds)
        self.answers.append(TimedAnswer(len(self.rows) - 1, annotator.name, answer, shown, at, round(1000 * seconds)))

    def write(self, store: Store, made_for: SimulatedProject) -> None:
        """Store everything through the history."""
        votes = [
            ImportedVote(
                timed.row,
                made_for.people[timed.annotator],
                timed.answer,
                timed.shown,
                stamp(timed.at),
                timed.active_ms,
                RATIONALE,
            )
            for timed in sorted(self.answers, key=lambda timed: timed.at)
        ]
        import_judged(store, made_for.template, self.rows, votes, actor="simulation")


@dataclass
class MemoryQueue:
    """A client without a database: items and judgments in memory, read out with ``judged()``.

    Args:
        rows: The items, all of them pairs.
        overlap: Judgments wanted for each main item; gold and repeats are open to everybody who meets them.
        seed: Order of items and sides.
    """

    rows: Sequence[NewItem]
    overlap: int = 3
    seed: int = 0
    items: dict[str, ItemRow] = field(default_factory=dict)
    judgments: list[JudgmentRow] = field(default_factory=list)
    _taken: dict[str, set[str]] = field(default_factory=dict)
    _shown: dict[tuple[str, str], tuple[str, ...]] = field(default_factory=dict)
    _clock: dict[str, datetime] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for number, new in enumerate(self.rows):
            self._add(f"item-{number:05d}", new, new.stream, None)
        for number, new in enumerate(self.rows):
            if new.context.get("repeat"):
                self._add(f"repeat-{number:05d}", new, "repeat", f"item-{number:05d}")

    def _add(self, name: str, new: NewItem, stream: str, repeat_of: str | None) -> None:
        digest = content_id(prompt_json(new.prompt))
        responses = tuple(
            ResponseRow(f"r-{content_id(digest, text)}", text, generator)
            for text, generator in zip(new.responses, new.generators, strict=True)
        )
        gold = by_id(new.gold, [r.id for r in responses]) if new.gold else None
        split = new.split or split_by_hash(digest, SPLIT_SHARES)
        self.items[name] = ItemRow(name, "pairwise", stream, split, digest, new.prompt, responses, repeat_of, gold)
        self._taken[name] = set()

    def __call__(self, annotator: str, verb: str, body: Mapping[str, Any]) -> Mapping[str, Any] | None:
        """The client."""
        if verb == "next":
            return self._next(annotator)
        self._judge(annotator, body)
        return None

    def _next(self, annotator: str) -> Mapping[str, Any] | None:
        open_items = [row for row in self.items.values() if self._wants(row, annotator)]
        if not open_items:
            return None
        # The emptiest first, so that overlaps stay even, in an order of each annotator's own.
        chosen = min(
            open_items,
            key=lambda row: (
                row.stream == "repeat",
                len(self._taken[row.id]) if row.stream == "main" else 0,
                derive(self.seed, "order", annotator, row.id),
            ),
        )
        responses = list(chosen.responses)
        before = self._shown.get((annotator, chosen.repeat_of or ""))
        if before is not None:
            responses.sort(key=lambda r: -before.index(r.id))
        else:
            random.Random(derive(self.seed, "sides", annotator, chosen.id)).shuffle(responses)
        self._shown[annotator, chosen.id] = tuple(r.id for r in responses)
        return {
            "item": chosen.id,
            "kind": chosen.kind,
            "prompt": [{"role": "user", "content": prompt_text(chosen.prompt)}],
            "responses": [{"id": r.id, "text": r.text} for r in responses],
        }

    def _wants(self, row: ItemRow, annotator: str) -> bool:
        taken = self._taken[row.id]
        if annotator in taken:
            return False
        if row.repeat_of is not None:
            return annotator in self._taken[row.repeat_of]
        return row.stream != "main" or len(taken) < self.overlap

    def _judge(self, annotator: str, body: Mapping[str, Any]) -> None:
        self._taken[body["item"]].add(annotator)
        now = self._clock.get(annotator, BEGIN) + timedelta(milliseconds=body["active_ms"])
        self._clock[annotator] = now
        self.judgments.append(
            JudgmentRow(
                body["key"],
                body["item"],
                annotator,
                {"kind": "pairwise", **body["answer"]},
                tuple(body["shown"]),
                stamp(now),
                body["active_ms"],
                simulated=True,
                rationale=body["rationale"],
            )
        )

    def judged(self, name: str = "simulated") -> Judged:
        """The project as the quality pages read it."""
        rows = tuple(sorted(self.judgments, key=lambda row: (row.created_at, row.id)))
        return Judged(name, self.items, rows, simulated=True)
