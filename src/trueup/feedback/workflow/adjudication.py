"""Settling items that people judged differently: one's own answer first, blind, then everybody's, then a verdict.

A settlement stands beside the judgments and changes none of them. It names why they differed, because only some
disagreement is error: questions can be ambiguous, guidelines silent, and people can want different things.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, insert, select, update

from trueup.errors import UsageError, nearest
from trueup.feedback.store import audit, template_settings
from trueup.feedback.store.answers import parse_answer
from trueup.feedback.store.database import Store
from trueup.feedback.store.item_rows import locked_item, response_ids
from trueup.feedback.store.judgments import is_newest
from trueup.feedback.store.projects import pseudonym_of
from trueup.feedback.store.records import TRAINABLE
from trueup.feedback.store.schema import adjudication, flag, item, judgment, new_id, person, template

CAUSES = ("ambiguous", "guideline_gap", "annotator_error", "value_difference")


@dataclass(frozen=True, slots=True)
class PeerAnswer:
    """One annotator's answer, as the adjudicator sees it after their own."""

    annotator: str
    answer: Mapping[str, Any] | None
    rationale: str
    skip_reason: str | None


@dataclass(frozen=True, slots=True)
class Disputed:
    """An item to settle, and the adjudicator's own blind answer if it was given already."""

    item: str
    blind: Mapping[str, Any] | None


def next_disputed(store: Store, project_id: str, person_id: str) -> Disputed | None:
    """What this adjudicator should settle next: first what they began, then the most disputed; None if nothing is.

    Disputed is an item of ``TRAINABLE`` streams whose current answers differ in direction, or that was flagged. Nobody
    settles an item that they judged, and two adjudicators do not work on one item.
    """
    with store.read() as connection:
        begun = connection.execute(
            select(adjudication)
            .join(item, item.c.id == adjudication.c.item)
            .join(template, template.c.id == item.c.template)
            .where(template.c.project == project_id)
        ).all()
        for row in begun:
            if row.person == person_id and row.settled_at is None:
                return Disputed(row.item, row.blind)
        taken = {row.item for row in begun}
        verdicts: dict[str, list[str]] = {}
        for row in connection.execute(_current(project_id)):
            if row.person == person_id:
                taken.add(row.item)
            if row.answer is not None and (verdict := direction(row.answer)) is not None:
                verdicts.setdefault(row.item, []).append(verdict)
        flagged = set(
            connection.execute(
                select(flag.c.item)
                .join(item, item.c.id == flag.c.item)
                .join(template, template.c.id == item.c.template)
                .where(template.c.project == project_id, item.c.stream.in_(TRAINABLE), item.c.state != "open")
            ).scalars()
        )
    disputed = {name for name, directions in verdicts.items() if len(set(directions)) > 1} | flagged
    ranked = sorted(disputed - taken, key=lambda name: (_unity(verdicts.get(name, [])), name))
    return Disputed(ranked[0], None) if ranked else None


def give_blind(store: Store, item_id: str, person_id: str, answer: Mapping[str, Any]) -> list[PeerAnswer]:
    """Record the adjudicator's own answer, and only then tell everybody's.

    Raises:
        DataError: The answer does not fit the item.
        UsageError: No such item, another adjudicator has it, it is settled, they judged it themselves, or they gave
            another blind answer before.
    """
    with store.write() as connection:
        asked = locked_item(connection, item_id)
        stored = _fitting(connection, asked, answer)
        begun = connection.execute(select(adjudication).where(adjudication.c.item == item_id)).all()
        own_work = next((row for row in begun if row.person == person_id), None)
        if own_work is None and begun:
            raise UsageError("somebody else is settling this item, or has", where="adjudication", fix="take the next")
        if own_work is not None and own_work.blind != stored:
            raise UsageError("your blind answer was given before, and was another one", where="adjudication")
        own = select(judgment.c.id).where(judgment.c.item == item_id, judgment.c.person == person_id)
        if connection.execute(own).first():
            raise UsageError("you judged this item yourself", where="adjudication", fix="leave it to somebody else")
        if own_work is None:
            adjudication_id = new_id()
            connection.execute(
                insert(adjudication).values(
                    id=adjudication_id, item=item_id, person=person_id, blind=stored, note="", created_at=store.now()
                )
            )
            name = pseudonym_of(connection, person_id)
            audit.record(connection, store.now(), name, "adjudicate_blind", adjudication_id, item=item_id)
        rows = connection.execute(_current(asked.project).where(judgment.c.item == item_id)).all()
    return [PeerAnswer(row.pseudonym, row.answer, row.rationale, row.skip_reason) for row in rows]


