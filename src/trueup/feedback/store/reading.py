"""A project read out whole, as the plain rows that quality, aggregation and the snapshot work on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import select

from trueup.data.conversations import messages
from trueup.errors import NotHere
from trueup.feedback.store.database import Store
from trueup.feedback.store.judgments import is_newest, superseded_among
from trueup.feedback.store.records import ItemRow, Judged, JudgmentRow, ResponseRow
from trueup.feedback.store.schema import (
    guideline,
    item,
    item_response,
    judgment,
    person,
    project,
    prompt,
    response,
    template,
)
from trueup.types import Message, Prompt, prompt_shown


def read_project(store: Store, project_id: str) -> Judged:
    """Items and current judgments (the last revision of each) of a project, in order of time.

    Raises:
        NotHere: No such project.
    """
    with store.read() as connection:
        of = connection.execute(select(project).where(project.c.id == project_id)).first()
        if of is None:
            raise NotHere(f"there is no project {project_id!r}", where="project")
        shown: dict[str, list[ResponseRow]] = {}
        for row in connection.execute(
            select(item_response.c.item, response)
            .join(response, response.c.id == item_response.c.response)
            .join(prompt, prompt.c.id == response.c.prompt)
            .where(prompt.c.project == project_id)
            .order_by(item_response.c.item, item_response.c.place)
        ):
            shown.setdefault(row.item, []).append(ResponseRow(row.id, row.text, row.generator, row.generator_kind))
        items = {
            row.id: ItemRow(
                row.id,
                row.kind,
                row.stream,
                row.split,
                row.prompt,
                stored_prompt(row.turns),
                tuple(shown.get(row.id, ())),
                row.repeat_of,
                row.gold,
                row.context,
            )
            for row in connection.execute(
                select(item, template.c.kind, prompt.c.turns, prompt.c.split)
                .join(template, template.c.id == item.c.template)
                .join(prompt, prompt.c.id == item.c.prompt)
                .where(template.c.project == project_id)
                .order_by(item.c.created_at, item.c.id)
            )
        }
        judgments = tuple(
            JudgmentRow(
                row.id,
                row.item,
                row.pseudonym,
                row.answer,
                tuple(row.shown),
                row.created_at,
                row.active_ms,
                row.revision,
                row.surplus,
                row.simulated,
                row.skip_reason,
                row.rationale,
                row.guideline_sha256,
            )
            for row in connection.execute(
                select(judgment, person.c.pseudonym, person.c.simulated, guideline.c.sha256.label("guideline_sha256"))
                .join(person, person.c.id == judgment.c.person)
                .join(item, item.c.id == judgment.c.item)
                .join(template, template.c.id == item.c.template)
                .outerjoin(guideline, guideline.c.id == judgment.c.guideline)
                .where(template.c.project == project_id, is_newest())
                .order_by(judgment.c.created_at, judgment.c.id)
            )
        )
    return Judged(of.name, items, judgments, bool(of.simulated))


@dataclass(frozen=True, slots=True)
class JudgmentDetail:
    """One judgment with the texts it was about, wherever it stands in its project."""

    id: str
    annotator: str
    answer: Mapping[str, Any] | None
    shown: tuple[str, ...]
    texts: tuple[tuple[str, str], ...]
    """Response id and text, in the item's order."""
    created_at: str
    active_ms: int | None
    rationale: str
    simulated: bool
    superseded: bool


def read_judgments(store: Store, ids: Sequence[str]) -> list[JudgmentDetail]:
    """Judgments by id, in order of time; ids that are not there are left out."""
    details = []
    with store.read() as connection:
        superseded = superseded_among(connection, ids)
        rows = connection.execute(
            select(judgment, person.c.pseudonym, person.c.simulated)
            .join(person, person.c.id == judgment.c.person)
            .where(judgment.c.id.in_(list(ids)))
            .order_by(judgment.c.created_at, judgment.c.id)
        ).all()
        for row in rows:
            texts = connection.execute(
                select(response.c.id, response.c.text)
                .join(item_response, item_response.c.response == response.c.id)
                .where(item_response.c.item == row.item)
                .order_by(item_response.c.place)
            ).all()
            details.append(
                JudgmentDetail(
                    row.id,
                    row.pseudonym,
                    row.answer,
                    tuple(row.shown),
                    tuple((name, text) for name, text in texts),
                    row.created_at,
                    row.active_ms,
                    row.rationale,
                    bool(row.simulated),
                    row.id in superseded,
                )
            )
    return details


def stored_prompt(turns: Any) -> Prompt:
    """The prompt that ``types.prompt_json`` spelled."""
    return turns if isinstance(turns, str) else messages(turns, "prompt", blank=True)


def shown_turns(turns: Any) -> list[dict[str, str]]:
    """The turns of a stored prompt as people are shown them, each with a role and a text; plain text is the user's."""
    prompt = stored_prompt(turns)
    shown: list[dict[str, str]] = prompt_shown((Message("user", prompt),) if isinstance(prompt, str) else prompt)
    return shown
