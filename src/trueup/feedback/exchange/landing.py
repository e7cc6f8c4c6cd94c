"""What was read goes into the store: a project, a template for each way of asking, a marked account for each annotator.

Everything that can be wrong is looked for first. Items of one template go in as one transaction.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import select

from trueup.errors import DataError, UsageError, nearest
from trueup.feedback.exchange.incoming import Answered, Incoming
from trueup.feedback.history import Vote, import_judged
from trueup.feedback.projects import IMPORTED, NewItem, add_person, add_template, create_project, split_for
from trueup.feedback.schema import person, project, prompt, template
from trueup.feedback.store import Store
from trueup.types import prompt_json


@dataclass(frozen=True, slots=True)
class Landed:
    """What is in the store now, or would be. ``items`` are ids by row of the file; none after a dry run."""

    project: str
    items: tuple[str, ...]
    answers: int
    people: int
    """Accounts that were made."""


def land(store: Store, incoming: Incoming, name: str, *, dry_run: bool = False, actor: str = "import") -> Landed:
    """Store a file's items with their answers in the project called ``name``, which is made if there is none.

    A dry run looks for the same faults and stores nothing. What the file does not say is not made up: no order shown
    is stored as such, and an answer without a time gets the time of the import.

    Raises:
        DataError: There are no rows, or a prompt is in another split of the project; nothing was stored.
        UsageError: The project's name is empty.
    """
    if not incoming.rows:
        raise DataError("no row can be imported", where="file", fix="see the reasons beside the lines")
    if not name.strip() or len(name) > 200:
        raise UsageError(f"the name is {name!r}"[:80], where="project", expected="1 to 200 characters")
    with store.read() as connection:
        held = connection.execute(select(project.c.id).where(project.c.name == name)).scalar()
    if held is not None:
        _one_split(store, held, incoming)
    groups = _groups(incoming)
    if dry_run:
        return Landed(held or "", (), len(incoming.votes), len(_new_people(store, name, incoming)))
    project_id = held or create_project(store, name, actor=actor)
    new = _new_people(store, name, incoming)
    for handle, simulated in new.items():
        add_person(store, handle, simulated=simulated)
    people = _people(store)
    made: dict[int, str] = {}
    for kind, config, places in groups:
        template_id = _template(store, project_id, kind, config, actor)
        votes = [
            _vote(store, said, here, people[handle_of(name, said.annotator)])
            for here, row in enumerate(places)
            for said in row.votes
        ]
        repeats = {
            here: made[incoming.repeats[row.number]]
            for here, row in enumerate(places)
            if row.number in incoming.repeats
        }
        done = import_judged(store, template_id, [row.item for row in places], votes, repeats=repeats, actor=actor)
        made |= dict(zip((row.number for row in places), done, strict=True))
    return Landed(project_id, tuple(made[n] for n in range(len(incoming.rows))), len(incoming.votes), len(new))


def project_named(store: Store, name: str) -> str:
    """The id of the project with this id or name.

    Raises:
        UsageError: There is none.
    """
    with store.read() as connection:
        rows = connection.execute(select(project.c.id, project.c.name)).all()
    for row in rows:
        if name in (row.id, row.name):
            return str(row.id)
    raise UsageError(f"there is no project {name!r}", where="project", expected=nearest(name, [r.name for r in rows]))


def handle_of(project_name: str, annotator: str) -> str:
    """The handle of somebody known from a file, the same at each import; people of two projects are two people."""
    told = hashlib.sha256(f"{project_name}\0{annotator}".encode()).hexdigest()[:16]
    return f"{IMPORTED}{told}/{annotator}"[:80]


@dataclass(frozen=True, slots=True)
class _Row:
    number: int
    item: NewItem
    votes: Sequence[Answered]


def _groups(incoming: Incoming) -> list[tuple[str, dict[str, Any], list[_Row]]]:
    """Rows by the template they need: kind and, for ratings, axes. Repeated rows go before those that repeat them."""
    votes: dict[int, list[Answered]] = {}
    for said in incoming.votes:
        votes.setdefault(said.item, []).append(said)
    found: dict[tuple[str, int, tuple[str, ...]], list[_Row]] = {}
    for number, (kind, row) in enumerate(zip(incoming.kinds, incoming.rows, strict=True)):
        mine = votes.get(number, [])
        axes: set[str] = set()
        if kind == "rating":
            sets = {tuple(sorted(said.answer["scores"])) for said in mine if said.answer is not None}
            axes = {axis for one in sets for axis in one} or {"overall"}
            if len(sets) > 1:
                raise DataError(
                    f"people rated it on different axes: {sorted(sets)}",
                    where=f"line {incoming.lines[number]}",
                    expected="the same axes from everybody",
                    fix="import each set of axes as items of its own",
                )
        depth, original = 0, incoming.repeats.get(number)
        while original is not None:
            depth, original = depth + 1, incoming.repeats.get(original)
        found.setdefault((kind, depth, tuple(sorted(axes))), []).append(_Row(number, row, mine))
    ordered = sorted(found.items(), key=lambda pair: (pair[0][1], pair[0][0], pair[0][2]))
    return [(kind, _config(axes, rows), rows) for (kind, _, axes), rows in ordered]


def _config(axes: Sequence[str], rows: Sequence[_Row]) -> dict[str, Any]:
    if not axes:
        return {}
    points = [
        (axis, point)
        for row in rows
        for said in row.votes
        if said.answer is not None
        for axis, point in said.answer["scores"].items()
    ]
    # A file does not say where its scale ends: at least 1 to 5, and wide enough for what was given.
    return {
        "axes": [
            {
                "name": axis,
                "low": min([1, *(point for name, point in points if name == axis)]),
                "high": max([5, *(point for name, point in points if name == axis)]),
            }
            for axis in axes
        ]
    }


def _template(store: Store, project_id: str, kind: str, config: Mapping[str, Any], actor: str) -> str:
    """The template of this kind and these settings, made if there is none."""
    with store.read() as connection:
        held = connection.execute(select(template).where(template.c.project == project_id)).all()
    for row in held:
        if row.kind == kind and row.name.startswith(IMPORTED) and dict(row.config or {}) == dict(config):
            return str(row.id)
    told = hashlib.sha256(json.dumps(config, sort_keys=True).encode()).hexdigest()[:8]
    return add_template(store, project_id, kind, f"{IMPORTED}{kind}{f'/{told}' if config else ''}", config, actor=actor)


def _vote(store: Store, said: Answered, here: int, who: str) -> Vote:
    return Vote(
        here,
        who,
        said.answer,
        said.shown or (),
        said.made_at or store.now(),
        said.active_ms,
        said.rationale,
        said.skip_reason,
        said.surplus,
    )


def _people(store: Store) -> dict[str, str]:
    with store.read() as connection:
        return {row.handle: row.id for row in connection.execute(select(person.c.handle, person.c.id))}


def _new_people(store: Store, name: str, incoming: Incoming) -> dict[str, bool]:
    """Handle -> whether simulated, of everybody who has no account yet."""
    held = _people(store)
    wanted = {handle_of(name, said.annotator): said.simulated for said in incoming.votes}
    return {handle: simulated for handle, simulated in wanted.items() if handle not in held}


def _one_split(store: Store, project_id: str, incoming: Incoming) -> None:
    with store.read() as connection:
        held = {
            row.sha256: row.split
            for row in connection.execute(select(prompt.c.sha256, prompt.c.split).where(prompt.c.project == project_id))
        }
    for line, row in zip(incoming.lines, incoming.rows, strict=True):
        told = json.dumps(prompt_json(row.prompt), ensure_ascii=False, sort_keys=True, separators=(",", ":"))
        digest = hashlib.sha256(told.encode("utf-8", "surrogatepass")).hexdigest()
        try:
            split_for(row, digest, held.get(digest))
        except DataError as error:
            raise DataError(error.what, where=f"line {line}, split", expected=error.expected) from None
