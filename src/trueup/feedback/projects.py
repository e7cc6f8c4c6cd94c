"""Projects, guidelines, templates, people, and the import of items to judge."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Connection, insert, select

from trueup.errors import DataError, UsageError, nearest
from trueup.feedback import audit
from trueup.feedback.answers import KINDS, RESPONSES, parse_answer
from trueup.feedback.records import SPLITS, STREAMS
from trueup.feedback.routing import quality_of
from trueup.feedback.schema import guideline, item, item_response, new_id, person, project, prompt, response, template
from trueup.feedback.store import Store
from trueup.types import Prompt, prompt_json

SPLIT_SHARES = {"train": 0.8, "validation": 0.1, "test": 0.1}
"""A prompt's split follows from its hash, so that it is the same in every project and every export."""

IMPORTED = "imported:"
"""Handles of people who are only known from a file begin with this; such an account is never opened."""


@dataclass(frozen=True, slots=True)
class NewItem:
    """One item to judge. ``gold`` is a right answer that speaks of response *places*: see ``import_items``."""

    prompt: Prompt
    responses: tuple[str, ...] = ()
    generators: tuple[str, ...] = ()
    stream: str = "main"
    split: str | None = None
    gold: Mapping[str, Any] | None = None
    explanation: str = ""
    context: Mapping[str, Any] = field(default_factory=dict)


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
    with store.write() as connection:
        if connection.execute(select(project.c.id).where(project.c.name == name)).first():
            raise UsageError(f"there is a project {name!r} already", where="project", fix="choose another name")
        made = new_id()
        connection.execute(
            insert(project).values(id=made, name=name, state="live", simulated=simulated, created_at=store.now())
        )
        audit.record(connection, store.now(), actor, "create_project", made, name=name, simulated=simulated)
    return made


