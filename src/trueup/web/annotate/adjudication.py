"""The adjudicator's calls: what is disputed, one's own blind answer, the verdict."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastapi import APIRouter
from pydantic import Field
from sqlalchemy import select

from trueup.feedback import adjudication
from trueup.feedback.reading import read_project
from trueup.feedback.schema import item, template
from trueup.feedback.store import Store
from trueup.web.annotate.access import Adjudicator, Body, Database, ItemId, ProjectId
from trueup.web.annotate.seatview import item_view

router = APIRouter()


class Blind(Body):
    """One's own answer, before seeing the others'."""

    answer: dict[str, Any]


class Verdict(Body):
    """The answer that stands, and why people differed."""

    answer: dict[str, Any]
    cause: Literal["ambiguous", "guideline_gap", "annotator_error", "value_difference"]
    note: Annotated[str, Field(max_length=2000)] = ""


@router.get("/adjudication/{project_id}/next")
def next_disputed(store: Database, who: Adjudicator, project_id: ProjectId) -> dict[str, Any]:
    """A disputed item as an annotator would see it; ``blind`` is one's own answer if it was given already."""
    found = adjudication.next_disputed(store, project_id, who.id)
    if found is None:
        return {"seat": None, "reason": "done", "message": "nothing is disputed here, or others are settling it"}
    return {"seat": item_view(store, found.item, project_id) | {"blind": found.blind}}


@router.post("/adjudication/{item_id}/blind")
def blind(store: Database, who: Adjudicator, item_id: ItemId, body: Blind) -> dict[str, Any]:
    """Give one's own answer; the reply tells all others', with how reliable each annotator is here."""
    given = adjudication.give_blind(store, item_id, who.id, body.answer)
    reliable = _reliability(store, item_id)
    return {
        "answers": [
            {
                "annotator": one.annotator,
                "answer": one.answer,
                "rationale": one.rationale,
                "skip_reason": one.skip_reason,
                "reliability": reliable.get(one.annotator),
            }
            for one in given
        ]
    }


@router.post("/adjudication/{item_id}/settle")
def settle(store: Database, who: Adjudicator, item_id: ItemId, body: Verdict) -> dict[str, Any]:
    """Give the verdict."""
    return {"id": adjudication.settle(store, item_id, who.id, body.answer, body.cause, body.note)}


def _reliability(store: Store, item_id: str) -> dict[str, float | None]:
    """Pseudonym -> share of each annotator's answers to known items that were right; absent where none was given."""
    from trueup.feedback.judged import is_right

    with store.read() as connection:
        of = connection.execute(
            select(template.c.project).join(item, item.c.template == template.c.id).where(item.c.id == item_id)
        ).scalar_one()
    judged = read_project(store, str(of))
    right: dict[str, list[bool]] = {}
    for given in judged.judgments:
        gold = judged.items[given.item].gold
        if gold is not None and given.answer is not None:
            right.setdefault(given.annotator, []).append(is_right(given.answer, gold))
    return {name: round(sum(found) / len(found), 3) for name, found in right.items()}
