"""What an annotator sees of an item: names are added one by one, so nothing that should stay hidden can slip in."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, func, select

from trueup.feedback.assignment import Seat, shown_ids
from trueup.feedback.schema import guideline, item, judgment, prompt, response, seat, template
from trueup.feedback.store import Store

CONFIG = (
    "axes tags allow_tie allow_both_bad require_rationale min_seconds categories skip_reasons instruction render scale"
).split()
CONTEXT = "principle critique revision instruction question topic domain persona goal attack policy document".split()
"""Names of a template's settings and of an item's context that annotators see; all others stay with the leads."""


def seat_view(store: Store, held: Seat, project_id: str, person_id: str) -> dict[str, Any]:
    """A live seat as JSON."""
    with store.read() as connection:
        draft = connection.execute(select(seat.c.draft).where(seat.c.id == held.id)).scalar()
        return _item(connection, held.item, held.shown) | {
            "id": held.id,
            "token": held.token,
            "lease_until": held.lease_until,
            "draft": draft,
            "progress": _progress(connection, project_id, person_id),
            "guideline": _guideline(connection, held.guideline),
        }


def item_view(store: Store, item_id: str, project_id: str) -> dict[str, Any]:
    """An item without a seat, for adjudication: the same fields, in canonical order."""
    with store.read() as connection:
        newest = connection.execute(
            select(guideline.c.id).where(guideline.c.project == project_id).order_by(guideline.c.number.desc()).limit(1)
        ).scalar()
        return _item(connection, item_id, shown_ids(connection, item_id)) | {
            "id": None,
            "token": None,
            "lease_until": None,
            "draft": None,
            "progress": None,
            "guideline": _guideline(connection, newest),
        }


def _item(connection: Connection, item_id: str, shown: Sequence[str]) -> dict[str, Any]:
    row = connection.execute(
        select(item.c.context, template.c.kind, template.c.config, prompt.c.turns)
        .join(template, template.c.id == item.c.template)
        .join(prompt, prompt.c.id == item.c.prompt)
        .where(item.c.id == item_id)
    ).one()
    found = connection.execute(select(response.c.id, response.c.text).where(response.c.id.in_(shown)))
    texts = {one.id: one.text for one in found}
    return {
        "item": item_id,
        "kind": row.kind,
        "prompt": [{"role": "user", "content": row.turns}] if isinstance(row.turns, str) else row.turns,
        "responses": [{"id": name, "text": texts[name]} for name in shown],
        "config": {name: row.config[name] for name in CONFIG if name in row.config},
        "context": _context(row.context, shown_ids(connection, item_id)),
    }


def _context(context: Mapping[str, Any], canonical: Sequence[str]) -> dict[str, str]:
    """Texts of the context; ``revision`` is imported as a place and shown as the id of that response."""
    found = {name: context[name] for name in CONTEXT if isinstance(context.get(name), str)}
    place = context.get("revision")
    if isinstance(place, int) and not isinstance(place, bool) and 0 <= place < len(canonical):
        found["revision"] = canonical[place]
    return found


def _guideline(connection: Connection, wanted: str | None) -> dict[str, Any] | None:
    row = connection.execute(select(guideline.c.id, guideline.c.number).where(guideline.c.id == wanted)).first()
    return None if row is None else {"id": row.id, "number": row.number}


def _progress(connection: Connection, project_id: str, person_id: str) -> dict[str, int]:
    """What this person did here, and how much it is together with what is open and new to them."""
    mine = select(judgment.c.item).where(judgment.c.person == person_id)
    here = (
        select(func.count())
        .select_from(item)
        .join(template, template.c.id == item.c.template)
        .where(template.c.project == project_id)
    )
    done = connection.execute(here.where(item.c.id.in_(mine))).scalar_one()
    # Hidden items count like all others: a total that stood still at one of them would give it away.
    left = connection.execute(here.where(item.c.state == "open", item.c.id.not_in(mine))).scalar_one()
    return {"done": int(done), "of": int(done) + int(left)}
