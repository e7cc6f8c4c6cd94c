"""What an annotator sees of an item: names are added one by one, so nothing that should stay hidden can slip in."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, func, select

from trueup.feedback.store.database import Store
from trueup.feedback.store.item_rows import response_ids
from trueup.feedback.store.reading import shown_turns
from trueup.feedback.store.schema import guideline, item, judgment, prompt, response, seat, template
from trueup.feedback.workflow.assignment import Assignment
from trueup.web.shell.access import Reply

CONFIG = "axes tags allow_tie allow_both_bad require_rationale min_seconds categories instruction".split()
CONTEXT = "principle critique revision instruction question topic domain persona goal attack policy document".split()
"""Names of a template's settings and of an item's context that annotators see; all others stay with the leads."""


class ShownResponse(Reply):
    """One response in the order shown."""

    id: str
    text: str


class Progress(Reply):
    """How many items a person judged, and how many that is together with those that are open to them."""

    done: int
    of: int


class GuidelineVersion(Reply):
    """The version under which an item is judged."""

    id: str
    number: int


class ItemView(Reply):
    """An item as it is shown."""

    item: str
    kind: str
    prompt: list[Mapping[str, str]]
    """Chat turns, each with a role and a text."""
    responses: list[ShownResponse]
    config: Mapping[str, Any]
    context: Mapping[str, str]
    id: str | None = None
    """Of the assignment; None in adjudication, which holds no lease."""
    token: str | None = None
    lease_until: str | None = None
    draft: Any = None
    progress: Progress | None = None
    guideline: GuidelineVersion | None = None


def assignment_view(store: Store, assignment: Assignment, project_id: str, person_id: str) -> ItemView:
    """A live assignment with its item."""
    with store.read() as connection:
        draft = connection.execute(select(seat.c.draft).where(seat.c.id == assignment.id)).scalar()
        return _item(connection, assignment.item, assignment.shown).model_copy(
            update={
                "id": assignment.id,
                "token": assignment.token,
                "lease_until": assignment.lease_until,
                "draft": draft,
                "progress": _progress(connection, project_id, person_id),
                "guideline": _guideline(connection, assignment.guideline),
            }
        )


def item_view(store: Store, item_id: str, project_id: str) -> ItemView:
    """An item without an assignment, for adjudication: the same fields, in canonical order."""
    with store.read() as connection:
        newest = connection.execute(
            select(guideline.c.id).where(guideline.c.project == project_id).order_by(guideline.c.number.desc()).limit(1)
        ).scalar()
        view = _item(connection, item_id, response_ids(connection, item_id))
        return view.model_copy(update={"guideline": _guideline(connection, newest)})


def _item(connection: Connection, item_id: str, shown: Sequence[str]) -> ItemView:
    row = connection.execute(
        select(item.c.context, template.c.kind, template.c.config, prompt.c.turns)
        .join(template, template.c.id == item.c.template)
        .join(prompt, prompt.c.id == item.c.prompt)
        .where(item.c.id == item_id)
    ).one()
    rows = connection.execute(select(response.c.id, response.c.text).where(response.c.id.in_(shown)))
    texts = {row.id: row.text for row in rows}
    return ItemView(
        item=item_id,
        kind=row.kind,
        prompt=shown_turns(row.turns),
        responses=[ShownResponse(id=name, text=texts[name]) for name in shown],
        config={name: row.config[name] for name in CONFIG if isinstance(row.config, dict) and name in row.config},
        context=_context(row.context, response_ids(connection, item_id)),
    )


def _context(context: Mapping[str, Any], canonical: Sequence[str]) -> dict[str, str]:
    """Texts of the context; ``revision`` is imported as a place and shown as the id of that response."""
    texts = {name: context[name] for name in CONTEXT if isinstance(context.get(name), str)}
    place = context.get("revision")
    if isinstance(place, int) and not isinstance(place, bool) and 0 <= place < len(canonical):
        texts["revision"] = canonical[place]
    return texts


def _guideline(connection: Connection, wanted: str | None) -> GuidelineVersion | None:
    row = connection.execute(select(guideline.c.id, guideline.c.number).where(guideline.c.id == wanted)).first()
    return None if row is None else GuidelineVersion(id=row.id, number=row.number)


def _progress(connection: Connection, project_id: str, person_id: str) -> Progress:
    """What this person did in the project, and how much it is together with what is open and new to them."""
    own_items = select(judgment.c.item).where(judgment.c.person == person_id)
    items = (
        select(func.count())
        .select_from(item)
        .join(template, template.c.id == item.c.template)
        .where(template.c.project == project_id)
    )
    done = connection.execute(items.where(item.c.id.in_(own_items))).scalar_one()
    # Hidden items count like all others: a total that stood still at one of them would give it away.
    left = connection.execute(items.where(item.c.state == "open", item.c.id.not_in(own_items))).scalar_one()
    return Progress(done=int(done), of=int(done) + int(left))
