"""Projects, guidelines, templates, people, and the import of items to judge."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from sqlalchemy import ColumnElement, Connection, Table, insert, select, update

from trueup.errors import DataError, NotHere, UsageError, nearest
from trueup.feedback.store import audit
from trueup.feedback.store.database import Store
from trueup.feedback.store.handles import IMPORTED, check_handle
from trueup.feedback.store.item_rows import ItemWriter, one_import_at_a_time
from trueup.feedback.store.items import NewItem, check_item
from trueup.feedback.store.schema import guideline, item, judgment, new_id, person, project, template
from trueup.feedback.store.template_settings import check_change, check_settings, stored
from trueup.feedback.store.texts import sha256_of

STATES = ("draft", "live", "paused", "closed")


@dataclass(frozen=True, slots=True)
class Imported:
    """Ids of new items in order, and what was refused: (row number from 0, why)."""

    items: tuple[str, ...]
    rejected: tuple[tuple[int, str], ...]


def create_project(store: Store, name: str, *, simulated: bool = False, actor: str = "system") -> str:
    """A new live project; returns its id.

    Raises:
        UsageError: The name is empty or taken.
    """
    if not name.strip():
        raise UsageError("the name is empty", where="project")

    def attempt(connection: Connection) -> str:
        if connection.execute(select(project.c.id).where(project.c.name == name)).first():
            raise UsageError(f"there is a project {name!r} already", where="project", fix="choose another name")
        project_id = new_id()
        connection.execute(
            insert(project).values(id=project_id, name=name, state="live", simulated=simulated, created_at=store.now())
        )
        audit.record(connection, store.now(), actor, "create_project", project_id, name=name, simulated=simulated)
        return project_id

    return store.write_twice(attempt)


def add_guideline(store: Store, project_id: str, markdown: str, *, actor: str = "system") -> str:
    """A new guideline version; annotators must acknowledge it before the next item."""

    def attempt(connection: Connection) -> str:
        find(connection, project, project_id)
        numbers = (
            connection.execute(select(guideline.c.number).where(guideline.c.project == project_id)).scalars().all()
        )
        guideline_id, digest = new_id(), sha256_of(markdown)
        connection.execute(
            insert(guideline).values(
                id=guideline_id,
                project=project_id,
                number=max(numbers, default=0) + 1,
                markdown=markdown,
                sha256=digest,
                created_at=store.now(),
            )
        )
        audit.record(connection, store.now(), actor, "add_guideline", guideline_id, sha256=digest)
        return guideline_id

    return store.write_twice(attempt)


def add_template(
    store: Store,
    project_id: str,
    kind: str,
    name: str,
    config: Mapping[str, Any] | None = None,
    *,
    actor: str = "system",
) -> str:
    """A way of asking: a task kind with its settings (axes, tags, overlap, whether ties are allowed, ...).

    Raises:
        SettingsError: An unknown kind, or settings that the kind cannot have; names the setting.
    """
    settings = {} if config is None else config
    check_settings(kind, settings)
    with store.write() as connection:
        return _insert_template(store, connection, (project_id, kind, name), settings, actor)


def template_named(store: Store, project_id: str, kind: str, name: str, *, actor: str = "system") -> str:
    """The template of this name, made with the kind's usual settings if there is none, by whoever comes first.

    Raises:
        UsageError: It asks for another kind of answer.
    """

    def attempt(connection: Connection) -> str:
        same = (template.c.project == project_id, template.c.name == name)
        row = connection.execute(select(template.c.id, template.c.kind).where(*same)).first()
        if row is None:
            return _insert_template(store, connection, (project_id, kind, name), {}, actor)
        if row.kind != kind:
            raise UsageError(f"the template {name!r} is of the kind {row.kind}", where="template", expected=kind)
        return str(row.id)

    return store.write_twice(attempt)


def _insert_template(
    store: Store, connection: Connection, named: tuple[str, str, str], settings: Mapping[str, Any], actor: str
) -> str:
    """``named``: project, kind and name."""
    project_id, kind, name = named
    find(connection, project, project_id)
    template_id = new_id()
    connection.execute(
        insert(template).values(
            id=template_id, project=project_id, kind=kind, name=name, config=dict(settings), created_at=store.now()
        )
    )
    audit.record(connection, store.now(), actor, "add_template", template_id, kind=kind)
    return template_id


def change_template(store: Store, template_id: str, config: Mapping[str, Any], *, actor: str = "system") -> None:
    """Replace the settings of a template; kind and name stay. This also mends settings that are beyond use.

    Raises:
        SettingsError: Settings that the kind cannot have, or a scale on which answers were given already.
        NotHere: There is no such template.
    """
    with store.write() as connection:
        row = find(connection, template, template_id)
        settings = check_settings(row.kind, config)
        answers = (
            select(judgment.c.answer)
            .join(item, item.c.id == judgment.c.item)
            .where(item.c.template == template_id, judgment.c.answer.is_not(None))
        )
        check_change(row.kind, row.config, settings, connection.execute(answers).scalars())
        connection.execute(update(template).where(template.c.id == template_id).values(config=dict(config)))
        text = json.dumps(dict(config), sort_keys=True, ensure_ascii=False)
        audit.record(connection, store.now(), actor, "change_template", template_id, config=sha256_of(text))


def set_state(store: Store, project_id: str, state: str, *, actor: str) -> None:
    """Open, pause or close a project.

    Raises:
        NotHere: No such project.
        UsageError: An unknown state.
    """
    if state not in STATES:
        raise UsageError(f"state is {state!r}", where="project", expected=nearest(state, STATES))
    with store.write() as connection:
        if not connection.execute(update(project).where(project.c.id == project_id).values(state=state)).rowcount:
            raise NotHere(f"there is no project {project_id!r}", where="project")
        audit.record(connection, store.now(), actor, "set_state", project_id, state=state)


def add_person(
    store: Store, handle: str, *, role: str = "annotator", simulated: bool = False, password_hash: str | None = None
) -> str:
    """A person with a pseudonym under which their work appears everywhere; returns the id.

    A handle that begins with ``IMPORTED`` makes an account that is not active and never can be.

    Raises:
        UsageError: The handle is taken, of a wrong form or like another (see ``handles``), the role is unknown, or an
            imported person was to sign in.
    """
    imported = handle.startswith(IMPORTED)
    if imported and (password_hash is not None or role != "annotator"):
        raise UsageError(f"{handle!r} is only known from a file", where="person", fix="choose another handle")
    roles = ("admin", "lead", "adjudicator", "annotator", "viewer")
    if role not in roles:
        raise UsageError(f"role is {role!r}", where="person", expected=nearest(role, roles))

    def attempt(connection: Connection) -> str:
        if not imported:
            check_handle(connection, handle)
        elif connection.execute(select(person.c.id).where(person.c.handle == handle)).first():
            raise UsageError(f"there is a person {handle!r} already", where="person")
        person_id = new_id()
        pseudonym = f"p-{sha256_of(person_id)[:8]}"
        connection.execute(
            insert(person).values(
                id=person_id,
                handle=handle,
                pseudonym=pseudonym,
                role=role,
                password_hash=password_hash,
                active=not imported,
                simulated=simulated,
                created_at=store.now(),
            )
        )
        audit.record(connection, store.now(), "system", "add_person", person_id, role=role, simulated=simulated)
        return person_id

    return store.write_twice(attempt)


def update_person(connection: Connection, who: ColumnElement[bool], **values: Any) -> int:
    """Change columns of the people that a condition names; returns how many they were."""
    return connection.execute(update(person).where(who).values(**values)).rowcount


def import_items(
    store: Store,
    template_id: str,
    rows: Sequence[NewItem],
    *,
    overlap: int = 2,
    priority: int = 0,
    actor: str = "system",
    dry_run: bool = False,
    once: Mapping[str, Any] | None = None,
) -> Imported:
    """Store items; a row that cannot be judged is refused with its number, and the others go in, all or none.

    A dry run finds the same faults and stores nothing; its ids lead nowhere.

    ``once`` says what the items are about: it becomes part of each one's context and of the audit log, and where the
    project holds an item with the same, whoever stored it, nothing is stored.

    ``gold`` names responses by place (``{"preferred": 0, "strength": 2}``, ``{"tiers": [[1], [0]]}``), because their
    ids are only made here.

    Raises:
        NotHere: There is no such template.
        UsageError: It has settings that cannot be used.
    """
    with store.read() as connection:
        asked = find(connection, template, template_id)
    settings = stored(asked.kind, asked.config, asked.name)
    rows = rows if once is None else [replace(row, context={**row.context, **once}) for row in rows]
    refused: dict[int, str] = {}
    for number, row in enumerate(rows):  # before anybody has to wait for the database
        try:
            check_item(asked.kind, row, settings)
        except DataError as error:
            refused[number] = str(error)
    with store.read() if dry_run else store.write() as connection:
        if not dry_run:
            one_import_at_a_time(connection, asked.project)
        if once is not None and _holds(connection, asked.project, once):
            return Imported((), ())
        writer = ItemWriter(store, connection, asked, rows)
        stored_ids: list[str] = []
        for number, row in enumerate(rows):
            try:
                if number not in refused:
                    stored_ids.append(writer.add(row, overlap=overlap, priority=priority)[0])
            except DataError as error:
                refused[number] = str(error)
        done = Imported(tuple(stored_ids), tuple(sorted(refused.items())))
        if not dry_run:
            writer.flush()
            counts = {"items": len(done.items), "refused": len(done.rejected)}
            audit.record(connection, store.now(), actor, "import_items", template_id, **counts, **dict(once or {}))
    return done


def _holds(connection: Connection, project_id: str, about: Mapping[str, Any]) -> bool:
    """Whether an item of the project has all of this in its context."""
    of_project = select(item.c.context).join(template, template.c.id == item.c.template)
    contexts = connection.execute(of_project.where(template.c.project == project_id)).scalars()
    return any(about.items() <= (context or {}).items() for context in contexts)


def find(connection: Connection, table: Table, wanted: str, *, lock: bool = False) -> Any:
    """The row of ``table`` with this id; locked, so that nobody else locks it until this transaction ends, if asked.

    Raises:
        NotHere: There is none.
    """
    query = select(table).where(table.c.id == wanted)
    if lock and connection.dialect.name == "postgresql":
        query = query.with_for_update(key_share=True)
    row = connection.execute(query).first()
    if row is None:
        raise NotHere(f"there is no {table.name} {wanted!r}", where=str(table.name))
    return row


def pseudonym_of(connection: Connection, person_id: str) -> str:
    """The name under which a person's work appears."""
    return str(connection.execute(select(person.c.pseudonym).where(person.c.id == person_id)).scalar_one())
