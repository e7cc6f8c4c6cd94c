"""The annotator's calls: the next assignment, signs of life, drafts, judgments, corrections, flags."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Annotated, Any

from fastapi import APIRouter, Header, Response
from pydantic import Field
from sqlalchemy import select

from trueup.errors import DataError
from trueup.feedback.store.accounts import Principal
from trueup.feedback.store.database import Store
from trueup.feedback.store.item_rows import response_ids
from trueup.feedback.store.schema import judgment, seat
from trueup.feedback.workflow import assignment
from trueup.feedback.workflow.assignment import Nothing, next_seat
from trueup.feedback.workflow.judgments import SubmitResult, flag_item, submit, supersede
from trueup.web.annotate.assignment_view import ItemView, assignment_view
from trueup.web.annotate.paths import ItemId, ProjectId
from trueup.web.shell.access import Annotator, Body, Database, Reply
from trueup.web.shell.problems import NotFound

router = APIRouter()

Key = Annotated[str, Header(alias="Idempotency-Key", min_length=8, max_length=80)]
SeatToken = Annotated[str, Header(alias="X-Seat-Token", max_length=64)]
A_DAY = 86_400_000


class Submission(Body):
    """One answer, or the reason why there is none."""

    answer: dict[str, Any] | None = None
    skip_reason: Annotated[str, Field(max_length=40)] | None = None
    rationale: Annotated[str, Field(max_length=20_000)] = ""
    active_ms: Annotated[int, Field(ge=0, le=A_DAY)] | None = None
    focus_lost: Annotated[int, Field(ge=0, le=100_000)] | None = None
    shown: Annotated[list[Annotated[str, Field(max_length=36)]], Field(max_length=9)] = Field(default_factory=list)


class ItemReport(Body):
    """What is wrong with an item."""

    reason: Annotated[str, Field(min_length=1, max_length=40)]
    note: Annotated[str, Field(max_length=2000)] = ""


class NextAssignment(Reply):
    """What to judge now."""

    seat: ItemView


class NoAssignment(Reply):
    """Why there is nothing to judge now."""

    seat: None = None
    reason: str
    message: str


class LeaseEnd(Reply):
    """Until when an assignment is held."""

    lease_until: str


class JudgmentDetail(Reply):
    """Right or wrong, and what was expected: for practice items only."""

    right: bool
    explanation: str | None
    expected: Mapping[str, Any] | None


class SubmissionReply(Reply):
    """What became of a submission; ``replayed`` says that it was there already."""

    judgment: str
    surplus: bool
    replayed: bool
    feedback: JudgmentDetail | None

    @classmethod
    def of(cls, result: SubmitResult) -> SubmissionReply:
        """From what the store did."""
        detail = result.feedback
        return cls(
            judgment=result.judgment,
            surplus=result.surplus,
            replayed=result.replayed,
            feedback=None
            if detail is None
            else JudgmentDetail(right=detail.correct, explanation=detail.explanation, expected=detail.expected),
        )


class FlagReply(Reply):
    """The id of a report."""

    id: str


@router.post("/projects/{project_id}/next")
def next_assignment(store: Database, who: Annotator, project_id: ProjectId) -> NextAssignment | NoAssignment:
    """The assignment that one holds, or a new one, or why there is none."""
    held_or_new = next_seat(store, project_id, who.id)
    if isinstance(held_or_new, Nothing):
        return NoAssignment(reason=held_or_new.reason, message=held_or_new.message)
    return NextAssignment(seat=assignment_view(store, held_or_new, project_id, who.id))


@router.post("/seats/{seat_id}/heartbeat")
def extend_lease(store: Database, who: Annotator, seat_id: str, token: SeatToken) -> LeaseEnd:
    """Hold an assignment for longer."""
    _own(store, seat_id, who)
    return LeaseEnd(lease_until=assignment.heartbeat(store, seat_id, token))


@router.post("/seats/{seat_id}/release", status_code=204)
def release_assignment(store: Database, who: Annotator, seat_id: str, token: SeatToken) -> Response:
    """Give an assignment back unanswered."""
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
def submit_judgment(
    store: Database, who: Annotator, item_id: ItemId, key: Key, body: Submission, response: Response
) -> SubmissionReply:
    """Store a judgment; a retry with the same key gets the same reply and stores nothing."""
    if body.shown:
        with store.read() as connection:
            if sorted(body.shown) != sorted(response_ids(connection, item_id)):
                raise DataError("are not the responses of this item", where="shown", expected="each of them once")
    result = submit(
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
    response.status_code = 200 if result.replayed else 201
    return SubmissionReply.of(result)


@router.post("/judgments/{judgment_id}/supersede", status_code=201)
def correct_judgment(
    store: Database, who: Annotator, judgment_id: str, key: Key, body: Submission, response: Response
) -> SubmissionReply:
    """Correct one's own judgment while there is time."""
    with store.read() as connection:
        owner = connection.execute(select(judgment.c.person).where(judgment.c.id == judgment_id)).scalar()
    if owner != who.id:
        raise NotFound("there is no such judgment of yours", where="judgment")
    result = supersede(
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
    response.status_code = 200 if result.replayed else 201
    return SubmissionReply.of(result)


@router.post("/items/{item_id}/flag", status_code=201)
def report_item(
    store: Database, who: Annotator, item_id: ItemId, key: Key, body: ItemReport, response: Response
) -> FlagReply:
    """Tell the leads that something is wrong with an item."""
    flag_id, replayed = flag_item(store, item_id, who.id, body.reason, body.note, key=key)
    response.status_code = 200 if replayed else 201
    return FlagReply(id=flag_id)


def _own(store: Store, seat_id: str, who: Principal) -> None:
    """Others' seats do not exist; one's own that is gone is told by the store, with what to do."""
    with store.read() as connection:
        owner = connection.execute(select(seat.c.person).where(seat.c.id == seat_id)).scalar()
    if owner is not None and owner != who.id:
        raise NotFound("there is no such seat of yours", where="seat")
