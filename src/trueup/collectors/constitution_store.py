"""A constitution in a feedback store: its judgments, and its revisions for people to review.

Its annotator is ``constitution:<sha>``, marked as no person. From there on its judgments are like anybody's: shown
beside people's, audited, curated, traced.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import func, select

from trueup.collectors.constitution import Constitution
from trueup.errors import DataError, nearest
from trueup.feedback.store.database import Store
from trueup.feedback.store.history import ImportedVote, import_judged
from trueup.feedback.store.items import NewItem
from trueup.feedback.store.projects import add_guideline, add_person, add_template, create_project, import_items
from trueup.feedback.store.reading import stored_prompt
from trueup.feedback.store.records import Judged
from trueup.feedback.store.schema import item, person, project, stamp, template
from trueup.types import Prompt

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
        template_id, full = _template(store, project_id, batch, "pairwise")
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


def queue_reviews(
    db: Path, name: str, batch: str, rows: Sequence[Mapping[str, Any]], constitution: Constitution, *, overlap: int = 2
) -> str:
    """Put revisions into the annotation room, once; returns the project's id.

    Args:
        db: File of the store; made if it is not there.
        name: Project; made if it is not there.
        batch: What this set is called in the project.
        rows: Rows of ``revisions.jsonl`` that were rewritten.
        constitution: What they were rewritten by; the principle of the last rewriting is shown with its critique.
        overlap: People that each is shown to.

    Raises:
        DataError: A revision cannot be judged; names the row.
    """
    rules = {principle.id: principle.text for principle in constitution.principles}
    items = [_review(row, rules) for row in rows]
    with Store(db) as store:
        project_id = _project(store, name, constitution, False)
        template_id, full = _template(store, project_id, batch, "review")
        if full:
            return project_id
        made = import_items(store, template_id, items, overlap=overlap, actor=constitution.annotator)
    if made.rejected:
        number, problem = made.rejected[0]
        raise DataError(f"{len(made.rejected)} revisions cannot be judged; {problem}", where=f"revision {number}")
    return project_id


def _review(row: Mapping[str, Any], rules: Mapping[str, str]) -> NewItem:
    last = [one for one in row["rounds"] if one["state"] == "revised"][-1]
    rule = last["principle"]
    if rule not in rules:
        raise DataError(
            f"principle {rule!r}", where=f"row {row['number']}", expected=nearest(rule, rules),
            fix="give the constitution that the revisions were made by",
        )  # fmt: skip
    context = {"principle": rules[rule], "principle_id": rule, "critique": last["critique"], "revision": 1}
    return NewItem(stored_prompt(row["prompt"]), (row["original"], row["answer"]), context=context)


@dataclass(frozen=True, slots=True)
class Review:
    """What one person said of one revision."""

    item: str
    principle: str
    prompt: Prompt
    original: str
    revision: str
    better: float
    """1 where the revision is preferred, 0 where the original is, one half for a tie."""
    follows: bool
    """Whether the revision follows the principle."""


def reviews(judged: Judged) -> list[Review]:
    """Every review of a project; skipped items are none."""
    seen = []
    for row in judged.judgments:
        shown = judged.items[row.item]
        if shown.kind != "review" or row.answer is None or "principle_id" not in shown.context:
            continue
        place = int(shown.context["revision"])
        revision, original = shown.responses[place], shown.responses[1 - place]
        preferred = row.answer["preferred"]
        seen.append(
            Review(
                row.item,
                shown.context["principle_id"],
                shown.prompt,
                original.text,
                revision.text,
                0.5 if preferred is None else float(preferred == revision.id),
                bool(row.answer["follows_principle"]),
            )
        )
    return seen


def reviewed(judged: Judged) -> dict[str, dict[str, float]]:
    """What people said of revisions, by principle: ``reviews``, ``better`` (ties half) and ``follows``.

    Each review counts once; skipped items do not count.
    """
    table: dict[str, dict[str, float]] = {}
    for review in reviews(judged):
        line = table.setdefault(review.principle, {"reviews": 0, "better": 0, "follows": 0})
        line["reviews"] += 1
        line["better"] += review.better
        line["follows"] += review.follows
    return table


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


def _template(store: Store, project_id: str, batch: str, kind: str) -> tuple[str, bool]:
    """Id of the way of asking, and whether it has items."""
    with store.read() as connection:
        wanted = (template.c.project == project_id) & (template.c.name == batch)
        known = connection.execute(select(template.c.id).where(wanted)).scalar()
        count = connection.execute(select(func.count()).where(item.c.template == known)).scalar() if known else 0
    return (str(known), bool(count)) if known else (add_template(store, project_id, kind, batch), False)


def _annotator(store: Store, handle: str) -> str:
    with store.read() as connection:
        known = connection.execute(select(person.c.id).where(person.c.handle == handle)).scalar()
    return str(known) if known is not None else add_person(store, handle, simulated=True)
