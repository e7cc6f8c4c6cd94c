"""Simulated annotators at the door of the real store: seats, leases and idempotent judgments, as people have them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import select

from trueup.errors import UsageError
from trueup.feedback.assignment import Nothing, next_seat
from trueup.feedback.judgments import submit
from trueup.feedback.projects import add_person, add_template, create_project, import_items
from trueup.feedback.schema import response
from trueup.feedback.simulate import Client, Planted, World
from trueup.feedback.store import Store


def simulated_project(
    store: Store, name: str, world: World, people: Sequence[Planted], *, overlap: int = 3
) -> tuple[str, dict[str, str]]:
    """A project marked as simulated, with the world's items, and a person marked so for each annotator.

    Returns:
        The project's id, and annotator name -> person id.

    Raises:
        UsageError: The store refused some of the world's items.
    """
    project = create_project(store, name, simulated=True)
    template = add_template(store, project, "pairwise", "which is better")
    for stream in sorted({row.stream for row in world.rows}):
        rows = [row for row in world.rows if row.stream == stream]
        done = import_items(store, template, rows, overlap=overlap if stream == "main" else max(1, len(people)))
        if done.rejected:
            raise UsageError(f"row {done.rejected[0][0]}: {done.rejected[0][1]}", where="simulate")
    made = {who.name: add_person(store, f"{name}/{who.name}", simulated=True) for who in people}
    return project, made


def store_client(store: Store, project: str, people: Mapping[str, str]) -> Client:
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
        seat = next_seat(store, project, people[annotator])
        if isinstance(seat, Nothing):
            return None
        with store.read() as connection:
            held = connection.execute(select(response.c.id, response.c.text).where(response.c.id.in_(seat.shown)))
            texts = {row.id: row.text for row in held}
        return {
            "item": seat.item,
            "kind": seat.kind,
            "responses": [{"id": name, "text": texts[name]} for name in seat.shown],
        }

    return client