def settle(store: Store, item_id: str, person_id: str, answer: Mapping[str, Any], cause: str, note: str = "") -> str:
    """Give the verdict and why people differed; returns its id.

    Raises:
        DataError: The answer does not fit the item.
        UsageError: An unknown cause, no blind answer yet, or settled already.
    """
    if cause not in CAUSES:
        raise UsageError(f"cause is {cause!r}", where="cause", expected=nearest(cause, CAUSES))
    with store.write() as connection:
        asked = locked_item(connection, item_id)
        stored = _fitting(connection, asked, answer)
        own = connection.execute(
            select(adjudication).where(adjudication.c.item == item_id, adjudication.c.person == person_id)
        ).first()
        if own is None:
            raise UsageError("your own answer comes first", where="adjudication", fix="give it, blind")
        if own.settled_at is not None:
            if (own.answer, own.cause, own.note) == (stored, cause, note):
                return str(own.id)
            raise UsageError("you settled this item already", where="adjudication")
        connection.execute(
            update(adjudication)
            .where(adjudication.c.id == own.id)
            .values(answer=stored, cause=cause, note=note, settled_at=store.now())
        )
        audit.record(
            connection, store.now(), pseudonym_of(connection, person_id), "settle", own.id, item=item_id, cause=cause
        )
    return str(own.id)


@dataclass(frozen=True, slots=True)
class Settlement:
    """What an adjudicator decided, and why people differed: one of ``CAUSES``."""

    answer: Mapping[str, Any]
    cause: str
    note: str
    adjudicator: str
    """Pseudonym."""


def settled(store: Store, project_id: str) -> dict[str, Settlement]:
    """Item -> what was decided, of every item of a project that was settled."""
    with store.read() as connection:
        rows = connection.execute(
            select(adjudication, person.c.pseudonym)
            .join(person, person.c.id == adjudication.c.person)
            .join(item, item.c.id == adjudication.c.item)
            .join(template, template.c.id == item.c.template)
            .where(template.c.project == project_id, adjudication.c.settled_at.is_not(None))
        ).all()
    return {row.item: Settlement(row.answer, row.cause, row.note, row.pseudonym) for row in rows}


def direction(answer: Mapping[str, Any]) -> str | None:
    """What an answer says, without how strongly; None for kinds where answers cannot contradict each other."""
    for field in ("preferred", "acceptable", "scores"):
        if field in answer:
            return json.dumps(answer[field], sort_keys=True)
    if "tiers" in answer:
        return json.dumps([sorted(tier) for tier in answer["tiers"]])
    return None


def _unity(directions: list[str]) -> float:
    """Share of the most frequent verdict: 1 when all agree."""
    if not directions:
        return 1.0
    return Counter(directions).most_common(1)[0][1] / len(directions)


def _current(project_id: str) -> Any:
    return (
        select(judgment, person.c.pseudonym)
        .join(person, person.c.id == judgment.c.person)
        .join(item, item.c.id == judgment.c.item)
        .join(template, template.c.id == item.c.template)
        .where(
            template.c.project == project_id,
            item.c.stream.in_(TRAINABLE),
            item.c.state != "open",
            is_newest(),
        )
        .order_by(judgment.c.created_at, judgment.c.id)
    )


def _fitting(connection: Connection, asked: Any, answer: Mapping[str, Any]) -> dict[str, Any]:
    settings = template_settings.stored(asked.kind, asked.config, asked.template_name)
    ids = response_ids(connection, asked.id)
    parsed = parse_answer(answer, kind=asked.kind, responses=ids, axes=template_settings.scales(settings))
    template_settings.check_allowed(parsed, settings)
    fitting: dict[str, Any] = parsed.model_dump(mode="json")
    return fitting
