"""What the leads' dashboard and the lists show and change: projects, progress, templates, gold items, people."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection, case, func, insert, select

from trueup.errors import UsageError
from trueup.feedback.store import audit
from trueup.feedback.store.database import Store
from trueup.feedback.store.item_rows import change_item
from trueup.feedback.store.judgments import is_right
from trueup.feedback.store.projects import pseudonym_of
from trueup.feedback.store.reading import stored_prompt
from trueup.feedback.store.schema import (
    acknowledgement,
    audit_event,
    export,
    guideline,
    item,
    judgment,
    person,
    project,
    prompt,
    seat,
    stamp,
    template,
)
from trueup.feedback.store.template_settings import settings_problem
from trueup.feedback.workflow.summaries import (
    AuditEvent,
    DayCount,
    GoldItem,
    GuidelineVersion,
    PersonSummary,
    Progress,
    ProjectSummary,
    StreamProgress,
    TemplateSummary,
)
from trueup.types import question

GOLD_STREAMS = ("gold", "calibration", "attention")
WINDOW = timedelta(hours=24)
"""How far back the present speed is measured."""
FEWEST = 5
"""With fewer judgments in the window there is no estimate of the time left."""


def projects_for(store: Store, person_id: str) -> list[ProjectSummary]:
    """Every project with its counts, oldest first. Retired items count nowhere."""
    of_project = select(template.c.project, func.count()).group_by(template.c.project)
    items = of_project.join(item, item.c.template == template.c.id).where(item.c.state != "closed")
    judged = (
        of_project.join(item, item.c.template == template.c.id)
        .join(judgment, judgment.c.item == item.c.id)
        .where(judgment.c.revision == 1)
    )
    with store.read() as connection:
        every = _counted(connection, items)
        done = _counted(connection, items.where(item.c.state == "satisfied"))
        all_judgments = _counted(connection, judged)
        own_judgments = _counted(connection, judged.where(judgment.c.person == person_id))
        rows = connection.execute(select(project).order_by(project.c.created_at, project.c.id)).all()
    return [
        ProjectSummary(
            row.id,
            row.name,
            row.state,
            bool(row.simulated),
            items=every.get(row.id, 0),
            satisfied=done.get(row.id, 0),
            judgments=all_judgments.get(row.id, 0),
            my_judgments=own_judgments.get(row.id, 0),
        )
        for row in rows
    ]


def _counted(connection: Connection, query: Any) -> dict[str, int]:
    return {row[0]: int(row[1]) for row in connection.execute(query)}


def progress(store: Store, project_id: str) -> Progress:
    """Items and judgments by stream, judgments by day (UTC), and hours left at the speed of the last 24 hours.

    ``eta_hours`` is None while fewer than ``FEWEST`` judgments tell of a speed.
    """
    since = stamp(store.clock() - WINDOW)
    of_project = template.c.project == project_id
    satisfied = func.sum(case((item.c.state == "satisfied", 1), else_=0))
    streams = select(item.c.stream, func.count(), satisfied).join(template, template.c.id == item.c.template)
    answers = select(judgment).join(item, item.c.id == judgment.c.item).join(template, template.c.id == item.c.template)
    first = answers.where(of_project, judgment.c.revision == 1)
    day = func.substr(judgment.c.created_at, 1, 10)
    taken = (
        select(func.count())
        .select_from(seat)
        .where(seat.c.item == item.c.id, seat.c.state == "submitted")
        .scalar_subquery()
    )
    with store.read() as connection:
        counted = connection.execute(
            streams.where(of_project, item.c.state != "closed").group_by(item.c.stream).order_by(item.c.stream)
        ).all()
        judged = _counted(
            connection, first.with_only_columns(item.c.stream, func.count()).group_by(item.c.stream).order_by(None)
        )
        days = connection.execute(first.with_only_columns(day, func.count()).group_by(day).order_by(day)).all()
        left = connection.execute(
            select(func.sum(item.c.overlap - taken))
            .join(template, template.c.id == item.c.template)
            .where(of_project, item.c.state == "open")
        ).scalar()
        recent = connection.execute(
            first.with_only_columns(func.count(), func.min(judgment.c.created_at)).where(judgment.c.created_at > since)
        ).one()
    return Progress(
        [StreamProgress(row[0], int(row[1]), int(row[2] or 0), judged.get(row[0], 0)) for row in counted],
        [DayCount(row[0], int(row[1])) for row in days],
        _eta(store, int(left or 0), int(recent[0]), recent[1]),
    )


def _eta(store: Store, left: int, done: int, since: str | None) -> float | None:
    if left == 0:
        return 0.0
    if done < FEWEST or since is None:
        return None
    hours = (store.clock() - datetime.fromisoformat(since)).total_seconds() / 3600
    return round(left / (done / hours), 2) if hours > 0 else None


def newest_guideline(store: Store, project_id: str, person_id: str) -> GuidelineVersion | None:
    """The newest version with ``acknowledged`` for this person; None while there is none."""
    with store.read() as connection:
        row = connection.execute(
            select(guideline, acknowledgement.c.id.label("read"))
            .outerjoin(
                acknowledgement,
                (acknowledgement.c.guideline == guideline.c.id) & (acknowledgement.c.person == person_id),
            )
            .where(guideline.c.project == project_id)
            .order_by(guideline.c.number.desc())
            .limit(1)
        ).first()
    if row is None:
        return None
    return GuidelineVersion(row.id, row.number, row.markdown, row.sha256, row.read is not None)


def templates_of(store: Store, project_id: str) -> list[TemplateSummary]:
    """The ways of asking of a project; ``problem`` says of one whose stored settings are wrong what is."""
    with store.read() as connection:
        rows = connection.execute(
            select(template).where(template.c.project == project_id).order_by(template.c.created_at, template.c.id)
        ).all()
    return [
        TemplateSummary(row.id, row.name, row.kind, row.config, settings_problem(row.kind, row.config)) for row in rows
    ]


def people(store: Store) -> list[PersonSummary]:
    """Everybody with an account; no password hashes."""
    with store.read() as connection:
        rows = connection.execute(select(person).order_by(person.c.handle)).all()
    return [
        PersonSummary(
            row.id,
            row.handle,
            row.pseudonym,
            row.role,
            row.active,
            row.simulated,
            row.created_at,
            may_sign_in=row.active and row.password_hash is not None,
        )
        for row in rows
    ]


def gold_items(store: Store, project_id: str) -> list[GoldItem]:
    """Items with a known answer: how many have seen each, and how many were right. Tells leads which are burned."""
    with store.read() as connection:
        items = connection.execute(
            select(item, template.c.kind, prompt.c.turns)
            .join(template, template.c.id == item.c.template)
            .join(prompt, prompt.c.id == item.c.prompt)
            .where(template.c.project == project_id, item.c.stream.in_(GOLD_STREAMS))
            .order_by(item.c.created_at, item.c.id)
        ).all()
        answers: dict[str, list[Any]] = {}
        for row in connection.execute(
            select(judgment.c.item, judgment.c.answer)
            .join(item, item.c.id == judgment.c.item)
            .join(template, template.c.id == item.c.template)
            .where(template.c.project == project_id, item.c.stream.in_(GOLD_STREAMS), judgment.c.revision == 1)
        ):
            answers.setdefault(row.item, []).append(row.answer)
        retired = {
            row[0]: row[1]
            for row in connection.execute(
                select(audit_event.c.object, func.max(audit_event.c.at))
                .where(audit_event.c.action == "retire_gold")
                .group_by(audit_event.c.object)
            )
        }
    shown = []
    for row in items:
        seen = answers.get(row.id, [])
        answered = [answer for answer in seen if answer is not None]
        shown.append(
            GoldItem(
                row.id,
                row.kind,
                row.stream,
                _last(row.turns),
                len(seen),
                len(answered),
                sum(is_right(answer, row.gold) for answer in answered) if row.gold is not None else None,
                row.explanation,
                retired.get(row.id) if row.state == "closed" else None,
            )
        )
    return shown


def retire_gold(store: Store, item_id: str, *, actor: str) -> None:
    """Show a known item to nobody any more; its judgments stay. Twice is once.

    Raises:
        UsageError: No such item, or not one with a known answer.
    """
    with store.write() as connection:
        row = connection.execute(select(item).where(item.c.id == item_id)).first()
        if row is None or row.stream not in GOLD_STREAMS:
            raise UsageError(
                f"there is no gold item {item_id!r}", where="item", expected=f"an item of {', '.join(GOLD_STREAMS)}"
            )
        if row.state != "closed":
            change_item(connection, item_id, state="closed")
            audit.record(connection, store.now(), actor, "retire_gold", item_id)


def note_export(
    store: Store,
    project_id: str,
    person_id: str,
    *,
    export_id: str,
    path: str,
    format: str,
    options: Mapping[str, Any],
    rows: int,
    sha256: str,
    dropped: Mapping[str, int],
) -> None:
    """Record what left the store: by whom, what, and the hash of the file.

    Args:
        store: The database.
        project_id: Of which project.
        person_id: Who asked.
        export_id: Its id.
        path: File name below the folder of exports.
        format: As asked for.
        options: As asked for.
        rows: In the file.
        sha256: Of the file.
        dropped: Reason -> number of rows left out.
    """
    with store.write() as connection:
        connection.execute(
            insert(export).values(
                id=export_id,
                project=project_id,
                person=person_id,
                format=format,
                options=dict(options),
                rows=rows,
                sha256=sha256,
                dropped=dict(dropped),
                path=path,
                created_at=store.now(),
            )
        )
        name = pseudonym_of(connection, person_id)
        audit.record(connection, store.now(), name, "export", export_id, project=project_id, rows=rows, sha256=sha256)


def find_export(store: Store, export_id: str) -> Any:
    """Row of the export table, or None."""
    with store.read() as connection:
        return connection.execute(select(export).where(export.c.id == export_id)).first()


def audit_events(store: Store, *, since: str | int | None = None, most: int = 500) -> list[AuditEvent]:
    """Audit events in order.

    Args:
        store: The database.
        since: A time (from then on), or the number of an event (after it); None for the newest ones.
        most: How many at most.
    """
    query = select(audit_event)
    if isinstance(since, int):
        query = query.where(audit_event.c.seq > since)
    elif since is not None:
        query = query.where(audit_event.c.at >= since)
    newest = since is None
    query = query.order_by(audit_event.c.seq.desc() if newest else audit_event.c.seq).limit(most)
    with store.read() as connection:
        rows: Iterable[Any] = connection.execute(query).all()
    ordered = reversed(list(rows)) if newest else rows
    return [AuditEvent(**row._mapping) for row in ordered]


def exists(store: Store, table: Any, wanted: str) -> bool:
    """Whether a table has a row of this id."""
    with store.read() as connection:
        return connection.execute(select(table.c.id).where(table.c.id == wanted)).first() is not None


def _last(turns: Any, most: int = 200) -> str:
    text = question(stored_prompt(turns)) if turns else ""
    return text if len(text) <= most else f"{text[:most]}…"
