"""The adjudicator's calls: what is disputed, one's own blind answer, the verdict."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from fastapi import APIRouter
from pydantic import Field
from sqlalchemy import select

from trueup.feedback.store.database import Store
from trueup.feedback.store.reading import read_project
from trueup.feedback.store.schema import item, template
from trueup.feedback.workflow import adjudication
from trueup.web.annotate.assignment_view import ItemView, item_view
from trueup.web.annotate.paths import ItemId, ProjectId
from trueup.web.shell.access import Adjudicator, Body, Database, Reply

router = APIRouter()


class BlindAnswer(Body):
    """One's own answer, before seeing the others'."""

    answer: dict[str, Any]


class FinalAnswer(Body):
    """The answer that stands, and why people differed."""

    answer: dict[str, Any]
    cause: Literal["ambiguous", "guideline_gap", "annotator_error", "value_difference"]
    note: Annotated[str, Field(max_length=2000)] = ""


class DisputedView(ItemView):
    """A disputed item as an annotator would see it, with one's own answer if it was given already."""

    blind: Any = None


class NextDisputed(Reply):
    """The item to settle."""

    seat: DisputedView


class NothingDisputed(Reply):
    """Why there is no item to settle."""

    seat: None = None
    reason: Literal["done"] = "done"
    message: str = "nothing is disputed here, or others are settling it"


class PeerAnswerReply(Reply):
    """One annotator's answer, with how reliable they are in this project."""

    annotator: str
    answer: Mapping[str, Any] | None
    rationale: str
    skip_reason: str | None
    reliability: float | None


class PeerAnswers(Reply):
    """Everybody's answers."""

    answers: list[PeerAnswerReply]


class Settlement(Reply):
    """The id of what was settled."""

    id: str


@router.get("/adjudication/{project_id}/next")
def next_disputed_item(store: Database, who: Adjudicator, project_id: ProjectId) -> NextDisputed | NothingDisputed:
    """A disputed item as an annotator would see it; ``blind`` is one's own answer if it was given already."""
    disputed = adjudication.next_disputed(store, project_id, who.id)
    if disputed is None:
        return NothingDisputed()
    view = item_view(store, disputed.item, project_id)
    return NextDisputed(seat=DisputedView(**dict(view), blind=disputed.blind))


@router.post("/adjudication/{item_id}/blind")
def submit_blind_answer(store: Database, who: Adjudicator, item_id: ItemId, body: BlindAnswer) -> PeerAnswers:
    """Give one's own answer; the reply tells all others', with how reliable each annotator is here."""
    peers = adjudication.give_blind(store, item_id, who.id, body.answer)
    reliable = _reliability(store, item_id)
    return PeerAnswers(
        answers=[
            PeerAnswerReply(
                annotator=peer.annotator,
                answer=peer.answer,
                rationale=peer.rationale,
                skip_reason=peer.skip_reason,
                reliability=reliable.get(peer.annotator),
            )
            for peer in peers
        ]
    )


@router.post("/adjudication/{item_id}/settle")
def submit_final_answer(store: Database, who: Adjudicator, item_id: ItemId, body: FinalAnswer) -> Settlement:
    """Give the verdict."""
    return Settlement(id=adjudication.settle(store, item_id, who.id, body.answer, body.cause, body.note))


def _reliability(store: Store, item_id: str) -> dict[str, float | None]:
    """Pseudonym -> share of each annotator's answers to known items that were right; absent where none was given."""
    from trueup.feedback.store.judgments import is_right

    with store.read() as connection:
        of = connection.execute(
            select(template.c.project).join(item, item.c.template == template.c.id).where(item.c.id == item_id)
        ).scalar_one()
    judged = read_project(store, str(of))
    right: dict[str, list[bool]] = {}
    for row in judged.judgments:
        gold = judged.items[row.item].gold
        if gold is not None and row.answer is not None:
            right.setdefault(row.annotator, []).append(is_right(row.answer, gold))
    return {name: round(sum(marks) / len(marks), 3) for name, marks in right.items()}
