"""Which kind of item is due for an annotator: calibration, hidden gold, a swapped repeat, or ordinary work.

Set per template, in its config under ``quality``; a template without it hands out its items in the order of the queue.

    {"quality": {"calibration": 5, "pass_share": 0.8, "gold_every": 20, "repeat_every": 33, "max_overlap": 5}}

Calibration items come first, each with its answer explained; who has answered enough of them qualifies for the template
or not. Gold and repeats look like ordinary items and come after so many judgments. Overlap is adaptive: an item whose
votes leave it open gets another judge, up to ``max_overlap``.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, func, not_, select

from trueup.feedback.store.answers import preferences
from trueup.feedback.store.item_rows import add_repeat, change_item
from trueup.feedback.store.judgments import current_answers, is_right
from trueup.feedback.store.schema import item, judgment, template
from trueup.feedback.store.template_settings import Quality, StoredSettingsError, stored

APART = 5
"""Judgments between an item and its repeat, at least: the second answer should not be a memory of the first."""
SERVED_APART = ("gold", "calibration", "repeat")
"""Streams that a template with ``quality`` hands out by rule, never from the queue."""


@dataclass(frozen=True, slots=True)
class NextTask:
    """What an annotator is to get of a project: one item of their own, or ordinary items of ``templates``."""

    item: str | None
    templates: tuple[str, ...]
    """Templates whose queue is open to this person."""
    apart: tuple[str, ...]
    """Those of them whose special streams are not in the queue."""
    failed: tuple[str, ...] = ()
    """Names of templates that the person did not qualify for."""
    unusable: tuple[str, ...] = ()
    """Why templates hand out nothing: their stored settings cannot be used."""


def due(connection: Connection, project_id: str, person_id: str, now: str, current: str | None) -> NextTask:
    """Decide what comes next; may make a repeat item. ``current`` is the newest guideline, where there is one."""
    open_to, apart, failed, unusable = [], [], [], []
    templates = select(template).where(template.c.project == project_id).order_by(template.c.created_at)
    for row in connection.execute(templates).all():
        try:
            settings = stored(row.kind, row.config, row.name).quality
        except StoredSettingsError as error:
            unusable.append(str(error))
            continue
        if settings is None:
            open_to.append(row.id)
            continue
        apart.append(row.id)
        if settings.calibration:
            right = _calibration(connection, row.id, person_id, current if settings.requalify else None)
            last = right[-settings.calibration :]
            passed = bool(last) and sum(last) >= settings.pass_share * len(last)  # without practice nobody can qualify
            if len(last) < settings.calibration or not passed:
                waiting = _unseen(connection, row.id, person_id, "calibration")
                if waiting is not None:
                    return NextTask(waiting, (), ())
            if not passed:
                failed.append(row.name)
                continue
        special = _gold_due(connection, row.id, person_id, settings) or _repeat_due(
            connection, row, person_id, settings, now
        )
        if special is not None:
            return NextTask(special, (), ())
        open_to.append(row.id)
    return NextTask(None, tuple(open_to), tuple(apart), tuple(failed), tuple(unusable))


def _calibration(connection: Connection, template_id: str, person_id: str, guideline: str | None) -> list[bool]:
    """Right or wrong in order of time, of all calibration answers or of those given under one guideline version."""
    asked = (
        select(item.c.gold, judgment.c.answer)
        .join(judgment, judgment.c.item == item.c.id)
        .where(
            item.c.template == template_id,
            item.c.stream == "calibration",
            judgment.c.person == person_id,
            judgment.c.revision == 1,  # the first answer counts: the right one is shown after it
        )
        .order_by(judgment.c.created_at, judgment.c.id)
    )
    if guideline is not None:
        asked = asked.where(judgment.c.guideline == guideline)
    rows = connection.execute(asked).all()
    return [row.answer is not None and is_right(row.answer, row.gold) for row in rows]


def _unseen(connection: Connection, template_id: str, person_id: str, stream: str) -> str | None:
    seen = select(judgment.c.item).where(judgment.c.person == person_id)
    item_id = connection.execute(
        select(item.c.id)
        .where(
            item.c.template == template_id,
            item.c.stream == stream,
            item.c.state != "closed",
            not_(item.c.id.in_(seen)),
        )
        .order_by(item.c.priority.desc(), item.c.created_at)
        .limit(1)
    ).scalar()
    return None if item_id is None else str(item_id)


def _since(connection: Connection, template_id: str, person_id: str, stream: str) -> int:
    """Judgments of this person in the template since the last one of ``stream``."""
    own = (
        select(judgment.c.created_at, item.c.stream)
        .join(item, item.c.id == judgment.c.item)
        .where(item.c.template == template_id, judgment.c.person == person_id, judgment.c.revision == 1)
        .subquery()
    )
    last = select(func.max(own.c.created_at)).where(own.c.stream == stream).scalar_subquery()
    after = select(func.count()).select_from(own).where(own.c.created_at > func.coalesce(last, ""))
    return int(connection.execute(after).scalar_one())


def _gold_due(connection: Connection, template_id: str, person_id: str, settings: Quality) -> str | None:
    if settings.gold_every is None or _since(connection, template_id, person_id, "gold") < settings.gold_every - 1:
        return None
    return _unseen(connection, template_id, person_id, "gold")


def _repeat_due(connection: Connection, asked: Any, person_id: str, settings: Quality, now: str) -> str | None:
    if settings.repeat_every is None:
        return None
    if _since(connection, asked.id, person_id, "repeat") < max(settings.repeat_every - 1, APART):
        return None
    repeated = select(item.c.repeat_of).where(item.c.repeat_of.is_not(None), item.c.template == asked.id)
    judged = connection.execute(
        select(item)
        .join(judgment, judgment.c.item == item.c.id)
        .where(
            item.c.template == asked.id,
            item.c.stream.in_(("main", "holdout")),
            judgment.c.person == person_id,
            judgment.c.revision == 1,
            judgment.c.answer.is_not(None),
            not_(item.c.id.in_(repeated)),
        )
        .order_by(judgment.c.created_at.desc())
        .offset(APART)
        .limit(1)
    ).first()
    return None if judged is None else add_repeat(connection, judged, now)


def wants_another(connection: Connection, asked: Any, responses: Sequence[str]) -> bool:
    """Whether an item that has its judges should get one more; raises its overlap if so."""
    settings = stored(asked.kind, asked.config, "").quality
    if settings is None or settings.max_overlap is None or asked.overlap >= settings.max_overlap:
        return False
    if asked.kind not in ("pairwise", "review") or asked.stream not in ("main", "holdout"):
        return False
    share, count = 0.0, 0
    for answer in current_answers(connection, asked.id, asked.kind, responses):
        ((_, _, outcome, _),) = preferences(answer, responses)
        share += 0.5 + 0.5 * ((outcome > 0) - (outcome < 0))
        count += 1
    p = (share + 1) / (count + 2)
    entropy = -sum(q * math.log2(q) for q in (p, 1 - p) if q > 0)
    if entropy <= settings.raise_above:
        return False
    change_item(connection, asked.id, overlap=asked.overlap + 1)
    return True