def add_guideline(store: Store, project_id: str, markdown: str, *, actor: str = "system") -> str:
    """A new guideline version; annotators must acknowledge it before the next item."""
    with store.write() as connection:
        find(connection, project, project_id)
        held = connection.execute(select(guideline.c.number).where(guideline.c.project == project_id)).scalars().all()
        made, digest = new_id(), hashlib.sha256(markdown.encode("utf-8", "surrogatepass")).hexdigest()
        connection.execute(
            insert(guideline).values(
                id=made,
                project=project_id,
                number=max(held, default=0) + 1,
                markdown=markdown,
                sha256=digest,
                created_at=store.now(),
            )
        )
        audit.record(connection, store.now(), actor, "add_guideline", made, sha256=digest)
    return made


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
        UsageError: An unknown kind, or a rating without axes.
    """
    if kind not in KINDS:
        raise UsageError(f"kind is {kind!r}", where="template", expected=nearest(kind, KINDS))
    settings = dict(config or {})
    if kind == "rating":
        axes = settings.get("axes") or []
        if not axes or any({"name", "low", "high"} - set(axis) or axis["low"] >= axis["high"] for axis in axes):
            raise UsageError(
                f"axes are {axes!r}",
                where="template.config.axes",
                expected='[{"name": "helpful", "low": 1, "high": 5}]',
            )
    quality_of(settings)
    with store.write() as connection:
        find(connection, project, project_id)
        made = new_id()
        connection.execute(
            insert(template).values(
                id=made, project=project_id, kind=kind, name=name, config=settings, created_at=store.now()
            )
        )
        audit.record(connection, store.now(), actor, "add_template", made, kind=kind)
    return made


def add_person(
    store: Store, handle: str, *, role: str = "annotator", simulated: bool = False, password_hash: str | None = None
) -> str:
    """A person with a pseudonym under which their work appears everywhere; returns the id.

    A handle that begins with ``IMPORTED`` makes an account that is not active and never can be.

    Raises:
        UsageError: The handle is taken, the role is unknown, or an imported person was to sign in.
    """
    imported = handle.startswith(IMPORTED)
    if imported and (password_hash is not None or role != "annotator"):
        raise UsageError(f"{handle!r} is only known from a file", where="person", fix="choose another handle")
    roles = ("admin", "lead", "adjudicator", "annotator", "viewer")
    if role not in roles:
        raise UsageError(f"role is {role!r}", where="person", expected=nearest(role, roles))
    with store.write() as connection:
        if connection.execute(select(person.c.id).where(person.c.handle == handle)).first():
            raise UsageError(f"there is a person {handle!r} already", where="person")
        made = new_id()
        pseudonym = f"p-{hashlib.sha256(made.encode()).hexdigest()[:8]}"
        connection.execute(
            insert(person).values(
                id=made,
                handle=handle,
                pseudonym=pseudonym,
                role=role,
                password_hash=password_hash,
                active=not imported,
                simulated=simulated,
                created_at=store.now(),
            )
        )
        audit.record(connection, store.now(), "system", "add_person", made, role=role, simulated=simulated)
    return made


def import_items(
    store: Store,
    template_id: str,
    rows: Sequence[NewItem],
    *,
    overlap: int = 2,
    priority: int = 0,
    actor: str = "system",
    dry_run: bool = False,
) -> Imported:
    """Store items; a row that cannot be judged is refused with its number, and the others go in.

    A dry run finds the same faults and stores nothing; its ids lead nowhere.

    ``gold`` names responses by place (``{"preferred": 0, "strength": 2}``, ``{"tiers": [[1], [0]]}``), because their
    ids are only made here.
    """
    done: list[str] = []
    refused: list[tuple[int, str]] = []
    with store.write() as connection:
        asked = find(connection, template, template_id)
        trial = connection.begin_nested() if dry_run else None
        for number, row in enumerate(rows):
            try:
                with connection.begin_nested():  # a refused row leaves nothing behind
                    done.append(_import_one(store, connection, asked, row, overlap, priority))
            except DataError as error:
                refused.append((number, str(error)))
        if trial is not None:
            trial.rollback()
            return Imported(tuple(done), tuple(refused))
        audit.record(connection, store.now(), actor, "import_items", template_id, items=len(done), refused=len(refused))
    return Imported(tuple(done), tuple(refused))


def _import_one(store: Store, connection: Connection, asked: Any, row: NewItem, overlap: int, priority: int) -> str:
    check_item(asked.kind, row)
    prompt_id = _prompt(store, connection, asked.project, row)
    ids = []
    for place, text in enumerate(row.responses):
        generator = row.generators[place] if place < len(row.generators) else ""
        ids.append(_response(store, connection, prompt_id, text, generator))
    gold = None
    if row.gold is not None:
        gold = by_id(row.gold, ids)
        parse_answer(gold, kind=asked.kind, responses=ids)
    made = new_id()
    connection.execute(
        insert(item).values(
            id=made,
            template=asked.id,
            prompt=prompt_id,
            stream=row.stream,
            overlap=overlap,
            priority=priority,
            state="open",
            gold=gold,
            explanation=row.explanation,
            context=dict(row.context),
            created_at=store.now(),
        )
    )
    for place, response_id in enumerate(ids):
        connection.execute(insert(item_response).values(id=new_id(), item=made, place=place, response=response_id))
    return made


def check_item(kind: str, row: NewItem) -> None:
    """Refuse an item that cannot be judged.

    Raises:
        DataError: Names the field.
    """
    fewest, most = RESPONSES[kind]
    if not fewest <= len(row.responses) <= most:
        raise DataError(f"{len(row.responses)} responses", where="responses", expected=f"{fewest} to {most}")
    if any(not text.strip() for text in row.responses):
        raise DataError("a response is empty", where="responses")
    if len(set(row.responses)) != len(row.responses):
        raise DataError("two responses are the same text", where="responses", fix="one of them says it all")
    if row.stream not in STREAMS:
        raise DataError(f"stream is {row.stream!r}", where="stream", expected=nearest(row.stream, STREAMS))
    if row.gold is None and row.stream in ("gold", "calibration"):
        raise DataError(f"a {row.stream} item has no right answer", where="gold", expected="an answer")


def by_id(answer: Mapping[str, Any], ids: Sequence[str]) -> dict[str, Any]:
    """An answer that names responses by place, with their ids instead."""
    found = dict(answer)
    for key in ("preferred", "response"):
        if isinstance(found.get(key), int) and not isinstance(found[key], bool):
            found[key] = ids[found[key]]
    if "tiers" in found:
        found["tiers"] = [[ids[place] for place in tier] for tier in found["tiers"]]
    return found


def _prompt(store: Store, connection: Connection, project_id: str, row: NewItem) -> str:
    turns = prompt_json(row.prompt)
    text = json.dumps(turns, ensure_ascii=False, sort_keys=True, separators=(",", ":"))
    digest = hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
    held = connection.execute(
        select(prompt.c.id, prompt.c.split).where(prompt.c.project == project_id, prompt.c.sha256 == digest)
    ).first()
    split = split_for(row, digest, held.split if held is not None else None)
    if held is not None:
        return str(held.id)
    made = new_id()
    connection.execute(
        insert(prompt).values(
            id=made,
            project=project_id,
            sha256=digest,
            turns=turns,
            split=split,
            created_at=store.now(),
        )
    )
    return made


def split_for(row: NewItem, digest: str, held: str | None) -> str:
    """The split of an item's prompt, which is ``held`` where the prompt is known.

    Raises:
        DataError: An unknown split, or another one than the prompt is in.
    """
    if row.split is not None and row.split not in SPLITS:
        raise DataError(f"split is {row.split!r}", where="split", expected=nearest(row.split, SPLITS))
    if held is None:
        return row.split or split_of(digest)
    if row.split is not None and row.split != held:
        raise DataError(
            f"the prompt is in {held!r} already and would also be in {row.split!r}",
            where="split",
            expected="one split for each prompt",
        )
    return held


def split_of(digest: str) -> str:
    """The split of a prompt by the first 32 bits of its hash."""
    share, upto = int(digest[:8], 16) / 2**32, 0.0
    for name, size in SPLIT_SHARES.items():
        upto += size
        if share < upto:
            return name
    return "test"


def _response(store: Store, connection: Connection, prompt_id: str, text: str, generator: str) -> str:
    digest = hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
    held = connection.execute(
        select(response.c.id).where(
            response.c.prompt == prompt_id, response.c.sha256 == digest, response.c.generator == generator
        )
    ).scalar()
    if held is not None:
        return str(held)
    made = new_id()
    connection.execute(
        insert(response).values(
            id=made,
            prompt=prompt_id,
            text=text,
            sha256=digest,
            generator=generator,
            generator_kind="model",
            created_at=store.now(),
        )
    )
    return made


def find(connection: Connection, table: Any, wanted: str) -> Any:
    """The row of ``table`` with this id.

    Raises:
        UsageError: There is none.
    """
    found = connection.execute(select(table).where(table.c.id == wanted)).first()
    if found is None:
        raise UsageError(f"there is no {table.name} {wanted!r}", where=table.name)
    return found
