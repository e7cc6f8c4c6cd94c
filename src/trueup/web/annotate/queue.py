"""The annotator's calls: the next seat, signs of life, drafts, judgments, corrections, flags."""

from __future__ import annotations

import json
from typing import Annotated, Any

from fastapi import APIRouter, Header, Response
from pydantic import Field
from sqlalchemy import select

from trueup.errors import DataError
from trueup.feedback import assignment
from trueup.feedback.accounts import Principal
from trueup.feedback.assignment import Nothing, next_seat, shown_ids
from trueup.feedback.judgments import Taken, flag_item, submit, supersede
from trueup.feedback.schema import judgment, seat
from trueup.feedback.store import Store
from trueup.web.annotate.access import Annotator, Body, Database, ItemId, ProjectId
from trueup.web.annotate.problems import NotFound
from trueup.web.annotate.seatview import seat_view

router = APIRouter()

Key = Annotated[str, Header(alias="Idempotency-Key", min_length=8, max_length=80)]
SeatToken = Annotated[str, Header(alias="X-Seat-Token", max_length=64)]
A_DAY = 86_400_000


class Judging(Body):
    """One answer, or the reason why there is none."""

    answer: dict[str, Any] | None = None
    skip_reason: Annotated[str, Field(max_length=40)] | None = None
    rationale: Annotated[str, Field(max_length=20_000)] = ""
    active_ms: Annotated[int, Field(ge=0, le=A_DAY)] | None = None
    focus_lost: Annotated[int, Field(ge=0, le=100_000)] | None = None
    shown: Annotated[list[Annotated[str, Field(max_length=36)]], Field(max_length=9)] = Field(default_factory=list)


class Flag(Body):
    """What is wrong with an item."""

    reason: Annotated[str, Field(min_length=1, max_length=40)]
    note: Annotated[str, Field(max_length=2000)] = ""


@router.post("/projects/{project_id}/next")
def take_next(store: Database, who: Annotator, project_id: ProjectId) -> dict[str, Any]:
    """The seat that one holds, or a new one, or why there is none."""
    found = next_seat(store, project_id, who.id)
    if isinstance(found, Nothing):
        return {"seat": None, "reason": found.reason, "message": found.message}
    return {"seat": seat_view(store, found, project_id, who.id)}


@router.post("/seats/{seat_id}/heartbeat")
def heartbeat(store: Database, who: Annotator, seat_id: str, token: SeatToken) -> dict[str, str]:
    """Hold a seat for longer."""
    _own(store, seat_id, who)
    return {"lease_until": assignment.heartbeat(store, seat_id, token)}


@router.post("/seats/{seat_id}/release", status_code=204)
def release(store: Database, who: Annotator, seat_id: str, token: SeatToken) -> Response:
    """Give a seat back unanswered."""
    _own(store, seat_id, who)
    assignment.release(store, seat_id, token)
    return Response(status_code=204)


@router.put("/seats/{seat_id}/draft", status_code=204)
def keep_draft(
    store: Database, who: Annotator, seat_id: str, token: SeatToken, draft: dict[str, Any] | None
) -> Response:
    """Keep an unfinished answer."""
    _own(store, seat_id, who)
    try:
        json.dumps(draft, allow_nan=False).encode()
    except ValueError:
        raise DataError("holds a number that is not finite", where="draft") from None
    assignment.save_draft(store, seat_id, token, draft)
    return Response(status_code=204)


@router.post("/items/{item_id}/judgments", status_code=201)
def judge(
    store: Database, who: Annotator, item_id: ItemId, key: Key, body: Judging, response: Response
) -> dict[str, Any]:
    """Store a judgment; a retry with the same key gets the same reply and stores nothing."""
    if body.shown:
        with store.read() as connection:
            if sorted(body.shown) != sorted(shown_ids(connection, item_id)):
                raise DataError("are not the responses of this item", where="shown", expected="each of them once")
    taken = submit(
        store,
        item_id,
        who.id,
        key,
        answer=body.answer,
        skip_reason=body.skip_reason,
        rationale=body.rationale,
        active_ms=body.active_ms,
        focus_lost=body.focus_lost,
        shown=tuple(body.shown) or None,
    )
    response.status_code = 200 if taken.replayed else 201
    return _taken(taken)


@router.post("/judgments/{judgment_id}/supersede", status_code=201)
def correct(
    store: Database, who: Annotator, judgment_id: str, key: Key, body: Judging, response: Response
) -> dict[str, Any]:
    """Correct one's own judgment while there is time."""
    with store.read() as connection:
        owner = connection.execute(select(judgment.c.person).where(judgment.c.id == judgment_id)).scalar()
    if owner != who.id:
        raise NotFound("there is no such judgment of yours", where="judgment")
    taken = supersede(
        store,
        judgment_id,
        who.id,
        key,
        body.answer,
        skip_reason=body.skip_reason,
        rationale=body.rationale,
        active_ms=body.active_ms,
        focus_lost=body.focus_lost,
    )
    response.status_code = 200 if taken.replayed else 201
    return _taken(taken)


@router.post("/items/{item_id}/flag", status_code=201)
def flag(store: Database, who: Annotator, item_id: ItemId, body: Flag) -> dict[str, str]:
    """Tell the leads that something is wrong with an item."""
    return {"id": flag_item(store, item_id, who.id, body.reason, body.note)}


def _own(store: Store, seat_id: str, who: Principal) -> None:
    """Others' seats do not exist; one's own that is gone is told by the store, with what to do."""
    with store.read() as connection:
        owner = connection.execute(select(seat.c.person).where(seat.c.id == seat_id)).scalar()
    if owner is not None and owner != who.id:
        raise NotFound("there is no such seat of yours", where="seat")


def _taken(taken: Taken) -> dict[str, Any]:
    told = taken.feedback
    return {
        "judgment": taken.judgment,
        "surplus": taken.surplus,
        "replayed": taken.replayed,
        "feedback": None
        if told is None
        else {"right": told["correct"], "explanation": told["explanation"], "expected": told["expected"]},
    }
