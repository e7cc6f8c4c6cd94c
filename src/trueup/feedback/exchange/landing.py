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

from trueup.errors import DataError, NotHere, UsageError, nearest
from trueup.feedback.exchange.incoming import Answered, Incoming
from trueup.feedback.store.database import Store
from trueup.feedback.store.handles import IMPORTED
from trueup.feedback.store.history import ImportedVote, import_judged
from trueup.feedback.store.item_rows import prompt_digest, split_for
from trueup.feedback.store.items import NewItem
from trueup.feedback.store.projects import add_person, add_template, create_project
from trueup.feedback.store.schema import person, project, prompt, template
from trueup.feedback.store.template_settings import check_settings


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
        existing_id = connection.execute(select(project.c.id).where(project.c.name == name)).scalar()
    if existing_id is not None:
        _one_split(store, existing_id, incoming)
    groups = _groups(incoming)
    if dry_run:
        return Landed(existing_id or "", (), len(incoming.votes), len(_new_people(store, name, incoming)))
    project_id = existing_id or create_project(store, name, actor=actor)
    new = _new_people(store, name, incoming)
    for handle, simulated in new.items():
        add_person(store, handle, simulated=simulated)
    people = _people(store)
    ids_by_row: dict[int, str] = {}
    for kind, config, places in groups:
        template_id = _template(store, project_id, kind, config, actor)
        votes = [
            _vote(store, vote, position, people[handle_of(name, vote.annotator)])
            for position, row in enumerate(places)
            for vote in row.votes
        ]
        repeats = {
            position: ids_by_row[incoming.repeats[row.number]]
            for position, row in enumerate(places)
            if row.number in incoming.repeats
        }
        done = import_judged(store, template_id, [row.item for row in places], votes, repeats=repeats, actor=actor)
        for row, item_id in zip(places, done, strict=True):
            ids_by_row.setdefault(row.number, item_id)
    return Landed(project_id, tuple(ids_by_row[n] for n in range(len(incoming.rows))), len(incoming.votes), len(new))


def project_named(store: Store, name: str) -> str:
    """The id of the project with this id or name.

    Raises:
        NotHere: There is none.
    """
    with store.read() as connection:
        rows = connection.execute(select(project.c.id, project.c.name)).all()
    for row in rows:
        if name in (row.id, row.name):
            return str(row.id)
    raise NotHere(f"there is no project {name!r}", where="project", expected=nearest(name, [r.name for r in rows]))


def handle_of(project_name: str, annotator: str) -> str:
    """The handle of somebody known from a file, the same at each import; people of two projects are two people."""
    digest = hashlib.sha256(f"{project_name}\0{annotator}".encode()).hexdigest()[:16]
    return f"{IMPORTED}{digest}/{annotator}"[:80]


@dataclass(frozen=True, slots=True)
class _Row:
    number: int
    item: NewItem
    votes: Sequence[Answered]


def _groups(incoming: Incoming) -> list[tuple[str, dict[str, Any], list[_Row]]]:
    """Rows by the template they need: kind and, for ratings, axes. Repeated rows go before those that repeat them.

    People may have rated one row on different axes: each set of axes is asked by an item of its own.
    """
    votes: dict[int, list[Answered]] = {}
    for vote in incoming.votes:
        votes.setdefault(vote.item, []).append(vote)
    by_template: dict[tuple[str, int, tuple[str, ...]], list[_Row]] = {}
    for number, (kind, row) in enumerate(zip(incoming.kinds, incoming.rows, strict=True)):
        depth, original = 0, incoming.repeats.get(number)
        while original is not None:
            depth, original = depth + 1, incoming.repeats.get(original)
        for axes, axis_votes in _by_axes(kind, votes.get(number, [])):
            by_template.setdefault((kind, depth, axes), []).append(_Row(number, row, axis_votes))
    ordered = sorted(by_template.items(), key=lambda pair: (pair[0][1], pair[0][0], pair[0][2]))
    groups = [(kind, _config(axes, rows), rows) for (kind, _, axes), rows in ordered]
    for kind, config, _ in groups:
        check_settings(kind, config)
    return groups


def _by_axes(kind: str, votes: Sequence[Answered]) -> list[tuple[tuple[str, ...], list[Answered]]]:
    """Votes by the axes they rate, none for other kinds; skips go with the first."""
    if kind != "rating":
        return [((), list(votes))]
    by_axes: dict[tuple[str, ...], list[Answered]] = {}
    for vote in votes:
        if vote.answer is not None:
            by_axes.setdefault(tuple(sorted(vote.answer["scores"])), []).append(vote)
    first = next(iter(by_axes), ("overall",))
    by_axes.setdefault(first, [])
    by_axes[first] += [vote for vote in votes if vote.answer is None]
    return list(by_axes.items())


def _config(axes: Sequence[str], rows: Sequence[_Row]) -> dict[str, Any]:
    if not axes:
        return {}
    points = [
        (axis, point)
        for row in rows
        for vote in row.votes
        if vote.answer is not None
        for axis, point in vote.answer["scores"].items()
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
        templates = connection.execute(select(template).where(template.c.project == project_id)).all()
    for row in templates:
        if row.kind == kind and row.name.startswith(IMPORTED) and dict(row.config or {}) == dict(config):
            return str(row.id)
    digest = hashlib.sha256(json.dumps(config, sort_keys=True).encode()).hexdigest()[:8]
    return add_template(
        store, project_id, kind, f"{IMPORTED}{kind}{f'/{digest}' if config else ''}", config, actor=actor
    )


def _vote(store: Store, vote: Answered, position: int, who: str) -> ImportedVote:
    return ImportedVote(
        position,
        who,
        vote.answer,
        vote.shown or (),
        vote.made_at or store.now(),
        vote.active_ms,
        vote.rationale,
        vote.skip_reason,
        vote.surplus,
    )


def _people(store: Store) -> dict[str, str]:
    with store.read() as connection:
        return {row.handle: row.id for row in connection.execute(select(person.c.handle, person.c.id))}


def _new_people(store: Store, name: str, incoming: Incoming) -> dict[str, bool]:
    """Handle -> whether simulated, of everybody who has no account yet."""
    accounts = _people(store)
    wanted = {handle_of(name, vote.annotator): vote.simulated for vote in incoming.votes}
    return {handle: simulated for handle, simulated in wanted.items() if handle not in accounts}


def _one_split(store: Store, project_id: str, incoming: Incoming) -> None:
    with store.read() as connection:
        splits = {
            row.sha256: row.split
            for row in connection.execute(select(prompt.c.sha256, prompt.c.split).where(prompt.c.project == project_id))
        }
    for line, row in zip(incoming.lines, incoming.rows, strict=True):
        digest = prompt_digest(row.prompt)
        try:
            split_for(row, digest, splits.get(digest))
        except DataError as error:
            raise DataError(error.what, where=f"line {line}, split", expected=error.expected) from None
