"""A constitution's judgments in a feedback store: its annotator is ``constitution:<sha>``, marked as no person.

From there on they are judgments like anybody's: shown beside people's, audited, curated, traced.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from sqlalchemy import func, select

from trueup.collectors.constitution import Constitution
from trueup.feedback.store.database import Store
from trueup.feedback.store.history import ImportedVote, import_judged
from trueup.feedback.store.items import NewItem
from trueup.feedback.store.projects import add_guideline, add_person, add_template, create_project
from trueup.feedback.store.reading import stored_prompt
from trueup.feedback.store.schema import item, person, project, stamp, template

CLEAR = ((0.9, 3), (0.75, 2), (0.5, 1))
"""Probability above which a judgment is much better (3), better (2), slightly better (1); one half is a tie."""


def store_labels(
    db: Path, name: str, batch: str, rows: Sequence[Mapping[str, Any]], constitution: Constitution, *, simulated: bool
) -> str:
    """Put labels into a store, once; returns the project's id.

    All judgments of a batch enter in one transaction. A batch that is there already is left as it is, so a call that
    was killed can be made again.

    Args:
        db: File of the store; made if it is not there.
        name: Project; made if it is not there.
        batch: What this set of labels is called in the project; a way of asking of its own.
        rows: Rows of ``labels.jsonl``.
        constitution: Whose judgments they are; its principles become the guideline.
        simulated: Whether a new project is marked as one of the sandbox.
    """
    with Store(db) as store:
        project_id = _project(store, name, constitution, simulated)
        template_id, full = _template(store, project_id, batch)
        if full or not rows:
            return project_id
        who, at = _annotator(store, constitution.annotator), stamp()
        items = [_item(row) for row in rows]
        votes = [
            ImportedVote(
                number,
                who,
                _answer(row["p_first"]),
                (),
                at,
                rationale=f"p(first) = {row['p_first']}, judge {row['judge']}",
                skip_reason=None if row["p_first"] is not None else "other",
            )
            for number, row in enumerate(rows)
        ]
        import_judged(store, template_id, items, votes, actor=constitution.annotator)
    return project_id


def _answer(p: float | None) -> dict[str, Any] | None:
    if p is None:
        return None
    if p == 0.5:
        return {"strength": 0}
    strength = next((value for bound, value in CLEAR if max(p, 1 - p) > bound), 1)
    return {"preferred": int(p < 0.5), "strength": strength}


def _item(row: Mapping[str, Any]) -> NewItem:
    context = {"p_first": row["p_first"], "judge": row["judge"], "orders": row["orders"]}
    return NewItem(stored_prompt(row["prompt"]), (row["first"], row["second"]), context=context)


def _project(store: Store, name: str, constitution: Constitution, simulated: bool) -> str:
    with store.read() as connection:
        known = connection.execute(select(project.c.id).where(project.c.name == name)).scalar()
    if known is not None:
        return str(known)
    made = create_project(store, name, simulated=simulated, actor=constitution.annotator)
    rules = "\n".join(f"- **{principle.id}**: {principle.text}" for principle in constitution.principles)
    add_guideline(store, made, f"# {constitution.name} ({constitution.annotator})\n\n{rules}\n")
    return made


def _template(store: Store, project_id: str, batch: str) -> tuple[str, bool]:
    """Id of the way of asking, and whether it has items."""
    with store.read() as connection:
        wanted = (template.c.project == project_id) & (template.c.name == batch)
        known = connection.execute(select(template.c.id).where(wanted)).scalar()
        count = connection.execute(select(func.count()).where(item.c.template == known)).scalar() if known else 0
    return (str(known), bool(count)) if known else (add_template(store, project_id, "pairwise", batch), False)


def _annotator(store: Store, handle: str) -> str:
    with store.read() as connection:
        known = connection.execute(select(person.c.id).where(person.c.handle == handle)).scalar()
    return str(known) if known is not None else add_person(store, handle, simulated=True)
